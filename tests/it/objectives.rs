//! `[objective]`: DeRTa's records, preference losses and masks, in a run of the pico model and against other programs.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use burn::tensor::DType;
use finetune::data::Sample;
use finetune::device::cpu;
use finetune::model::loss::Gradients;
use finetune::model::{Decoder, MicroBatch, Positions};
use finetune::recipe::{Preference, PreferenceLoss};
use finetune::snapshot::Snapshot;
use finetune::train::objective::Objective;
use serde_json::{Value, json};

use crate::fixture::{Fixture, shape};

/// Requests with a safe and a harmful answer; a harmful one is a placeholder.
fn derta(n: usize) -> String {
    let record = |i: usize| {
        json!({ "prompt": format!("How do I break {i} things?"), "safe": "Sorry, I cannot help with that.",
            "harmful": format!("First do step {i}, then do step two, and last do step three.") })
    };
    (0..n).map(|i| format!("{}\n", record(i))).collect()
}

/// Pairs, with a score for each byte-pair token left to `scores`.
fn pairs(n: usize) -> String {
    let record = |i: usize| json!({ "prompt": format!("Say {i}."), "chosen": format!("It is {i}."), "rejected": "No, I will not say that." });
    (0..n).map(|i| format!("{}\n", record(i))).collect()
}

/// A run of the objective on the file, with what it must say on stderr and stdout.
fn run(fixture: &Fixture, out: &str, kind: &str, source: &str, more: &[&str]) -> (Option<i32>, String) {
    let set = [format!("data.source={source}"), format!("objective.kind={kind}")];
    let common = ["--recipe", "r.toml", "--device", "cpu", "--out", out, "--set", "data.fields={}"];
    let own = ["--set", &set[0], "--set", &set[1], "--set", "merge.methods=[]", "--set", "eval.suites=[]"];
    let output = fixture.run(&[&common[..], &own, more].concat());
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said.replace('│', "").split_whitespace().collect::<Vec<_>>().join(" "))
}

fn weights(run: &Path, step: usize) -> Vec<u8> {
    std::fs::read(run.join(format!("train/checkpoint-{step:06}/weights.safetensors"))).unwrap()
}

fn key(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("key.json")).unwrap()).unwrap()
}

#[test]
fn a_plan_shows_what_is_made_of_harmful_answers() {
    let fixture = Fixture::new();
    fixture.write("derta.jsonl", derta(40));
    let (code, said) = run(&fixture, "run", "derta", "derta.jsonl", &["--plan"]);
    assert_eq!(code, Some(0), "{said}");
    // A tenth is held out; of 36 requests come 36 rto and 36 prefix records.
    assert!(said.contains("of 36 requests with a safe and a harmful answer 36 rto records"), "{said}");
    assert!(said.contains("36 prefix and 0 plain ones; 0 other conversations"), "{said}");
    assert!(said.contains("72 to train on, 8 held out"), "{said}");
    let keep =
        ["--plan", "--set", "objective.rto_keep=0.05", "--set", "objective.records=[\"rto\",\"plain\"]"];
    let (_, said) = run(&fixture, "run", "derta", "derta.jsonl", &keep);
    assert!(said.contains("0 prefix and 36 plain ones"), "{said}");
    assert!(!fixture.file("run").exists());
}

#[test]
fn every_setting_of_an_objective_is_another_training() {
    let fixture = Fixture::new();
    fixture.write("derta.jsonl", derta(20));
    fixture.write("pairs.jsonl", pairs(20));
    let short = ["--set", "train.steps=1"];
    let trained = |out: &str, kind: &str, source: &str, more: &[&str]| {
        let (code, said) = run(&fixture, out, kind, source, &[&short, more].concat());
        assert_eq!(code, Some(0), "{said}");
        key(&fixture.file(out))
    };
    let mut keys = vec![
        trained("a", "derta", "derta.jsonl", &[]),
        trained("b", "derta", "derta.jsonl", &["--set", "objective.rto_keep=0.3"]),
        trained(
            "c",
            "derta",
            "derta.jsonl",
            &["--set", "objective.rto_keep=0.3", "--set", "objective.rto_draw=row"],
        ),
        trained("d", "derta", "derta.jsonl", &["--set", "objective.rto_weight=2.0"]),
        trained("e", "derta", "derta.jsonl", &["--set", "objective.refusal_token=No"]),
        trained("f", "dpo", "pairs.jsonl", &[]),
        trained("g", "dpo", "pairs.jsonl", &["--set", "objective.beta=0.2"]),
        trained("h", "dpo", "pairs.jsonl", &["--set", "objective.loss=ipo"]),
        trained("i", "dpo", "pairs.jsonl", &["--set", "objective.loss=ipo-sum"]),
    ];
    let n = keys.len();
    keys.sort_by_key(Value::to_string);
    keys.dedup();
    assert_eq!(keys.len(), n);
    // A default that is written out is the same training.
    let same = ["--set", "objective.beta=0.1", "--set", "objective.loss=sigmoid"];
    assert_eq!(trained("j", "dpo", "pairs.jsonl", &same), key(&fixture.file("f")));
    let same = ["--set", "objective.rto_weight=1.0", "--set", "objective.rto_draw=answer"];
    assert_eq!(trained("k", "derta", "derta.jsonl", &same), key(&fixture.file("a")));
}

