//! `train.freeze`: what is frozen stays bit for bit, costs no gradient and no state, and the rest learns as it would.

use std::collections::BTreeSet;

use burn::tensor::DType;
use finetune::data::Sample;
use finetune::device::cpu;
use finetune::model::{Decoder, DecoderShape, MicroBatch};
use finetune::recipe::{MethodKind, Train};
use finetune::snapshot::adapter::Adapter;
use finetune::snapshot::{Dtype, Snapshot, WeightFiles, Weights};
use finetune::train::frozen;
use finetune::train::init::RandomWeights;
use finetune::train::objective::Objective;
use finetune::train::step::Trainee;

use crate::fixture::{Fixture, shape};

/// What is frozen goes through other kernels, which sum in another order; f32 has 1.2e-7.
const ROUNDING: f32 = 1e-5;

fn train(freeze: &[&str]) -> Train {
    Train { freeze: freeze.iter().map(|place| (*place).to_owned()).collect(), ..Train::default() }
}

#[test]
fn the_gradients_of_what_is_left_are_those_of_whole_tuning() {
    let fixture = Fixture::new();
    let ours = shape(&fixture.file("model"));
    let samples = [
        Sample::of_trained(vec![1, 5, 9, 2, 7], [false, false, true, true, true], 1.into()),
        Sample::of_trained(vec![3, 8, 4], [false, true, true], 2.into()),
    ];
    let batch = MicroBatch::new(&samples, &[0, 1], 1);
    let mut n_left = BTreeSet::new();
    for tied in [true, false] {
        let shape = DecoderShape { tied, ..ours.clone() };
        let weights = RandomWeights::new(&shape, 0.1, Dtype::F32, 5);
        let gradients = |freeze: &[&str]| {
            let decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
            let frozen = frozen::weights(&shape, &train(freeze)).unwrap();
            let mut trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft).without(frozen.clone());
            trainee.track();
            (trainee.gradients(&batch), frozen)
        };
        let (all, _) = gradients(&[]);
        let mut cases: Vec<&[&str]> = vec![
            &["layers.0"],
            &["layers.1"],
            &["embed"],
            &["embed", "layers.0"],
            &["norm"],
            &["attn", "embed"],
            &["mlp"],
            &["q_proj", "k_proj", "embed", "norm"],
            &["layers.0.*", "embed", "layers.1.self_attn.*", "norm"],
        ];
        // All that lies below the head: nothing of the stream has a gradient.
        cases.extend((!tied).then_some(&["layers.0-1", "embed", "norm"][..]));
        cases.extend((!tied).then_some(&["head"][..]));
        for freeze in cases {
            let (found, frozen) = gradients(freeze);
            let names = |of: &mut dyn Iterator<Item = &String>| of.cloned().collect::<BTreeSet<_>>();
            let left = names(&mut all.keys().filter(|name| !frozen.contains(*name)));
            assert_eq!(names(&mut found.keys()), left, "{freeze:?}");
            n_left.insert(left.len());
            for (name, gradient) in found {
                let [found, expected] =
                    [gradient, all[&name].clone()].map(|x| x.try_into_vec_as::<f32>().unwrap());
                let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= ROUNDING * largest, "{freeze:?} {name}: {off} of {largest}");
            }
        }
    }
    assert!(n_left.contains(&1), "the head alone was one of the cases");
}

