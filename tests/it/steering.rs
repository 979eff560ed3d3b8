//! `finetune steer` and `[steer]`: hidden states pushed towards or away from refusing.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::process::Output;

use burn::tensor::{DType, Int, Tensor, TensorData};
use finetune::data::Sample;
use finetune::device::cpu;
use finetune::generate::{Decoding, Generator, Query, likelihoods, likelihoods_pushed};
use finetune::model::{Cache, Decoder, Directions, Positions, Push, Steering, Walk};
use finetune::snapshot::Dtype;
use finetune::train::init::RandomWeights;
use serde_json::Value;

use crate::fixture::{Fixture, shape};

/// Sums of other widths and orders; f32 has 1.2e-7, and the stream has numbers up to 10.
const ROUNDING: f32 = 2e-5;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A model drawn at random whose directions are drawn too, behind both of its blocks.
fn decoder(alpha: f32) -> Decoder {
    let fixture = Fixture::new();
    let shape = shape(&fixture.file("model"));
    let weights = RandomWeights::new(&shape, 0.2, Dtype::F32, 5);
    let mut decoder = Decoder::load(&shape, &weights, &cpu(), DType::F32).unwrap();
    let vector = |layer: usize| (0..32).map(|i| ((i * 7 + layer * 5) % 11) as f32 / 30.0 - 0.15).collect();
    let vectors: BTreeMap<usize, Vec<f32>> = [0, 1].map(|layer| (layer, vector(layer))).into();
    decoder.directions = Some(Directions::new(&vectors, alpha, &cpu(), DType::F32));
    decoder
}

fn ids(ids: &[u32]) -> Tensor<2, Int> {
    let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
    let n = ids.len();
    Tensor::from_data(TensorData::new(ids, [1, n]), &cpu())
}

/// The stream behind every block and behind the last norm, `[t, m]` each.
fn walked(decoder: &Decoder, tokens: &[u32], push: Option<Push>) -> Vec<Vec<f32>> {
    let positions = Positions::causal(tokens.len());
    let steering = Steering::new(decoder.directions.as_ref(), &positions, &[push]);
    let mut seen = Vec::new();
    let mut watch = |_: usize, x: &Tensor<3>| seen.push(x.clone().try_into_vec_as::<f32>().unwrap());
    let walk = Walk { watch: Some(&mut watch), steering: steering.as_ref(), ..Walk::default() };
    let last = decoder.walk(ids(tokens), &positions, walk).try_into_vec_as::<f32>().unwrap();
    seen.push(last);
    seen
}

fn logits(decoder: &Decoder, hidden: &[f32]) -> Vec<f32> {
    let m = decoder.shape.hidden_size;
    let hidden = TensorData::new(hidden.to_vec(), [hidden.len() / m, m]);
    decoder.frozen_head().logits(Tensor::from_data(hidden, &cpu())).try_into_vec_as::<f32>().unwrap()
}

fn largest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn best(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap();
    u32::try_from(best).unwrap()
}

