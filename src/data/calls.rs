//! Calls of tools, and the tools there are, in the form that chat templates read.
//!
//! transformers' documentation ("Tool use") has it: `tool_calls` is a list of `{"type": "function", "function":
//! {"name", "arguments"}}` whose arguments are an object. Files have more forms: arguments as text (OpenAI), the
//! whole list as text (tables), the function without what is around it.

use serde_json::{Map, Value, json};

/// The field of a turn that holds its calls.
pub(super) const FIELD: &str = "tool_calls";

/// A turn's calls in that form; else what was found instead.
pub(super) fn listed(value: Value) -> Result<Value, &'static str> {
    let calls = match parsed(value) {
        Value::Array(calls) => calls,
        call @ Value::Object(_) => vec![call],
        Value::String(_) => return Err("a string that is no JSON"),
        _ => return Err("no list"),
    };
    calls.into_iter().map(call).collect()
}

fn call(value: Value) -> Result<Value, &'static str> {
    let Value::Object(mut call) = parsed(value) else { return Err("a list with what is no object") };
    if !call.contains_key("function") {
        call = Map::from_iter([
            ("type".to_owned(), json!("function")),
            ("function".to_owned(), Value::Object(call)),
        ]);
    }
    let Some(function) = call["function"].as_object_mut() else {
        return Err("a call whose function is no object");
    };
    if !function.get("name").is_some_and(Value::is_string) {
        return Err("a call without the name of its function");
    }
    function.entry("arguments").or_insert_with(|| json!({}));
    Ok(Value::Object(call))
}

/// The list of tools that a record names.
///
/// `None` if it is no list of objects, nor the text of one.
pub(super) fn tools(value: Value) -> Option<Value> {
    let Value::Array(tools) = parsed(value) else { return None };
    let tool = |tool: Value| match parsed(tool) {
        // OpenAI's older form has the functions alone.
        Value::Object(tool) if tool.contains_key("name") && !tool.contains_key("function") => {
            Some(json!({ "type": "function", "function": tool }))
        }
        Value::Object(tool) => Some(Value::Object(tool)),
        _ => None,
    };
    tools.into_iter().map(tool).collect()
}

/// What a text says in JSON, if it is a list or an object; else the value itself.
fn parsed(value: Value) -> Value {
    match &value {
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(text).unwrap_or(value)
        }
        _ => value,
    }
}

/// The same calls without arguments.
pub(super) fn bare(calls: &Value) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let arguments = &mut call["function"]["arguments"];
        *arguments = if arguments.is_string() { json!("{}") } else { json!({}) };
    }
    calls
}

/// How a chat template takes the arguments of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    /// As an object, which it writes itself: most.
    Object,
    /// As text, which it puts between its own: DeepSeek's.
    Text,
}

impl Arguments {
    /// The same calls with arguments of this kind.
    pub(super) fn of(self, calls: &Value) -> Value {
        let mut calls = calls.clone();
        for call in calls.as_array_mut().into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            match self {
                Self::Object => *arguments = parsed(arguments.take()),
                Self::Text if arguments.is_string() => {}
                Self::Text => *arguments = json!(arguments.to_string()),
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_call_becomes_one() {
        let expected = json!([{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]);
        for value in [
            expected.clone(),
            json!([{"name": "f", "arguments": {"a": 1}}]),
            json!({"name": "f", "arguments": {"a": 1}}),
            json!("[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"),
        ] {
            assert_eq!(listed(value.clone()).unwrap(), expected, "{value}");
        }
        let kept = json!([{"id": "c1", "function": {"name": "f"}}]);
        assert_eq!(listed(kept).unwrap(), json!([{"id": "c1", "function": {"name": "f", "arguments": {}}}]));
        for wrong in
            [json!(3), json!("look"), json!(["look"]), json!([{"function": 3}]), json!([{"arguments": {}}])]
        {
            assert!(listed(wrong.clone()).is_err(), "{wrong}");
        }
        // A text that the file has stays as it is written.
        let text = listed(json!([{"name": "f", "arguments": "{\"a\": 1}"}])).unwrap();
        assert_eq!(text[0]["function"]["arguments"], json!("{\"a\": 1}"));
        assert_eq!(Arguments::Text.of(&text), text);
        assert_eq!(Arguments::Object.of(&text), expected);
        assert_eq!(Arguments::Object.of(&expected), expected);
        assert_eq!(Arguments::Text.of(&expected)[0]["function"]["arguments"], json!("{\"a\":1}"));
    }

    #[test]
    fn tools_stand_as_lists_or_as_text() {
        let bare = json!([{"name": "f", "parameters": {}}]);
        let whole = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
        for value in [bare.clone(), json!(bare.to_string()), whole.clone(), json!([whole[0].to_string()])] {
            assert_eq!(tools(value.clone()), Some(whole.clone()), "{value}");
        }
        assert_eq!(tools(json!("none")), None);
        assert_eq!(tools(json!({"f": 1})), None);
    }
}
