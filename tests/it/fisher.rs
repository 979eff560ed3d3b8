//! The Fisher information against differences of the log-likelihood, and merges that go by it.

use burn::tensor::DType;
use finetune::data::Sample;
use finetune::model::{Decoder, MicroBatch};
use finetune::recipe::MethodKind;
use finetune::snapshot::{Dtype, SnapshotError, Weight, WeightFiles, WeightInfo, Weights};
use finetune::train::importance::{FILE, Measure, write};
use finetune::train::init::RandomWeights;
use finetune::train::objective::Objective;
use finetune::train::step::Trainee;
use finetune::train::{Machine, TrainError};

use crate::fixture::{Fixture, shape};

/// A model with one number moved.
struct Moved<'a>(&'a RandomWeights, &'a str, usize, f32);

impl Weights for Moved<'_> {
    fn infos(&self) -> &std::collections::BTreeMap<String, WeightInfo> {
        self.0.infos()
    }
    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.0.weight(name)?;
        let mut values = weight.to_f32();
        if name == self.1 {
            values[self.2] += self.3;
        }
        Ok(Weight::from_f32(weight.info.shape, &values))
    }
}

#[test]
fn it_is_the_mean_square_of_the_slope_of_the_log_likelihood() {
    let fixture = Fixture::new();
    let shape = shape(&fixture.file("model"));
    let device = finetune::device::open(&"cpu".parse().unwrap()).unwrap().device;
    let weights = RandomWeights::new(&shape, 0.1, Dtype::F32, 5);
    let machine = Machine {
        device: device.clone(),
        device_name: "cpu".to_owned(),
        compute: DType::F32,
        answers: DType::F32,
        micro_tokens: 64,
        multiple: 1,
    };
    let trained = [false, false, false, true, true];
    let sample = |ids: [u32; 5]| Sample::of_trained(ids.to_vec(), trained, 1.into());
    let samples = [sample([1, 5, 9, 2, 7]), sample([3, 3, 8, 4, 1])];
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("fisher");
    write::<TrainError>(&target, &shape, &weights, &machine, (&samples, Measure::Fisher), |_| Ok(()))
        .unwrap();
    let scored = folder.path().join("snip");
    write::<TrainError>(&scored, &shape, &weights, &machine, (&samples, Measure::Snip), |_| Ok(())).unwrap();
    let scores = WeightFiles::open_file(&scored.join(Measure::Snip.file())).unwrap();
    let found = WeightFiles::open_file(&target.join(FILE)).unwrap();
    assert_eq!(found.infos().keys().collect::<Vec<_>>(), weights.infos().keys().collect::<Vec<_>>());

    let loss = |moved: &Moved<'_>, i: usize| {
        let decoder = Decoder::load(&shape, moved, &device, DType::F32).unwrap();
        let trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft);
        let (mean, n) =
            trainee.validate::<TrainError>(&[MicroBatch::new(&samples, &[i], 1)], |_| Ok(())).unwrap();
        mean * n as f64
    };
    for (name, at) in [
        ("model.layers.0.self_attn.v_proj.weight", 17),
        ("model.layers.1.mlp.down_proj.weight", 3),
        ("model.norm.weight", 4),
    ] {
        const STEP: f32 = 1e-2;
        let slope = |i: usize| {
            let at = |step: f32| loss(&Moved(&weights, name, at, step), i);
            (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP))
        };
        let expected = f64::midpoint(slope(0).powi(2), slope(1).powi(2));
        let found = f64::from(found.weight(name).unwrap().to_f32()[at]);
        assert!((found - expected).abs() <= 0.02 * expected.max(1e-6), "{name}: {found} {expected}");
        // SNIP's score: the number times the slope of the mean over two labels, without signs.
        let number = f64::from(weights.weight(name).unwrap().to_f32()[at]);
        let expected = f64::midpoint(slope(0).abs(), slope(1).abs()) / 2.0 * number.abs();
        let found = f64::from(scores.weight(name).unwrap().to_f32()[at]);
        assert!((found - expected).abs() <= 0.02 * expected.max(1e-6), "{name}: {found} {expected}");
    }
}

#[test]
fn a_run_measures_what_matters_and_merges_by_it() {
    let fixture = Fixture::new();
    let source = ["--set", "merge.fisher_source=train.jsonl", "--set", "merge.fisher_samples=4"];
    let asked = ["--merge", "fisher:0.5", "--merge", "linear:0.5", "--keep-merged"];
    fixture.study("run", &[&asked[..], &source].concat());
    let bytes = |folder: &str| std::fs::read(fixture.file(folder).join("model.safetensors")).unwrap();
    assert_ne!(bytes("run/merged/fisher_0.5"), bytes("run/merged/linear_0.5"));
    // The same by hand from what the run left.
    let mut found: Vec<String> = std::fs::read_dir(fixture.file("run/fisher"))
        .unwrap()
        .map(|entry| format!("run/fisher/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    found.sort();
    let [base, tuned] = found.as_slice() else { panic!("{found:?}") };
    let pair = ["merge", "--pre", "model", "--post", "run", "--merge", "fisher:0.5", "--out", "out"];
    let output = fixture.run(&[&pair[..], &["--pre-fisher", base, "--post-fisher", tuned]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bytes("out"), bytes("run/merged/fisher_0.5"));

    // Of full tuning the optimizer knows it.
    let full = ["--set", "method.kind=full", "--set", "train.learning_rate=1e-3", "--merge", "fisher:0.5"];
    fixture.study("full", &[&full[..], &source].concat());
    assert_eq!(std::fs::read_dir(fixture.file("full/fisher")).unwrap().count(), 1);
}
