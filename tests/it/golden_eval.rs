//! Evaluation against independent programs: lm-eval, `inspect_ai` and the published refusal scripts.
//!
//! The cases lie in `eval/` of the folder that `FINETUNE_GOLDEN` names; without the variable there is nothing to do.

#[cfg(test)]
mod ifeval;
#[cfg(test)]
mod measures;
#[cfg(test)]
mod rubrics;
#[cfg(test)]
pub mod sandbox;
#[cfg(test)]
mod task_judges;

#[cfg(test)] // Clippy lets tests unwrap by this mark.
mod golden {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use finetune::eval::judges;
    use finetune::eval::stats::{Discordance, Mean, Z, student_quantile, wilson};
    use finetune::eval::{Completion, Finish, Item, Judgement, Scores, Suite, score};
    use serde_json::Value;

    use super::{ifeval, measures, rubrics, sandbox, task_judges};

    /// Of closed forms in f64 on both sides; stated by the cases' own table.
    const CLOSED_FORM: f64 = 1e-9;
    /// Of shares of counts.
    const SHARE: f64 = 1e-12;

    /// What disagrees in one case; nothing if all agrees.
    type Check = fn(&Path, &Value) -> Vec<String>;

    /// One file of cases each; a file that is not here is unsupported and named.
    const SUPPORTED: &[(&str, Check)] = &[
        ("bbh_extract.jsonl", measures::bbh_extract),
        ("bertscore_match.jsonl", measures::bertscore_match),
        ("binomial_stderr.jsonl", binomial),
        ("clustered_stderr.jsonl", measures::clustered_stderr),
        ("fewshot_prompt.jsonl", measures::fewshot_prompt),
        ("group_stderr.jsonl", measures::group_stderr),
        ("gsm8k_extract.jsonl", gsm8k),
        ("gsm8k_majority.jsonl", measures::gsm8k_majority),
        ("harmbench_cls_parse.jsonl", rubrics::harmbench_cls_parse),
        ("humaneval_build.jsonl", measures::humaneval_build),
        ("ifeval.jsonl", ifeval::ifeval),
        ("ifeval_totals.json", ifeval::ifeval_totals),
        ("judge_agreement.jsonl", measures::judge_agreement),
        ("judge_render.jsonl", rubrics::judge_render),
        ("llamaguard_parse.jsonl", rubrics::llamaguard_parse),
        ("multiple_choice.jsonl", measures::multiple_choice),
        ("paired.jsonl", paired),
        ("pass_at_k.jsonl", measures::pass_at_k_one),
        ("pass_at_k_mean.jsonl", measures::pass_at_k_mean),
        ("perplexity.jsonl", measures::perplexity),
        ("policy_judge_1to5.jsonl", rubrics::policy_judge_1to5),
        ("porter_stem.jsonl", measures::porter_stem),
        ("python_random_sample.jsonl", measures::python_random_sample),
        ("refusal_keywords.jsonl", refusal),
        ("refusal_totals.json", refusal_totals),
        ("rolling_windows.jsonl", measures::rolling_windows),
        ("rouge.jsonl", measures::rouge_scores),
        ("sandbox_exec.jsonl", sandbox::sandbox_exec),
        ("shieldgemma_score.jsonl", rubrics::shieldgemma_score),
        ("stderr.jsonl", mean),
        ("stop_sequences.jsonl", measures::stop_sequences),
        ("strongreject.jsonl", rubrics::strongreject),
        ("tool_call_f1.jsonl", measures::tool_call_f1),
        ("wildguard_parse.jsonl", rubrics::wildguard_parse),
        ("wildguard_prompt.jsonl", rubrics::wildguard_prompt),
        ("xstest_rates.jsonl", xstest),
    ];

    /// Ours, and the name of the list in the cases.
    const PROTOCOLS: [(&str, &str); 7] = [
        ("advbench29", "advbench29"),
        ("jbb13", "jbb13"),
        ("gcg31", "harmbench_gcg31"),
        ("refusal_direction12", "refusal_direction12"),
        ("shallow38", "shallow_deep"),
        ("alignment31", "alignment_attribution"),
        ("xstest", "xstest_strmatch"),
    ];

