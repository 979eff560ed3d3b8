//! Calls of tools: names and arguments against the reference's.
//!
//! Two corpora. Seal-Tools (Wu et al., "Seal-Tools: Self-Instruct Tool Learning Dataset for Agent Tuning and Detailed
//! Benchmark", 2024, arXiv 2405.08355) has lists of calls in JSON; its scores are those of fairyshine/Seal-Tools,
//! `calculate_score_ToolLearning`, quirks included. `OpenFunctions` (Patil et al., "Gorilla: Large Language Model
//! Connected with Massive APIs", 2023, arXiv 2305.15334) has one call as text, which is read and compared by argument.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::call_text::Call;
use super::python_text::str_of;

/// Of counts over a whole corpus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecall {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl PrecisionRecall {
    /// None where nothing was right, predicted or asked for: upstream then leaves the score out.
    fn of(n_right: usize, n_predicted: usize, n_gold: usize) -> Option<Self> {
        if n_right == 0 || n_predicted == 0 || n_gold == 0 {
            return None;
        }
        let (precision, recall) = (n_right as f64 / n_predicted as f64, n_right as f64 / n_gold as f64);
        Some(Self { precision, recall, f1: 2.0 * precision * recall / (precision + recall) })
    }
}

/// One question of Seal-Tools: the calls of the reference and those of the answer, none if it could not be read.
#[derive(Debug, Clone, Copy)]
pub struct SealItem<'i> {
    pub gold: &'i [Value],
    pub predicted: Option<&'i [Value]>,
}

/// The scores of a corpus; what upstream leaves out is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SealScores {
    /// The share of answers that could be read.
    pub amount: Option<f64>,
    pub api: Option<PrecisionRecall>,
    pub parameters: Option<PrecisionRecall>,
}

impl SealScores {
    /// Values are compared as Python prints them. Each predicted call is held against the first gold call of its name,
    /// however often that has been matched: repeated calls can push recall above 1.
    pub fn of(items: &[SealItem]) -> Self {
        let (mut n_right, mut n_predicted, mut n_gold) = (0, 0, 0);
        let (mut n_right_values, mut n_predicted_values, mut n_gold_values) = (0, 0, 0);
        for item in items {
            n_gold += item.gold.len();
            n_gold_values += item.gold.iter().filter_map(parameters).map(Map::len).sum::<usize>();
            for call in item.predicted.unwrap_or_default() {
                let Some(api) = call.get("api") else { continue };
                n_predicted += 1;
                n_predicted_values += parameters(call).map_or(0, Map::len);
                let Some(gold) = item.gold.iter().find(|gold| gold.get("api") == Some(api)) else { continue };
                n_right += 1;
                n_right_values += n_same(parameters(call), parameters(gold));
            }
        }
        let n_read = items.iter().filter(|item| item.predicted.is_some()).count();
        Self {
            amount: (n_read > 0).then(|| n_read as f64 / items.len() as f64),
            api: PrecisionRecall::of(n_right, n_predicted, n_gold),
            parameters: PrecisionRecall::of(n_right_values, n_predicted_values, n_gold_values),
        }
    }
}

fn parameters(call: &Value) -> Option<&Map<String, Value>> {
    call.get("parameters")?.as_object()
}

fn n_same(found: Option<&Map<String, Value>>, gold: Option<&Map<String, Value>>) -> usize {
    let (Some(found), Some(gold)) = (found, gold) else { return 0 };
    let same =
        |(key, value): &(&String, &Value)| gold.get(*key).is_some_and(|gold| str_of(gold) == str_of(value));
    found.iter().filter(same).count()
}

/// The calls in an answer to a question of Seal-Tools, as upstream reads them: the first list of objects that begin
/// with `api`. Every single quote becomes a double one before, so an apostrophe in a value makes the answer unreadable.
pub fn seal_calls(answer: &str) -> Option<Vec<Value>> {
    static START: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"\[\s*\{\s*"api""#).expect("the pattern is valid"));
    let text = answer.replace('\'', "\"").replace('\n', "");
    let text = &text[START.find(&text)?.start()..];
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth == 0
    })?;
    let list = &text[..=end];
    let is_whole = ["api", "parameters", "responses"].iter().all(|key| list.contains(key));
    is_whole.then(|| serde_json::from_str(list).ok()).flatten()
}

/// An answer of `OpenFunctions` against its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallMatch {
    /// A call could be read.
    pub is_read: bool,
    pub name_is_right: bool,
    pub n_arguments: usize,
    pub n_gold_arguments: usize,
    /// Arguments of the right name and value; none counts under a wrong function.
    pub n_right_arguments: usize,
}

