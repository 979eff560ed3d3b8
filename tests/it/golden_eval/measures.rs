//! Text metrics, extraction, sampling and few-shot prompts against the programs that published them.

use std::path::Path;

use finetune::data::Message;
use finetune::eval::fewshot::{FewShot, Layout, Sampler};
use finetune::eval::measures::bertscore::{BertScore, Tokens};
use finetune::eval::measures::clustered::{Group, Task, clustered_error};
use finetune::eval::measures::perplexity::{Document, Perplexity};
use finetune::eval::measures::rouge::{self, Rouge, Score};
use finetune::eval::measures::tool_calls::{PrecisionRecall, SealItem, SealScores};
use finetune::eval::measures::windows;
use finetune::eval::measures::{
    agreement, bbh, bbh_flexible, humaneval, majority, options, pass_at_k, porter,
};
use finetune::eval::python_random::PythonRandom;
use finetune::eval::stats::Mean;
use finetune::generate::cut_at_stop_string;
use finetune::generate::thinking;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fixture::shared_lines;

/// Of closed forms in f64 on both sides; stated by the cases' own table.
const CLOSED_FORM: f64 = 1e-9;
/// Of shares of counts.
const SHARE: f64 = 1e-12;

/// Gathers what disagrees.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// `null` stands for none and for what is no number.
    fn number(&mut self, what: &str, found: Option<f64>, want: &Value, tolerance: f64) {
        let agrees = match (found.filter(|found| !found.is_nan()), want.as_f64()) {
            (Some(found), Some(want)) => (found - want).abs() <= tolerance,
            (found, want) => found.is_none() && want.is_none(),
        };
        if !agrees {
            self.0.push(format!("{what} is {found:?}, expected {want}"));
        }
    }

    fn same(&mut self, what: &str, found: impl Into<Value>, want: &Value) {
        let found = found.into();
        if found != *want {
            self.0.push(format!("{what} is {found}, expected {want}"));
        }
    }
}

fn count(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("`{key}` is a count in {case}")).try_into().unwrap()
}

fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("`{key}` is text in {case}"))
}

