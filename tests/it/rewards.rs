//! `objective.reward_model`: which tokens of pairs count, by what a model with a head of one number says of them.

use std::collections::BTreeMap;
use std::path::Path;

use finetune::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights, writer};
use finetune::train::init::RandomWeights;
use serde_json::{Value, json};

use crate::fixture::{Fixture, shape};

/// Random weights with a head of so many rows.
struct WithHead {
    base: RandomWeights,
    head: RandomWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Weights for WithHead {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        if name != "score.weight" {
            return self.base.weight(name);
        }
        // Rows of an embedding of other numbers are as good as any.
        let values = self.head.weight("model.embed_tokens.weight")?.to_f32();
        let shape = self.infos[name].shape.clone();
        Ok(Weight::rounded(shape.clone(), &values[..shape.iter().product()], Dtype::F32))
    }
}

/// A folder of a reward model of the fixture's shape with a head of `n_labels` rows.
fn reward_model(fixture: &Fixture, name: &str, changes: &[(&str, &str)], n_labels: usize) {
    fixture.sized_model(name, changes, 5);
    let folder = fixture.file(name);
    let of = shape(&folder);
    let base = RandomWeights::new(&of, 0.3, Dtype::F32, 5);
    let mut infos = base.infos().clone();
    let dtype = Dtype::F32;
    infos.insert("score.weight".to_owned(), WeightInfo { dtype, shape: vec![n_labels, of.hidden_size] });
    let names: Vec<String> = infos.keys().cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let weights = WithHead { base, head: RandomWeights::new(&of, 0.3, dtype, 6), infos };
    writer::write_file(&folder.join("model.safetensors"), &weights, &names, None).unwrap();
}

fn pairs(n: usize) -> String {
    let record = |i: usize| json!({ "prompt": format!("Say {i}."), "chosen": format!("It is {i}."), "rejected": "No, I will not say that." });
    (0..n).map(|i| format!("{}\n", record(i))).collect()
}

fn run(fixture: &Fixture, out: &str, more: &[&str]) -> (Option<i32>, String) {
    let common = ["--recipe", "r.toml", "--device", "cpu", "--out", out, "--set", "data.fields={}"];
    let own = ["data.source=pairs.jsonl", "objective.kind=adpo", "merge.methods=[]", "eval.suites=[]"];
    let own = own.iter().flat_map(|set| ["--set", *set]);
    let arguments: Vec<&str> = common.into_iter().chain(own).chain(more.iter().copied()).collect();
    let output = fixture.run(&arguments);
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said.replace('│', "").split_whitespace().collect::<Vec<_>>().join(" "))
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("pairs.jsonl", pairs(20));
    reward_model(&fixture, "reward", &[], 1);
    fixture
}

#[test]
fn a_reward_model_says_once_which_tokens_count() {
    let fixture = fixture();
    let reward = ["--set", "objective.reward_model=reward", "--set", "train.steps=2"];
    let (code, said) = run(&fixture, "run", &reward);
    assert_eq!(code, Some(0), "{said}");
    let scores = json_of(&fixture.file("run/train/scores.json"));
    let of_pairs = |threshold: f64| -> Vec<usize> {
        let counts = |(nth, scores): (usize, &Value)| {
            let sign = if nth % 2 == 0 { 1.0 } else { -1.0 };
            let scores = scores.as_array().unwrap().iter().map(|score| score.as_f64().unwrap());
            scores.filter(|score| score * sign > threshold).count()
        };
        let all: Vec<usize> = scores["train"].as_array().unwrap().iter().enumerate().map(counts).collect();
        all.chunks(2).map(|pair| pair.iter().sum()).collect()
    };
    // A tenth is held out, and each of the 36 samples that are learned has its scores.
    let counts = of_pairs(0.0);
    assert_eq!((counts.len(), scores["validation"].as_array().unwrap().len()), (18, 4));
    let (n_tokens, n_silent) =
        (counts.iter().sum::<usize>(), counts.iter().filter(|count| **count == 0).count());
    let sentence = format!(
        "mask: {n_tokens} tokens of 18 pairs count by the reward model's scores; in {n_silent} pairs none does"
    );
    assert!(n_tokens > 0 && said.contains(&sentence), "{said}");
    // The plan counted all tokens; the loss looks at some.
    let all: usize = scores["train"].as_array().unwrap().iter().map(|of| of.as_array().unwrap().len()).sum();
    assert!(n_tokens < all, "{n_tokens} of {all}");

    // Another bound is another training, by other tokens and the same scores.
    let far = ["--set", "objective.mask_threshold=0.05"];
    let (code, said) = run(&fixture, "far", &[&reward[..], &far].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("mask: {} tokens", of_pairs(0.05).iter().sum::<usize>())), "{said}");
    let [key, other] = ["run", "far"].map(|out| json_of(&fixture.file(out).join("key.json")));
    assert_ne!(key, other);
    assert_eq!(json_of(&fixture.file("far/train/scores.json"))["train"], scores["train"]);

    // Nothing counts beyond what any token scores.
    let none = ["--set", "objective.mask_threshold=1e6"];
    let (code, said) = run(&fixture, "none", &[&reward[..], &none].concat());
    assert!(code == Some(3) && said.contains("no token of any of 18 pairs counts"), "{code:?} {said}");
}