#[test]
fn full_tuning_leaves_what_is_frozen_bit_for_bit() {
    let fixture = Fixture::new();
    let full = ["--set", "method.kind=full", "--set", "train.steps=6", "--set", "eval.suites=[]"];
    let freeze = ["--set", "train.freeze=[\"layers.1\", \"q_proj\"]", "--set", "train.weight_decay=0.1"];
    let keep = ["--set", "train.checkpoint_every=3", "--set", "merge.methods=[]"];
    let arguments = [&full[..], &freeze, &keep].concat();
    fixture.study("run", &arguments);
    let is_frozen = |name: &str| name.contains("layers.1.") || name.contains("q_proj");
    let base = Snapshot::open(&fixture.file("model")).unwrap().weights;
    let model = Snapshot::open(&fixture.file("run/train/model")).unwrap().weights;
    let checkpoint = fixture.file("run/train/checkpoint-000006");
    let exact = WeightFiles::open_file(&checkpoint.join("weights.safetensors")).unwrap();
    for name in base.infos().keys() {
        let (base, model) = (base.weight(name).unwrap(), model.weight(name).unwrap());
        let exact = exact.weight(name).unwrap().to_f32();
        assert_eq!(base.bytes == model.bytes, is_frozen(name), "{name}");
        assert_eq!(base.to_f32() == exact, is_frozen(name), "{name}");
    }
    // Nothing is remembered of what is frozen, and two moments of everything else.
    let state = WeightFiles::open_file(&checkpoint.join("optimizer.safetensors")).unwrap();
    assert!(state.infos().keys().all(|name| !is_frozen(name)));
    let n_trained = base.infos().keys().filter(|name| !is_frozen(name)).count();
    assert_eq!(state.infos().len(), 2 * n_trained);

    // A merge that goes by importance takes what is frozen for unimportant, and leaves it.
    let merge = ["merge", "--pre", "model", "--post", "run", "--merge", "fisher:0.5", "--out", "merged"];
    let importance = "run/train/checkpoint-000006";
    let output =
        fixture.run(&[&merge[..], &["--pre-fisher", importance, "--post-fisher", importance]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let merged = Snapshot::open(&fixture.file("merged")).unwrap().weights;
    for name in base.infos().keys().filter(|name| is_frozen(name)) {
        assert_eq!(base.weight(name).unwrap().bytes, merged.weight(name).unwrap().bytes, "{name}");
    }

    // From the middle on, to the same bytes.
    let bytes = |file: &str| std::fs::read(checkpoint.join(file)).unwrap();
    let whole = ["weights.safetensors", "optimizer.safetensors"].map(bytes);
    std::fs::remove_file(fixture.file("run/train/result.json")).unwrap();
    for name in ["checkpoint-000006", "model"] {
        std::fs::remove_dir_all(fixture.file("run/train").join(name)).unwrap();
    }
    fixture.study("run", &arguments);
    assert!(whole == ["weights.safetensors", "optimizer.safetensors"].map(bytes), "resuming changed a bit");

    // Without it the training is another one, in a folder of its own.
    let output =
        fixture.run(&[&["--recipe", "r.toml", "--device", "cpu", "--out", "run"], &full[..], &keep].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`train.freeze`") && said.contains("differ"), "{said}");
}

#[test]
fn an_adapter_has_no_factors_where_it_is_frozen() {
    let fixture = Fixture::new();
    let freeze = ["--set", "train.freeze=[\"layers.0\", \"down_proj\"]", "--set", "train.steps=4"];
    fixture.study("run", &[&freeze[..], &["--keep-merged", "--merge", "linear:0.5"]].concat());
    let adapter = Adapter::read(&fixture.file("run/train/adapter")).unwrap();
    let here = |name: &str| name.contains("layers.1.") && !name.contains("down_proj");
    assert_eq!(adapter.pairs.len(), 6);
    assert!(adapter.pairs.keys().all(|module| here(module)));
    assert!(adapter.pairs.values().all(|pair| pair.b.iter().any(|x| *x != 0.0)));
    let checkpoint = fixture.file("run/train/checkpoint-000004");
    let state = WeightFiles::open_file(&checkpoint.join("optimizer.safetensors")).unwrap();
    // Two factors with two moments each.
    assert_eq!(state.infos().len(), 24);
    // The same start as without freezing: a factor is drawn by its name.
    let base = Snapshot::open(&fixture.file("model")).unwrap().weights;
    let merged = Snapshot::open(&fixture.file("run/merged/linear_0.5")).unwrap().weights;
    for name in base.infos().keys().filter(|name| !here(name)) {
        assert_eq!(base.weight(name).unwrap().bytes, merged.weight(name).unwrap().bytes, "{name}");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture.file("run/report.json")).unwrap()).unwrap();
    assert_eq!(report["run"]["method"], "LoRA, rank 4, alpha 16, layers.0, down_proj frozen");
}

#[test]
fn a_plan_says_what_is_trained_and_what_is_frozen() {
    let fixture = Fixture::new();
    let plan = |more: &[&str]| {
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--plan"], more].concat();
        let output = fixture.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // A layer has 2 · 1024 + 2 · 512 numbers in attention, 3 · 1536 in the feed-forward part and 64 in norms; the
    // embedding 24,576, the last norm 32.
    let full = ["--set", "method.kind=full", "--set"];
    let said = plan(&[&full[..], &["train.freeze=[\"layers.1\"]"]].concat());
    assert!(said.contains("trainable         0.032 M parameters"), "{said}");
    assert!(said.contains("frozen            0.008 M parameters: layers.1\n"), "{said}");
    let said = plan(&["--set", "train.freeze=[\"attn\"]"]);
    assert!(said.contains("trainable         0.002 M parameters"), "{said}");
    assert!(
        said.contains("frozen            0.006 M parameters in linear maps that get no adapter: attn\n"),
        "{said}"
    );
    assert!(!plan(&[]).contains("\nfrozen "));
}

mod golden {
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use burn::tensor::DType;
    use finetune::data::Sample;
    use finetune::device::cpu;
    use finetune::model::{Decoder, MicroBatch, families};
    use finetune::recipe::{MethodKind, Train};
    use finetune::snapshot::adapter::Adapter;
    use finetune::snapshot::{Snapshot, WeightFiles, Weights};
    use finetune::train::objective::Objective;
    use finetune::train::optimizer::Optimizer;
    use finetune::train::step::{StepResult, Trainee};
    use finetune::train::{adapter_of, frozen};
    use safetensors::SafeTensors;
    use serde_json::Value;

    /// What the cases' own README allows: losses, weights in norm, an adapter in norm.
    const TOLERANCE: [f64; 3] = [1e-4, 1e-4, 1e-3];

    /// `[step, b, t]` integers as one micro-batch for each step, right padding taken away.
    fn batches(path: &Path) -> Vec<MicroBatch> {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ints = |name: &str| -> Vec<i64> {
            let tensor = file.tensor(name).unwrap();
            tensor.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        };
        let [n, b, t] = file.tensor("input_ids").unwrap().shape().try_into().unwrap();
        let (ids, mask, labels) = (ints("input_ids"), ints("attention_mask"), ints("labels"));
        let row = |row: usize| {
            let len = mask[row * t..(row + 1) * t].iter().filter(|mask| **mask != 0).count();
            let at = row * t..row * t + len;
            let labels = labels[at.clone()].iter().map(|label| u32::try_from(*label).ok()).collect();
            Sample::new(ids[at].iter().map(|id| *id as u32).collect(), labels, 1.into())
        };
        let samples: Vec<Sample> = (0..n * b).map(row).collect();
        (0..n)
            .map(|step| MicroBatch::new(&samples, &(step * b..(step + 1) * b).collect::<Vec<_>>(), 1))
            .collect()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn off_in_norm(found: &[f32], expected: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
        (off / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
    }

    /// What the case freezes, in the language of places: layers from one on, up to another that is not frozen.
    fn places(case: &Value) -> Vec<String> {
        let [from, to] = numbers(&case["frozen_layers"]).try_into().unwrap();
        let norms_train = case["frozen"].as_str().unwrap().contains("norms of the layer still train");
        let of = |layer: usize| match norms_train {
            true => format!("layers.{layer}.*_proj"),
            false => format!("layers.{layer}"),
        };
        (from as usize..to as usize).map(of).collect()
    }

    fn check_losses(case: &Value, steps: &[StepResult]) {
        let relative = |found: f64, expected: f64| (found - expected).abs() / expected.abs();
        for (step, (found, expected)) in steps.iter().zip(numbers(&case["losses"])).enumerate() {
            assert!(relative(found.loss, expected) <= TOLERANCE[0], "{}: step {step}", case["id"]);
        }
        for (step, (found, expected)) in steps.iter().zip(numbers(&case["grad_norms"])).enumerate() {
            assert!(relative(found.gradient_norm, expected) <= 1e-3, "{}: step {step}", case["id"]);
        }
    }

    #[test]
    fn golden_freezing() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let folder = PathBuf::from(folder).join("related-training");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("freeze.json")).unwrap()).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        let Snapshot { config, weights, .. } = Snapshot::open(&folder.join("model")).unwrap();
        let shape = families::shape(&config).unwrap();
        let batches = batches(&folder.join("freeze.safetensors"));
        let (mut n_full, mut n_lora) = (0, 0);
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let betas = numbers(&case["betas"]).try_into().unwrap();
            let train = Train {
                weight_decay: number("weight_decay"),
                epsilon: number("eps"),
                betas,
                freeze: places(case),
                ..Train::default()
            };
            let mut decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
            let final_path = folder.join(case["final"].as_str().unwrap());
            let start = (!final_path.is_file()).then(|| {
                let init = final_path.display().to_string().replace("-final", "-init");
                Adapter::read(Path::new(&init)).unwrap()
            });
            let kind = if start.is_some() { MethodKind::Lora } else { MethodKind::Full };
            if let Some(adapter) = &start {
                decoder.attach(adapter).unwrap();
            }
            let mut trainee = Trainee::new(decoder, kind, Objective::Sft);
            if kind == MethodKind::Full {
                trainee = trainee.without(frozen::weights(&shape, &train).unwrap());
            }
            trainee.track();
            let mut optimizer = Optimizer::new(&train);
            let steps: Vec<StepResult> = (0..batches.len())
                .map(|nth| trainee.step(&batches[nth..=nth], &mut optimizer, nth, number("lr"), 0.0))
                .collect();
            check_losses(case, &steps);
            if let Some(start) = start {
                n_lora += 1;
                // The adapter that it starts from has pairs where ours would have them.
                let lora = finetune::recipe::Method::default();
                let ours = finetune::train::init::targets(&shape, &lora, &train).unwrap();
                assert_eq!(ours.keys().collect::<Vec<_>>(), start.pairs.keys().collect::<Vec<_>>());
                let expected = Adapter::read(&final_path).unwrap();
                for (module, pair) in adapter_of(&mut trainee.decoder, &start).pairs {
                    let expected = &expected.pairs[&module];
                    for (found, expected) in [(&pair.a, &expected.a), (&pair.b, &expected.b)] {
                        assert!(off_in_norm(found, expected) <= TOLERANCE[2], "{module}");
                    }
                }
                continue;
            }
            n_full += 1;
            let expected = WeightFiles::open_file(&final_path).unwrap();
            let unchanged: Vec<&str> =
                case["unchanged"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            for param in trainee.decoder.params_mut() {
                let found = param.frozen().try_into_vec_as::<f32>().unwrap();
                let before = weights.weight(&param.name).unwrap().to_f32();
                assert_eq!(found == before, unchanged.contains(&param.name.as_str()), "{}", param.name);
                let off = off_in_norm(&found, &expected.weight(&param.name).unwrap().to_f32());
                assert!(off <= TOLERANCE[1], "{}: {off}", param.name);
            }
        }
        assert!(n_full >= 2 && n_lora >= 1, "{n_full} {n_lora}");
        writeln!(std::io::stderr(), "golden freezing: {} run, 0 unsupported", cases.len()).unwrap();
    }
}
