//! `[merge]`: which merges of base and tuned model are made, and how they are written down.

use std::fmt;
use std::str::FromStr;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{RecipeError, bad};

/// The merges of a run. A merge is a row of the catalog with its parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Merge {
    /// `METHOD[:λ][,key=value]…`; a range such as `linear:0.2..0.8/0.2` stands for several.
    pub methods: Vec<String>,
}

impl Merge {
    /// Every merge, ranges spelt out, each once.
    ///
    /// # Errors
    ///
    /// A text is not a merge.
    pub fn specs(&self) -> Result<Vec<Spec>, SpecError> {
        let mut specs = Vec::new();
        for text in &self.methods {
            for spec in Spec::parse_range(text)? {
                if !specs.contains(&spec) {
                    specs.push(spec);
                }
            }
        }
        Ok(specs)
    }

    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.specs()
            .map(drop)
            .map_err(|error| bad("merge.methods", &error, "`METHOD:λ`, such as `slerp:0.5`"))
    }
}

/// One merge: a method's name and its parameters, λ among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub method: String,
    pub parameters: toml::Table,
}

/// Why a text is not a merge.
#[derive(Debug, Error, Diagnostic)]
#[error("`{text}` is not a merge: {why}")]
#[diagnostic(
    code(merge::bad_spec),
    help("write `slerp:0.5`, `linear:0.2..0.8/0.2` or `slerp:0.5,collinear=0.99`")
)]
pub struct SpecError {
    pub text: String,
    pub why: String,
}

/// A range gives at most this many merges; more is a slip.
const MOST: usize = 1001;

impl Spec {
    /// The merges that a text stands for: one, or as many as its range has points.
    ///
    /// # Errors
    ///
    /// The text does not follow `METHOD[:λ|:a..b/step][,key=value]…`.
    pub fn parse_range(text: &str) -> Result<Vec<Self>, SpecError> {
        let Some((method, rest)) = text.split_once(':') else { return Ok(vec![text.parse()?]) };
        let (lambda, parameters) = rest.split_once(',').map_or((rest, ""), |(lambda, rest)| (lambda, rest));
        let Some((from, rest)) = lambda.split_once("..") else { return Ok(vec![text.parse()?]) };
        let wrong = |why: &str| SpecError { text: text.to_owned(), why: why.to_owned() };
        let (to, step) = rest.split_once('/').ok_or_else(|| wrong("a range is `a..b/step`"))?;
        let number = |word: &str| word.parse::<f64>().ok().filter(|x| x.is_finite());
        let (Some(from), Some(to), Some(step)) = (number(from), number(to), number(step)) else {
            return Err(wrong("a range is three numbers, `a..b/step`"));
        };
        if !(step > 0.0 && from <= to) {
            return Err(wrong("a range rises by a step above 0"));
        }
        let n = ((to - from) / step + 1e-9).floor();
        if n >= MOST as f64 {
            return Err(wrong("the range has more than 1000 steps"));
        }
        let more = if parameters.is_empty() { String::new() } else { format!(",{parameters}") };
        // Rounded to what a person would have written: 0.2 + 2 · 0.2 is 0.6.
        let points = (0..=n as usize).map(|i| ((from + i as f64 * step) * 1e9).round() / 1e9);
        points.map(|lambda| format!("{method}:{lambda}{more}").parse()).collect()
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = |why: String| SpecError { text: text.to_owned(), why };
        let (head, rest) = text.split_once(',').map_or((text, None), |(head, rest)| (head, Some(rest)));
        let (method, lambda) = head.split_once(':').map_or((head, None), |(method, l)| (method, Some(l)));
        if method.is_empty()
            || !method.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(wrong(format!("`{method}` is not a method's name")));
        }
        let mut parameters = toml::Table::new();
        if let Some(lambda) = lambda {
            let lambda = lambda.parse::<f64>().ok().filter(|x| x.is_finite());
            let lambda = lambda.ok_or_else(|| wrong("λ is not a number".to_owned()))?;
            parameters.insert("lambda".to_owned(), lambda.into());
        }
        for pair in rest.into_iter().flat_map(|rest| rest.split(',')) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong(format!("`{pair}` has no `=`")))?;
            let value = match (value.parse::<i64>(), value.parse::<f64>(), value.parse::<bool>()) {
                (Ok(whole), _, _) => whole.into(),
                (_, Ok(number), _) => number.into(),
                (_, _, Ok(switch)) => switch.into(),
                _ => toml::Value::String(value.to_owned()),
            };
            if parameters.insert(key.to_owned(), value).is_some() {
                return Err(wrong(format!("`{key}` is given twice")));
            }
        }
        Ok(Self { method: method.to_owned(), parameters })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)?;
        if let Some(lambda) = self.parameters.get("lambda").and_then(toml::Value::as_float) {
            write!(f, ":{lambda}")?;
        }
        for (key, value) in self.parameters.iter().filter(|(key, _)| *key != "lambda") {
            match value {
                toml::Value::String(text) => write!(f, ",{key}={text}")?,
                value => write!(f, ",{key}={value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Spec;

    fn spelt_out(text: &str) -> Vec<String> {
        Spec::parse_range(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_stands_for_the_numbers_a_person_would_write() {
        assert_eq!(
            spelt_out("linear:0.2..0.8/0.2"),
            ["linear:0.2", "linear:0.4", "linear:0.6", "linear:0.8"]
        );
        assert_eq!(spelt_out("slerp:0..1/0.5,collinear=0.99")[2], "slerp:1,collinear=0.99");
        assert_eq!(spelt_out("slerp:0.5"), ["slerp:0.5"]);
    }

    #[test]
    fn what_is_no_merge_is_refused() {
        for text in [
            "",
            ":0.5",
            "slerp:half",
            "slerp:0.5,",
            "slerp:0.5,x",
            "linear:0..1",
            "linear:1..0/0.1",
            "linear:0..1/0",
            "linear:0..1/1e-9",
            "slerp:nan",
        ] {
            assert!(Spec::parse_range(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spec_prints_as_it_reads(lambda in 0.0f64..1.0, collinear in 0.9f64..1.0) {
            let text = format!("slerp:{lambda},collinear={collinear}");
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.to_string().parse::<Spec>().unwrap(), spec);
        }
    }
}
