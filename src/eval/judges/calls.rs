//! Calls of tools against the reference's: Seal-Tools over the corpus, `OpenFunctions` call by call.

use serde_json::Value;

use super::{Criterion, Judge, JudgeRow};
use crate::eval::item::{Completion, Item, Verdict};
use crate::eval::measures::call_text::Call;
use crate::eval::measures::python_text::str_of;
use crate::eval::measures::tool_calls::{CallMatch, SealItem, SealScores, pooled_arguments, seal_calls};

pub(super) const SEAL_TOOLS: JudgeRow = JudgeRow {
    name: "seal_tools",
    summary: "an answer's calls are the gold ones; pooled: the published scores of the corpus",
    source: "fairyshine/Seal-Tools, calculate_score_ToolLearning; Wu et al. 2024",
    asks: Criterion::Correct { metric: "exact_calls" },
    build: || Box::new(Seal),
};

pub(super) const EXACT_CALL: JudgeRow = JudgeRow {
    name: "exact_call",
    summary: "the first call in the answer has the name and the arguments of the gold one, no more and no fewer",
    source: "here; the calls are OpenFunctions'",
    asks: Criterion::Correct { metric: "exact_call" },
    build: || Box::new(One(|found| yes(found.is_exact()))),
};

pub(super) const CALL_NAME: JudgeRow = JudgeRow {
    name: "call_name",
    summary: "the first call in the answer has the name of the gold one",
    source: "here; the calls are OpenFunctions'",
    asks: Criterion::Correct { metric: "call_name" },
    build: || Box::new(One(|found| yes(found.name_is_right))),
};

pub(super) const CALL_ARGUMENTS: JudgeRow = JudgeRow {
    name: "call_arguments",
    summary: "F1 of the arguments of the first call in the answer; pooled over the corpus too",
    source: "here; the calls are OpenFunctions'",
    asks: Criterion::Good { metric: "argument_f1" },
    build: || Box::new(Arguments),
};

/// Lists of calls in JSON, as Seal-Tools has them.
struct Seal;

fn gold(item: &Item) -> Option<&Vec<Value>> {
    item.details["calling"].as_array()
}

/// Values are compared as Python prints them, as in the published scores.
fn same_call(a: &Value, b: &Value) -> bool {
    let (Some(of_a), Some(of_b)) = (a["parameters"].as_object(), b["parameters"].as_object()) else {
        return false;
    };
    let same = |(name, value): (&String, &Value)| of_b.get(name).is_some_and(|b| str_of(b) == str_of(value));
    a["api"] == b["api"] && of_a.len() == of_b.len() && of_a.iter().all(same)
}

impl Judge for Seal {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        seal_calls(&completion.text).map(|calls| Value::from(calls).to_string())
    }

    /// Names and parameters in any order; the names of the responses are no part of the published scores either.
    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let (Some(gold), Some(mut left)) = (gold(item), seal_calls(&completion.text)) else {
            return Verdict::Unscored;
        };
        let takes = |call: &Value| {
            let place = left.iter().position(|other| same_call(call, other));
            place.map(|place| left.swap_remove(place)).is_some()
        };
        yes(gold.iter().all(takes) && left.is_empty())
    }

    fn pooled(&self, answers: &[(&Item, &Completion)]) -> Vec<(&'static str, Option<f64>)> {
        let calls: Vec<_> = answers.iter().map(|(_, completion)| seal_calls(&completion.text)).collect();
        let items = answers.iter().zip(&calls).filter_map(|((item, _), calls)| {
            Some(SealItem { gold: gold(item)?, predicted: calls.as_deref() })
        });
        let scores = SealScores::of(&items.collect::<Vec<_>>());
        let (api, parameters) = (scores.api, scores.parameters);
        vec![
            ("AMOUNT", scores.amount),
            ("P_api", api.map(|api| api.precision)),
            ("R_api", api.map(|api| api.recall)),
            ("F1_api", api.map(|api| api.f1)),
            ("P_param", parameters.map(|parameters| parameters.precision)),
            ("R_param", parameters.map(|parameters| parameters.recall)),
            ("F1_param", parameters.map(|parameters| parameters.f1)),
        ]
    }
}

