//! Which of a model's weights are meant: one language for an adapter's targets, for λ of its own in some
//! places, and for mergekit's filters.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobSet};

/// Some of a model's weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// `embed`, `attn`, `mlp`, `norm` or `head`.
    Part(String),
    /// Modules of this name, such as `q_proj` or `input_layernorm`.
    Module(String),
    /// `layers.A` or `layers.A-B`, both ends included, counted from 0.
    Layers(usize, usize),
    /// Whose names, or the ends of whose names, look like this.
    Pattern(Pattern),
    /// mergekit's filter: whose names have this part; `*` is part of all.
    Containing(String),
}

/// A pattern over names, such as `*.q_proj` or `model.layers.0.*`.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    globs: GlobSet,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

const PARTS: [&str; 5] = ["embed", "attn", "mlp", "norm", "head"];
/// What no module's name has: a text with one of these is a pattern.
const OF_PATTERNS: [char; 7] = ['.', '*', '?', '[', ']', '{', '}'];

/// The layer of a weight or module inside the stack, and what stands before and after its number.
pub fn layer_of(name: &str) -> Option<(usize, &str, &str)> {
    let (before, rest) = name.split_once("layers.")?;
    let (number, after) = rest.split_once('.')?;
    Some((number.parse().ok()?, before, after))
}

impl FromStr for Place {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, globset::Error> {
        let layers = text.strip_prefix("layers.").and_then(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            Some(Self::Layers(from.parse().ok()?, to.parse().ok()?))
        });
        Ok(match layers {
            Some(layers) => layers,
            None if PARTS.contains(&text) => Self::Part(text.to_owned()),
            None if text.contains(OF_PATTERNS) => Self::Pattern(text.parse()?),
            None => Self::Module(text.to_owned()),
        })
    }
}

impl FromStr for Pattern {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, globset::Error> {
        // As in PEFT the end of a name is enough.
        let globs = GlobSet::new([Glob::new(text)?, Glob::new(&format!("*.{text}"))?])?;
        Ok(Self { text: text.to_owned(), globs })
    }
}

impl Place {
    /// Whether a key of a merge's spec is a place, and not a parameter of its method.
    pub(super) fn is_key(key: &str) -> bool {
        PARTS.contains(&key) || key.ends_with("_proj") || key.ends_with("norm") || key.contains(OF_PATTERNS)
    }

    /// Whether the weight or the module called `name` lies here.
    pub fn holds(&self, name: &str) -> bool {
        let has = |fits: &dyn Fn(&str) -> bool| name.split('.').any(fits);
        match self {
            Self::Layers(from, to) => {
                layer_of(name).is_some_and(|(layer, ..)| (*from..=*to).contains(&layer))
            }
            Self::Module(module) => has(&|word| word == module),
            Self::Part(part) => match part.as_str() {
                "embed" => has(&|word| word == "embed_tokens"),
                "attn" => has(&|word| word == "self_attn"),
                "norm" => has(&|word| word.ends_with("norm")),
                "head" => has(&|word| word == "lm_head"),
                other => has(&|word| word == other),
            },
            Self::Pattern(Pattern { globs, .. }) => {
                let module = [".weight", ".bias"].iter().find_map(|end| name.strip_suffix(end));
                globs.is_match(name) || module.is_some_and(|module| globs.is_match(module))
            }
            Self::Containing(part) => part == "*" || name.contains(part),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(text)
            | Self::Module(text)
            | Self::Containing(text)
            | Self::Pattern(Pattern { text, .. }) => f.write_str(text),
            Self::Layers(from, to) if from == to => write!(f, "layers.{from}"),
            Self::Layers(from, to) => write!(f, "layers.{from}-{to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    const WEIGHT: &str = "model.layers.5.self_attn.q_proj.weight";
    const MODULE: &str = "model.layers.5.self_attn.q_proj";

    #[test]
    fn a_place_holds_a_weight_and_its_module_alike() {
        let here = [
            "*",
            "q_proj",
            "*.q_proj",
            "self_attn.q_proj",
            "model.layers.5.*",
            "*.[qk]_proj",
            "{q,v}_proj",
            "attn",
            "self_attn",
            "layers.5",
            "layers.2-7",
        ];
        for text in here {
            let place: Place = text.parse().unwrap();
            assert!(place.holds(WEIGHT) && place.holds(MODULE), "{text}");
            assert_eq!(place.to_string(), text);
        }
        for text in
            ["k_proj", "mlp", "proj", "_proj", "norm", "embed", "layers.6-7", "layers.7-2", "layers.x"]
        {
            let place: Place = text.parse().unwrap();
            assert!(!place.holds(WEIGHT) && !place.holds(MODULE), "{text}");
        }
        assert!("*.[q_proj".parse::<Place>().is_err());
    }

    #[test]
    fn a_filter_of_mergekit_is_part_of_a_name() {
        let holds = |part: &str| Place::Containing(part.to_owned()).holds(WEIGHT);
        assert!(holds("self_attn.q") && holds("_proj") && holds("*"));
        assert!(!holds("mlp") && !holds("*.q_proj"));
    }
}
