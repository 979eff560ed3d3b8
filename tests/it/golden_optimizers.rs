//! Updates beside those of other programs: the same weights, gradients and rates, step by step.

mod golden {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::Path;

    use burn::tensor::{Device, Tensor, TensorData};
    use finetune::device::kernels::dynamic::{Codes, SIGNED, UNSIGNED};
    use finetune::device::{self, cpu};
    use finetune::model::Param;
    use finetune::recipe::{OptimizerKind, Train};
    use finetune::train::optimizer::{Optimizer, bytes};
    use finetune::train::remembered::Remembered;
    use finetune::train::schedule::LearningRate;
    use safetensors::SafeTensors;
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    fn file(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/optimizers");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn case(name: &str) -> Value {
        serde_json::from_slice::<Value>(&file("cases.json")).unwrap()[name].take()
    }

    /// A tensor's shape and its numbers.
    fn read(golden: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
        let view = golden.tensor(name).unwrap();
        let values = view.data().as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        (view.shape().to_vec(), values)
    }

    /// A matrix, or a vector as its only row.
    fn on(device: &Device, (shape, values): &(Vec<usize>, Vec<f32>)) -> Tensor<2> {
        let columns = *shape.last().unwrap();
        Tensor::from_data(TensorData::new(values.clone(), [values.len() / columns, columns]), device)
    }

    /// What is trained, by name.
    fn start(golden: &SafeTensors<'_>) -> BTreeMap<String, Param> {
        let names = golden.names().into_iter().filter_map(|name| name.strip_prefix("start."));
        let param = |name: &str| {
            let found = read(golden, &format!("start.{name}"));
            let value = on(&cpu(), &found);
            (name.to_owned(), Param { name: name.to_owned(), shape: found.0, value })
        };
        names.map(param).collect()
    }

    /// The largest difference as a share of the largest number.
    fn apart(found: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Where nothing was moved yet B is zero, and nothing else than zero is near.
        if off == 0.0 { 0.0 } else { off / largest }
    }

    fn number(case: &Value, key: &str) -> f64 {
        case[key].as_f64().unwrap()
    }

