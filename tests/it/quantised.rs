//! Frozen bases in 4 and 8 bits: bitsandbytes' numbers, trained on as their copies in 32 bits are, and in no merge.

use std::collections::BTreeMap;
use std::path::Path;

use finetune::device::kernels::dynamic::SIGNED;
use finetune::device::kernels::{Codes, Format, Quantised};
use finetune::snapshot::{Snapshot, SnapshotError, Weight, WeightInfo, Weights, writer};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::Fixture;

/// What `tests/golden/make_quantised.py` wrote.
fn golden() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/quantised.safetensors")).unwrap()
}

fn floats(golden: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = golden.tensor(name).unwrap().data();
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn assert_near(found: &[f32], wanted: &[f32], what: &str) {
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= 1e-6 * wanted.abs(), "{what} {i}: {found}, not {wanted}");
    }
}

/// The golden matrix and this program's form of it.
fn matrix(golden: &SafeTensors<'_>, format: Format) -> Quantised {
    let weight = golden.tensor("weight").unwrap();
    let pairs = weight.data().as_chunks::<2>().0.iter();
    let values: Vec<f32> =
        pairs.map(|bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)).collect();
    Quantised::of(format, &values, weight.shape().try_into().unwrap())
}

#[test]
fn matrices_are_those_of_bitsandbytes() {
    let bytes = golden();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    assert_near(&*SIGNED, &floats(&golden, "dynamic"), "level");

    let nf4 = matrix(&golden, Format::Nf4);
    let Codes::Nf4 { levels, scales } = &nf4.codes else { panic!("levels of 4 bits") };
    // The last byte is half filled, by what is nearest to 0 there, too.
    assert_eq!(levels[..], *golden.tensor("nf4.levels").unwrap().data());
    assert_eq!(scales.distances.codes[..], *golden.tensor("nf4.scales").unwrap().data());
    assert_near(&scales.distances.scales, &floats(&golden, "nf4.largest"), "largest");
    assert_near(&[scales.mean], &floats(&golden, "nf4.mean"), "mean");
    assert_near(&nf4.to_f32(), &floats(&golden, "nf4.values"), "NF4");

    let int8 = matrix(&golden, Format::Int8);
    let Codes::Int8 { codes, scales } = &int8.codes else { panic!("codes of 8 bits") };
    let wanted = golden.tensor("int8.codes").unwrap();
    let codes: Vec<u8> = codes.iter().map(|code| code.cast_unsigned()).collect();
    let other = codes.iter().zip(wanted.data()).position(|(code, wanted)| code != wanted);
    assert_eq!((codes.len(), other), (wanted.data().len(), None), "{other:?}");
    assert_near(scales, &floats(&golden, "int8.scales"), "scale");
    assert_near(&int8.to_f32(), &floats(&golden, "int8.values"), "int8");
}

#[test]
fn any_part_of_a_matrix_is_read_alike() {
    let bytes = golden();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for format in [Format::Nf4, Format::Int8] {
        let matrix = matrix(&golden, format);
        let all = matrix.to_f32();
        for (start, n) in [(0, 1), (1, 1), (63, 2), (61, 140), (124, 124), (7, 1000), (all.len() - 3, 3)] {
            let mut part = vec![0.0; n];
            matrix.read(start, &mut part);
            assert_eq!(part, all[start..start + n], "{format:?}, {n} from {start}");
        }
        assert!(Quantised::bytes(format, matrix.dims) < 2 * all.len());
    }
}

/// A model whose maps in blocks are the numbers that their quantised forms stand for, in f32.
struct Copy(BTreeMap<String, WeightInfo>, BTreeMap<String, Vec<f32>>);

impl Copy {
    fn of(model: &Path, format: Format) -> Self {
        let snapshot = Snapshot::open(model).unwrap();
        let (mut infos, mut all) = (BTreeMap::new(), BTreeMap::new());
        for (name, info) in snapshot.weights.infos() {
            let mut values = snapshot.weights.weight(name).unwrap().to_f32();
            if let ([rows, columns], true) = (info.shape.as_slice(), name.starts_with("model.layers.")) {
                values = Quantised::of(format, &values, [*rows, *columns]).to_f32();
            }
            infos.insert(name.clone(), Weight::from_f32(info.shape.clone(), &values).info);
            all.insert(name.clone(), values);
        }
        Self(infos, all)
    }
}

