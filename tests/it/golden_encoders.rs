//! Encoders and `BERTScore` on tiny random models against transformers and the package `bert-score`.
//!
//! The cases are made by `tests/golden/make_encoders.py`. No published encoder was run with its real weights.

#[cfg(test)] // Clippy lets tests unwrap by this mark.
mod golden {
    use std::path::Path;

    use burn::tensor::Device;
    use finetune::eval::measures::bertscore::BertScore;
    use finetune::run::judge::bert_score::Scorer;
    use finetune::snapshot::Weights;
    use finetune::snapshot::files::WeightFiles;
    use serde_json::Value;

    /// Of states around 1 in f32, after a few layers.
    const STATES: f64 = 1e-4;
    /// Of the mean of cosines in f32.
    const SCORES: f64 = 1e-5;
    const N_LAYERS: usize = 3;
    const MICRO_TOKENS: usize = 64;

    #[test]
    fn golden_encoders_have_the_states_and_scores_of_their_sources() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        for case in cases["models"].as_array().unwrap() {
            let folder = folder.join(case["name"].as_str().unwrap());
            let states = states(&folder, case);
            let layer = usize::try_from(case["layer"].as_u64().unwrap()).unwrap();
            let scorer = Scorer::load(&folder, layer, &Device::flex(), MICRO_TOKENS).unwrap();
            let scores = scores(&scorer, &cases, case);
            assert!(states < STATES && scores < SCORES, "{}: {states}, {scores}", case["name"]);
        }
    }

    /// The largest difference of any state of any layer.
    fn states(folder: &Path, case: &Value) -> f64 {
        let golden = WeightFiles::open_file(&folder.join("golden.safetensors")).unwrap();
        let mut worst: f64 = 0.0;
        for layer in 0..=N_LAYERS {
            let scorer = Scorer::load(folder, layer, &Device::flex(), MICRO_TOKENS).unwrap();
            for (nth, text) in case["texts"].as_array().unwrap().iter().enumerate() {
                let ids = scorer.ids(text["text"].as_str().unwrap()).unwrap();
                assert_eq!(serde_json::json!(ids), text["ids"], "{}: {}", case["name"], text["text"]);
                let want = golden.weight(&format!("{nth}.{layer}")).unwrap().to_f32();
                let found: Vec<f64> = scorer.vectors(&ids).concat();
                assert_eq!(found.len(), want.len());
                let far = found.iter().zip(want).map(|(found, want)| (found - f64::from(want)).abs());
                worst = far.fold(worst, f64::max);
            }
        }
        worst
    }

    /// The largest difference of any score.
    fn scores(scorer: &Scorer, cases: &Value, case: &Value) -> f64 {
        let text = |value: &'_ Value| value.as_str().unwrap().to_owned();
        let pairs = cases["pairs"].as_array().unwrap();
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let idf = scorer.idf(pairs.iter().map(|(_, reference)| *reference)).unwrap();
        let plain = scorer.scores(&pairs, None).unwrap();
        let with_idf = scorer.scores(&pairs, Some(&idf)).unwrap();
        let triple = |value: &Value| {
            let at = |i: usize| value[i].as_f64().unwrap();
            BertScore { precision: at(0), recall: at(1), f1: at(2) }
        };
        let rescaled: Vec<BertScore> =
            plain.iter().map(|score| score.rescaled(triple(&cases["baseline"]))).collect();
        let mut worst: f64 = 0.0;
        for (name, found) in [("plain", plain), ("idf", with_idf), ("rescaled", rescaled)] {
            for (found, want) in found.iter().zip(case[name].as_array().unwrap()) {
                let want = triple(want);
                let far = [found.precision - want.precision, found.recall - want.recall, found.f1 - want.f1];
                worst = far.iter().fold(worst, |worst, far| worst.max(far.abs()));
            }
        }
        worst
    }
}