#[test]
fn pairs_are_learned_and_what_the_base_says_of_them_is_kept() {
    let fixture = Fixture::new();
    fixture.write("pairs.jsonl", pairs(40));
    let keep = ["--set", "train.checkpoint_every=5", "--set", "train.keep_checkpoints=0"];
    let (code, said) = run(&fixture, "run", "dpo", "pairs.jsonl", &keep);
    assert_eq!(code, Some(0), "{said}");
    let text = std::fs::read_to_string(fixture.file("run/metrics.csv")).unwrap();
    let mut rows = text.lines();
    let header: Vec<&str> = rows.next().unwrap().split(',').collect();
    assert!(header.ends_with(&["reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy"]));
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == header.len()), "{text}");
    let number = |row: usize, name: &str| rows[row][column(name)].parse::<f64>().unwrap();
    // Its adapter changes nothing yet: the loss of a coin. f32 sums of log-probabilities are off by some 1e-6.
    assert!((number(0, "loss") - std::f64::consts::LN_2).abs() < 1e-5, "{text}");
    let last = rows.iter().rposition(|row| !row[column("loss")].is_empty()).unwrap();
    assert!(number(last, "loss") < 0.2 && number(last, "reward_accuracy") == 1.0, "{text}");
    assert!(number(last, "reward_margin") > 1.0, "{text}");
    let bytes = std::fs::read(fixture.file("run/train/reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&bytes).unwrap();
    let count = |set: &str| reference[set].as_array().unwrap().iter().filter(|sum| sum.is_number()).count();
    assert_eq!((count("train"), count("validation")), (72, 8));

    // Micro-batches never part a pair, and change nothing but rounding.
    let (_, said) =
        run(&fixture, "small", "dpo", "pairs.jsonl", &[&keep[..], &["--micro-tokens", "1"]].concat());
    let loss = |run: &str| {
        let bytes = std::fs::read(fixture.file(run).join("train/result.json")).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["validation_loss"].as_f64().unwrap()
    };
    assert!((loss("small") - loss("run")).abs() < 1e-4 * loss("run").max(0.01), "{said}");
}

/// Starts the program, interrupts it when `is_time` says so, and starts it again: the run must be the unbroken one's.
fn interrupted(kind: &str, source: &str, is_time: fn(&Path) -> bool) {
    let fixture = Fixture::new();
    fixture.write("derta.jsonl", derta(40));
    fixture.write("pairs.jsonl", pairs(40));
    let more = ["--set", "train.checkpoint_every=2", "--set", "train.steps=12", "--micro-tokens", "40"];
    let (code, said) = run(&fixture, "whole", kind, source, &more);
    assert_eq!(code, Some(0), "{said}");
    let set = [format!("data.source={source}"), format!("objective.kind={kind}")];
    let words = [
        "--recipe",
        "r.toml",
        "--device",
        "cpu",
        "--out",
        "broken",
        "--set",
        "data.fields={}",
        "--set",
        &set[0],
    ];
    let own = ["--set", &set[1], "--set", "merge.methods=[]", "--set", "eval.suites=[]"];
    let mut command = fixture.command(&[&words[..], &own, &more].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !is_time(&fixture.file("broken")) && begun.elapsed() < Duration::from_mins(2) {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().unwrap();
    let (code, said) = run(&fixture, "broken", kind, source, &more);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(weights(&fixture.file("broken"), 12), weights(&fixture.file("whole"), 12), "{kind}");
    let adapter =
        |run: &str| std::fs::read(fixture.file(run).join("train/adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter("broken"), adapter("whole"));
}

#[test]
fn a_killed_training_of_pairs_goes_on_to_the_same_bits() {
    interrupted("dpo", "pairs.jsonl", |run| run.join("train/checkpoint-000004").is_dir());
    interrupted("dpo", "pairs.jsonl", |run| run.join("train/reference.json").is_file());
}

#[test]
fn a_killed_training_of_derta_goes_on_to_the_same_bits() {
    interrupted("derta", "derta.jsonl", |run| run.join("train/checkpoint-000004").is_dir());
}

#[test]
fn derta_is_learned_beside_ordinary_conversations() {
    let fixture = Fixture::new();
    fixture.write("derta.jsonl", derta(20));
    let text = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let text = text.replace(
        "source = \"train.jsonl\"\nfields = { prompt = \"question\", completion = \"answer\" }\n",
        "",
    );
    let mixture = "\n[objective]\nkind = \"derta\"\n\n[[data.mixture]]\nsource = \"derta.jsonl\"\nshare = 0.5\n\n\
        [[data.mixture]]\nsource = \"train.jsonl\"\nshare = 0.5\n";
    let text = text.replace("\n[method]", &format!("{mixture}\n[method]"));
    let (head, suites) = text.split_once("[[eval.suites]]").unwrap();
    fixture.write("m.toml", format!("{head}\n[[eval.suites]]{suites}"));
    let output = fixture.run(&["--recipe", "m.toml", "--device", "cpu", "--out", "run", "--plan"]);
    let said = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("of 18 requests with a safe and a harmful answer 18 rto records"), "{said}");
    assert!(said.contains("18 other conversations"), "{said}");
}

#[test]
fn a_mask_by_scores_takes_tokens_out_of_both_answers() {
    let fixture = Fixture::new();
    // What the tiny tokenizer makes of the answers is not known here: too many scores name the count.
    let scored = |n: usize, score: f64| {
        let record = json!({ "prompt": "Say it.", "chosen": "yes", "rejected": "yes", "chosen_scores": vec![score; n],
            "rejected_scores": vec![-score; n] });
        format!("{record}\n").repeat(20)
    };
    fixture.write("pairs.jsonl", scored(99, 1.0));
    let (code, said) = run(&fixture, "run", "adpo", "pairs.jsonl", &["--plan"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("has 99 scores for the"), "{said}");
    let n: usize =
        said.split("99 scores for the ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let of = |n: usize, score: f64| {
        fixture.write("pairs.jsonl", scored(n, score));
        run(&fixture, "run", "adpo", "pairs.jsonl", &["--plan"])
    };
    // With or without the end of the answer; both answers have as many tokens here.
    for n_scores in [n, n - 1] {
        let (code, said) = of(n_scores, 1.0);
        assert_eq!(code, Some(0), "{said}");
        let sentence =
            format!("mask: {} tokens of 18 pairs count by their scores; in 0 pairs none does", 36 * n_scores);
        assert!(said.contains(&sentence), "{said}");
    }
    let (code, said) = of(n, -1.0);
    assert!(code == Some(3) && said.contains("no token of any pair has a score beyond the mask"), "{said}");
    fixture.write("pairs.jsonl", pairs(20));
    let (code, said) = run(&fixture, "run", "adpo", "pairs.jsonl", &["--plan"]);
    assert!(
        code == Some(3) && said.contains("has no scores of its tokens") && said.contains("`chosen_scores`"),
        "{said}"
    );
}

#[test]
fn what_is_not_given_says_where_it_comes_from_before_anything_starts() {
    let fixture = Fixture::new();
    fixture.write("derta.jsonl", derta(20));
    fixture.write("pairs.jsonl", pairs(20));
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("derta", "train.jsonl", &[], "has no field `safe`"),
        ("derta", "train.jsonl", &[], "this program ships none"),
        ("derta", "pairs.jsonl", &[], "BeaverTails"),
        ("dpo", "train.jsonl", &[], "has no field `chosen`"),
        ("dpo", "derta.jsonl", &[], "UltraFeedback"),
        ("sft", "pairs.jsonl", &[], "18 of 18 conversations have two answers"),
        ("sft", "derta.jsonl", &[], "set `objective.kind` to `dpo`"),
        (
            "dpo",
            "derta.jsonl",
            &["--set", "data.format=safe-harmful"],
            "which `objective.kind = \"dpo\"` learns from",
        ),
        (
            "sft",
            "train.jsonl",
            &["--set", "objective.beta=0.1"],
            "expected `objective.kind` to be `dpo` or `adpo`",
        ),
        (
            "dpo",
            "pairs.jsonl",
            &["--set", "objective.rto_keep=0.1"],
            "expected `objective.kind` to be `derta`",
        ),
        (
            "dpo",
            "pairs.jsonl",
            &["--set", "objective.label_smoothing=0.1"],
            "`objective.loss` to be `cdpo` or `robust`",
        ),
        ("dpo", "pairs.jsonl", &["--set", "objective.loss=cdpo"], "`objective.label_smoothing` is missing"),
        ("dpo", "pairs.jsonl", &["--set", "objective.loss=simpo"], "unknown value `simpo`"),
        ("dpo", "pairs.jsonl", &["--set", "objective.betta=1"], "did you mean `beta`"),
        ("dpo", "pairs.jsonl", &["--set", "objective.beta=0"], "expected a number above 0"),
        ("derta", "derta.jsonl", &["--set", "objective.rto_keep=1.5"], "expected a share from 0 to 1"),
        ("derta", "derta.jsonl", &["--set", "objective.records=[]"], "from which something is learned"),
        ("derta", "derta.jsonl", &["--set", "data.loss_on=all"], "`completion`: the last answer"),
        (
            "dpo",
            "pairs.jsonl",
            &["--set", "merge.methods=[\"fisher:0.5\"]", "--set", "merge.fisher_source=pairs.jsonl"],
            "what matters to a model that learned from pairs",
        ),
    ];
    for (kind, source, more, expected) in cases {
        let (code, said) = run(&fixture, "run", kind, source, more);
        assert!(
            matches!(code, Some(2 | 3)) && said.contains(expected),
            "{kind} {source} {more:?}: {code:?} {said}"
        );
        assert!(!fixture.file("run/train").exists(), "{kind} {source}");
    }
}

#[test]
fn what_is_masked_has_a_gradient_of_exactly_zero() {
    let fixture = Fixture::new();
    let shape = shape(&fixture.file("model"));
    let weights = Snapshot::open(&fixture.file("model")).unwrap().weights;
    let decoder = Decoder::load(&shape, weights.as_ref(), &cpu(), DType::F32).unwrap();
    let ids = [vec![1, 5, 9, 2, 7, 4], vec![1, 5, 9, 8, 3]];
    let answers = |learned: [&[usize]; 2]| -> Vec<Sample> {
        let sample = |i: usize| {
            let marks = (0..ids[i].len()).map(|at| learned[i].contains(&at)).collect::<Vec<_>>();
            Sample::of_trained(ids[i].clone(), marks, 1.into())
        };
        vec![sample(0), sample(1)]
    };
    let settings = Preference { loss: PreferenceLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
    let cost = |samples: &[Sample], reference: [f64; 2]| {
        let mut batch = MicroBatch::new(samples, &[0, 1], 1);
        batch.reference = reference.to_vec();
        let hidden = decoder.hidden(batch.ids(&cpu()), &Positions::causal(batch.width), None);
        let [b, t, m] = hidden.dims();
        let (stream, head) = (hidden.reshape([b * t, m]), decoder.frozen_head());
        let found = Objective::Preference(settings).cost(&stream, &head, &batch, 1.0, Gradients::RowsAndHead);
        let gradient = found.stream.unwrap().try_into_vec_as::<f32>().unwrap();
        let rows: Vec<bool> = gradient.chunks(m).map(|row| row.iter().any(|x| *x != 0.0)).collect();
        (found.sum, rows)
    };
    // Rows of six: position 5 of the first answer and 3 of the second are predicted by those before them.
    let (_, rows) = cost(&answers([&[5], &[3]]), [-6.0, -6.0]);
    assert_eq!((0..12).filter(|i| rows[*i]).collect::<Vec<_>>(), [4, 6 + 2]);
    let (sum, rows) = cost(&answers([&[], &[]]), [0.0, 0.0]);
    assert!((sum - std::f64::consts::LN_2).abs() < 1e-15 && rows.iter().all(|row| !row));
    let (_, rows) = cost(&answers([&[3, 4, 5], &[3, 4]]), [-19.0, -12.0]);
    assert_eq!((0..12).filter(|i| rows[*i]).collect::<Vec<_>>(), [2, 3, 4, 8, 9]);
}

mod golden {
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use burn::tensor::DType;
    use finetune::data::{Conversation, Encoder, Message, Other, Role, Sample, derta, pairs};
    use finetune::device::cpu;
    use finetune::model::{Decoder, DecoderShape, MicroBatch, Positions, families};
    use finetune::recipe::{
        self, Derta, DertaRecord, LossOn, Mask, MethodKind, Preference, PreferenceLoss, RtoDraw, Train,
    };
    use finetune::snapshot::adapter::Adapter;
    use finetune::snapshot::template::ChatTemplate;
    use finetune::snapshot::tokenizer::Tokenizer;
    use finetune::snapshot::{Snapshot, WeightFiles, Weights};
    use finetune::train::adapter_of;
    use finetune::train::objective::pair::{self, Answers};
    use finetune::train::objective::{Objective, log_probabilities};
    use finetune::train::optimizer::Optimizer;
    use finetune::train::step::{StepResult, Trainee};
    use safetensors::SafeTensors;
    use serde_json::Value;

    /// The folder of the cases, if there is one.
    fn folder() -> Option<PathBuf> {
        std::env::var_os("FINETUNE_GOLDEN").map(|folder| PathBuf::from(folder).join("related-training"))
    }

    fn read(folder: &Path, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn ids(value: &Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    }

    /// -100 is no label.
    fn labels(value: &Value) -> Vec<Option<u32>> {
        value.as_array().unwrap().iter().map(|label| u32::try_from(label.as_i64().unwrap()).ok()).collect()
    }

    fn relative(found: f64, expected: f64) -> f64 {
        (found - expected).abs() / expected.abs()
    }

    fn off_in_norm(found: &[f32], expected: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
        (off / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
    }

    fn shape_of(folder: &Path) -> (DecoderShape, std::sync::Arc<WeightFiles>) {
        let Snapshot { config, weights, .. } = Snapshot::open(&folder.join("model")).unwrap();
        (families::shape(&config).unwrap(), weights)
    }

    fn all() -> Derta {
        let records = vec![DertaRecord::Rto, DertaRecord::Prefix, DertaRecord::Plain];
        Derta { records, keep: 1.0, draw: RtoDraw::Answer, weight: 1.0, refusal: None }
    }

    /// The authors' template, backslash and all, with which their records are written.
    const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [\\INST]{% else %} {{ m.content }}<|end_of_text|>{% endif %}{% endfor %}";

    fn derta_records(folder: &Path, cases: &Value) -> usize {
        let tokenizer = Tokenizer::load(&folder.join("model")).unwrap();
        let template = ChatTemplate::new(
            "derta",
            TEMPLATE.to_owned(),
            Some("<s>".into()),
            Some("<|end_of_text|>".into()),
            None,
        );
        let template = template.unwrap();
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion).unwrap();
        let refusal = cases["refusal_token"].as_str().unwrap().to_owned();
        let records = cases["records"].as_array().unwrap();
        for case in records {
            let text = |key: &str| case[key].as_str().unwrap();
            let messages =
                [Message::new(Role::User, text("instruction")), Message::new(Role::Assistant, text("safe"))];
            let mut conversation = Conversation::new(messages, 1);
            conversation.other = Some(Other { answer: text("harmful").to_owned(), scores: None });
            let cut = case["cut_words"].as_u64().map(|n| n as usize);
            for settings in [all(), Derta { refusal: Some(refusal.clone()), ..all() }] {
                let of = |kind, key: &str, labels_key: &str| {
                    let found = derta::record(&conversation, &encoder, &settings, kind, cut).unwrap();
                    let expected = &case[key];
                    // Of answers too short to be cut the authors' program makes no plain record either.
                    if kind != DertaRecord::Plain {
                        assert_eq!(found.is_none(), expected.is_null(), "{} {key}", case["id"]);
                    }
                    if expected.is_null() {
                        return;
                    }
                    let Some(found) = found else { return };
                    assert_eq!(found.ids, ids(&expected["input_ids"]), "{} {key}", case["id"]);
                    assert_eq!(found.labels, labels(&expected[labels_key]), "{} {key}", case["id"]);
                };
                of(DertaRecord::Rto, "rto", "labels_all_ref");
                of(DertaRecord::Prefix, "prefix", "labels");
                of(DertaRecord::Plain, "vanilla", "labels");
            }
        }
        records.len()
    }

    /// The rows of a batch, right padding taken away.
    fn rows(batch: &Value, of_labels: &Value) -> Vec<Sample> {
        let row = |i: usize| {
            let n = numbers(&batch["attention_mask"][i]).iter().filter(|mask| **mask != 0.0).count();
            let (mut ids, mut labels) = (ids(&batch["input_ids"][i]), labels(&of_labels[i]));
            ids.truncate(n);
            labels.truncate(n);
            Sample::new(ids, labels, 1.into())
        };
        (0..batch["input_ids"].as_array().unwrap().len()).map(row).collect()
    }

    #[test]
    fn golden_derta() {
        let Some(folder) = folder() else { return };
        let cases = read(&folder, "derta.json");
        let n_records = derta_records(&folder, &cases);
        let (shape, weights) = shape_of(&folder);
        let trainee = || {
            let decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
            let mut trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft);
            trainee.track();
            trainee
        };
        let batch = &cases["batch"];
        let is_rto = numbers(&batch["is_rto"]);
        let all_rows: Vec<usize> = (0..is_rto.len()).collect();
        let batch_cases = cases["batch_cases"].as_array().unwrap();
        for case in batch_cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let mut samples = rows(batch, &case["labels"]);
            let step = |samples: &[Sample]| {
                let batch = MicroBatch::new(samples, &all_rows, 1);
                trainee().step(&[batch], &mut Optimizer::new(&Train::default()), 0, 0.0, 0.0)
            };
            let found = step(&samples);
            assert!(relative(found.loss, number("loss")) <= 1e-5, "{} {}", case["id"], found.loss);
            assert!(relative(found.gradient_norm, number("grad_norm")) <= 1e-4, "{}", case["id"]);
            // With another weight the two kinds of labels count as their sums say.
            for (sample, is_rto) in samples.iter_mut().zip(&is_rto) {
                sample.weight = if *is_rto == 1.0 { 2.5 } else { 1.0 };
            }
            let count = number("rto_count") + number("other_count");
            let weighted = 2.5f64.mul_add(number("rto_sum"), number("other_sum")) / count;
            assert!(relative(step(&samples).loss, weighted) <= 1e-5, "{}", case["id"]);
        }
        // Drawn as the authors draw, as many positions of a row stay as they keep.
        let width = batch["padded_length"].as_u64().unwrap() as usize;
        let twentieth = Derta { keep: 0.05, draw: RtoDraw::Row, ..all() };
        for nth in 0..20 {
            let mut sample = Sample::new(vec![5; width], vec![Some(9); width], 1.into());
            derta::keep(&mut sample, &twentieth, width, 7, &format!("{nth}"));
            assert_eq!(sample.n_trained() as u64, batch["official_kept_per_row"].as_u64().unwrap());
        }
        let case = &cases["trace"];
        let number = |key: &str| case[key].as_f64().unwrap();
        let betas = numbers(&case["betas"]).try_into().unwrap();
        let train =
            Train { weight_decay: number("weight_decay"), epsilon: number("eps"), betas, ..Train::default() };
        let of_all = batch_cases.iter().find(|case| case["id"] == "batch-all").unwrap();
        let samples = rows(batch, &of_all["labels"]);
        let (mut trainee, mut optimizer) = (trainee(), Optimizer::new(&train));
        let (losses, norms) = (numbers(&case["losses"]), numbers(&case["grad_norms"]));
        for (step, order) in case["row_order"].as_array().unwrap().iter().enumerate() {
            let order: Vec<usize> = numbers(order).into_iter().map(|row| row as usize).collect();
            let batch = MicroBatch::new(&samples, &order, 1);
            let found = trainee.step(&[batch], &mut optimizer, step, number("lr"), 0.0);
            assert!(relative(found.loss, losses[step]) <= 1e-4, "step {step}: {}", found.loss);
            assert!(relative(found.gradient_norm, norms[step]) <= 1e-3, "step {step}");
        }
        let expected = WeightFiles::open_file(&folder.join(case["final"].as_str().unwrap())).unwrap();
        for param in trainee.decoder.params_mut() {
            let found = param.frozen().try_into_vec_as::<f32>().unwrap();
            let off = off_in_norm(&found, &expected.weight(&param.name).unwrap().to_f32());
            assert!(off <= 1e-4, "{}: {off}", param.name);
        }
        let n = n_records + batch_cases.len() + 1;
        writeln!(std::io::stderr(), "golden derta: {n} run, 0 unsupported").unwrap();
    }

    /// By the names of the cases.
    const LOSSES: [(&str, PreferenceLoss); 5] = [
        ("sigmoid", PreferenceLoss::Sigmoid),
        ("cdpo", PreferenceLoss::Cdpo),
        ("robust", PreferenceLoss::Robust),
        ("ipo_mean", PreferenceLoss::Ipo),
        ("ipo_sum", PreferenceLoss::IpoSum),
    ];

    /// What the cases allow in f64.
    const EXACT: f64 = 1e-9;

    fn near(found: f64, expected: f64, what: &str) {
        assert!(
            (found - expected).abs() <= EXACT * expected.abs().max(1e-6),
            "{what}: {found}, not {expected}"
        );
    }

    #[test]
    fn golden_losses_of_pairs() {
        let Some(folder) = folder() else { return };
        let file = read(&folder, "dpo.json");
        let cases = file["cases"].as_array().unwrap();
        let mut n = 0;
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let answers = Answers {
                policy: [number("policy_chosen"), number("policy_rejected")],
                reference: [number("ref_chosen"), number("ref_rejected")],
                n_labels: [number("len_chosen") as usize, number("len_rejected") as usize],
            };
            for (name, expected) in case["losses"].as_object().unwrap() {
                let loss = LOSSES.iter().find(|(known, _)| known == name).unwrap().1;
                let settings =
                    Preference { loss, beta: number("beta"), label_smoothing: number("label_smoothing") };
                let found = pair::loss(&settings, &answers);
                let what = format!("{} {name}", case["id"]);
                near(found.loss, expected["loss"].as_f64().unwrap(), &what);
                near(found.gradient[0], expected["grad_chosen"].as_f64().unwrap(), &what);
                near(found.gradient[1], expected["grad_rejected"].as_f64().unwrap(), &what);
                near(found.rewards[0], number("reward_chosen"), &what);
                near(found.rewards[1], number("reward_rejected"), &what);
                near(found.rewards[0] - found.rewards[1], number("margin"), &what);
                n += 1;
            }
        }
        assert!(n >= LOSSES.len());
        writeln!(std::io::stderr(), "golden losses of pairs: {n} run, 0 unsupported").unwrap();
    }

    #[test]
    fn golden_masks_by_scores() {
        let Some(folder) = folder() else { return };
        let file = read(&folder, "adpo.json");
        let (masked, hysteresis) =
            (file["masked"].as_array().unwrap(), file["hysteresis"].as_array().unwrap());
        for case in masked {
            let sides = ["chosen", "rejected"];
            let mask = |side: &str| -> Vec<bool> {
                numbers(&case[format!("{side}_mask")]).iter().map(|counts| *counts != 0.0).collect()
            };
            let masks = sides.map(mask);
            for (i, side) in sides.iter().enumerate() {
                let scores = &case[format!("{side}_scores")];
                if !scores.is_null() {
                    let found = pairs::counted(&numbers(scores), Mask::Threshold(0.0), [1, -1][i]);
                    assert_eq!(found, masks[i], "{} {side}", case["id"]);
                }
            }
            let sum = |i: usize, key: String| -> f64 {
                numbers(&case[key]).iter().zip(&masks[i]).filter(|(_, counts)| **counts).map(|(x, _)| x).sum()
            };
            let answers = Answers {
                policy: [0, 1].map(|i| sum(i, sides[i].to_owned())),
                reference: [0, 1].map(|i| sum(i, format!("{}_ref", sides[i]))),
                n_labels: [0, 1].map(|i| masks[i].iter().filter(|counts| **counts).count()),
            };
            let beta = case["beta"].as_f64().unwrap();
            let settings = Preference { loss: PreferenceLoss::Sigmoid, beta, label_smoothing: 0.0 };
            let found = pair::loss(&settings, &answers);
            let what = case["id"].to_string();
            near(found.loss, case["loss"].as_f64().unwrap(), &what);
            near(found.rewards[0] - found.rewards[1], case["margin"].as_f64().unwrap(), &what);
            for (i, side) in sides.iter().enumerate() {
                for (expected, counts) in numbers(&case[format!("grad_{side}")]).iter().zip(&masks[i]) {
                    near(if *counts { found.gradient[i] } else { 0.0 }, *expected, &what);
                    assert!(*counts || *expected == 0.0);
                }
            }
        }
        for case in hysteresis {
            let (scores, height) = (numbers(&case["scores"]), case["threshold"].as_f64().unwrap());
            for (key, start) in [("states_from_0", 0), ("states_from_plus", 1), ("states_from_minus", -1)] {
                let found: Vec<f64> =
                    pairs::states(&scores, height, start).into_iter().map(f64::from).collect();
                assert_eq!(found, numbers(&case[key]), "{} {key}", case["id"]);
            }
        }
        let n = masked.len() + hysteresis.len();
        writeln!(std::io::stderr(), "golden masks by scores: {n} run, 0 unsupported").unwrap();
    }

    /// The arrays of the traces.
    struct Arrays(Vec<u8>);

    impl Arrays {
        fn floats(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
            let file = SafeTensors::deserialize(&self.0).unwrap();
            let tensor = file.tensor(name).unwrap();
            let data = tensor.data();
            let values = match tensor.dtype() {
                safetensors::Dtype::F64 => {
                    data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
                }
                safetensors::Dtype::F32 => {
                    data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
                }
                safetensors::Dtype::I64 => {
                    data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect()
                }
                other => panic!("{name} is {other:?}"),
            };
            (tensor.shape().to_vec(), values)
        }

        /// The pairs of each step, chosen before rejected, of which those labels count that `mask` names.
        fn pairs(&self, mask: &str) -> Vec<Vec<Sample>> {
            let (shape, ids) = self.floats("input_ids");
            let [n, rows, t] = shape.try_into().unwrap();
            let (attended, mask) = (self.floats("attention_mask").1, self.floats(mask).1);
            let sample = |row: usize| {
                let len = attended[row * t..(row + 1) * t].iter().filter(|x| **x != 0.0).count();
                let at = row * t..row * t + len;
                let own: Vec<u32> = ids[at.clone()].iter().map(|id| *id as u32).collect();
                let labels = own.iter().zip(&mask[at]).map(|(id, x)| (*x != 0.0).then_some(*id)).collect();
                Sample::new(own, labels, 1.into())
            };
            let half = rows / 2;
            let of_step = |step: usize| {
                let pair = |i: usize| [sample(step * rows + i), sample(step * rows + half + i)];
                (0..half).flat_map(pair).collect()
            };
            (0..n).map(of_step).collect()
        }
    }

    fn of_base(decoder: &Decoder, batch: &MicroBatch) -> Vec<f64> {
        let hidden = decoder.hidden(batch.ids(&decoder.device), &Positions::causal(batch.width), None);
        let [b, t, m] = hidden.dims();
        log_probabilities(&hidden.reshape([b * t, m]), &decoder.frozen_head(), batch)
    }

    fn check_trace(case: &Value, steps: &[StepResult], n_pairs: usize, has_rewards: bool) {
        let compare = |key: &str, found: &dyn Fn(&StepResult) -> f64, allowed: f64, is_relative: bool| {
            for (nth, (step, expected)) in steps.iter().zip(numbers(&case[key])).enumerate() {
                let found = found(step);
                let off = (found - expected).abs() / if is_relative { expected.abs() } else { 1.0 };
                assert!(off <= allowed, "{} {key}, step {nth}: {found}, not {expected}", case["id"]);
            }
        };
        let n = n_pairs as f64;
        compare("losses", &|step| step.loss, 1e-4, true);
        compare("grad_norms", &|step| step.gradient_norm, 1e-3, true);
        // The reward columns of the masked trace are those of the whole answers.
        if has_rewards {
            compare("reward_chosen", &|step| step.pairs.rewards[0] / n, 1e-4, false);
            compare("reward_rejected", &|step| step.pairs.rewards[1] / n, 1e-4, false);
            compare("margins", &|step| (step.pairs.rewards[0] - step.pairs.rewards[1]) / n, 1e-4, false);
        }
    }

    #[test]
    fn golden_traces_of_pairs() {
        let Some(folder) = folder() else { return };
        let file = read(&folder, "dpo.json");
        let arrays = Arrays(std::fs::read(folder.join("dpo.safetensors")).unwrap());
        let (shape, weights) = shape_of(&folder);
        let base = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
        let cases = file["traces"].as_array().unwrap();
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let name = case["loss"].as_str().unwrap();
            let is_masked = name == "adpo";
            let loss = match name {
                "adpo" => PreferenceLoss::Sigmoid,
                "ipo" => PreferenceLoss::Ipo,
                _ => LOSSES.iter().find(|(known, _)| *known == name).unwrap().1,
            };
            let settings =
                Preference { loss, beta: number("beta"), label_smoothing: number("label_smoothing") };
            let init = Adapter::read(&folder.join(case["init"].as_str().unwrap())).unwrap();
            let mut decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
            decoder.attach(&init).unwrap();
            let mut trainee = Trainee::new(decoder, MethodKind::Lora, Objective::Preference(settings));
            trainee.track();
            let betas = numbers(&case["betas"]).try_into().unwrap();
            let train = Train {
                weight_decay: number("weight_decay"),
                epsilon: number("eps"),
                betas,
                ..Train::default()
            };
            let mut optimizer = Optimizer::new(&train);
            let (mut steps, mut n_pairs) = (Vec::new(), 0);
            let of_steps = arrays.pairs(if is_masked { "adpo_mask" } else { "completion_mask" });
            let (ref_shape, ref_logps) = arrays.floats("ref_logps");
            for (nth, samples) in of_steps.iter().enumerate() {
                let all: Vec<usize> = (0..samples.len()).collect();
                let mut batch = MicroBatch::new(samples, &all, 1);
                batch.reference = of_base(&base, &batch);
                n_pairs = samples.len() / 2;
                if !is_masked {
                    for (i, found) in batch.reference.iter().enumerate() {
                        let expected = ref_logps[nth * ref_shape[1] + i % 2 * n_pairs + i / 2];
                        assert!(
                            relative(*found, expected) <= 1e-4,
                            "{name}, step {nth}: {found}, not {expected}"
                        );
                    }
                }
                steps.push(trainee.step(&[batch], &mut optimizer, nth, number("lr"), 0.0));
            }
            check_trace(case, &steps, n_pairs, !is_masked);
            let expected = Adapter::read(&folder.join(case["final"].as_str().unwrap())).unwrap();
            for (module, pair) in adapter_of(&mut trainee.decoder, &init).pairs {
                let expected = &expected.pairs[&module];
                for (found, expected) in [(&pair.a, &expected.a), (&pair.b, &expected.b)] {
                    let off = off_in_norm(found, expected);
                    assert!(off <= 1e-3, "{name} {module}: {off}");
                }
            }
        }
        assert!(cases.len() >= 4);
        writeln!(std::io::stderr(), "golden traces of pairs: {} run, 0 unsupported", cases.len()).unwrap();
    }

    #[test]
    fn a_recipe_asks_for_the_loss_that_the_cases_name() {
        let text = "name = \"a\"\nmodel = { source = \"m\" }\ndata = { source = \"d\" }\n";
        for (name, loss) in LOSSES {
            let name = name.trim_end_matches("_mean").replace('_', "-");
            let smoothing =
                if ["cdpo", "robust"].contains(&name.as_str()) { ", label_smoothing = 0.1" } else { "" };
            let text = format!("{text}objective = {{ kind = \"dpo\", loss = \"{name}\"{smoothing} }}\n");
            let recipe = recipe::Recipe::parse(&text, "r", &[]).unwrap();
            assert_eq!(recipe.objective.preference().unwrap().loss, loss);
        }
    }
}