    #[test]
    fn golden_evaluation_equals_the_reference_programs() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let folder = PathBuf::from(folder).join("eval");
        let files = case_files(&folder);
        let mut wrong = Vec::new();
        let mut n_run = 0;
        // Some files are also put to the judges that the tasks name.
        for (name, check) in SUPPORTED.iter().chain(task_judges::SUPPORTED) {
            let cases = files.get(*name).map_or_else(Vec::new, |path| cases(path));
            assert!(!cases.is_empty(), "no case of `{name}` in `{}`", folder.display());
            for case in cases {
                n_run += 1;
                let found = check(&folder, &case);
                wrong.extend(found.into_iter().map(|what| format!("{name} {}: {what}", case["id"])));
            }
        }
        let supported = |name: &str| SUPPORTED.iter().any(|(file, _)| *file == name);
        let left: Vec<_> = files.iter().filter(|(name, _)| !supported(name)).collect();
        let n_left: usize = left.iter().map(|(_, path)| cases(path).len()).sum();
        let names: Vec<_> = left.iter().map(|(name, _)| name.trim_end_matches(".jsonl")).collect();
        let mut stderr = std::io::stderr(); // Not `eprintln`, which the test harness keeps to itself.
        writeln!(stderr, "golden eval: {n_run} run, {n_left} unsupported ({})", names.join(", ")).unwrap();
        assert!(wrong.is_empty(), "{} disagree:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// The files of cases by name. Other `.json` files belong to a file of cases.
    fn case_files(folder: &Path) -> BTreeMap<String, PathBuf> {
        let entries = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("FINETUNE_GOLDEN is set, but `{}`: {error}", folder.display()));
        let files: BTreeMap<_, _> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
            .filter(|(name, _)| {
                Path::new(name).extension().is_some_and(|kind| kind == "jsonl")
                    || SUPPORTED.iter().any(|(file, _)| file == name)
            })
            .collect();
        assert!(!files.is_empty(), "FINETUNE_GOLDEN is set, but `{}` holds no cases", folder.display());
        files
    }

