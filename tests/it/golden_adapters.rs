//! Adapters that PEFT wrote: the same logits beside the base and folded into it, or refused by name.

mod golden {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use burn::tensor::{DType, Int, Tensor, TensorData};
    use finetune::device::cpu;
    use finetune::model::{Decoder, Positions, families};
    use finetune::snapshot::adapter::{Adapter, Folded};
    use finetune::snapshot::{Snapshot, Weights};
    use safetensors::SafeTensors;
    use serde_json::Value;

    fn cases(folder: &str) -> Vec<(PathBuf, Value)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
        let mut folders: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| folder.join("case.json").is_file());
        folders.sort();
        let case =
            |folder: &Path| serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
        folders.into_iter().map(|folder| (folder.clone(), case(&folder))).collect()
    }

    fn logits(decoder: &Decoder, ids: &[i32], [b, t]: [usize; 2]) -> Vec<f32> {
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [b, t]), &decoder.device);
        let hidden = decoder.hidden(ids, &Positions::causal(t), None);
        let m = hidden.dims()[2];
        decoder.frozen_head().logits(hidden.reshape([b * t, m])).try_into_vec_as().unwrap()
    }

    #[test]
    fn golden_adapters_of_peft() {
        let cases = cases("adapters");
        assert!(cases.len() >= 8, "{} cases", cases.len());
        for (folder, case) in cases {
            let base = case["base"].as_str().unwrap();
            let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(base);
            let Snapshot { config, weights, .. } = Snapshot::open(&base).unwrap();
            let shape = families::shape(&config).unwrap();
            let adapter = Arc::new(Adapter::read(&folder).unwrap());
            let bytes = fs::read(folder.join("golden.safetensors")).unwrap();
            let golden = SafeTensors::deserialize(&bytes).unwrap();
            let (ids, expected) = (golden.tensor("input_ids").unwrap(), golden.tensor("logits").unwrap());
            let dims = [ids.shape()[0], ids.shape()[1]];
            let ids: Vec<i32> =
                ids.data().as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as i32).collect();
            let expected: Vec<f32> =
                expected.data().as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            let load = |weights: &dyn Weights| Decoder::load(&shape, weights, &cpu(), DType::F32).unwrap();
            let mut beside = load(&weights);
            beside.attach(&adapter).unwrap();
            let folded = load(&Folded::new(weights.clone(), adapter.clone()).unwrap());
            for (how, decoder) in [("beside", &beside), ("folded", &folded)] {
                let found = logits(decoder, &ids, dims);
                assert_eq!(found.len(), expected.len());
                let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= 2e-4, "{} {how}: logits differ by {off}", folder.display());
            }
            // What is written again is the same adapter.
            let again = tempfile::tempdir().unwrap();
            let copy = again.path().join("adapter");
            adapter.write(&copy, "base").unwrap();
            assert_eq!(Adapter::read(&copy).unwrap(), *adapter, "{}", folder.display());
        }
    }

    #[test]
    fn golden_adapters_that_are_more_are_refused_by_name() {
        let cases = cases("adapters/refused");
        assert!(cases.len() >= 5, "{} cases", cases.len());
        for (folder, case) in cases {
            let error = Adapter::read(&folder).unwrap_err().to_string();
            let word = case["expect"].as_str().unwrap();
            assert!(error.contains(word), "{}: `{word}` is not in: {error}", folder.display());
        }
    }
}
