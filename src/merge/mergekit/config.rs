//! mergekit's YAML as it is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::recipe::{Place, along};

/// A whole merge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub merge_method: String,
    pub models: Option<Vec<Input>>,
    pub slices: Option<Vec<Slice>>,
    #[serde(default, deserialize_with = "optional_model")]
    pub base_model: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub parameters: BTreeMap<String, Setting>,
    /// What mergekit computes in; the output's format where `out_dtype` is absent.
    pub dtype: Option<String>,
    pub out_dtype: Option<String>,
    pub tokenizer_source: Option<String>,
    pub tokenizer: Option<Tokenizer>,
    /// Another chat template for the result: `auto`, a name, or Jinja.
    pub chat_template: Option<String>,
    /// Several networks in one model: not understood.
    pub modules: Option<serde::de::IgnoredAny>,
}

/// One model of a merge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A folder, or `folder+adapter`.
    #[serde(deserialize_with = "model")]
    pub model: String,
    #[serde(default, deserialize_with = "or_nothing")]
    pub parameters: BTreeMap<String, Setting>,
}

/// Some layers of the result.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    pub sources: Vec<Source>,
    /// Instead of the merge's.
    #[serde(default, deserialize_with = "optional_model")]
    pub base_model: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub parameters: BTreeMap<String, Setting>,
}

/// The layers of one model that a slice is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    #[serde(deserialize_with = "model")]
    pub model: String,
    /// From the first to before the second.
    pub layer_range: [usize; 2],
    #[serde(default, deserialize_with = "or_nothing")]
    pub parameters: BTreeMap<String, Setting>,
}

/// Which vocabulary the result has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// `base`, `union` or a model.
    #[serde(default = "union")]
    pub source: String,
    /// Where the rows of single tokens come from, in the order of new tokens.
    #[serde(default, deserialize_with = "or_nothing")]
    pub tokens: serde_json::Map<String, serde_json::Value>,
    pub pad_to_multiple_of: Option<usize>,
}

/// A block that is empty, as it is where only a comment stands in it, is none.
fn or_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(block: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(block)?.unwrap_or_default())
}

/// A model as text, or in parts, as mergekit has it: for paths that would be taken apart at `+` or `@`.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Reference {
    Text(String),
    Whole { model: Path, lora: Option<Path> },
    Path(Path),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Path {
    path: String,
    revision: Option<String>,
}

impl Path {
    fn text(self) -> String {
        self.revision.map_or(self.path.clone(), |revision| format!("{}@{revision}", self.path))
    }
}

impl Reference {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole { model, lora: Some(lora) } => format!("{}+{}", model.text(), lora.text()),
            Self::Whole { model, lora: None } | Self::Path(model) => model.text(),
        }
    }
}

fn model<'de, D: Deserializer<'de>>(reference: D) -> Result<String, D::Error> {
    Ok(Reference::deserialize(reference)?.text())
}

fn optional_model<'de, D: Deserializer<'de>>(reference: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Reference>::deserialize(reference)?.map(Reference::text))
}

fn union() -> String {
    "union".to_owned()
}

/// What is asked of one token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub source: Option<TokenSource>,
    #[serde(default, deserialize_with = "switch")]
    pub force: bool,
}

/// A switch as mergekit's reader of YAML knows them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Switch {
    Told(bool),
    Word(String),
}

fn switch<'de, D: Deserializer<'de>>(switch: D) -> Result<bool, D::Error> {
    match Switch::deserialize(switch)? {
        Switch::Told(on) => Ok(on),
        Switch::Word(word) => is_on(&word)
            .ok_or_else(|| serde::de::Error::custom(format!("`{word}` is neither true nor false"))),
    }
}

/// What a word of YAML 1.1 switches to in `PyYAML`, which leaves `y` and `n` out.
fn is_on(word: &str) -> Option<bool> {
    match word {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Where a token's row comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum TokenSource {
    /// The same token of this model.
    Model(String),
    Row(TokenRow),
}

/// A row of a model, or none, by what it is called there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRow {
    /// `zero`, `model_token`, or absent for the same token of a model.
    pub kind: Option<String>,
    pub model: Option<String>,
    pub token: Option<String>,
    pub token_id: Option<usize>,
}

/// The value of a parameter, or how it changes over depth and names.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    Switch(bool),
    Number(f64),
    /// Even steps from the first layer to the last.
    Gradient(Vec<f64>),
    /// The first whose filter is part of the weight's name.
    Filtered(Vec<Filtered>),
    Text(String),
}

/// A value for some weights.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filtered {
    /// Part of a name; `*` or none fits all.
    #[serde(default, deserialize_with = "part_of_name")]
    pub filter: Option<Place>,
    pub value: Box<Setting>,
}

fn part_of_name<'de, D: Deserializer<'de>>(filter: D) -> Result<Option<Place>, D::Error> {
    Ok(Option::deserialize(filter)?.map(Place::Containing))
}

