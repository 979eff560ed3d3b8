//! Judges that are models, on tiny random ones of their families: prompts and verdicts against transformers.
//!
//! The cases are made by `tests/golden/make_judges.py`. No judge was run with its real weights.

#[cfg(test)] // Clippy lets tests unwrap by this mark.
mod golden {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use burn::tensor::{DType, Device};
    use finetune::eval::rubrics::{self, Decode, Exchange, Prompt, Reply};
    use finetune::run::judge::judge_model::JudgeModel;
    use finetune::train::Machine;
    use serde_json::Value;

    /// The folder, the rubric whose prompt is compared, and the one that reads probabilities.
    const JUDGES: [(&str, &str, &str); 5] = [
        ("pico-wildguard", "wildguard", "wildguard_logit"),
        ("pico-harmbench-mistral", "harmbench_val", ""),
        ("pico-harmbench-llama2", "harmbench", "harmbench_logit"),
        ("pico-llamaguard", "llamaguard", "llamaguard_logit"),
        ("pico-shieldgemma", "shieldgemma", "shieldgemma"),
    ];

    #[test]
    fn golden_judges_read_and_decide_as_in_transformers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/judges");
        let cases: Value =
            serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let machine = Machine {
            device: Device::flex(),
            device_name: "cpu".to_owned(),
            compute: DType::F32,
            answers: DType::F32,
            micro_tokens: 4096,
            multiple: 1,
        };
        for (name, by_text, by_logit) in JUDGES {
            let judge =
                cases["judges"].as_array().unwrap().iter().find(|judge| judge["name"] == name).unwrap();
            let model = JudgeModel::load(&folder.join(name), &machine).unwrap();
            for (nth, case) in judge["cases"].as_array().unwrap().iter().enumerate() {
                let exchange = exchange(&cases, case["exchange"].as_str().unwrap());
                let exchange =
                    Exchange { request: &exchange.0, context: None, answer: &exchange.1, category: None };
                let place = format!("{name}, {}", case["exchange"]);
                let rubric = rubrics::find(by_text).unwrap();
                let prompts = (rubric.prompt)(&exchange);
                // ShieldGemma has a prompt for each policy; the cases take turns.
                let prompt = &prompts[nth % prompts.len()];
                let ids = model.prompt_ids(rubric, prompt).unwrap();
                let want = case["joined"]["ids"].as_array().unwrap();
                let want: Vec<u32> =
                    want.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect();
                assert_eq!(ids, want, "{place}");
                if let Some(rubric) = rubrics::find(by_logit) {
                    let prompts = (rubric.prompt)(&exchange);
                    let prompt = &prompts[nth % prompts.len()];
                    compare(&model, rubric, prompt, judge, case, &place);
                }
            }
        }
    }

    fn exchange(cases: &Value, name: &str) -> (String, String) {
        let all = cases["exchanges"].as_array().unwrap();
        let found = all.iter().find(|exchange| exchange["name"] == name).unwrap();
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (text("request"), text("answer"))
    }

    /// The odds of yes, from the logits of its spellings.
    fn compare(
        model: &JudgeModel,
        rubric: &'static rubrics::Rubric,
        prompt: &Prompt,
        judge: &Value,
        case: &Value,
        place: &str,
    ) {
        let Decode::FirstToken { yes, no } = rubric.decode else { panic!("{} writes", rubric.name) };
        let mut replies = Vec::new();
        model
            .replies(rubric, &[prompt], (4, &AtomicBool::new(false)), &mut |found| {
                replies.extend(found);
                Ok(())
            })
            .unwrap();
        let [(0, Reply::FirstToken { yes: found_yes, no: found_no })] = replies[..] else {
            panic!("{place}: {replies:?}")
        };
        // Behind the text that the rubric forces, which is the last of those that were tried.
        let logits = case["joined"]["logits"].as_array().unwrap().last().unwrap();
        let is_of = |words: &[&str], token: &str| words.contains(&token.replace('▁', " ").as_str());
        let sum = |words: &[&str]| {
            let tokens = judge["verdict"].as_object().unwrap().keys().filter(|token| is_of(words, token));
            tokens.map(|token| logits[token].as_f64().unwrap().exp()).sum::<f64>().ln()
        };
        let (want, found) = (sum(yes) - sum(no), found_yes - found_no);
        assert!((want - found).abs() < 1e-4, "{place}: {found}, expected {want}");
    }
}