#[test]
fn a_reward_model_of_the_base_with_another_head_is_read_at_the_answers_own_tokens() {
    let fixture = fixture();
    let sets = ["--set", "objective.reward_model=reward", "--set", "train.steps=1"];
    let (code, said) = run(&fixture, "whole", &sets);
    assert_eq!(code, Some(0), "{said}");
    // In other portions the scores are the same but for rounding.
    let (code, said) = run(&fixture, "parts", &[&sets[..], &["--micro-tokens", "64"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let [whole, parts] =
        ["whole", "parts"].map(|out| json_of(&fixture.file(out).join("train/scores.json"))["train"].clone());
    let flat = |value: &Value| -> Vec<f64> {
        let all = value.as_array().unwrap().iter().flat_map(|of| of.as_array().unwrap());
        all.map(|score| score.as_f64().unwrap()).collect()
    };
    for (a, b) in flat(&whole).iter().zip(flat(&parts)) {
        assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} and {b}");
    }
}

#[test]
fn a_plan_says_what_a_reward_model_takes() {
    let fixture = fixture();
    let (code, said) = run(&fixture, "run", &["--set", "objective.reward_model=reward", "--plan"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the reward model `reward` scores the tokens of both answers"), "{said}");
    assert!(said.contains("the base reads all 40 answers once, a reward model of"), "{said}");
}

#[test]
fn what_is_no_reward_model_for_the_base_is_an_error_before_anything_starts() {
    let fixture = fixture();
    reward_model(&fixture, "two", &[], 2);
    reward_model(&fixture, "small", &[("\"vocab_size\": 768", "\"vocab_size\": 640")], 1);
    reward_model(&fixture, "other", &[], 1);
    let tokenizer = std::fs::read_to_string(fixture.file("other/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let words: Vec<String> = vocabulary.keys().filter(|word| word.len() > 3).take(2).cloned().collect();
    let ids: Vec<Value> = words.iter().map(|word| vocabulary[word].clone()).collect();
    vocabulary[&words[0]] = ids[1].clone();
    vocabulary[&words[1]] = ids[0].clone();
    fixture.write("other/tokenizer.json", tokenizer.to_string());
    for (source, code, expected) in [
        ("model", 3, "is no reward model: it has no weight `score.weight`"),
        ("two", 3, "the head of `two` has the shape [2, 32], expected [1, 32]"),
        ("small", 3, "`small` has another vocabulary than the base: token"),
        ("other", 3, "`other` has another vocabulary than the base: token"),
        ("nowhere", 3, "nowhere"),
    ] {
        let set = format!("objective.reward_model={source}");
        let (found, said) = run(&fixture, "run", &["--set", &set]);
        assert!(found == Some(code) && said.contains(expected), "{source}: {found:?} {said}");
        assert!(!fixture.file("run/train").exists(), "{source}");
    }
    let (code, said) =
        run(&fixture, "run", &["--set", "objective.reward_model=reward", "--set", "objective.kind=dpo"]);
    assert!(code == Some(2) && said.contains("expected `objective.kind` to be `adpo`"), "{said}");
}

mod golden {
    use std::path::Path;

    use finetune::data::Sample;
    use finetune::device::cpu;
    use finetune::model::{Decoder, MicroBatch};
    use finetune::recipe::Mask;
    use finetune::run::plan::rewards::Rewards;
    use finetune::train::rewards::of_batch;
    use serde_json::Value;

    /// Of the largest score: f32 against f32, in another order of sums.
    const TOLERANCE: f64 = 2e-5;

    #[test]
    fn golden_scores_of_tokens() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rewards");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let cases = cases.as_object().unwrap();
        assert!(cases.len() >= 2, "{cases:?}");
        for (name, case) in cases {
            let rewards = Rewards::open(name, &folder.join(name)).unwrap();
            let given = rewards.given(Mask::Threshold(0.0));
            let decoder =
                Decoder::load(given.shape, given.weights, &cpu(), burn::tensor::DType::F32).unwrap();
            let rows = |key: &str| case[key].as_array().unwrap().iter().map(|row| row.as_array().unwrap());
            let samples: Vec<Sample> = rows("ids")
                .map(|ids| {
                    let ids: Vec<u32> =
                        ids.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect();
                    let n = ids.len();
                    Sample::of_trained(ids, (0..n).map(|i| i >= 3), 1.into())
                })
                .collect();
            let places: Vec<usize> = (0..samples.len()).collect();
            let found = of_batch(&decoder, given.head, &MicroBatch::new(&samples, &places, 1));
            let expected: Vec<Vec<f64>> =
                rows("scores").map(|row| row.iter().map(|x| x.as_f64().unwrap()).collect()).collect();
            let largest = expected.iter().flatten().fold(0.0, |most: f64, x| most.max(x.abs()));
            for (nth, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // The file has a score for every token.
                assert_eq!(found.len(), expected.len() - 3, "{name} {nth}");
                for (found, expected) in found.iter().zip(&expected[3..]) {
                    let off = (f64::from(*found) - expected).abs();
                    assert!(off <= TOLERANCE * largest, "{name} {nth}: {found}, not {expected}");
                }
                // What transformers says of the whole answer is the score of its last token.
                let of_answer = case["pooled"][nth].as_f64().unwrap();
                assert!((of_answer - expected.last().unwrap()).abs() <= TOLERANCE * largest, "{name} {nth}");
            }
        }
    }
}