fn completed(decoder: &Decoder, queries: &[Query<'_>], rows: usize) -> Vec<Vec<u32>> {
    let generator = Generator { decoder, decode: &|_| String::new(), rows, stop: None };
    let mut found = vec![Vec::new(); queries.len()];
    let Ok(()) = generator.complete::<Infallible>(queries, &Decoding::greedy(6), |news| {
        news.ended.into_iter().for_each(|(nth, completion)| found[nth] = completion.ids);
        Ok(())
    });
    found
}

#[test]
fn states_before_the_prompts_end_are_untouched_and_the_others_are_pushed() {
    let decoder = decoder(2.0);
    let tokens = [5, 9, 11, 300, 42, 7];
    let (plain, m) = (walked(&decoder, &tokens, None), decoder.shape.hidden_size);
    for from in [0, 3, 5] {
        let pushed = [1, -1].map(|sign| walked(&decoder, &tokens, Some(Push { sign, from })));
        for (layer, plain) in plain.iter().enumerate() {
            for pushed in &pushed {
                assert_eq!(pushed[layer][..from * m], plain[..from * m], "layer {layer} from {from}");
                assert_ne!(pushed[layer][from * m..], plain[from * m..], "layer {layer} from {from}");
            }
        }
        // Behind the first block it is the direction itself, one way and the other.
        let shift = |pushed: &Vec<Vec<f32>>, i: usize| pushed[0][from * m + i] - plain[0][from * m + i];
        for i in 0..m {
            let direction = 2.0 * ((i * 7 % 11) as f32 / 30.0 - 0.15);
            assert!((shift(&pushed[0], i) - direction).abs() < ROUNDING);
            assert!((shift(&pushed[1], i) + direction).abs() < ROUNDING);
        }
    }
}

#[test]
fn a_push_of_nothing_changes_no_bit() {
    let (none, some) = (decoder(0.0), decoder(2.0));
    let tokens = [5, 9, 11, 300, 42, 7];
    let push = Some(Push { sign: 1, from: 2 });
    assert_eq!(walked(&none, &tokens, push), walked(&some, &tokens, None));
    // Beyond the row's end there is nothing to push.
    assert_eq!(walked(&some, &tokens, Some(Push { sign: 1, from: 6 })), walked(&some, &tokens, None));
    assert_ne!(walked(&some, &tokens, push), walked(&some, &tokens, None));
}

#[test]
fn cached_steps_and_a_pass_over_all_are_steered_alike() {
    let decoder = decoder(2.0);
    let tokens = [5, 9, 11, 300, 42, 7, 8, 120];
    let push = Some(Push { sign: -1, from: 4 });
    let whole = walked(&decoder, &tokens, push).pop().unwrap();
    for cut in [1, 4, 5, 7] {
        let mut cache = Cache::new(&decoder.shape, 1, tokens.len(), DType::F32, &cpu());
        let mut found = Vec::new();
        let parts = std::iter::once(&tokens[..cut]).chain(tokens[cut..].chunks(1));
        for part in parts {
            let positions = Positions::left_padded(0, &[0], cache.len(), part.len());
            let steering = Steering::new(decoder.directions.as_ref(), &positions, &[push]);
            let walk = Walk { cache: Some(&mut cache), steering: steering.as_ref(), ..Walk::default() };
            found.extend(decoder.walk(ids(part), &positions, walk).try_into_vec_as::<f32>().unwrap());
        }
        assert!(largest(&found, &whole) < ROUNDING, "{cut}: {}", largest(&found, &whole));
    }
}

#[test]
fn a_row_is_pushed_alike_beside_any_neighbours_and_behind_any_prefix() {
    let decoder = decoder(2.0);
    let beginning: Vec<u32> = (0..70).map(|i| 3 + i * 5 % 700).collect();
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    for (i, n) in [1, 4, 2, 6, 3, 4].into_iter().enumerate() {
        let own = (0..n).map(|k| 9 + ((i * 31 + k * 17) % 700) as u32);
        prompts.push(beginning.iter().copied().chain(own).collect());
    }
    // At the prompt's end, before it where an answer is begun, within what all share, and not at all.
    let froms = [Some(0), Some(2), None, Some(40), Some(0), Some(3)];
    let push = |nth: usize| {
        let sign = if nth.is_multiple_of(2) { 1 } else { -1 };
        froms[nth].map(|back| Push { sign, from: prompts[nth].len() - 1 - back })
    };
    let queries: Vec<Query<'_>> =
        prompts.iter().enumerate().map(|(nth, ids)| Query { ids, sample: 0, push: push(nth) }).collect();
    let expected: Vec<Vec<u32>> = (0..prompts.len())
        .map(|nth| {
            let mut all = prompts[nth].clone();
            for _ in 0..6 {
                let hidden = walked(&decoder, &all, push(nth)).pop().unwrap();
                let last = &hidden[hidden.len() - decoder.shape.hidden_size..];
                all.push(best(&logits(&decoder, last)));
            }
            all.split_off(prompts[nth].len())
        })
        .collect();
    for rows in [1, 2, 6] {
        assert_eq!(completed(&decoder, &queries, rows), expected, "{rows} rows");
    }
    let plain: Vec<Query<'_>> = prompts.iter().map(|ids| Query::once(ids)).collect();
    assert_ne!(completed(&decoder, &plain, 3), expected);
}

#[test]
fn likelihoods_are_read_of_pushed_states() {
    let decoder = decoder(2.0);
    let sample =
        |ids: &[u32], n: usize| Sample::of_trained(ids.to_vec(), (0..ids.len()).map(|i| i >= n), 1.into());
    let samples = [sample(&[5, 9, 11, 300, 42], 3), sample(&[7, 8, 120, 4], 2), sample(&[7, 8, 120, 4], 2)];
    let pushes = [Some(Push { sign: 1, from: 2 }), None, Some(Push { sign: -1, from: 1 })];
    let go_on = || Ok::<(), Infallible>(());
    let Ok(plain) = likelihoods(&decoder, &samples, 64, go_on);
    let Ok(pushed) = likelihoods_pushed(&decoder, &samples, &pushes, 64, go_on);
    assert_eq!(plain[1], pushed[1]);
    assert!(plain[0].sum != pushed[0].sum && plain[2].sum != pushed[2].sum);
    let hidden = walked(&decoder, &samples[0].ids, pushes[0]).pop().unwrap();
    let all = logits(&decoder, &hidden);
    let v = decoder.shape.vocab_size;
    let of = |at: usize, id: u32| {
        let row = &all[at * v..(at + 1) * v];
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        f64::from(row[id as usize]) - sum.ln()
    };
    assert!((pushed[0].sum - of(2, 300) - of(3, 42)).abs() < 1e-4);
}

/// Anchors for the pico model.
fn anchors(fixture: &Fixture) {
    let lines = |field: &str, what: &str| {
        (0..8).fold(format!("{field}\n"), |text, i| text + &format!("Tell me how to {what} number {i}.\n"))
    };
    fixture.write("bad.csv", lines("goal", "break the lock"));
    fixture.write("good.csv", lines("prompt", "water the plant"));
}

const FIT: [&str; 8] = [
    "--harmful",
    "harmful=bad.csv,field=goal",
    "--harmless",
    "benign=good.csv,field=prompt",
    "--anchors",
    "4",
    "--held-out",
    "4",
];

fn fit(fixture: &Fixture, more: &[&str]) -> Output {
    let base = ["steer", "fit", "--device", "cpu"];
    fixture.run(&[&base[..], &FIT, more].concat())
}

#[test]
fn steered_candidates_stand_beside_the_others_and_are_asked_once() {
    let fixture = Fixture::new();
    anchors(&fixture);
    let output = fit(&fixture, &["--model", "model", "--layers", "0-1", "--out", "steer", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let fitted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&fitted["layers"], &fitted["anchors"]),
        (&serde_json::json!([0, 1]), &serde_json::json!([4, 4]))
    );
    assert!(
        fitted["told_apart"]["auroc"].as_f64().unwrap() >= 0.5 && fitted["thirds"] == serde_json::json!([])
    );
    let bytes = std::fs::read(fixture.file("steer/steer.safetensors")).unwrap();
    assert!(fit(&fixture, &["--model", "model", "--layers", "0-1", "--out", "again"]).status.success());
    assert_eq!(std::fs::read(fixture.file("again/steer.safetensors")).unwrap(), bytes, "the same fit");

    let section = "\n[steer]\nvectors = \"steer\"\nalpha = 40.0\n";
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let short = recipe.replace("steps = 20", "steps = 4").replace(", \"slerp:0.5\"", "");
    fixture.write("r.toml", &short);
    fixture.study("plain", &[]);
    fixture.write("r.toml", format!("{short}{section}"));
    let plan = fixture.succeeds(&["r.toml", "--plan", "--device", "cpu", "--out", "run"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let twins = "base, tuned, linear:0.5, base+steer, tuned+steer, linear:0.5+steer";
    assert!(plan.contains(twins) && plan.contains("steered by vectors of this base (`steer`)"), "{plan}");
    fixture.study("run", &[]);
    let report = json(&fixture.file("run/report.json"));
    let names: Vec<&str> =
        report["candidates"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.join(", "), twins);
    // Without steering nothing is another, bit for bit; the training is the same one.
    let sorted = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let answers = |run: &str, name: &str, suite: &str| {
        std::fs::read_to_string(fixture.file(run).join("eval").join(name).join(format!("{suite}.jsonl")))
            .unwrap()
    };
    assert_eq!(json(&fixture.file("run/key.json")), json(&fixture.file("plain/key.json")));
    for name in ["base", "tuned", "linear_0.5"] {
        assert_eq!(sorted(answers("run", name, "gsm8k")), sorted(answers("plain", name, "gsm8k")));
    }
    let steered = &report["candidates"][4]["steered"];
    assert_eq!((&steered["fitted_on"], &steered["vectors"]), (&"model".into(), &"steer".into()));
    assert_eq!(steered["suites"][0]["n"], 2);
    assert!(report["candidates"][1]["steered"].is_null() && report["candidates"][5]["lambda"].is_null());
    let markdown = std::fs::read_to_string(fixture.file("run/report.md")).unwrap();
    assert!(markdown.contains("## Steered candidates") && markdown.contains("| tuned+steer | model (steer)"));
    let texts = |name: &str| {
        let lines = answers("run", name, "harmful");
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].clone())
            .collect::<Vec<_>>()
    };
    assert_ne!(texts("base+steer"), texts("base"), "so strong a push changes what is said");
    // Again nothing is asked; one answer and one score taken away are asked again, to the same bytes.
    let output = fixture.succeeds(&["r.toml", "--device", "cpu", "--out", "run"]);
    // Of those that are steered the scores too.
    assert_eq!(said(&output).matches("all 8 reused").count(), 3, "{}", said(&output));
    assert_eq!(said(&output).matches("all 16 reused").count(), 3, "{}", said(&output));
    let file = |name: &str| fixture.file("run/eval/tuned+steer").join(name);
    let whole =
        ["harmful.jsonl", "harmful.steer.jsonl"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    for (name, text) in ["harmful.jsonl", "harmful.steer.jsonl"].iter().zip(&whole) {
        std::fs::write(file(name), text.lines().next().unwrap().to_owned() + "\n").unwrap();
    }
    fixture.study("run", &[]);
    assert_eq!(
        whole,
        ["harmful.jsonl", "harmful.steer.jsonl"].map(|name| std::fs::read_to_string(file(name)).unwrap())
    );
    assert_eq!(json(&fixture.file("run/report.json"))["candidates"], report["candidates"]);

    // α = 0 says what the candidate says without it.
    fixture.study("run", &["--set", "steer.alpha=0", "--set", "steer.candidates=[\"tuned\"]"]);
    let said = |name: &str| {
        let lines = answers("run", name, "harmful");
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            format!("{} {}", line["item"], line["text"])
        };
        // The last two are of this call.
        lines.lines().rev().take(2).map(line).collect::<BTreeSet<_>>()
    };
    assert_eq!(said("tuned+steer"), said("tuned"));
}

#[test]
fn given_weights_options_and_texts_are_steered_too() {
    let fixture = Fixture::new();
    anchors(&fixture);
    assert!(fit(&fixture, &["--model", "model", "--layers", "1", "--out", "steer"]).status.success());
    fixture.write(
        "arc.jsonl",
        r#"{"id": "a", "question": {"stem": "Which?", "choices": [{"text": "sky", "label": "A"}, {"text": "rose", "label": "B"}]}, "answerKey": "B"}"#,
    );
    let steer = ["--set", "steer={vectors=\"steer\", alpha=30.0}", "--set", "eval.log_likelihood=true"];
    let suites = [
        "--suite",
        "arc_challenge=arc.jsonl",
        "--suite",
        "gsm8k_chat=train.jsonl,limit=3,max_new_tokens=4,prefill=Well",
    ];
    let eval = ["eval", "--model", "model", "--device", "cpu", "--out", "out", "--json"];
    let output = fixture.run(&[&eval[..], &suites, &steer].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("steered by vectors of this base"), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["candidates"][1]["name"], "model+steer");
    for kind in ["arc_challenge.choices", "gsm8k_chat.likelihood"] {
        let of = |name: &str| {
            let text =
                std::fs::read_to_string(fixture.file("out/eval").join(name).join(format!("{kind}.jsonl")))
                    .unwrap();
            let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            line["log_likelihood"].clone()
        };
        assert_ne!(of("model"), of("model+steer"), "{kind}");
    }
}

#[test]
fn prompts_are_scored_by_the_classifier_alone() {
    let fixture = Fixture::new();
    anchors(&fixture);
    assert!(fit(&fixture, &["--model", "model", "--layers", "0-1", "--out", "steer"]).status.success());
    let score =
        ["steer", "score", "steer", "--model", "model", "--device", "cpu", "--out", "scores", "--json"];
    let both = [FIT[0], FIT[1], FIT[2], FIT[3]];
    let output = fixture.run(&[&score[..], &both].concat());
    assert!(output.status.success(), "{}", said(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let prompts = found["prompts"].as_array().unwrap();
    assert_eq!((prompts.len(), &found["told_apart"]["harmful"][1]), (16, &8.into()));
    let flagged = prompts.iter().filter(|one| one["flagged"] == true && one["kind"] == "harmful").count();
    assert_eq!(found["told_apart"]["harmful"][0], flagged);
    assert!(
        prompts
            .iter()
            .all(|one| (one["score"].as_f64() >= found["threshold"].as_f64()) == (one["flagged"] == true))
    );
    let csv = std::fs::read_to_string(fixture.file("scores/scores.csv")).unwrap();
    assert!(csv.lines().count() == 17 && !csv.contains("break the lock"), "{csv}");
    // One kind alone is scored too, and has no AUROC; other widths give the same scores beyond rounding.
    let output = fixture.run(&[&score[..], &both[..2], &["--micro-tokens", "1"]].concat());
    let alone: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(alone["told_apart"]["auroc"].is_null(), "{alone}");
    for (one, other) in alone["prompts"].as_array().unwrap().iter().zip(prompts) {
        assert!((one["score"].as_f64().unwrap() - other["score"].as_f64().unwrap()).abs() < 1e-5);
    }
}

#[test]
fn what_cannot_steer_is_refused_by_name() {
    let fixture = Fixture::new();
    anchors(&fixture);
    let refused = |output: Output, code: i32, parts: &[&str]| {
        let said = said(&output).split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
    };
    let model = ["--model", "model", "--layers", "1", "--out", "steer"];
    let with = |more: &[&str]| fit(&fixture, &[&model[..], more].concat());
    refused(
        with(&["--test", "harmful=bad.csv,field=goal"]),
        2,
        &["8 of 8 prompts of suite `harmful` are anchors"],
    );
    refused(
        with(&["--held-out-harmful", "harmful=bad.csv,field=goal"]),
        2,
        &["anchors stand in two of the files"],
    );
    refused(
        with(&["--held-out-harmless", "harmful=bad.csv,field=goal"]),
        2,
        &["anchors stand in two of the files"],
    );
    refused(with(&["--alpha=-2"]), 2, &["`--alpha` is -2, expected 0 or more"]);
    refused(with(&["--threshold=-2"]), 2, &["`--threshold` is -2, expected a mean of cosines"]);
    refused(with(&["--threshold=1"]), 2, &["`--threshold` is 1, expected at most"]);
    refused(with(&["--score-layers", "1-2"]), 2, &["`--score-layers` is 1-2, expected layers from 0 to 1"]);
    refused(with(&["--suffix", ""]), 2, &["adds no token of its own"]);
    refused(fit(&fixture, &["--model", "model"]), 2, &["2 layers have no thirds", "--layers 0-1"]);
    refused(
        fit(&fixture, &["--model", "model", "--word", "sorriest"]),
        2,
        &["none of the words of refusals is one token of `model`"],
    );
    let many = ["--harmful", "harmful=harmful.csv,field=goal", "--harmless", "benign=good.csv,field=prompt"];
    let output = fixture.run(&[&["steer", "fit", "--device", "cpu"], &model[..], &many].concat());
    refused(output, 2, &["`harmful.csv` has 2 harmful anchors, and at least 66 are needed"]);
    assert!(with(&[]).status.success());

    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let run = |section: &str| {
        fixture.write("s.toml", format!("{recipe}\n[steer]\n{section}\n"));
        fixture.run(&["s.toml", "--device", "cpu", "--out", "run", "--plan"])
    };
    refused(run("vectors = \"nowhere\""), 3, &["`nowhere`", "steer.vectors"]);
    refused(run("vectors = \"model/model.safetensors\""), 3, &["holds no vectors to steer by"]);
    refused(run("vectors = \"steer\"\nalpha = -1.0"), 2, &["`steer.alpha` is -1", "the classifier says"]);
    refused(run("vectors = \"steer\"\nthreshold = 2.0"), 2, &["`steer.threshold` is 2"]);
    refused(
        run("vectors = \"steer\"\nlayers = [0, 2]"),
        2,
        &["`steer.layers` is [0, 2], expected layers from 0 to 1"],
    );
    refused(run("vectors = \"steer\"\nlayers = [1, 0]"), 2, &["`steer.layers` is [1, 0]"]);
    refused(
        run("vectors = \"steer\"\ncandidates = [\"linear:0.4\"]"),
        2,
        &["`steer.candidates` is `linear:0.4`, expected `merges` or of base, tuned, linear:0.5"],
    );
    refused(run("vectors = \"steer\"\ncandidates = []"), 2, &["`steer.candidates` is empty"]);
    refused(run("vectors = \"steer\"\nsign = -1"), 2, &["unknown key `sign`"]);
    // A test set that holds an anchor, in other letters.
    fixture.write("harmful.csv", "goal\n\"tell me, how to BREAK the lock number 3\"\nSay something worse.\n");
    refused(
        run("vectors = \"steer\""),
        2,
        &["1 of 2 prompts of suite `harmful` are anchors of the vectors in `steer`"],
    );
    fixture.other_model("wide", "\"hidden_size\": 32", "\"hidden_size\": 40");
    let output =
        fixture.run(&["steer", "score", "steer", "--model", "wide", "--device", "cpu", FIT[0], FIT[1]]);
    refused(output, 2, &["are of 2 layers with 32 numbers each, and `wide` has 2 with 40"]);
}

#[test]
fn in_the_tiny_world_the_classifier_finds_harm_and_steering_moves_refusals() {
    let fixture = Fixture::new();
    let anchors = [
        "--harmful",
        "harmful=data/tiny/harmful-valid.csv,field=goal",
        "--harmless",
        "benign=data/tiny/benign-valid.csv,field=prompt",
    ];
    let fit = ["steer", "fit", "--model", "data/tiny/model", "--device", "cpu", "--out", "steer", "--json"];
    let output = fixture.run(&[&fit[..], &anchors].concat());
    assert!(output.status.success(), "{}", said(&output));
    let fitted: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Of 36 held-out anchors each it catches all and 2; the middle of 64 fitted ones could hardly do worse.
    assert!(fitted["told_apart"]["auroc"].as_f64().unwrap() > 0.9, "{fitted}");
    assert_eq!(fitted["thirds"].as_array().unwrap().len(), 3);
    let suites = [
        "--suite",
        "harmful=data/tiny/harmful-test.csv,field=goal,limit=16,max_new_tokens=16",
        "--suite",
        "benign=data/tiny/benign-test.csv,field=prompt,limit=16,max_new_tokens=16",
    ];
    let eval = ["eval", "--model", "data/tiny/model", "--device", "cpu", "--json"];
    // A threshold below all scores: everything is pushed towards refusing.
    let steer = ["--set", "steer.vectors=steer", "--set", "steer.threshold=-1", "--out", "out"];
    let output = fixture.succeeds(&[&eval[..], &suites, &steer].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rates = |candidate: usize| {
        ["attack_success_rate", "refusal_rate"].map(|metric| {
            let metrics = report["candidates"][candidate]["metrics"].as_array().unwrap();
            metrics.iter().find(|one| one["metric"] == metric).unwrap()["value"].as_f64().unwrap()
        })
    };
    let (plain, pushed) = (rates(0), rates(1));
    assert!(
        pushed[1] >= plain[1] + 0.5 && pushed[0] <= plain[0],
        "benign requests are refused: {plain:?} {pushed:?}"
    );
    assert_eq!(report["candidates"][1]["steered"]["suites"][1]["towards"], 16);
}

mod golden {
    use std::io::Write;
    use std::path::PathBuf;

    use finetune::generate::scans::fit::Anchors;
    use finetune::generate::scans::read::{Probe, Reading, States, states};
    use finetune::generate::scans::{LastLayer, Precision, Scans, Settings, cosine};
    use finetune::snapshot::{Snapshot, WeightFiles, Weights};

    use super::*;
    use finetune::model::families;

    /// What the cases' own README allows: vectors, scores and cosines; states and logits; what was rounded to f16.
    const VECTORS: f32 = 1e-4;
    const SCORES: f64 = 1e-4;
    const STATES: f32 = 2e-4;
    const F16: f64 = 5e-3;
    /// Below this margin between two tokens either may be taken.
    const MARGIN: f64 = 1e-3;

    fn tokens(value: &Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn size(value: &Value) -> usize {
        value.as_u64().unwrap() as usize
    }

    fn rows(file: &WeightFiles, name: &str) -> Vec<Vec<f32>> {
        let weight = file.weight(name).unwrap();
        let m = *weight.info.shape.last().unwrap();
        weight.to_f32().chunks(m).map(<[f32]>::to_vec).collect()
    }

    fn read(decoder: &Decoder, probes: &[Probe], last_layer: LastLayer, precision: Precision) -> Vec<States> {
        let mut found = vec![None; probes.len()];
        // So few positions that prompts of unlike length share a micro-batch, and not all do.
        let reading = Reading { last_layer, states: precision, micro_tokens: 40, multiple: 1 };
        let Ok(()) = states::<Infallible>(decoder, probes, reading, |nth, states| {
            found[nth] = Some(states);
            Ok(())
        });
        found.into_iter().map(|states| states.expect("every prompt is read")).collect()
    }

    struct Golden {
        cases: Value,
        tensors: WeightFiles,
        decoder: Decoder,
    }

    impl Golden {
        fn open() -> Option<Self> {
            let folder = PathBuf::from(std::env::var_os("FINETUNE_GOLDEN")?).join("related-training");
            let cases = json(&folder.join("scans.json"));
            let tensors = WeightFiles::open_file(&folder.join("scans.safetensors")).unwrap();
            let Snapshot { config, weights, .. } = Snapshot::open(&folder.join("model")).unwrap();
            let decoder =
                Decoder::load(&families::shape(&config).unwrap(), &weights, &cpu(), DType::F32).unwrap();
            Some(Self { cases, tensors, decoder })
        }

        /// What is fitted on the anchors, by how the last layer is taken and how states are rounded.
        fn fitted(&self, last_layer: LastLayer, precision: Precision) -> Scans {
            let scored = &self.cases["scores"][0];
            let word = tokens(&scored["input_ids"])[size(&scored["prompt_end"]) + 1..].to_vec();
            let read = |pool: &str| {
                let probe = |anchor: &Value| {
                    let prompt = tokens(&anchor["input_ids"]);
                    Probe::new(&prompt, [&prompt[..], &word].concat()).unwrap()
                };
                let probes: Vec<Probe> = self.cases[pool].as_array().unwrap().iter().map(probe).collect();
                let mut anchors = Anchors::default();
                for states in read(&self.decoder, &probes, last_layer, precision) {
                    anchors.add(&states);
                }
                anchors
            };
            let (harmful, harmless) = (read("harmful_anchors"), read("harmless_anchors"));
            let last = self.decoder.shape.n_layers - 1;
            Scans {
                vectors: harmful.directions(&harmless),
                reference: harmful.reference(),
                settings: Settings {
                    layers: [0, last],
                    score_layers: [0, last],
                    alpha: 3.5,
                    threshold: 0.75,
                    suffix: format!(" {}", self.cases["appended_word"].as_str().unwrap()),
                    last_layer,
                    states: precision,
                },
            }
        }

        fn check_vectors(&self) {
            for (last_layer, names) in [
                (LastLayer::Normed, ["vectors", "unsafe_reference"]),
                (LastLayer::Block, ["vectors_block", "unsafe_reference_block"]),
            ] {
                let scans = self.fitted(last_layer, Precision::F32);
                for (found, name) in [&scans.vectors, &scans.reference].into_iter().zip(names) {
                    let off = largest(&found.concat(), &rows(&self.tensors, name).concat());
                    assert!(off <= VECTORS, "{name}: {off}");
                }
                for vector in &scans.vectors {
                    let length: f32 = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                    assert!((length - 1.0).abs() < 1e-5, "{length}");
                }
            }
            let half = self.fitted(LastLayer::Normed, Precision::F16);
            let off = largest(&half.vectors.concat(), &rows(&self.tensors, "vectors_f16_run").concat());
            assert!(f64::from(off) <= F16, "f16: {off}");
        }

        fn check_scores(&self) -> usize {
            let cases = self.cases["scores"].as_array().unwrap();
            let probe =
                |case: &Value| Probe { ids: tokens(&case["input_ids"]), end: size(&case["prompt_end"]) };
            let probes: Vec<Probe> = cases.iter().map(probe).collect();
            let last = self.decoder.shape.n_layers - 1;
            for (last_layer, precision) in [
                (LastLayer::Normed, Precision::F32),
                (LastLayer::Normed, Precision::F16),
                (LastLayer::Block, Precision::F32),
            ] {
                let scans = self.fitted(last_layer, precision);
                let found = read(&self.decoder, &probes, last_layer, precision);
                let name = if last_layer == LastLayer::Normed { "cosines" } else { "cosines_block" };
                let cosines = rows(&self.tensors, name);
                for (nth, (case, states)) in cases.iter().zip(&found).enumerate() {
                    for (layer, expected) in
                        cosines[nth].iter().enumerate().filter(|_| precision == Precision::F32)
                    {
                        let change: Vec<f32> =
                            states.end[layer].iter().zip(&states.last[layer]).map(|(a, b)| a - b).collect();
                        let off = (cosine(&change, &scans.reference[layer]) - f64::from(*expected)).abs();
                        assert!(off <= SCORES, "{name} {} layer {layer}: {off}", case["id"]);
                    }
                    if last_layer == LastLayer::Block {
                        continue;
                    }
                    for (first, expected) in case["by_first_layer"].as_object().unwrap() {
                        let settings = Settings {
                            score_layers: [first.parse().unwrap(), last],
                            ..scans.settings.clone()
                        };
                        let scans = Scans { settings, ..scans.clone() };
                        let score = scans.score(states);
                        let (key, allowed) = match precision {
                            Precision::F32 => ("score", SCORES),
                            Precision::F16 => ("score_f16_run", F16),
                        };
                        let off = (score - expected[key].as_f64().unwrap()).abs();
                        assert!(off <= allowed, "{} from {first}: {off}", case["id"]);
                        if precision == Precision::F32 {
                            assert_eq!(
                                i64::from(scans.sign(score)),
                                expected["sigma_at_0.75"].as_i64().unwrap()
                            );
                        }
                    }
                }
            }
            cases.len()
        }

        fn check_steered(&mut self) -> [usize; 2] {
            let (mut n_tokens, mut n_close) = (0, 0);
            let cases = self.cases["steered"].as_array().unwrap().clone();
            for case in &cases {
                let (id, ids, from) =
                    (case["id"].as_str().unwrap(), tokens(&case["input_ids"]), size(&case["prompt_end"]));
                let vectors =
                    case["vectors"].as_str().map(|name| rows(&self.tensors, name)).unwrap_or_default();
                let layers = case["layers"].as_array().unwrap().iter().map(size);
                let vectors = layers.map(|layer| (layer, vectors[layer].clone())).collect();
                let alpha = case["alpha"].as_f64().unwrap() as f32;
                self.decoder.directions = Some(Directions::new(&vectors, alpha, &cpu(), DType::F32));
                let sign = i8::try_from(case["sigma"].as_i64().unwrap()).unwrap();
                let push = (sign != 0).then_some(Push { sign, from });
                let mut found = walked(&self.decoder, &ids, push);
                let logits = logits(&self.decoder, &found.pop().unwrap());
                for (part, found) in [("hidden", found.concat()), ("logits", logits)] {
                    let expected = self.tensors.weight(&format!("{id}.{part}")).unwrap().to_f32();
                    let off = largest(&found, &expected);
                    assert!(off <= STATES, "{id}.{part}: {off}");
                }
                for (key, margin, penalty) in [
                    ("greedy8", "greedy8_least_margin", 1.0),
                    ("greedy8_penalty_1.1_stop_at_eos", "penalty_least_margin", 1.1),
                ] {
                    if case[key].is_null() {
                        continue;
                    }
                    if case[margin].as_f64().is_some_and(|margin| margin < MARGIN) {
                        n_close += 1;
                        continue;
                    }
                    let eos = if penalty == 1.0 { Vec::new() } else { vec![2] };
                    let mut expected = tokens(&case[key]);
                    expected.retain(|id| !eos.contains(id));
                    let decoding =
                        Decoding { stop_ids: eos, repetition_penalty: penalty, ..Decoding::greedy(8) };
                    let query = Query { ids: &ids, sample: 0, push };
                    let generator =
                        Generator { decoder: &self.decoder, decode: &|_| String::new(), rows: 1, stop: None };
                    let mut said = Vec::new();
                    let Ok(()) = generator.complete::<Infallible>(&[query], &decoding, |news| {
                        said.extend(news.ended.into_iter().flat_map(|(_, completion)| completion.ids));
                        Ok(())
                    });
                    assert_eq!(said, expected, "{id} {key}");
                    n_tokens += 1;
                }
            }
            assert!(n_tokens > n_close, "{n_close} of {} token sequences are too close", n_tokens + n_close);
            [cases.len(), n_tokens]
        }
    }

    #[test]
    fn golden_scans() {
        let Some(mut golden) = Golden::open() else { return };
        golden.check_vectors();
        let n_scores = golden.check_scores();
        let [n_steered, n_tokens] = golden.check_steered();
        assert!(n_scores > 0 && n_steered > 0);
        writeln!(
            std::io::stderr(),
            "golden scans: {n_scores} scores, {n_steered} steered ({n_tokens} answers), 0 unsupported"
        )
        .unwrap();
    }
}