    /// The settings of a case, and the rates of its steps: which are ours.
    fn settings(case: &Value) -> (Train, Vec<f64>) {
        let train = Train {
            learning_rate: number(case, "learning_rate"),
            weight_decay: number(case, "weight_decay"),
            warmup: number(case, "warmup"),
            ..Train::default()
        };
        let rates: Vec<f64> = case["rates"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let rate = LearningRate::new(&train, rates.len());
        for (step, expected) in rates.iter().enumerate() {
            assert!((rate.at(step) - expected).abs() <= 1e-15, "step {step}: {} {expected}", rate.at(step));
        }
        (train, (0..rates.len()).map(|step| rate.at(step)).collect())
    }

    #[test]
    fn golden_lora_plus_of_peft() {
        // A few roundings of f32 in each of twenty steps; 6e-8 is one.
        const ROUNDING: f32 = 5e-7;
        let bytes = file("lora_plus.safetensors");
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let case = case("lora_plus");
        let (train, rates) = settings(&case);
        let train = Train { lora_plus: number(&case, "ratio"), ..train };
        let mut params = start(&golden);
        assert_eq!((params.len(), rates.len()), (6, 20));
        let mut optimizer = Optimizer::new(&train);
        let mut furthest = 0.0f32;
        for (step, rate) in rates.into_iter().enumerate() {
            optimizer.advance();
            for (name, param) in &mut params {
                let gradient = on(&cpu(), &read(&golden, &format!("gradient.{step}.{name}")));
                param.value = optimizer.update(param, gradient, rate);
                let found = param.value.clone().try_into_vec_as::<f32>().unwrap();
                let off = apart(&found, &read(&golden, &format!("step.{step}.{name}")).1);
                assert!(off <= ROUNDING, "step {step}: {name} is {off} apart");
                furthest = furthest.max(off);
            }
        }
        writeln!(std::io::stderr(), "golden LoRA+ of PEFT: at most {furthest:.1e} apart").unwrap();
    }

    /// As `mixed` of the script.
    fn mixed(x: u32) -> u32 {
        let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        x ^ (x >> 16)
    }

    /// As `drawn` of the script.
    fn drawn(n: usize, stream: usize, sizes: u32) -> Vec<f32> {
        let number = |place: usize| {
            let x = mixed((place + stream * 65_536) as u32);
            let whole = (x >> 8).cast_signed() - (1 << 23);
            let exponent = mixed(x.wrapping_add(1)) % sizes;
            whole as f32 * 2f32.powi(-23 - exponent.cast_signed())
        };
        (0..n).map(number).collect()
    }

    /// What is remembered of a weight in 8 bits.
    fn codes_of(optimizer: &Optimizer, weight: &str) -> [Codes; 2] {
        let state: BTreeMap<_, _> = optimizer.state().collect();
        ["first", "second"].map(|moment| match &state[&format!("{weight}.{moment}")] {
            Remembered::Codes(codes) => codes.clone(),
            Remembered::Numbers(_) => panic!("the {moment} moment of `{weight}` is in f32"),
        })
    }

    /// The SHA-256 of codes and scales, one moment behind the other.
    fn digest(moments: &[Codes]) -> String {
        let mut digest = Sha256::new();
        for Codes { codes, scales } in moments {
            digest.update(codes);
            for scale in scales {
                digest.update(scale.to_le_bytes());
            }
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The weights of torchao's case.
    const WEIGHTS: [(&str, [usize; 2]); 3] = [("large", [64, 64]), ("small", [40, 32]), ("uneven", [43, 96])];

    /// torchao's twenty steps on this device: how far weights are apart at most, and of how many codes of the last step
    /// how many are another's neighbour. `exact`: codes and scales must be the same after every step.
    fn steps_of_torchao(device: &Device, exact: bool) -> (f32, usize, usize) {
        let file_bytes = file("adamw_8bit.safetensors");
        let golden = SafeTensors::deserialize(&file_bytes).unwrap();
        let case = case("adamw_8bit");
        assert_eq!(read(&golden, "tables").1, [&SIGNED[..], &UNSIGNED[..]].concat());
        let (train, rates) = settings(&case);
        let mut optimizer = Optimizer::new(&Train { optimizer: OptimizerKind::Adamw8bit, ..train });
        let mut params: Vec<Param> = WEIGHTS
            .iter()
            .enumerate()
            .map(|(nth, (name, shape))| {
                assert_eq!(case["shapes"][name], json!(shape));
                let value = on(device, &(shape.to_vec(), drawn(shape[0] * shape[1], nth, 4)));
                Param { name: (*name).to_owned(), shape: shape.to_vec(), value }
            })
            .collect();
        let mut furthest = 0.0f32;
        for (step, rate) in rates.into_iter().enumerate() {
            optimizer.advance();
            for (nth, param) in params.iter_mut().enumerate() {
                let gradient = drawn(param.shape[0] * param.shape[1], 16 * (step + 1) + nth, 20);
                param.value = optimizer.update(param, on(device, &(param.shape.clone(), gradient)), rate);
                let all = param.value.clone().try_into_vec_as::<f32>().unwrap();
                let some: Vec<f32> = all.into_iter().step_by(32).collect();
                furthest =
                    furthest.max(apart(&some, &read(&golden, &format!("some.{step}.{}", param.name)).1));
            }
            let digest = digest(&codes_of(&optimizer, "large"));
            assert!(!exact || case["sha256"][step] == digest, "codes or scales after step {step} differ");
        }
        for param in &params {
            let all = param.value.clone().try_into_vec_as::<f32>().unwrap();
            let expected = read(&golden, &format!("last.{}", param.name)).1;
            assert!(!exact || param.name != "large" || all == expected, "the last weights differ");
            furthest = furthest.max(apart(&all, &expected));
        }
        let (mut n, mut n_other) = (0, 0);
        for (moment, found) in ["first", "second"].iter().zip(codes_of(&optimizer, "large")) {
            let expected = golden.tensor(&format!("codes.{moment}")).unwrap();
            for (a, b) in found.codes.iter().zip(expected.data()) {
                assert!(a.abs_diff(*b) <= 1, "{moment}: {a} {b}");
                (n, n_other) = (n + 1, n_other + usize::from(a != b));
            }
            let expected = read(&golden, &format!("scales.{moment}")).1;
            furthest = furthest.max(apart(&found.scales, &expected));
        }
        // Only what is large enough and comes out even is in 8 bits.
        let state: BTreeMap<_, _> = optimizer.state().collect();
        let short = state.iter().filter(|(_, moment)| matches!(moment, Remembered::Codes(_)));
        assert_eq!(short.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["large.first", "large.second"]);
        (furthest, n, n_other)
    }

    #[test]
    fn golden_adamw_8bit_of_torchao() {
        // Weights in 8 bits are the same to the bit. Of those in f32 a few roundings differ in each of twenty steps, for ours
        // are moved as PyTorch's AdamW moves them; 6e-8 is one.
        const ROUNDING: f32 = 1e-6;
        let (furthest, n, n_other) = steps_of_torchao(&cpu(), true);
        assert!(furthest <= ROUNDING && (n, n_other) == (2 * 4096, 0), "{furthest} apart, {n_other} codes");
        writeln!(std::io::stderr(), "golden AdamW8bit of torchao: at most {furthest:.1e} apart").unwrap();
        let sizes = WEIGHTS.map(|(_, [rows, columns])| bytes(OptimizerKind::Adamw8bit, rows * columns));
        // Two bytes a number, and eight of scales for each of 16 blocks; the others eight bytes a number.
        assert_eq!(sizes, [2 * 4096 + 16 * 8, 8 * 1280, 8 * 4128]);
    }

    #[test]
    fn golden_adamw_8bit_on_wgpu() {
        // A division of WGSL may be 2.5 units in the last place off, of a mean that is carried on twenty times; a code
        // then is its neighbour where the number lies as near to both.
        const ROUNDING: f32 = 5e-6;
        const NEIGHBOURS: f64 = 1e-3;
        if std::env::var_os("FINETUNE_REQUIRE_WGPU").is_none() {
            return;
        }
        let opened = device::open(&"webgpu".parse().unwrap()).unwrap();
        let (furthest, n, n_other) = steps_of_torchao(&opened.device, false);
        let line = format!("{}: {furthest:.1e} apart, {n_other} of {n} codes differ", opened.name);
        assert!(furthest <= ROUNDING && n_other as f64 <= NEIGHBOURS * n as f64, "{line}");
        writeln!(std::io::stderr(), "golden AdamW8bit on {line}").unwrap();
    }
}
