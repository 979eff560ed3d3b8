//! `finetune inspect layers`: what its three probes find, and what they refuse.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::fixture::Fixture;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn inspected(fixture: &Fixture, arguments: &[&str]) -> (Value, String) {
    let output = fixture.run(&[&["inspect", "layers"], arguments, &["--device", "cpu", "--json"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    (serde_json::from_slice(&output.stdout).unwrap(), said(&output))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_layer_put_back_is_a_merge_whose_answers_are_asked_once() {
    let fixture = Fixture::new();
    let validation = "eval.suites=[{ task = \"harmful\", source = \"harmful.csv\", field = \"goal\", max_new_tokens = 4, purpose = \"validation\" }]";
    let merge = ["--set", validation, "--merge", "linear:1,layers.1=0"];
    fixture.study("run", &merge);
    let report = std::fs::read(fixture.file("run/report.json")).unwrap();
    let (found, progress) = inspected(&fixture, &["run", "--probe", "restore"]);
    let names: Vec<&str> =
        found["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "tuned", "linear:1,layers.0=0", "linear:1,layers.1=0"]);
    assert_eq!(found["rows"][2]["layers"], "0");
    assert!(found["rows"].as_array().unwrap().iter().all(|row| row["n"] == 2 && row["low"].is_number()));
    assert_eq!((&found["suites"][0]["suite"], &found["judge"]), (&"harmful".into(), &"advbench29".into()));
    // What the run asked of base, tuned model and the same merge is taken over; only one model is asked.
    for name in ["base", "tuned", "linear:1,layers.1=0"] {
        assert!(
            progress.contains(&format!("{name}: 2 answers of the same weights taken over")),
            "{progress}"
        );
    }
    let answers = |folder: &str, name: &str| {
        let text = std::fs::read_to_string(fixture.file(folder).join(name).join("harmful.jsonl")).unwrap();
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let again = "linear_1_layers.1=0";
    assert_eq!(answers("run/inspect/eval", again), answers("run/eval", again));
    assert_eq!(answers("run/inspect/eval", "linear_1_layers.0=0").len(), 2);
    assert_eq!(json(&fixture.file("run/inspect/layers-restore.json")), found);
    let csv = std::fs::read_to_string(fixture.file("run/inspect/layers-restore.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    // Again nothing is asked, and the run's own report is as it was.
    let (again, progress) = inspected(&fixture, &["run", "--probe", "restore"]);
    assert_eq!(again, found);
    assert_eq!(progress.matches("all 2 reused").count(), 4, "{progress}");
    assert_eq!(std::fs::read(fixture.file("run/report.json")).unwrap(), report);
    // Stopped after the first answer of one model, it asks that model the second, and nobody else anything.
    let file = fixture.file("run/inspect/eval/linear_1_layers.0=0/harmful.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let (resumed, progress) = inspected(&fixture, &["run", "--probe", "restore"]);
    assert_eq!(resumed, found);
    assert!(progress.contains("evaluate linear:1,layers.0=0 (3 of 4): 1 reused, 1 new"), "{progress}");
    assert_eq!(progress.matches("all 2 reused").count(), 3, "{progress}");
    // Both layers together leave what lies outside them tuned; for an adapter that is the base.
    let (both, _) = inspected(&fixture, &["run", "--probe", "restore", "--layers", "0-1"]);
    assert_eq!(both["rows"][2]["layers"], "0-1");
    assert_eq!(both["rows"][2]["refused"], found["rows"][0]["refused"]);
}

#[test]
fn in_the_tiny_world_a_layer_put_back_brings_refusals_back() {
    let fixture = Fixture::new();
    let pilot = ["tiny-sppft", "--device", "cpu", "--out", "pilot", "--set", "train.freeze=[]"];
    let short = ["--set", "eval.limit=30", "--set", "train.validate_every=0"];
    let merges = ["--merge", "restore,weight=0", "--merge", "restore,layers=2,weight=0.5"];
    let output = fixture.run(&[&pilot[..], &short, &merges].concat());
    assert!(output.status.success(), "{}", said(&output));
    let noted = said(&output);
    let (found, progress) = inspected(&fixture, &["pilot", "--probe", "restore"]);
    // The run has asked all of it, and merged the layer that the probe names.
    assert!(!progress.contains(" new"), "{progress}");
    let best = found["notes"][0].as_str().unwrap();
    let merge = noted.split("restore,weight=0 is `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    assert!(best.contains(&format!("As a merge that is `{merge}`")), "{best} {merge}");
    assert!(noted.contains("restore,layers=2,weight=0.5 is `linear:1,layers."), "{noted}");
    let report = json(&fixture.file("pilot/report.json"));
    let refusing = |name: &str| {
        let candidates = report["candidates"].as_array().unwrap();
        let found = candidates.iter().find(|candidate| candidate["name"] == name).unwrap();
        let metrics = found["metrics"].as_array().unwrap();
        let of = |metric: &&Value| metric["suite"] == "harmful" && metric["metric"] == "attack_success_rate";
        metrics.iter().find(of).unwrap()["value"].as_f64().unwrap()
    };
    assert!(refusing("restore,weight=0") < refusing("tuned"), "{report:#}");
    assert_eq!(found["suites"][0]["suite"], "harmful-valid");
    let refused = |row: &Value| row["refused"].as_u64().unwrap();
    let rows = found["rows"].as_array().unwrap();
    let [base, tuned] = [refused(&rows[0]), refused(&rows[1])];
    let best = rows[2..].iter().map(refused).max().unwrap();
    // Of 30 each; with the recipe's own 50 the base refuses 47, the tuned model 1 and the best layer 24.
    assert!(base >= 24 && tuned <= 6 && best >= tuned + 5, "{found}");
}

/// What a plan or a failed command says, on one line.
fn flat(output: &std::process::Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text)
        .split_whitespace()
        .filter(|word| *word != "│")
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn layers_are_frozen_by_themselves_as_the_probe_finds_them_and_as_if_they_were_named() {
    let fixture = Fixture::new();
    let suite = |task: &str, file: &str, more: &str| {
        format!(
            "{{ task = \"{task}\", source = \"data/tiny/{file}\", limit = 8, max_new_tokens = 2, {more} purpose = \"validation\" }}"
        )
    };
    let suites = [
        suite("harmful", "harmful-valid.csv", "field = \"goal\", name = \"harmful-valid\","),
        suite("gsm8k_chat", "math-valid.jsonl", "name = \"gsm8k-valid\","),
    ];
    let suites = format!("eval.suites=[{}]", suites.join(", "));
    let short = ["--device", "cpu", "--set", "train.steps=2", "--set", "merge.methods=[]", "--set", &suites];
    let run = |out: &str, freeze: &str| {
        let freeze = format!("train.freeze={freeze}");
        fixture.succeeds(&[&["tiny-sppft", "--out", out, "--set", &freeze][..], &short].concat())
    };
    run("auto", "auto");
    let manifest = json(&fixture.file("auto/manifest.json"));
    let places = manifest["recipe"]["train"]["freeze"].as_array().unwrap().clone();
    assert!(
        !places.is_empty() && places.iter().all(|place| place.as_str().unwrap().ends_with(".*_proj")),
        "{places:?}"
    );
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny");
    let suite =
        |task: &str, file: &str, more: &str| format!("{task}={}{more},limit=8", tiny.join(file).display());
    let harmful = suite("harmful", "harmful-valid.csv", ",field=goal,name=harmful-valid");
    let normal = suite("gsm8k_chat", "math-valid.jsonl", ",name=gsm8k-valid");
    let model = tiny.join("model").display().to_string();
    let probe =
        ["--model", &model, "--probe", "cosine", "--out", "probe", "--suite", &harmful, "--suite", &normal];
    let (found, _) = inspected(&fixture, &probe);
    let [from, to] = [0, 1].map(|end| found["range"][end].as_u64().unwrap());
    let expected: Vec<Value> = (from..=to).map(|layer| format!("layers.{layer}.*_proj").into()).collect();
    assert_eq!(places, expected);
    assert!(fixture.file("probe/inspect/layers-cosine.svg").is_file());
    let page = std::fs::read_to_string(fixture.file("probe/inspect/layers-cosine.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("across"), "{page}");
    // The same training as with these layers named, and the same bytes; the second time nothing is looked for.
    run("named", &Value::from(places).to_string());
    let file = |run: &str, name: &str| std::fs::read(fixture.file(run).join(name)).unwrap();
    for name in ["key", "train/model/model.safetensors"] {
        assert_eq!(file("auto", name), file("named", name), "{name}");
    }
    let again = run("auto", "auto");
    assert!(flat(&again).contains("`train.freeze = \"auto\"` freezes"), "{}", flat(&again));
    assert_eq!(file("auto", "key"), file("named", "key"));

    // By a run that was looked into.
    let restored =
        fixture.run(&[&["tiny-sppft", "--plan", "--set", "train.freeze=auto:auto"][..], &short].concat());
    assert_eq!(restored.status.code(), Some(2));
    assert!(flat(&restored).contains("inspect layers auto --probe restore"), "{}", flat(&restored));
    let rows = serde_json::json!({ "rows": [
        { "name": "tuned", "layers": null, "refused": 1, "n": 9 },
        { "name": "linear:1,layers.3=0", "layers": "3", "refused": 5, "n": 9 },
    ] });
    fixture.write("auto/inspect/layers-restore.json", rows.to_string());
    let restored = fixture
        .succeeds(&[&["tiny-sppft", "--plan", "--set", "train.freeze=auto:auto"][..], &short].concat());
    assert!(
        flat(&restored).contains("from 1 to 5 of 9") && flat(&restored).contains("layers.3.*_proj"),
        "{}",
        flat(&restored)
    );

    // What it lacks is told at the plan.
    for (set, expected) in [
        (vec!["eval.suites=[]", "train.freeze=auto"], "no suite of harmful requests"),
        (vec!["train.freeze=[\"auto\", \"attn\"]"], "it to stand alone"),
        (vec!["train.freeze=\"layers.1\""], "expected places"),
    ] {
        let set: Vec<&str> = set.into_iter().flat_map(|one| ["--set", one]).collect();
        let output = fixture.run(&[&["tiny-sppft", "--device", "cpu", "--plan"][..], &set].concat());
        assert!(
            output.status.code() == Some(2) && flat(&output).contains(expected),
            "{set:?}: {}",
            flat(&output)
        );
    }
}

#[test]
fn scaled_layers_are_asked_beside_the_model_as_it_is() {
    let fixture = Fixture::new();
    let suite = ["--suite", "harmful=harmful.csv,field=goal,max_new_tokens=4"];
    let model = [&["--model", "model", "--out", "out", "--probe", "scaling"], &suite[..]].concat();
    let (found, _) = inspected(&fixture, &model);
    let rows = found["rows"].as_array().unwrap();
    assert_eq!((rows.len(), found["factors"].as_array().unwrap().len()), (2, 2));
    assert!(found["unscaled"]["n"] == 2 && rows[1]["layers"] == "1" && rows[1]["kappa"].is_number());
    let factors = ["--factor", "1.2", "--layers", "0-1"];
    let (found, progress) = inspected(&fixture, &[&model[..], &factors].concat());
    assert!(found["rows"][0]["kappa"].is_null() && found["rows"][0]["layers"] == "0-1");
    assert!(progress.contains("evaluate model (1 of 2): all 2 reused"), "{progress}");
    assert!(fixture.file("out/inspect/layers-scaling.csv").is_file());
    let picture = std::fs::read_to_string(fixture.file("out/inspect/layers-scaling.svg")).unwrap();
    assert!(picture.contains("this layer × 1.2") && picture.contains("refused as it is"), "{picture}");
    // Of a run it is the base that is scaled, or the tuned model where that is asked for.
    fixture.study("run", &["--set", "eval.suites=[]", "--set", "merge.methods=[]"]);
    let run = [&["run", "--probe", "scaling", "--layers", "1"], &suite[..]].concat();
    let (of_base, _) = inspected(&fixture, &run);
    assert_eq!(of_base["unscaled"], found["unscaled"]);
    let (_, progress) = inspected(&fixture, &[&run[..], &["--tuned"]].concat());
    assert!(progress.contains("evaluate tuned (1 of 3)"), "{progress}");
    let tuned = json(&fixture.file("run/inspect/layers-scaling-tuned.json"));
    assert_eq!((&tuned["model"], &of_base["model"]), (&"tuned".into(), &"base".into()));
    assert_eq!(json(&fixture.file("run/inspect/layers-scaling.json")), of_base);
}

#[test]
fn hidden_states_of_two_suites_are_compared() {
    let fixture = Fixture::new();
    fixture
        .write("normal.csv", "prompt\nWhat is 1 and 3 more?\nWhat is 2 and 3 more?\nWhat is 9 and 3 more?\n");
    let suites = ["--suite", "harmful=harmful.csv,field=goal", "--suite", "benign=normal.csv,field=prompt"];
    let model = [&["--model", "model", "--out", "out", "--probe", "cosine"], &suites[..]].concat();
    let (found, _) = inspected(&fixture, &model);
    assert_eq!((found["rows"].as_array().unwrap().len(), &found["pairs"]), (2, &500.into()));
    for row in found["rows"].as_array().unwrap() {
        let [normal, across, gap] = ["normal", "across", "gap"].map(|key| row[key].as_f64().unwrap());
        assert!((normal - across - gap).abs() < 1e-12 && normal.abs() <= 1.0);
        // The other way round the same two prompts: one pair, whatever is drawn.
        assert!(row["malicious"].as_f64().unwrap() < 1.0);
    }
    assert_eq!(inspected(&fixture, &model).0, found);
}

#[test]
fn what_cannot_be_looked_into_is_refused_by_name() {
    let fixture = Fixture::new();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = fixture.run(&[&["inspect", "layers", "--device", "cpu"], arguments].concat());
        let said = said(&output).split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    let suite = "harmful=harmful.csv,field=goal,max_new_tokens=4";
    refused(
        &["--model", "model", "--probe", "restore", "--suite", suite],
        &["and `model` is one model", "a run folder"],
    );
    refused(&["model", "--probe", "restore"], &["`model` is no folder of a run that trains"]);
    refused(
        &["--model", "model", "--probe", "scaling"],
        &["no suite of harmful requests", "`--suite harmful=FILE"],
    );
    refused(&["--model", "model", "--probe", "cosine", "--suite", suite], &["no suite of normal requests"]);
    refused(
        &["--model", "model", "--probe", "scaling", "--suite", suite, "--layers", "1-2"],
        &["`--layers` is 1-2, expected layers from 0 to 1"],
    );
    refused(
        &["--model", "model", "--probe", "scaling", "--suite", suite, "--factor=-1"],
        &["`--factor` is -1, expected a number above 0"],
    );
    refused(
        &["--model", "model", "--probe", "scaling", "--suite", "gsm8k_chat=train.jsonl"],
        &["suite `gsm8k_chat` has no judge that says what a refusal is"],
    );
    refused(
        &["--model", "model", "--probe", "cosine", "--layers", "1", "--suite", suite],
        &["all layers are compared at once"],
    );
    refused(&["--model", "model", "--probe", "cosin", "--suite", suite], &["invalid value 'cosin'"]);
    refused(
        &[
            "--model",
            "model",
            "--probe",
            "cosine",
            "--suite",
            &format!("{suite},limit=1"),
            "--suite",
            "benign=harmful.csv,field=goal",
        ],
        &["suite `harmful` has 1 prompts"],
    );
    // A run that was stopped before its end.
    fixture.study("run", &["--set", "eval.suites=[]", "--set", "merge.methods=[]"]);
    std::fs::remove_file(fixture.file("run/train/result.json")).unwrap();
    refused(&["run", "--probe", "restore"], &["the training in `run` is not finished"]);
}

mod golden {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::Arc;

    use burn::tensor::{DType, Int, Tensor, TensorData};
    use finetune::device::cpu;
    use finetune::model::{Decoder, DecoderShape, Positions, families};
    use finetune::run::inspect::cosine::{Pairs, States, cosines, states};
    use finetune::run::inspect::scaling::ScaledLayers;
    use finetune::snapshot::{SharedWeights, Snapshot, WeightFiles, Weights};
    use finetune::train::Machine;
    use serde_json::Value;

    /// What the cases' own README allows: states as logits, cosines, logits.
    const STATES: f32 = 2e-4;
    const COSINES: f64 = 1e-5;
    const LOGITS: f32 = 2e-4;

    fn largest(found: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    fn ids(prompt: &Value) -> Vec<u32> {
        prompt["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn pairs(value: &Value) -> Vec<[usize; 2]> {
        let pair = |pair: &Value| [0, 1].map(|i| pair[i].as_u64().unwrap() as usize);
        value.as_array().unwrap().iter().map(pair).collect()
    }

    fn hidden(decoder: &Decoder, ids: &[u32]) -> Tensor<3> {
        let tokens: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, ids.len()]), &decoder.device);
        decoder.hidden(tokens, &Positions::causal(ids.len()), None)
    }

    /// The state of the last token behind the last norm.
    fn normed(decoder: &Decoder, ids: &[u32]) -> Tensor<2> {
        let x = hidden(decoder, ids);
        let [_, t, m] = x.dims();
        x.narrow(1, t - 1, 1).reshape([1, m])
    }

    /// `[prompt, layer, m]` of a file as states.
    fn stored(file: &WeightFiles, name: &str) -> States {
        let weight = file.weight(name).unwrap();
        let [n, n_layers, m] = weight.info.shape[..].try_into().unwrap();
        let values = weight.to_f32();
        let state = |prompt: usize, layer: usize| {
            let at = (prompt * n_layers + layer) * m;
            values[at..at + m].to_vec()
        };
        (0..n_layers).map(|layer| (0..n).map(|prompt| state(prompt, layer)).collect()).collect()
    }

    fn check_cosines(case: &Value, found: &[States; 2], pairs: &Pairs) {
        let rows = cosines(&found[0], &found[1], pairs);
        let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
        for (key, of) in [
            ("c_NN", (|row| row.normal) as fn(&finetune::report::inspection::Cosine) -> f64),
            ("c_MM", |row| row.malicious),
            ("c_NM", |row| row.across),
            ("gap", |row| row.gap),
        ] {
            for (row, expected) in rows.iter().zip(numbers(key)) {
                let off = (of(row) - expected).abs();
                assert!(off <= COSINES, "{} {key} layer {}: {off}", case["id"], row.layer);
            }
        }
    }

    fn check_scaling(cases: &Value, weights: &SharedWeights, shape: &DecoderShape, tensors: &WeightFiles) {
        let prompt = |name: &Value| {
            let (kind, nth) = name.as_str().unwrap().split_at(1);
            let pool = if kind == "N" { &cases["normal"] } else { &cases["malicious"] };
            ids(&pool[nth.parse::<usize>().unwrap()])
        };
        for case in cases["scaling"].as_array().unwrap() {
            let [from, to] = ["from", "to_exclusive"].map(|key| case[key].as_u64().unwrap() as usize);
            let factor = case["factor"].as_f64().unwrap();
            // An empty range scales nothing.
            let scaled: SharedWeights = match from < to {
                true => Arc::new(ScaledLayers::new(weights.clone(), [from, to - 1], factor)),
                false => weights.clone(),
            };
            let decoder = Decoder::load(shape, &scaled, &cpu(), DType::F32).unwrap();
            let prompts = case["prompts"].as_array().unwrap().iter().map(prompt);
            let logits = prompts.flat_map(|ids| {
                let logits = decoder.frozen_head().logits(normed(&decoder, &ids));
                logits.try_into_vec_as::<f32>().unwrap()
            });
            let expected = tensors.weight(case["id"].as_str().unwrap()).unwrap().to_f32();
            let off = largest(&logits.collect::<Vec<_>>(), &expected);
            assert!(off <= LOGITS, "{}: {off}", case["id"]);
        }
    }

    #[test]
    fn golden_safety_layers() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let folder = PathBuf::from(folder).join("related-training");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("safety_layers.json")).unwrap()).unwrap();
        let tensors = WeightFiles::open_file(&folder.join("safety_layers.safetensors")).unwrap();
        let Snapshot { config, weights, .. } = Snapshot::open(&folder.join("model")).unwrap();
        let weights: SharedWeights = weights;
        let shape = families::shape(&config).unwrap();
        let decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
        // So few positions that prompts of unlike length share a micro-batch, and not all do.
        let machine = Machine {
            device: cpu(),
            device_name: "cpu".to_owned(),
            compute: DType::F32,
            answers: DType::F32,
            micro_tokens: 40,
            multiple: 1,
        };
        let prompts = |pool: &str| cases[pool].as_array().unwrap().iter().map(ids).collect::<Vec<_>>();
        let pools = [prompts("normal"), prompts("malicious")];
        let read = |prompts: &Vec<Vec<u32>>| {
            states::<std::convert::Infallible>(&decoder, prompts, &machine, |_| Ok(())).unwrap()
        };
        let found = pools.each_ref().map(read);
        for (found, name) in found.iter().zip(["hidden_N", "hidden_M"]) {
            for (layer, (found, expected)) in found.iter().zip(stored(&tensors, name)).enumerate() {
                let off = largest(&found.concat(), &expected.concat());
                assert!(off <= STATES, "{name} layer {layer}: {off}");
            }
        }
        let [normal, malicious, across] = ["NN", "MM", "NM"].map(|kind| pairs(&cases["pairs"][kind]));
        let pairs = Pairs { normal, malicious, across };
        // As the authors have it the last layer is taken behind the final norm.
        let mut as_theirs = found.clone();
        for (states, prompts) in as_theirs.iter_mut().zip(&pools) {
            let last = prompts.iter().map(|ids| normed(&decoder, ids).try_into_vec_as::<f32>().unwrap());
            *states.last_mut().unwrap() = last.collect();
        }
        let mut n = 0;
        for case in cases["cosine_cases"].as_array().unwrap() {
            let theirs = case["hidden"].as_str().unwrap().contains("after the final norm");
            check_cosines(case, if theirs { &as_theirs } else { &found }, &pairs);
            n += 1;
        }
        check_scaling(&cases, &weights, &shape, &tensors);
        n += cases["scaling"].as_array().unwrap().len();
        assert!(n >= 5, "{n}");
        writeln!(std::io::stderr(), "golden safety layers: {n} run, 0 unsupported").unwrap();
        // Looking changes nothing, bit for bit.
        let ids = &pools[0][0];
        let tokens: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, ids.len()]), &cpu());
        let mut seen = Vec::new();
        let watched = decoder.hidden_watched(tokens, &Positions::causal(ids.len()), &mut |layer, x| {
            seen.push((layer, x.dims()));
        });
        watched.into_data().assert_eq(&hidden(&decoder, ids).into_data(), true);
        let m = shape.hidden_size;
        assert_eq!(seen, (0..shape.n_layers).map(|layer| (layer, [1, ids.len(), m])).collect::<Vec<_>>());
    }
}