fn list<'c>(case: &'c Value, key: &str) -> &'c [Value] {
    case[key].as_array().unwrap_or_else(|| panic!("`{key}` is a list in {case}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

pub fn bbh_extract(_: &Path, case: &Value) -> Vec<String> {
    let variant = match text(case, "variant") {
        "cot_fewshot" => bbh::Variant::CotFewshot,
        "zeroshot" => bbh::Variant::Zeroshot,
        "cot_zeroshot" => bbh::Variant::CotZeroshot,
        other => return vec![format!("variant `{other}` is new here")],
    };
    let family = bbh_flexible::family(text(case, "task")).expect("the task is one of the 27");
    let mut wrong = Wrong::default();
    for (name, want) in case["expected"].as_object().unwrap() {
        let is_few_shot = variant == bbh::Variant::CotFewshot;
        let filter = match name.as_str() {
            "get-answer" if is_few_shot => bbh::Filter::Strict,
            "strict-match" if !is_few_shot => bbh::Filter::Strict,
            "flexible-extract" if !is_few_shot => bbh::Filter::Flexible,
            _ => {
                wrong.0.push(format!("filter `{name}` is new here"));
                continue;
            }
        };
        let found = variant.extract(filter, family, text(case, "input"), text(case, "output"));
        let is_right = variant.is_right(&found, text(case, "target"));
        wrong.number(name, Some(f64::from(u8::from(is_right))), &want["exact_match"], 0.0);
        wrong.same(name, found, &want["extracted"]);
    }
    wrong.same("until", variant.stops(), &case["until"]);
    wrong.0
}

pub fn bertscore_match(_: &Path, case: &Value) -> Vec<String> {
    let embeddings = |key| list(case, key).iter().map(numbers).collect::<Vec<_>>();
    let (candidate, reference) = (embeddings("candidate_embeddings"), embeddings("reference_embeddings"));
    let (of_candidate, of_reference) =
        (numbers(&case["candidate_weights"]), numbers(&case["reference_weights"]));
    let found = BertScore::of(
        Tokens { embeddings: &candidate, weights: &of_candidate },
        Tokens { embeddings: &reference, weights: &of_reference },
    );
    let mut wrong = Wrong::default();
    let mut compare = |found: BertScore, want: &Value| {
        wrong.number("P", Some(found.precision), &want["P"], CLOSED_FORM);
        wrong.number("R", Some(found.recall), &want["R"], CLOSED_FORM);
        wrong.number("F1", Some(found.f1), &want["F1"], CLOSED_FORM);
    };
    compare(found, case);
    if case.get("baseline").is_some() {
        let [precision, recall, f1] = numbers(&case["baseline"]).try_into().unwrap();
        compare(found.rescaled(BertScore { precision, recall, f1 }), &case["rescaled"]);
    }
    wrong.0
}

pub fn clustered_stderr(_: &Path, case: &Value) -> Vec<String> {
    let clusters: Vec<Vec<f64>> = list(case, "clusters").iter().map(numbers).collect();
    let values = clusters.concat();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let plain = (squares / (values.len() as f64 - 1.0) / values.len() as f64).sqrt();
    let mut wrong = Wrong::default();
    wrong.number("mean", Some(mean), &case["mean"], CLOSED_FORM);
    // Upstream prints 0 where one cluster says nothing.
    let found = clustered_error(&clusters).or(Some(0.0));
    wrong.number("clustered_stderr", found, &case["clustered_stderr"], CLOSED_FORM);
    wrong.number("plain_stderr", Some(plain), &case["plain_stderr"], CLOSED_FORM);
    wrong.0
}

pub fn group_stderr(_: &Path, case: &Value) -> Vec<String> {
    let task = |task: &Value| Task {
        n: count(task, "n"),
        mean: task["mean"].as_f64().unwrap(),
        standard_error: task["stderr"].as_f64(),
    };
    let group = Group::of(&list(case, "subtasks").iter().map(task).collect::<Vec<_>>()).unwrap();
    let mut wrong = Wrong::default();
    wrong.number("weighted_mean", Some(group.weighted_mean), &case["weighted_mean"], CLOSED_FORM);
    wrong.number("unweighted_mean", Some(group.unweighted_mean), &case["unweighted_mean"], CLOSED_FORM);
    wrong.number("pooled_stderr", group.pooled_error, &case["pooled_stderr"], CLOSED_FORM);
    wrong.number("unweighted_stderr", group.unweighted_error, &case["unweighted_stderr"], CLOSED_FORM);
    wrong.0
}

pub fn gsm8k_majority(_: &Path, case: &Value) -> Vec<String> {
    let responses = texts(&case["responses"]);
    let mut wrong = Wrong::default();
    for (name, want) in case["expected"].as_object().unwrap() {
        let votes: Vec<&str> = responses.iter().map(|response| majority::extract(response)).collect();
        let votes = match name.as_str() {
            "score-first" => votes.get(..1),
            // Upstream does not ask for 64.
            "maj@64" => Some(&votes[..]),
            other => match other.strip_prefix("maj@").and_then(|k| k.parse::<usize>().ok()) {
                Some(k) => votes.get(..k),
                None => return vec![format!("filter `{name}` is new here")],
            },
        };
        let found = votes.and_then(|votes| majority::most_frequent(votes).map(|place| votes[place]));
        let Some(found) = found else {
            if want.get("error").is_none() {
                wrong.0.push(format!("{name} is not scored, expected {want}"));
            }
            continue;
        };
        let is_right = majority::is_right(found, text(case, "gold_final"));
        wrong.same(name, found, &want["extracted"]);
        wrong.number(name, Some(f64::from(u8::from(is_right))), &want["exact_match"], 0.0);
    }
    wrong.0
}

pub fn humaneval_build(_: &Path, case: &Value) -> Vec<String> {
    let problems = shared_lines("humaneval/HumanEval.jsonl.gz");
    let problem =
        problems.iter().find(|problem| problem["task_id"] == case["task_id"]).expect("a known task");
    let (prompt, response) = (text(problem, "prompt"), text(case, "response"));
    let mut wrong = Wrong::default();
    wrong.same("lm_eval", humaneval::lm_eval(prompt, response), &case["lm_eval_program"]);
    let instruct = humaneval::lm_eval_instruct(prompt, response);
    wrong.same("lm_eval_instruct", instruct, &case["lm_eval_instruct_program"]);
    wrong.same("simple_evals", humaneval::simple_evals(response), &case["simple_evals_completion"]);
    wrong.0
}

pub fn judge_agreement(_: &Path, case: &Value) -> Vec<String> {
    let both = list(case, "a").iter().zip(list(case, "b")).filter(|(a, b)| !a.is_null() && !b.is_null());
    let found = agreement::Agreement::of(&both.collect::<Vec<_>>());
    let mut wrong = Wrong::default();
    wrong.number("agreement", found.rate, &case["agreement"], SHARE);
    wrong.number("cohen_kappa", found.kappa, &case["cohen_kappa"], SHARE);
    wrong.0
}

pub fn multiple_choice(_: &Path, case: &Value) -> Vec<String> {
    let choice = options::choose(&texts(&case["choices"]), &numbers(&case["loglikelihoods"])).unwrap();
    let gold = count(case, "gold");
    let mut wrong = Wrong::default();
    for (found, place, score) in [
        (choice.by_sum, "pred", "acc"),
        (choice.by_character, "pred_norm", "acc_norm"),
        (choice.by_byte, "pred_bytes", "acc_bytes"),
    ] {
        wrong.same(place, found, &case[place]);
        wrong.number(score, Some(f64::from(u8::from(found == gold))), &case[score], 0.0);
    }
    for (found, want) in choice.probabilities.iter().zip(list(case, "prob_norm")) {
        wrong.number("prob_norm", Some(*found), want, CLOSED_FORM);
    }
    wrong.0
}

pub fn pass_at_k_one(_: &Path, case: &Value) -> Vec<String> {
    let found = pass_at_k::pass_at_k(count(case, "n"), count(case, "c"), count(case, "k"));
    let mut wrong = Wrong::default();
    wrong.number("pass_at_k", Some(found), &case["pass_at_k"], CLOSED_FORM);
    wrong.0
}

pub fn pass_at_k_mean(_: &Path, case: &Value) -> Vec<String> {
    let counts = |key| list(case, key).iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>();
    let problems: Vec<_> = counts("n").into_iter().zip(counts("c")).collect();
    let mut wrong = Wrong::default();
    let estimates = problems.iter().map(|(n, c)| pass_at_k::estimate(*n, *c, count(case, "k")));
    let estimates: Option<Vec<f64>> = estimates.collect();
    let found = estimates.and_then(|values| Mean::of(&values)).map(|mean| mean.value);
    wrong.number("mean_pass_at_k", found, &case["mean_pass_at_k"], CLOSED_FORM);
    wrong.0
}

pub fn perplexity(_: &Path, case: &Value) -> Vec<String> {
    let mut wrong = Wrong::default();
    let mut documents = Vec::new();
    for row in list(case, "docs") {
        let document = Document::of(text(row, "text"), row["loglikelihood"].as_f64().unwrap());
        wrong.same("words", document.n_words, &row["words"]);
        wrong.same("bytes", document.n_bytes, &row["bytes"]);
        documents.push(document);
    }
    let found = Perplexity::of(&documents).unwrap();
    for (key, found) in [
        ("word_perplexity", found.per_word),
        ("byte_perplexity", found.per_byte),
        ("bits_per_byte", found.bits_per_byte),
    ] {
        wrong.number(key, Some(found), &case[key], CLOSED_FORM * found.abs());
    }
    wrong.0
}

pub fn porter_stem(_: &Path, case: &Value) -> Vec<String> {
    let mut wrong = Wrong::default();
    wrong.same("stem", porter::stem(text(case, "word")), &case["stem"]);
    wrong.0
}

pub fn python_random_sample(_: &Path, case: &Value) -> Vec<String> {
    let mut rng = PythonRandom::new(i128::from(case["seed"].as_i64().unwrap()));
    let mut wrong = Wrong::default();
    for want in list(case, "draws") {
        wrong.same("draw", rng.sample(count(case, "population"), count(case, "k")).unwrap(), want);
    }
    wrong.0
}

pub fn rolling_windows(_: &Path, case: &Value) -> Vec<String> {
    let tokens: Vec<u32> = list(case, "tokens").iter().map(|token| token.as_u64().unwrap() as u32).collect();
    let prefix = count(case, "prefix_token") as u32;
    let found = windows::rolling(&tokens, prefix, count(case, "max_seq_len"), count(case, "context_len"));
    let pair = |window: &windows::Window| Value::from(vec![window.context.clone(), window.targets.clone()]);
    let mut wrong = Wrong::default();
    wrong.same("windows", found.iter().map(pair).collect::<Vec<_>>(), &case["windows"]);
    wrong.same("disjoint", found.iter().map(|w| pair(&w.disjoint())).collect::<Vec<_>>(), &case["disjoint"]);
    wrong.0
}

/// For each type the score of the reference with the best F, the first of equals.
fn best(targets: &[&str], prediction: &str, stem: bool) -> Rouge {
    let scores = targets.iter().map(|target| rouge::rouge(target, prediction, stem));
    let better = |a: Score, b: Score| if b.fmeasure > a.fmeasure { b } else { a };
    let best = scores.reduce(|a, b| Rouge {
        rouge1: better(a.rouge1, b.rouge1),
        rouge2: better(a.rouge2, b.rouge2),
        rouge_l: better(a.rouge_l, b.rouge_l),
        rouge_lsum: better(a.rouge_lsum, b.rouge_lsum),
    });
    best.expect("a case has a reference")
}

pub fn rouge_scores(_: &Path, case: &Value) -> Vec<String> {
    let (prediction, stem) = (text(case, "prediction"), case["use_stemmer"].as_bool().unwrap());
    let found = match case.get("targets").unwrap_or(&case["target"]) {
        Value::String(target) => rouge::rouge(target, prediction, stem),
        targets => best(&texts(targets), prediction, stem),
    };
    let mut wrong = Wrong::default();
    for (key, found) in [
        ("rouge1", found.rouge1),
        ("rouge2", found.rouge2),
        ("rougeL", found.rouge_l),
        ("rougeLsum", found.rouge_lsum),
    ] {
        let want = &case["expected"][key];
        wrong.number(key, Some(found.precision), &want["precision"], CLOSED_FORM);
        wrong.number(key, Some(found.recall), &want["recall"], CLOSED_FORM);
        wrong.number(key, Some(found.fmeasure), &want["fmeasure"], CLOSED_FORM);
    }
    wrong.0
}

/// Upstream's list of stops has the text of the end token too; here that token ends an answer before it is text.
pub fn stop_sequences(_: &Path, case: &Value) -> Vec<String> {
    let stops: Vec<String> = texts(&case["effective_until"]).into_iter().map(str::to_owned).collect();
    let generation = text(case, "generation");
    let mark = case["think_end_token"].as_str();
    // A text without the mark loses the white space at its start upstream.
    let behind = |mark| thinking::behind(generation, mark).unwrap_or_else(|| generation.trim_start());
    let answer = mark.map_or(generation, behind);
    let mut wrong = Wrong::default();
    wrong.same("text", cut_at_stop_string(answer, &stops, None), &case["expected"]);
    wrong.0
}

pub fn tool_call_f1(_: &Path, case: &Value) -> Vec<String> {
    let item = |item| SealItem {
        gold: list(item, "gold"),
        predicted: item["predicted"].as_array().map(Vec::as_slice),
    };
    let found = SealScores::of(&list(case, "items").iter().map(item).collect::<Vec<_>>());
    let want = &case["expected"];
    let mut wrong = Wrong::default();
    wrong.number("AMOUNT", found.amount, &want["AMOUNT"], CLOSED_FORM);
    for (name, found) in [("api", found.api), ("param", found.parameters)] {
        let mut compare = |key: &str, part: fn(PrecisionRecall) -> f64| {
            let key = format!("{key}_{name}");
            wrong.number(&key, found.map(part), &want[&key], CLOSED_FORM);
        };
        compare("P", |found| found.precision);
        compare("R", |found| found.recall);
        compare("F1", |found| found.f1);
    }
    wrong.0
}

pub fn fewshot_prompt(_: &Path, case: &Value) -> Vec<String> {
    let mut wrong = Wrong::default();
    let (n, row) = (count(case, "num_fewshot"), count(case, "test_row"));
    let seed = case["fewshot_seed"].as_u64().unwrap();
    let (pool, keys, ask, mut sampler): (_, [&str; 2], fn(&str) -> String, _) = match text(case, "task") {
        "gsm8k" => (
            shared_lines("gsm8k/train.jsonl.gz"),
            ["question", "answer"],
            |question| format!("Question: {question}\nAnswer:"),
            Sampler::seeded(seed),
        ),
        "gsm8k_cot" => (
            shared_lines("gsm8k/fewshot_cot8.jsonl"),
            ["question", "target"],
            |question| format!("Q: {question}\nA:"),
            Sampler::First,
        ),
        "gsm8k_cot_zeroshot" => (
            Vec::new(),
            ["question", "answer"],
            |question| format!("Q: {question}\nA: Let's think step by step."),
            Sampler::First,
        ),
        other => return vec![format!("task `{other}` is new here")],
    };
    // One generator serves all questions up to this one.
    let drawn = (0..=row).map(|_| sampler.rows(pool.len(), n).unwrap()).last().unwrap();
    if case.get("train_rows").is_some() {
        wrong.same("train_rows", drawn.clone(), &case["train_rows"]);
    }
    let shot = |row: usize| (ask(text(&pool[row], keys[0])), text(&pool[row], keys[1]).to_owned());
    let mode = text(case, "mode");
    let system = case["system"].as_str().unwrap_or("You are a careful assistant.");
    let prompt = FewShot {
        system: mode.ends_with("_system").then(|| system.to_owned()),
        shots: drawn.into_iter().map(shot).collect(),
        ..FewShot::default()
    };
    let question = ask(text(&shared_lines("gsm8k/test.jsonl")[row], "question"));
    let found = match mode.trim_end_matches("_system") {
        "plain" => prompt.text(&question),
        "chat_multiturn" => chatml(&prompt, &question, Layout::MultiTurn),
        "chat_singleturn" => chatml(&prompt, &question, Layout::SingleTurn),
        other => return vec![format!("mode `{other}` is new here")],
    };
    let digest = Sha256::digest(found.as_bytes());
    wrong.same(
        "sha256",
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        &case["sha256"],
    );
    wrong.same("chars", found.chars().count(), &case["chars"]);
    if case.get("prompt").is_some() {
        wrong.same("prompt", found, &case["prompt"]);
    }
    wrong.0
}

/// The cases' toy template.
fn chatml(prompt: &FewShot, question: &str, layout: Layout) -> String {
    let turns = prompt.turns(question, layout);
    let turn = |turn: &Message| format!("<|im_start|>{}\n{}<|im_end|>\n", turn.role, turn.content);
    turns.iter().map(turn).chain(["<|im_start|>assistant\n".to_owned()]).collect()
}