    fn cases(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        if path.extension().is_some_and(|extension| extension == "json") {
            return vec![serde_json::from_str(&text).unwrap()];
        }
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Gathers what disagrees.
    #[derive(Default)]
    struct Wrong(Vec<String>);

    impl Wrong {
        fn number(&mut self, what: &str, found: Option<f64>, want: &Value, tolerance: f64) {
            let agrees = match (found, want.as_f64()) {
                (Some(found), Some(want)) => (found - want).abs() <= tolerance,
                (found, want) => found.is_none() && want.is_none(),
            };
            if !agrees {
                self.0.push(format!("{what} is {found:?}, expected {want}"));
            }
        }

        fn ends(&mut self, what: &str, found: Option<(f64, f64)>, want: &Value) {
            self.number(what, found.map(|ends| ends.0), &want[0], CLOSED_FORM);
            self.number(what, found.map(|ends| ends.1), &want[1], CLOSED_FORM);
        }

        fn same<T: Copy + PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, want: T) {
            if found != want {
                self.0.push(format!("{what} is {found:?}, expected {want:?}"));
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

    fn binomial(_: &Path, case: &Value) -> Vec<String> {
        let (k, n) = (count(case, "correct"), count(case, "n"));
        let hits: Vec<f64> = (0..n).map(|idx| f64::from(u8::from(idx < k))).collect();
        let mean = Mean::of(&hits);
        let mut wrong = Wrong::default();
        wrong.number("mean", mean.map(|mean| mean.value), &case["mean"], CLOSED_FORM);
        wrong.number("stderr", mean.and_then(|mean| mean.standard_error), &case["stderr"], CLOSED_FORM);
        wrong.ends("ci95_wilson", wilson(k, n), &case["ci95_wilson"]);
        wrong.0
    }

    fn mean(_: &Path, case: &Value) -> Vec<String> {
        let values: Vec<f64> = list(case, "values").iter().map(|value| value.as_f64().unwrap()).collect();
        let mean = Mean::of(&values).unwrap();
        let error = mean.standard_error;
        let mut wrong = Wrong::default();
        wrong.same("n", mean.n, count(case, "n"));
        wrong.number("mean", Some(mean.value), &case["mean"], CLOSED_FORM);
        wrong.number("stderr", error, &case["stderr"], CLOSED_FORM);
        let deviation = error.map(|error| error * (mean.n as f64).sqrt());
        wrong.number("sample_stddev", deviation, &case["sample_stddev"], CLOSED_FORM);
        wrong.number("t_975", error.map(|_| student_quantile(mean.n - 1)), &case["t_975"], CLOSED_FORM);
        wrong.ends("ci95_t", mean.interval(), &case["ci95_t"]);
        let normal = error.map(|error| (mean.value - Z * error, mean.value + Z * error));
        wrong.ends("ci95_normal", normal, &case["ci95_normal"]);
        if case.get("ci95_wilson").is_some() {
            let k = values.iter().filter(|value| **value == 1.0).count();
            wrong.ends("ci95_wilson", wilson(k, mean.n), &case["ci95_wilson"]);
        }
        wrong.0
    }

    fn paired(_: &Path, case: &Value) -> Vec<String> {
        let hits = |key| list(case, key).iter().map(|hit| hit.as_f64() == Some(1.0)).collect::<Vec<bool>>();
        let (a, b) = (hits("a"), hits("b"));
        let counts = Discordance::of(a.iter().copied().zip(b.iter().copied()));
        let mut wrong = Wrong::default();
        wrong.same("n11", counts.both, count(case, "n11"));
        wrong.same("n10", counts.only_a, count(case, "n10"));
        wrong.same("n01", counts.only_b, count(case, "n01"));
        wrong.same("n00", counts.neither, count(case, "n00"));
        wrong.number("mean_diff", counts.difference(), &case["mean_diff"], CLOSED_FORM);
        wrong.number("stderr_diff_paired", counts.standard_error(), &case["stderr_diff_paired"], CLOSED_FORM);
        wrong.number("mcnemar_exact_p", Some(counts.mcnemar()), &case["mcnemar_exact_p"], CLOSED_FORM);
        let error = |hits: &[bool]| {
            let values: Vec<f64> = hits.iter().map(|hit| f64::from(u8::from(*hit))).collect();
            Mean::of(&values).and_then(|mean| mean.standard_error)
        };
        let unpaired = error(&a).zip(error(&b)).map(|(a, b)| a.hypot(b));
        wrong.number("unpaired_stderr", unpaired, &case["unpaired_stderr"], CLOSED_FORM);
        wrong.0
    }

    fn item(reference: Option<&str>) -> Item {
        Item {
            id: "0".into(),
            prompt: "q".into(),
            reference: reference.map(str::to_owned),
            ..Item::default()
        }
    }

    /// By the suite's own rules, one sample each.
    fn by_rules(suite: &Suite, items: &[Item], answers: &[Completion]) -> Scores {
        let answers: Vec<_> = answers.iter().map(|answer| vec![answer.clone()]).collect();
        let judged = suite.judges.iter();
        let judged = judged.map(|row| Judgement::by_rule(row, (row.build)().as_ref(), items, &answers));
        score(suite, items, &answers, &judged.collect::<Vec<_>>(), 0).unwrap()
    }

    fn completion(text: &str) -> Completion {
        Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop }
    }

    fn gsm8k(_: &Path, case: &Value) -> Vec<String> {
        let strict = match text(case, "task") {
            "gsm8k" => "gsm8k_strict",
            "gsm8k_cot" | "gsm8k_cot_zeroshot" => "gsm8k_cot_strict",
            "gsm8k_cot_llama" => "gsm8k_cot_llama",
            other => return vec![format!("task `{other}` is new here")],
        };
        let (item, completion) = (item(Some(text(case, "gold_answer"))), completion(text(case, "output")));
        let mut wrong = Wrong::default();
        for (name, extracted, correct) in [
            (strict, "strict_extracted", "strict_exact_match"),
            ("gsm8k_flexible", "flexible_extracted", "flexible_exact_match"),
            ("gsm8k_openai", "openai_extracted", "openai_correct"),
        ] {
            let judge = (judges::find(name).unwrap().build)();
            let found = judge.evidence(&completion);
            wrong.same(extracted, found.as_deref().unwrap_or("[invalid]"), text(case, extracted));
            let want = case[correct].as_bool().unwrap_or(case[correct].as_f64() == Some(1.0));
            let found = judge.judge(&item, &completion) == finetune::eval::item::Verdict::Yes;
            wrong.same(correct, found, want);
        }
        wrong.0
    }

    fn refusal(_: &Path, case: &Value) -> Vec<String> {
        let completion = completion(text(case, "response"));
        let mut wrong = Wrong::default();
        for (ours, theirs) in PROTOCOLS {
            let judge = (judges::find(ours).unwrap().build)();
            let found = judge.judge(&item(None), &completion) == finetune::eval::item::Verdict::Yes;
            wrong.same(theirs, Some(found), case["refused"][theirs].as_bool());
        }
        wrong.0
    }

    fn refusal_totals(folder: &Path, totals: &Value) -> Vec<String> {
        let answers: Vec<_> = cases(&folder.join(text(totals, "file")))
            .iter()
            .map(|case| completion(text(case, "response")))
            .collect();
        let items = vec![item(None); answers.len()];
        let scores = by_rules(&Suite::new("harmful", "unread", &[]).unwrap(), &items, &answers);
        let mut wrong = Wrong::default();
        for total in list(totals, "totals") {
            let theirs = text(total, "list");
            let Some((ours, _)) = PROTOCOLS.iter().find(|(_, name)| *name == theirs) else {
                wrong.0.push(format!("list `{theirs}` is new here"));
                continue;
            };
            let metric = scores.metrics.iter().find(|metric| metric.judge.as_deref() == Some(ours)).unwrap();
            wrong.same(theirs, metric.n, count(total, "n"));
            wrong.same(theirs, metric.k.map(|k| metric.n - k), Some(count(total, "refused")));
            wrong.number(theirs, metric.value, &total["asr"], SHARE);
            wrong.number(theirs, metric.value.map(|asr| 1.0 - asr), &total["refusal_rate"], SHARE);
        }
        wrong.0
    }

    /// The cases hold labels, not answers: an answer that every protocol reads that way stands for each.
    fn xstest(_: &Path, case: &Value) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.csv");
        let rows = list(case, "items").iter();
        let row = |row: &Value| format!("{},asked,{}\n", text(row, "xstest_id"), text(row, "type"));
        std::fs::write(&path, format!("id,prompt,type\n{}", rows.map(row).collect::<String>())).unwrap();
        let answer = |item: &Item| {
            let row = list(case, "items").iter().find(|row| text(row, "xstest_id") == item.id).unwrap();
            completion(if text(row, "label") == "1_full_compliance" { "Sure." } else { "I'm sorry, no." })
        };
        let mut wrong = Wrong::default();
        for (name, half) in [("xstest", "safe"), ("xstest_contrast", "unsafe")] {
            let want = &case["expected"][half];
            let suite = Suite::new(name, &path, &["xstest".to_owned()]).unwrap();
            // A half without items cannot be asked.
            let (items, _) = suite.items(0).unwrap_or_default();
            let answers: Vec<_> = items.iter().map(answer).collect();
            let scores = by_rules(&suite, &items, &answers);
            let metric = &scores.metrics[0];
            let flipped = metric.metric == "attack_success_rate";
            let refused = metric.value.map(|value| if flipped { 1.0 - value } else { value });
            wrong.same("n", metric.n, count(want, "n"));
            let key = if half == "safe" { "over_refusal_rate" } else { "refusal_rate" };
            wrong.number(key, refused, &want[key], SHARE);
            wrong.number("full_compliance", refused.map(|rate| 1.0 - rate), &want["full_compliance"], SHARE);
        }
        wrong.0
    }
}
