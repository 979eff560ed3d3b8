//! What the configuration of an adapter folder of PEFT's may say.

use regex::Regex;
use serde_json::{Map, Value};

/// Numbers by patterns over module names: a regular expression that a name ends with, as in PEFT.
pub(super) struct Patterns(Vec<(Regex, f64)>);

impl Patterns {
    /// Those that the configuration has under `key`; the error says which of them is none.
    pub fn read(config: &Map<String, Value>, key: &str) -> Result<Self, String> {
        let Some(Value::Object(patterns)) = config.get(key) else { return Ok(Self(Vec::new())) };
        let read = |(pattern, value): (&String, &Value)| {
            let bad = || format!("`{key}` has `{pattern}` = `{value}`");
            let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(bad)?;
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|_| bad())?;
            Ok((regex, number))
        };
        patterns.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The number of the first pattern that `module` matches.
    pub fn of(&self, module: &str) -> Option<f64> {
        self.0.iter().find(|(regex, _)| regex.is_match(module)).map(|(_, number)| *number)
    }
}

/// Names what makes an adapter more than a low-rank update of linear maps, if anything does.
pub(super) fn refuse_other_kinds(config: &Map<String, Value>) -> Result<(), String> {
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("absent");
    if kind != "LORA" {
        return Err(format!("`peft_type` is `{kind}`, expected `LORA`"));
    }
    // These starts change the base as well, and the folder does not have it.
    let start = config.get("init_lora_weights").and_then(Value::as_str).unwrap_or("default").to_lowercase();
    if ["pissa", "olora", "loftq", "corda", "lora_ga"].iter().any(|other| start.starts_with(other)) {
        return Err(format!("`init_lora_weights` is `{start}`, which changes the base as well"));
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        _ => false,
    };
    let keys = [
        "fan_in_fan_out",
        "modules_to_save",
        "bias",
        "lora_bias",
        "use_qalora",
        "trainable_token_indices",
        "layer_replication",
        "target_parameters",
        "use_bdlora",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "monteclora_config",
        "velora_config",
    ];
    match keys.iter().find(|key| config.get(**key).is_some_and(|value| !empty(value))) {
        Some(key) => Err(format!("`{key}` is `{}`", config[*key])),
        None => Ok(()),
    }
}