impl CallMatch {
    /// Compares the first call in each text; none if the reference has none.
    ///
    /// Arguments are a set of names with values. Numbers are equal by value, texts exactly.
    pub fn of(answer: &str, reference: &str) -> Option<Self> {
        let gold = Call::find(reference)?;
        let n_gold_arguments = gold.arguments.len();
        let Some(found) = Call::find(answer) else {
            return Some(Self {
                is_read: false,
                name_is_right: false,
                n_arguments: 0,
                n_gold_arguments,
                n_right_arguments: 0,
            });
        };
        let name_is_right = found.name == gold.name;
        let is_right = |(key, value): &&(String, Value)| {
            let same_key = found.arguments.iter().find(|(other, _)| other == key);
            name_is_right && same_key.is_some_and(|(_, other)| equal(other, value))
        };
        let n_right_arguments = gold.arguments.iter().filter(is_right).count();
        let n_arguments = found.arguments.len();
        Some(Self { is_read: true, name_is_right, n_arguments, n_gold_arguments, n_right_arguments })
    }

    /// The same function with the same arguments, no more and no fewer.
    pub fn is_exact(&self) -> bool {
        let n = self.n_right_arguments;
        self.name_is_right && n == self.n_arguments && n == self.n_gold_arguments
    }

    /// F1 of the arguments of this one call; a call without arguments is right by its name.
    pub fn argument_f1(&self) -> f64 {
        match self.n_arguments + self.n_gold_arguments {
            0 => f64::from(u8::from(self.name_is_right)),
            n => 2.0 * self.n_right_arguments as f64 / n as f64,
        }
    }
}

/// The arguments of all calls together; none where no argument was right.
pub fn pooled_arguments(matches: &[CallMatch]) -> Option<PrecisionRecall> {
    let sum = |count: fn(&CallMatch) -> usize| matches.iter().map(count).sum();
    let n_right = sum(|found| found.n_right_arguments);
    PrecisionRecall::of(n_right, sum(|found| found.n_arguments), sum(|found| found.n_gold_arguments))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn repeated_calls_push_recall_above_one() {
        let gold = [json!({"api": "f", "parameters": {"a": 1}})];
        let call = json!({"api": "f", "parameters": {"a": "1", "b": 2}});
        let predicted = [call.clone(), call, json!({"name": "g"})];
        let scores = SealScores::of(&[SealItem { gold: &gold, predicted: Some(&predicted) }]);
        let api = scores.api.unwrap();
        assert_eq!((api.precision, api.recall), (1.0, 2.0));
        assert_eq!(scores.parameters.unwrap().precision, 0.5);
    }

    #[test]
    fn an_apostrophe_makes_an_answer_of_seal_tools_unreadable() {
        let answer = "Here:\n[{'api': 'f', 'parameters': {'a': [1]},\n 'responses': ['x']}] and more ]";
        let expected = json!([{"api": "f", "parameters": {"a": [1]}, "responses": ["x"]}]);
        assert_eq!(seal_calls(answer).map(Value::from), Some(expected));
        assert_eq!(seal_calls(&answer.replace("'x'", "\"don't\"")), None);
        assert_eq!(seal_calls("[{\"api\": \"f\"}]"), None);
        assert_eq!(seal_calls("[{\"api\": \"f\""), None);
    }

    #[test]
    fn arguments_are_a_set_and_numbers_go_by_value() {
        let found = CallMatch::of("f.g(b=2.0, a='x')", "f.g(a=\"x\", b=2)").unwrap();
        assert!(found.is_exact() && found.argument_f1() == 1.0);
        let found = CallMatch::of("f.g(a='x', c=1, b=3)", "f.g(a=\"x\", b=2)").unwrap();
        assert!(!found.is_exact() && found.name_is_right);
        assert!((found.argument_f1() - 0.4).abs() < 1e-12);
        assert_eq!(pooled_arguments(&[found]).unwrap().recall, 0.5);
    }

    #[test]
    fn a_wrong_function_has_no_right_argument() {
        let found = CallMatch::of("g(a=1)", "f(a=1)").unwrap();
        assert_eq!((found.n_right_arguments, found.argument_f1(), found.is_exact()), (0, 0.0, false));
        assert!(!CallMatch::of("I cannot.", "f()").unwrap().is_read);
        assert_eq!(CallMatch::of("f()", "nothing"), None);
        assert!(CallMatch::of("f()", "f()").unwrap().argument_f1() == 1.0);
    }
}
