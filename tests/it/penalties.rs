//! `objective.kl` and `objective.asft`: what is added to the loss of every step.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::Fixture;

/// A pico model that the base could have been aligned from, and prompts without answers.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.sized_model("unaligned", &[], 9);
    fixture.write("prompts.csv", "ask\nHow do I do it?\nWhat is there?\nTell me more of it.\nWho are you?\n");
    fixture
}

const KL: &str = "objective.kl={ source = \"prompts.csv\", fields = { prompt = \"ask\", completion = \"\" }, weight = WEIGHT, batch = 2 }";
const ASFT: &str = "objective.asft={ unaligned = \"unaligned\", weight = WEIGHT, measure = \"mean\" }";

fn run(fixture: &Fixture, out: &str, more: &[&str]) -> (Option<i32>, String) {
    let common = ["--recipe", "r.toml", "--device", "cpu", "--out", out];
    let own = ["--set", "merge.methods=[]", "--set", "eval.suites=[]"];
    let output = fixture.run(&[&common[..], &own, more].concat());
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said.replace('│', "").split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The column of penalties, step by step.
fn penalties(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let column = header.iter().position(|name| *name == "penalty").unwrap();
    let rows = text.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let rows: Vec<Vec<&str>> = rows.collect();
    assert!(rows.iter().all(|row| row.len() == header.len()), "{text}");
    rows.iter().filter_map(|row| row[column].parse().ok()).collect()
}

#[test]
fn a_penalty_keeps_what_it_measures_small() {
    let fixture = fixture();
    for (name, penalty) in [("kl", KL), ("asft", ASFT)] {
        // What is measured in its own size at the last step, under a weight that does nothing and one that tells.
        let measured = |weight: f64| {
            let set = penalty.replace("WEIGHT", &weight.to_string());
            let out = format!("{name}-{weight}");
            let (code, said) = run(&fixture, &out, &["--set", &set]);
            assert_eq!(code, Some(0), "{said}");
            let all = penalties(&fixture.file(&out));
            assert_eq!(all.len(), 20);
            // At the first step the adapter changes nothing: what rounding leaves of a divergence is no distance.
            assert!(all[0].abs() < 1e-5 * weight, "{name}: {}", all[0]);
            all[19] / weight
        };
        let (free, held) = (measured(1e-6), measured(30.0));
        assert!(held < 0.5 * free, "{name}: {held} under a penalty, {free} without");
    }
}

#[test]
fn full_tuning_is_held_to_its_base_too() {
    let fixture = fixture();
    let full = ["--set", "method.kind=full", "--set", "train.learning_rate=1e-3"];
    let measured = |out: &str, weight: &str| {
        let set = KL.replace("WEIGHT", weight);
        let (code, said) = run(&fixture, out, &[&full[..], &["--set", &set]].concat());
        assert_eq!(code, Some(0), "{said}");
        penalties(&fixture.file(out))[19] / weight.parse::<f64>().unwrap()
    };
    let (free, held) = (measured("free", "1e-6"), measured("held", "30.0"));
    assert!(held < 0.5 * free, "{held} under a penalty, {free} without");
}

#[test]
fn every_setting_of_a_penalty_is_another_training() {
    let fixture = fixture();
    let key = |out: &str, sets: &[String]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
        let (code, said) = run(&fixture, out, &[&["--set", "train.steps=1"], &sets[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        let bytes = std::fs::read(fixture.file(out).join("key.json")).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap().to_string()
    };
    let (kl, asft) = (KL.replace("WEIGHT", "1.0"), ASFT.replace("WEIGHT", "1.0"));
    let cases = [
        vec![],
        vec![kl.clone()],
        vec![kl.clone(), "objective.kl.direction=model-to-base".to_owned()],
        vec![kl.clone(), "objective.kl.temperature=2.0".to_owned()],
        vec![kl.clone(), "objective.kl.weight=0.5".to_owned()],
        vec![kl.clone(), "objective.kl.batch=3".to_owned()],
        vec![asft.clone()],
        vec![asft.clone(), "objective.asft.measure=sum".to_owned()],
        vec![asft.clone(), "objective.asft.measure=relative".to_owned()],
        vec![asft.clone(), "objective.asft.measure=norm".to_owned()],
        vec![asft.clone(), "objective.asft.projection=exact".to_owned()],
        vec![asft.clone(), "objective.asft.scaled=true".to_owned()],
        vec![asft.clone(), "objective.asft.unaligned=model".to_owned()],
        vec![kl, asft],
    ];
    let mut keys: Vec<String> =
        cases.iter().enumerate().map(|(nth, sets)| key(&format!("r{nth}"), sets)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), cases.len());
}

#[test]
fn a_killed_training_with_penalties_goes_on_to_the_same_bits() {
    let fixture = fixture();
    for (name, method) in [("lora", "method.kind=lora"), ("full", "method.kind=full")] {
        let (kl, asft) = (KL.replace("WEIGHT", "1.0"), ASFT.replace("WEIGHT", "1.0"));
        let mut more = vec![
            "--set",
            method,
            "--set",
            &kl,
            "--set",
            "train.checkpoint_every=3",
            "--set",
            "train.steps=12",
        ];
        if name == "lora" {
            more.extend(["--set", &asft]);
        }
        let (whole, broken) = (format!("{name}-whole"), format!("{name}-broken"));
        let (code, said) = run(&fixture, &whole, &more);
        assert_eq!(code, Some(0), "{said}");
        let words = ["--recipe", "r.toml", "--device", "cpu", "--out", &broken];
        let own = ["--set", "merge.methods=[]", "--set", "eval.suites=[]"];
        let mut command = fixture.command(&[&words[..], &own, &more].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let saved = fixture.file(&broken).join("train/checkpoint-000003");
        while !saved.is_dir()
            && child.try_wait().unwrap().is_none()
            && begun.elapsed() < Duration::from_mins(2)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        child.wait().unwrap();
        let (code, said) = run(&fixture, &broken, &more);
        assert_eq!(code, Some(0), "{said}");
        let weights = |run: &str| {
            std::fs::read(fixture.file(run).join("train/checkpoint-000012/weights.safetensors")).unwrap()
        };
        assert_eq!(weights(&broken), weights(&whole), "{name}");
    }
}

#[test]
fn what_a_penalty_lacks_is_an_error_before_anything_starts() {
    let fixture = fixture();
    let (kl, asft) = (KL.replace("WEIGHT", "1.0"), ASFT.replace("WEIGHT", "1.0"));
    let cases: &[(&[&str], &str)] = &[
        (&["objective.asft={ weight = 1.0 }"], "`objective.asft.unaligned` is missing"),
        (&["objective.asft={ weight = 1.0 }"], "pre-trained model that the base was aligned from"),
        (&["objective.asft={ unaligned = \"nowhere\" }"], "nowhere"),
        (&[&asft, "method.kind=full"], "`method.kind = \"lora\"`, and no `variant = \"dora\"`"),
        (&[&asft, "method.variant=dora"], "`method.kind = \"lora\"`, and no `variant = \"dora\"`"),
        (&[&asft, "objective.asft.weight=0"], "expected a number above 0"),
        (&[&asft, "objective.asft.measure=median"], "unknown value `median`"),
        (&["objective.kl={ weight = 1.0 }"], "`source` is missing"),
        (&["objective.kl={ source = \"nowhere.jsonl\" }"], "objective.kl.source"),
        (&["objective.kl={ source = \"prompts.csv\" }"], "has none of the known forms"),
        (&[&kl, "objective.kl.temperature=-1.0"], "expected a number above 0"),
        (&[&kl, "objective.kl.batch=0"], "expected 1 to 1048576"),
        (&[&kl, "objective.kl.temprature=1.0"], "did you mean `temperature`"),
    ];
    for (sets, expected) in cases {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let (code, said) = run(&fixture, "run", &sets);
        assert!(matches!(code, Some(2 | 3)) && said.contains(expected), "{sets:?}: {code:?} {said}");
        assert!(!fixture.file("run/train").exists(), "{sets:?}");
    }
    let (code, said) = run(&fixture, "run", &["--set", &kl, "--plan"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(
            "kl: 4 conversations with 4 positions at which the model is held to the base, 2 in a step"
        ),
        "{said}"
    );
}

mod golden {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::PathBuf;

    use burn::tensor::{DType, Tensor, TensorData};
    use finetune::device::cpu;
    use finetune::recipe::{Direction, Measure, Projection};
    use finetune::train::objective::asft;
    use finetune::train::objective::kl::{Comparison, of_logits};
    use safetensors::SafeTensors;
    use serde_json::Value;

    struct Arrays(Vec<u8>);

    impl Arrays {
        fn read(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
            let file = SafeTensors::deserialize(&self.0).unwrap();
            let tensor = file.tensor(name).ok()?;
            let data = tensor.data();
            let values = match tensor.dtype() {
                safetensors::Dtype::F64 => {
                    data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()
                }
                safetensors::Dtype::F32 => {
                    data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
                }
                safetensors::Dtype::I64 => {
                    data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f32).collect()
                }
                other => panic!("{name} is {other:?}"),
            };
            Some((tensor.shape().to_vec(), values))
        }

        /// An array as rows of its last axis.
        fn rows(&self, name: &str) -> Tensor<2> {
            let (shape, values) = self.read(name).unwrap_or_else(|| panic!("no {name}"));
            let width = *shape.last().unwrap();
            let n = values.len() / width;
            Tensor::from_data(TensorData::new(values, [n, width]), (&cpu(), DType::F32))
        }
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    fn off_in_norm(found: &[f32], expected: &[f32]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
        (off / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
    }

    fn near(found: f64, expected: f64, allowed: f64, what: &Value) {
        assert!((found - expected).abs() <= allowed * expected.abs(), "{what}: {found}, not {expected}");
    }

    fn check_kl(arrays: &Arrays, cases: &[Value]) {
        let (_, mask) = arrays.read("kl.mask").unwrap();
        let n = mask.iter().filter(|counts| **counts != 0.0).count() as f64;
        for case in cases {
            let id = case["id"].as_str().unwrap();
            let name = format!("kl.{}", id.trim_start_matches("kl-"));
            let direction = match case["direction"].as_str().unwrap() {
                "KL(base || model)" => Direction::BaseToModel,
                "KL(model || base)" => Direction::ModelToBase,
                other => panic!("{other}"),
            };
            let comparison = Comparison { direction, temperature: case["temperature"].as_f64().unwrap() };
            let (each, gradient) =
                of_logits(arrays.rows("kl.logits"), arrays.rows("kl.base_logits"), comparison);
            let counted = each.iter().zip(&mask).filter(|(_, counts)| **counts != 0.0);
            let sum: f64 = counted.map(|(x, _)| f64::from(*x)).sum();
            near(sum / n, case["value"].as_f64().unwrap(), 1e-6, &case["id"]);
            let (_, expected) = arrays.read(&format!("{name}.grad")).unwrap();
            let width = expected.len() / mask.len();
            // What is masked is no row of ours; elsewhere the gradient is that of the mean.
            let ours = values(gradient / n);
            let ours: Vec<f32> =
                ours.iter().enumerate().map(|(i, x)| if mask[i / width] == 0.0 { 0.0 } else { *x }).collect();
            let off = off_in_norm(&ours, &expected);
            assert!(off <= 1e-5, "{id}: {off}");
            assert!(expected.iter().enumerate().all(|(i, x)| mask[i / width] != 0.0 || *x == 0.0));
        }
    }

    fn check_asft(arrays: &Arrays, cases: &[Value]) {
        for case in cases {
            let (id, n) = (case["id"].as_str().unwrap(), case["n"].as_u64().unwrap());
            // The paper's projector is the identity on matrices of full row rank, which the case does not count.
            let (projection, matrices) = match case["matrices"].as_array() {
                Some(counted) => {
                    assert_eq!(counted.len() as u64, n);
                    check_identities(arrays, counted);
                    (Projection::Exact, counted.iter().map(|i| i.as_u64().unwrap()).collect())
                }
                None => (Projection::Weighted, (0..n).collect::<Vec<u64>>()),
            };
            let (measure, by, scale) = match id {
                "mean" => (Measure::Mean, 1.0 / n as f64, 1.0),
                "relative" => (Measure::Relative, 1.0 / n as f64, 1.0),
                "sum-scaled" => (Measure::Sum, 1.0, 2.0),
                "projector-norm" => (Measure::Norm, 1.0, 1.0),
                other => (Measure::Sum, other.strip_prefix("sum-lambda-").unwrap().parse().unwrap(), 1.0),
            };
            let (mut value, mut gradients) = (0.0, BTreeMap::new());
            for i in matrices {
                let of = |name: &str| arrays.rows(&format!("{i}.{name}"));
                let v = of("V");
                let outside = asft::outside(v.clone(), v.zeros_like(), projection);
                let c: Vec<f32> = values(outside.clone())
                    .iter()
                    .enumerate()
                    .map(|(at, x)| {
                        let [n_out, _] = outside.dims();
                        f32::from(u8::from(at % (n_out + 1) == 0)) - x
                    })
                    .collect();
                let name = if projection == Projection::Exact { "P" } else { "C" };
                assert!(off_in_norm(&c, &values(of(name))) <= 1e-5, "{id}: {name} of {i}");
                let part = asft::part(&outside, &of("A"), &of("B"), measure, scale);
                value += part.value * by;
                gradients.insert(format!("{id}.grad.{i}.A"), part.a * by);
                gradients.insert(format!("{id}.grad.{i}.B"), part.b * by);
            }
            near(value, case["value"].as_f64().unwrap(), 1e-5, &case["id"]);
            for (name, found) in gradients {
                let off = off_in_norm(&values(found), &values(arrays.rows(&name)));
                assert!(off <= 1e-5, "{name}: {off}");
            }
        }
    }

    /// That nothing lies outside the columns of the matrices that a case does not count.
    fn check_identities(arrays: &Arrays, counted: &[Value]) {
        let others = (0_u64..).take_while(|i| arrays.read(&format!("{i}.V")).is_some());
        for i in others.filter(|i| !counted.contains(&Value::from(*i))) {
            let v = arrays.rows(&format!("{i}.V"));
            let outside = asft::outside(v.clone(), v.zeros_like(), Projection::Exact);
            assert!(values(outside).iter().all(|x| *x == 0.0), "P of {i}");
        }
    }

    #[test]
    fn golden_penalties() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let folder = PathBuf::from(folder).join("related-training");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("asft_kl.json")).unwrap()).unwrap();
        let arrays = Arrays(std::fs::read(folder.join("asft_kl.safetensors")).unwrap());
        let (of_kl, of_asft) = (cases["kl"].as_array().unwrap(), cases["asft"].as_array().unwrap());
        check_kl(&arrays, of_kl);
        check_asft(&arrays, of_asft);
        let n = of_kl.len() + of_asft.len();
        writeln!(std::io::stderr(), "golden penalties: {n} run, 0 unsupported").unwrap();
    }
}