impl Weights for Copy {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.0
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        Ok(Weight::from_f32(self.0[name].shape.clone(), &self.1[name]))
    }
}

fn losses(fixture: &Fixture, run: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(fixture.file(run).join("metrics.csv")).unwrap();
    let losses = text.lines().skip(1).map(|line| line.split(',').nth(2).unwrap());
    losses.filter(|loss| !loss.is_empty()).map(|loss| loss.parse().unwrap()).collect()
}

fn of_base(fixture: &Fixture, run: &str) -> Value {
    let report: Value =
        serde_json::from_slice(&std::fs::read(fixture.file(run).join("report.json")).unwrap()).unwrap();
    report["candidates"][0]["metrics"].clone()
}

#[test]
fn a_quantised_base_is_trained_on_as_its_copy_is_and_merged_as_it_was() {
    for (word, format) in [("nf4", Format::Nf4), ("int8", Format::Int8)] {
        let fixture = Fixture::new();
        fixture.model_with("copy", "config.json", Some(crate::fixture::CONFIG.as_bytes()));
        let copy = Copy::of(&fixture.file("model"), format);
        let names: Vec<&str> = copy.0.keys().map(String::as_str).collect();
        writer::write_file(&fixture.file("copy/model.safetensors"), &copy, &names, None).unwrap();
        for more in [&[][..], &["--set", "method.variant=\"dora\""], &["--set", "method.dropout=0.2"]] {
            let asked = format!("method.quantization=\"{word}\"");
            let quantised = [&["--set", &asked], more].concat();
            let of_copy = [&["--set", "model.source=copy"], more].concat();
            for (run, more) in [("whole", more), ("short", &quantised), ("copy-run", &of_copy)] {
                let _ = std::fs::remove_dir_all(fixture.file(run));
                fixture.study(run, more);
            }
            let [whole, short, copied] = ["whole", "short", "copy-run"].map(|run| losses(&fixture, run));
            assert_eq!(short.len(), 20);
            for (short, copied) in short.iter().zip(&copied) {
                assert!((short - copied).abs() < 2e-5, "{word} {more:?}: {short}, {copied}");
            }
            assert!(short.iter().zip(&whole).any(|(short, whole)| (short - whole).abs() > 1e-4));
            // The base that is asked and merged is the one that was given.
            assert_eq!(of_base(&fixture, "short"), of_base(&fixture, "whole"));
        }
    }
}

#[test]
fn full_tuning_of_a_quantised_base_is_refused() {
    let fixture = Fixture::new();
    let output = fixture.run(&[
        "--recipe",
        "r.toml",
        "--plan",
        "--set",
        "method.kind=\"full\"",
        "--set",
        "method.quantization=\"nf4\"",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("method.quantization"), "{said}");
}

#[test]
fn a_gpu_trains_on_a_quantised_base_as_the_processor_does() {
    // Compiling its kernels takes minutes on a processor.
    if std::env::var_os("FINETUNE_REQUIRE_WGPU").is_none() {
        return;
    }
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let alone = recipe.split("[[eval.suites]]").next().unwrap().replace("\"linear:0.5\", \"slerp:0.5\"", "");
    fixture.write("r.toml", alone.replace("steps = 20", "steps = 2"));
    // NF4 has words of both kinds: levels of 4 bits, scales of 8.
    for device in ["cpu", "webgpu"] {
        let set = ["--set", "method.quantization=\"nf4\"", "--set", "train.compute=\"f32\""];
        fixture.succeeds(&[&["--recipe", "r.toml", "--out", device, "--device", device], &set[..]].concat());
    }
    let [cpu, gpu] = ["cpu", "webgpu"].map(|device| losses(&fixture, device));
    assert_eq!(cpu.len(), 2);
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        assert!((cpu - gpu).abs() < 1e-4, "{cpu}, {gpu}");
    }
}
