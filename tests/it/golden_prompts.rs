//! Every prompt of every task on the shared data against lm-eval's own (`tests/golden/make_eval_prompts.py`).
//!
//! The data lies in the folder that `FINETUNE_DATA` names, or beside the one of `FINETUNE_GOLDEN`; without either
//! variable there is nothing to do.

#[cfg(test)] // Clippy lets tests unwrap by this mark.
mod prompts {
    use finetune::eval::Item;
    use finetune::eval::fewshot::FewShot;
    use finetune::eval::tasks::{self, Source, Task};
    use serde_json::Value;
    use sha2::{Digest, Sha256};

    use crate::fixture::shared_data;

    /// The tasks that lm-eval does not have, and how many items the shared files hold.
    const OWN: [(&str, &str, usize); 7] = [
        ("gsm8k_chat", "gsm8k/test.jsonl", 1319),
        ("ag_news", "ag_news/test.csv.gz", 7600),
        ("chatdoctor", "chatdoctor/chatdoctor5k.json.gz", 5452),
        ("openfunctions", "openfunctions/gorilla_openfunctions_v1_test.json", 112),
        ("seal_tools", "seal-tools/finetune_dev.json.gz", 700),
        ("seal_tools", "seal-tools/finetune_test_in_domain.json.gz", 700),
        ("seal_tools", "seal-tools/finetune_test_out_domain.json.gz", 654),
    ];

    /// Of texts, each with `end` behind it.
    fn digest(texts: impl IntoIterator<Item = String>) -> String {
        let mut hash = Sha256::new();
        texts.into_iter().for_each(|text| hash.update(text));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As plain text, the opening of the answer included.
    fn prompt(task: &Task, item: &Item) -> String {
        let prompt = FewShot {
            description: item.description.clone(),
            target_delimiter: task.delimiter.to_owned(),
            opening: item.details["opening"].as_str().map(str::to_owned),
            shots: item.shots.clone(),
            ..FewShot::default()
        };
        prompt.text(&item.prompt)
    }

    fn ended(text: &str) -> String {
        format!("{text}\0")
    }

    fn options(task: &Task, item: &Item) -> String {
        let choices = item.choices.iter().flat_map(|choices| &choices.texts);
        let options: String = choices.map(|option| ended(&format!("{}{option}", task.delimiter))).collect();
        format!("{options}\n")
    }

    fn gold(item: &Item) -> String {
        ended(&item.choices.as_ref().unwrap().gold.to_string())
    }

    #[test]
    fn golden_prompts_equal_the_harness() {
        let Some(data) = shared_data() else { return };
        let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/eval_prompts.json")).unwrap();
        let mut wrong = Vec::new();
        for case in &cases {
            let text = |key: &str| case[key].as_str().unwrap().to_owned();
            let task = tasks::find(&text("task")).unwrap();
            let path = data.join(text("file"));
            let shots = case["shots"].as_u64().unwrap() as usize;
            let items = task.load(&Source { shots, ..Source::plain(task.name, &path) }).unwrap();
            let mut same = |what: &str, found: String| {
                if case.get(what).is_some_and(|want| want.as_str() != Some(&found)) {
                    wrong.push(format!("{} on {} with {shots}: {what}", task.name, text("file")));
                }
            };
            same("prompts", digest(items.iter().map(|item| ended(&prompt(task, item)))));
            same("first", digest([prompt(task, &items[0])]));
            same("targets", digest(items.iter().map(|item| ended(&item.prompt))));
            if case.get("options").is_some() {
                same("options", digest(items.iter().map(|item| options(task, item))));
                same("gold", digest(items.iter().map(gold)));
            }
            if case["n"] != items.len()
                || case.get("stop").is_some_and(|stop| *stop != Value::from(task.stop))
            {
                wrong.push(format!("{}: number of items or stop strings", task.name));
            }
            if case.get("max_new_tokens").is_some_and(|n| *n != task.max_new_tokens) {
                wrong.push(format!("{}: length", task.name));
            }
        }
        assert!(wrong.is_empty(), "{} disagree:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn golden_files_of_other_tasks_hold_the_known_numbers_of_items() {
        let Some(data) = shared_data() else { return };
        for (name, file, n) in OWN {
            let task = tasks::find(name).unwrap();
            let items = task.load(&Source::plain(name, &data.join(file))).unwrap();
            assert_eq!(items.len(), n, "{name}");
            assert!(items.iter().all(|item| item.reference.is_some() && !item.prompt.is_empty()), "{name}");
        }
    }
}
