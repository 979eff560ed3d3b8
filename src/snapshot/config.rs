//! `config.json`: what a checkpoint says of itself, in the old form and the new one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::files::read_json;
use super::{Dtype, SnapshotError};

/// The configuration of a checkpoint, as written.
///
/// Rotary settings are brought to one form: `rope_parameters`, as transformers 5 writes it.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    ///
    /// The file is missing or not a JSON object.
    pub fn read(folder: &Path) -> Result<Self, SnapshotError> {
        let path = folder.join("config.json");
        if !path.is_file() {
            let help = "a model folder in the Hugging Face layout has one beside its weights";
            return Err(SnapshotError::MissingFile { path, help });
        }
        let map = read_json(&path)?;
        Ok(Self { path, map })
    }

    /// A configuration that is in no file.
    #[cfg(test)]
    pub fn of(value: Value) -> Self {
        let Value::Object(map) = value else { panic!("a configuration is an object") };
        Self { path: "config.json".into(), map }
    }

    /// The same with other settings.
    #[must_use]
    pub fn with(&self, settings: &Map<String, Value>) -> Self {
        let mut config = self.clone();
        config.map.extend(settings.clone());
        config
    }

    /// The configuration as JSON, as it was read.
    pub fn json(&self) -> &Map<String, Value> {
        &self.map
    }

    /// The family's name, `model_type`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn model_type(&self) -> Result<&str, SnapshotError> {
        self.map.get("model_type").and_then(Value::as_str).ok_or_else(|| self.wrong("model_type", "a name"))
    }

    /// Whether the head is the embedding; where the file does not say, the family's usage counts.
    ///
    /// # Errors
    ///
    /// It is neither true nor false.
    pub fn tied(&self) -> Result<bool, SnapshotError> {
        let usual = self.model_type().is_ok_and(|family| family.starts_with("gemma"));
        self.switch("tie_word_embeddings", usual)
    }

    /// The format the weights were trained in, if the file says so.
    pub fn dtype(&self) -> Option<Dtype> {
        let name = self.map.get("dtype").or_else(|| self.map.get("torch_dtype"))?;
        Dtype::from_name(name.as_str()?)
    }

    /// A count that must be there and positive.
    ///
    /// # Errors
    ///
    /// It is absent, zero or no whole number.
    pub fn count(&self, key: &str) -> Result<usize, SnapshotError> {
        self.optional_count(key)?.ok_or_else(|| self.wrong(key, "a whole number above 0"))
    }

    /// A count that no model has more of than `most`: what is made of it must not fill memory before the weights,
    /// which disagree, are looked at.
    ///
    /// # Errors
    ///
    /// It is absent, zero, no whole number or larger.
    pub fn count_up_to(&self, key: &str, most: usize) -> Result<usize, SnapshotError> {
        let n = self.count(key)?;
        (n <= most).then_some(n).ok_or_else(|| self.wrong(key, &format!("at most {most}")))
    }

    /// A count that may be absent or null.
    ///
    /// # Errors
    ///
    /// It is there but no whole number between 1 and 2^32.
    pub fn optional_count(&self, key: &str) -> Result<Option<usize>, SnapshotError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n @ 1..=0xffff_ffff) => Ok(Some(usize::try_from(n).expect("it fits 32 bits"))),
                _ => Err(self.wrong(key, "a whole number above 0")),
            },
        }
    }

    /// A positive number, or `default` when absent.
    ///
    /// # Errors
    ///
    /// It is there but no positive number.
    pub fn number(&self, key: &str, default: f64) -> Result<f64, SnapshotError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A switch, or `default` when absent.
    ///
    /// # Errors
    ///
    /// It is there but neither true nor false.
    pub fn switch(&self, key: &str, default: bool) -> Result<bool, SnapshotError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "`true` or `false`")),
        }
    }

    /// Refuses every value of `key` but the given one (or absence).
    ///
    /// # Errors
    ///
    /// The value is another one: it would change the mathematics.
    pub fn only(&self, key: &str, expected: &Value) -> Result<(), SnapshotError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value == expected => Ok(()),
            Some(_) => Err(self.wrong(key, &format!("`{expected}`"))),
        }
    }

    /// Refuses a share of a head other than the whole one, of families that turn all of it.
    ///
    /// # Errors
    ///
    /// The share is another one.
    pub fn whole_heads(&self) -> Result<(), SnapshotError> {
        match self.map.get("partial_rotary_factor") {
            Some(value) if value.as_f64() == Some(1.0) => Ok(()),
            _ => self.only("partial_rotary_factor", &json!(1.0)),
        }
    }

    /// Refuses a list of layers of which not all see everything, of families whose layers do.
    ///
    /// # Errors
    ///
    /// A layer slides.
    pub fn full_layers(&self) -> Result<(), SnapshotError> {
        match self.map.get("layer_types").and_then(Value::as_array) {
            Some(kinds) if kinds.iter().all(|kind| kind == "full_attention") => Ok(()),
            Some(_) => Err(self.wrong("layer_types", "`full_attention` for every layer")),
            None => self.only("layer_types", &Value::Null),
        }
    }

    /// The rotary settings in one form, whichever the file has.
    ///
    /// # Errors
    ///
    /// They are there but no JSON object.
    pub fn rope(&self) -> Result<Rope, SnapshotError> {
        let mut map = self.object("rope_scaling")?;
        map.extend(self.object("rope_parameters")?);
        Ok(self.rope_with(map, "rope_theta"))
    }

    /// The rotary settings of full layers and of sliding ones, which Gemma 3 tells apart.
    ///
    /// # Errors
    ///
    /// They are there but no JSON object.
    pub fn ropes_by_layer(&self) -> Result<[Rope; 2], SnapshotError> {
        let both = Self { path: self.path.clone(), map: self.object("rope_parameters")? };
        let mut full = self.object("rope_scaling")?;
        full.extend(both.object("full_attention")?);
        let sliding = both.object("sliding_attention")?;
        Ok([self.rope_with(full, "rope_theta"), self.rope_with(sliding, "rope_local_base_freq")])
    }

    /// Rotary settings with what the file says of them elsewhere; `theta` is the base's old key.
    fn rope_with(&self, mut map: Map<String, Value>, theta: &str) -> Rope {
        let mut fall_back = |key: &str, to: &str| match self.map.get(to) {
            Some(value) if !map.contains_key(key) => drop(map.insert(key.to_owned(), value.clone())),
            _ => {}
        };
        fall_back("rope_theta", theta);
        fall_back("partial_rotary_factor", "partial_rotary_factor");
        fall_back("max_position_embeddings", "max_position_embeddings");
        // The file's own number, where it has one, stands above the settings'.
        let original = "original_max_position_embeddings";
        match self.map.get(original) {
            Some(value) => drop(map.insert(original.to_owned(), value.clone())),
            None => fall_back(original, "max_position_embeddings"),
        }
        let kind = map.get("rope_type").or_else(|| map.get("type"));
        let kind = kind.and_then(Value::as_str).unwrap_or("default").to_owned();
        Rope { kind, values: Self { path: self.path.clone(), map } }
    }

    /// An object, empty if absent.
    fn object(&self, key: &str) -> Result<Map<String, Value>, SnapshotError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(found)) => Ok(found.clone()),
            Some(_) => Err(self.wrong(key, "an object or null")),
        }
    }

    /// A list of numbers that must be there, `n` of them.
    ///
    /// # Errors
    ///
    /// It is absent or something else.
    pub fn numbers(&self, key: &str, n: usize) -> Result<Vec<f64>, SnapshotError> {
        let list = self.map.get(key).and_then(Value::as_array);
        let numbers: Option<Vec<f64>> =
            list.and_then(|list| list.iter().map(|x| x.as_f64().filter(|x| *x > 0.0)).collect());
        let numbers = numbers.filter(|numbers| numbers.len() == n);
        numbers.ok_or_else(|| self.wrong(key, &format!("a list of {n} numbers above 0")))
    }

    /// A positive number that may be absent or null.
    ///
    /// # Errors
    ///
    /// It is there but no positive number.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, SnapshotError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
                Some(x) => Ok(Some(x)),
                None => Err(self.wrong(key, "a number above 0")),
            },
        }
    }

    /// The error for a value that cannot be used.
    pub fn wrong(&self, key: &str, expected: &str) -> SnapshotError {
        let found = self.map.get(key).map_or_else(|| "absent".to_owned(), |value| format!("`{value}`"));
        self.wrong_value(key, &found, expected)
    }

    /// The same of a value that stands there under another name.
    pub fn wrong_value(&self, key: &str, found: &str, expected: &str) -> SnapshotError {
        SnapshotError::BadConfig {
            path: self.path.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            help: "this value changes the computation and is not supported; nothing was started".to_owned(),
        }
    }
}

/// Rotary settings: which scaling, and its numbers.
#[derive(Debug, Clone)]
pub struct Rope {
    /// `default`, `linear`, `llama3`, …
    pub kind: String,
    /// `rope_theta`, `factor` and what else the kind needs.
    pub values: Config,
}

#[cfg(test)]
mod tests {
    use super::Config;
    use serde_json::json;

    #[test]
    fn both_forms_of_rotary_settings_read_the_same() {
        let old =
            Config::of(json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}));
        let new =
            Config::of(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}}));
        for rope in [old.rope().unwrap(), new.rope().unwrap()] {
            assert_eq!(rope.kind, "llama3");
            assert_eq!(rope.values.number("rope_theta", 1.0).unwrap(), 5e5);
            assert_eq!(rope.values.number("factor", 1.0).unwrap(), 8.0);
        }
        assert_eq!(Config::of(json!({"rope_scaling": null})).rope().unwrap().kind, "default");
    }

    #[test]
    fn counts_refuse_what_is_no_count() {
        for value in [json!(0), json!(-1), json!(1.5), json!("8"), json!(1e30)] {
            assert!(Config::of(json!({"n": value})).count("n").is_err());
        }
    }
}