/// The first call of an answer against the reference's.
struct One(fn(&CallMatch) -> Verdict);

fn compared(item: &Item, completion: &Completion) -> Option<CallMatch> {
    CallMatch::of(&completion.text, item.reference.as_deref()?)
}

impl Judge for One {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        written(completion)
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        match compared(item, completion) {
            Some(found) if found.is_read => (self.0)(&found),
            _ => Verdict::Unscored,
        }
    }
}

/// How many of the arguments are right.
struct Arguments;

impl Judge for Arguments {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        written(completion)
    }

    /// An answer without a call has no right argument: left out of the mean, it would raise it.
    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        compared(item, completion).map_or(Verdict::Unscored, |found| Verdict::Score(found.argument_f1()))
    }

    fn pooled(&self, answers: &[(&Item, &Completion)]) -> Vec<(&'static str, Option<f64>)> {
        let found: Vec<_> =
            answers.iter().filter_map(|(item, completion)| compared(item, completion)).collect();
        let scores = pooled_arguments(&found);
        vec![
            ("argument_precision_pooled", scores.map(|scores| scores.precision)),
            ("argument_recall_pooled", scores.map(|scores| scores.recall)),
            ("argument_f1_pooled", scores.map(|scores| scores.f1)),
        ]
    }
}

fn written(completion: &Completion) -> Option<String> {
    let call = Call::find(&completion.text)?;
    let arguments: Vec<_> = call.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(format!("{}({})", call.name, arguments.join(", ")))
}

fn yes(is: bool) -> Verdict {
    if is { Verdict::Yes } else { Verdict::No }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eval::item::Finish;

    fn completion(text: &str) -> Completion {
        Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop }
    }

    fn judge(row: &JudgeRow, item: &Item, text: &str) -> Verdict {
        (row.build)().judge(item, &completion(text))
    }

    #[test]
    fn a_call_is_right_by_name_and_arguments() {
        let item = Item { reference: Some("a.b(x=1, y=\"z\")".to_owned()), ..Item::default() };
        assert_eq!(judge(&EXACT_CALL, &item, "Use `a.b(y='z', x=1.0)`."), Verdict::Yes);
        assert_eq!(judge(&EXACT_CALL, &item, "a.b(x=1)"), Verdict::No);
        assert_eq!(judge(&CALL_NAME, &item, "a.b(x=1)"), Verdict::Yes);
        assert_eq!(judge(&EXACT_CALL, &item, "I cannot."), Verdict::Unscored);
        assert_eq!(judge(&CALL_ARGUMENTS, &item, "I cannot."), Verdict::Score(0.0));
    }

    #[test]
    fn seal_tools_scores_are_pooled_and_exact_calls_counted() {
        let gold = json!([{ "api": "f", "parameters": { "a": 1 }, "responses": ["API_call_0"] }]);
        let item = Item { details: json!({ "calling": gold }), ..Item::default() };
        let right = "[{'api': 'f', 'parameters': {'a': 1}, 'responses': ['API_call_0']}]";
        let wrong = right.replace('1', "2");
        assert_eq!(judge(&SEAL_TOOLS, &item, right), Verdict::Yes);
        assert_eq!(judge(&SEAL_TOOLS, &item, &wrong), Verdict::No);
        assert_eq!(judge(&SEAL_TOOLS, &item, "nothing"), Verdict::Unscored);
        let answers = [completion(right), completion("nothing")];
        let pooled = (SEAL_TOOLS.build)().pooled(&[(&item, &answers[0]), (&item, &answers[1])]);
        assert_eq!((pooled[0], pooled[2]), (("AMOUNT", Some(0.5)), ("R_api", Some(0.5))));
    }
}