impl Setting {
    /// The filters that it has.
    pub fn filters(&self) -> Vec<&Place> {
        match self {
            Self::Filtered(rows) => {
                let own = rows.iter().filter_map(|row| row.filter.as_ref());
                own.chain(rows.iter().flat_map(|row| row.value.filters())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The value for a weight of this name at `t`, 0 at the first layer and 1 at the last; `None` if
    /// no filter fits.
    pub fn value(&self, name: &str, t: f64) -> Option<toml::Value> {
        match self {
            Self::Switch(on) => Some((*on).into()),
            // Numbers in quotes are numbers, as mergekit takes them.
            Self::Text(text) => Some(match (text.trim().parse::<f64>(), is_on(text)) {
                (Ok(number), _) if number.is_finite() => number_of(number),
                (_, Some(on)) => on.into(),
                _ => text.clone().into(),
            }),
            Self::Number(number) => Some(number_of(*number)),
            Self::Gradient(points) => match points.as_slice() {
                [] => None,
                points => Some(number_of(along(points, t))),
            },
            Self::Filtered(rows) => {
                let fits = |row: &&Filtered| row.filter.as_ref().is_none_or(|place| place.holds(name));
                let mut rows = rows.iter().filter(fits);
                rows.find_map(|row| row.value.value(name, t))
            }
        }
    }
}

/// Whole numbers stay whole, for parameters that count.
fn number_of(x: f64) -> toml::Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { toml::Value::Integer(x as i64) } else { x.into() }
}

#[cfg(test)]
mod tests {
    use super::{Config, Setting, Token};

    fn setting(text: &str) -> Setting {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn filters_are_parts_of_names_and_the_first_that_fits_wins() {
        let weight =
            setting("[{filter: lm_head, value: 0.0}, {filter: mlp, value: [0.0, 1.0]}, {value: 0.5}]");
        let value = |name, t| weight.value(name, t).unwrap();
        assert_eq!(value("lm_head.weight", 0.0).as_integer(), Some(0));
        assert_eq!(value("model.layers.1.mlp.up_proj.weight", 0.25).as_float(), Some(0.25));
        assert_eq!(value("model.norm.weight", 0.0).as_float(), Some(0.5));
        assert!(setting("[{filter: zebra, value: 1}]").value("model.norm.weight", 0.0).is_none());
    }

    #[test]
    fn a_gradient_passes_through_its_points() {
        let t = setting("[0, 0.5, 0.3, 0.7, 1]");
        for (at, expected) in [(0.0, 0.0), (0.25, 0.5), (0.375, 0.4), (1.0, 1.0)] {
            let found = t.value("w", at).unwrap();
            let found = found.as_float().unwrap_or_else(|| found.as_integer().unwrap() as f64);
            assert!((found - expected).abs() < 1e-12, "{at}");
        }
    }

    #[test]
    fn models_in_parts_empty_blocks_and_numbers_in_quotes_are_read() {
        let text = "base_model: {model: {path: a+b}}\nmodels:\n  - model: {model: {path: a@c, revision: v1}, lora: {path: x}}\n    \
            parameters:\n      # nothing\n  - model: {path: d}\n    parameters: {weight: \"0.5\"}\nmerge_method: ties\n";
        let config: Config = serde_saphyr::from_str(text).unwrap();
        assert_eq!(config.base_model.as_deref(), Some("a+b"));
        let models = config.models.unwrap();
        assert_eq!((models[0].model.as_str(), models[1].model.as_str()), ("a@c@v1+x", "d"));
        assert!(models[0].parameters.is_empty());
        assert_eq!(models[1].parameters["weight"].value("w", 0.0).unwrap().as_float(), Some(0.5));
        assert!(serde_saphyr::from_str::<Config>("merge_method: ties\nbase_model: {pat: a}\n").is_err());
    }

    #[test]
    fn a_model_may_be_called_y_or_n_and_yes_and_off_are_switches() {
        let text = "base_model: n\nmodels: [{model: y, parameters: {weight: 0.5}}]\nmerge_method: ties\nparameters: \
                    {normalize: off, int8_mask: Yes}\n";
        let config = Config::parse(text, "x.yml").unwrap();
        assert_eq!(config.models(), ["n", "y"]);
        let switch = |key: &str| config.parameters[key].value("w", 0.0).unwrap().as_bool();
        assert_eq!((switch("normalize"), switch("int8_mask")), (Some(false), Some(true)));
        let token =
            |force: &str| serde_json::from_value::<Token>(serde_json::json!({"source": "n", "force": force}));
        assert!(token("on").unwrap().force && !token("No").unwrap().force && token("y").is_err());
    }

    #[test]
    fn a_slip_in_a_key_is_refused() {
        let error = serde_saphyr::from_str::<Config>("merge_method: linear\nmodel: []\n").unwrap_err();
        assert!(error.to_string().contains("model"));
    }
}
