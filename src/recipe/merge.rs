//! `[merge]`: which merges of base and tuned model are made, and how they are written down.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{EMA, Place, RecipeError, bad};

/// The merges of a run. A merge is a row of the catalog with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Merge {
    /// `METHOD[:λ][,key=value]…`; a range such as `linear:0.2..0.8/0.2` stands for several.
    pub methods: Vec<String>,
    /// Also chooses λ by the best score among merges whose attack success on the validation suites is at most this far
    /// above the base's; a share, 0.02 for two points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// Models that some methods look at besides base and tuned model, by their parts: folders, adapters on the base, run
    /// folders or ids of a hub; of scores and masks, files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<Helper, String>,
    /// For `fisher`: data, in the form of `[data]`, whose answers the base's numbers should keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher_source: Option<String>,
    /// For `fisher`: how many of its samples are looked at, drawn by the seed.
    pub fisher_samples: usize,
}

impl Default for Merge {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            budget: None,
            models: BTreeMap::new(),
            fisher_source: None,
            fisher_samples: 32,
        }
    }
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
            .map_err(|error| bad("merge.methods", &error, "`METHOD:λ`, such as `slerp:0.5`"))?;
        if let Some(budget) = self.budget.filter(|budget| !(0.0..=1.0).contains(budget)) {
            return Err(bad("merge.budget", budget, "a share from 0 to 1"));
        }
        match self.fisher_samples {
            0 => Err(bad("merge.fisher_samples", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

/// What a merge may look at besides base and tuned model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Helper {
    /// The model that the base was aligned from: pre-trained, of the same architecture.
    Unaligned,
    /// The base tuned on refusals of harmful requests.
    Safety,
    /// The base tuned to be safer, and the base tuned to be more helpful.
    PatchSafety,
    PatchHelpful,
    /// How much each number of the two patches matters.
    ScoreSafety,
    ScoreHelpful,
    /// Which numbers are kept (1) and which are dropped (0) where chance would decide.
    Mask,
    MaskSafety,
    MaskHelpful,
}

impl Helper {
    pub const ALL: [Self; 9] = [
        Self::Unaligned,
        Self::Safety,
        Self::PatchSafety,
        Self::PatchHelpful,
        Self::ScoreSafety,
        Self::ScoreHelpful,
        Self::Mask,
        Self::MaskSafety,
        Self::MaskHelpful,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unaligned => "unaligned",
            Self::Safety => "safety",
            Self::PatchSafety => "patch_safety",
            Self::PatchHelpful => "patch_helpful",
            Self::ScoreSafety => "score_safety",
            Self::ScoreHelpful => "score_helpful",
            Self::Mask => "mask",
            Self::MaskSafety => "mask_safety",
            Self::MaskHelpful => "mask_helpful",
        }
    }

    /// Whether it is a file of numbers for the weights of a model, and no model.
    pub fn is_file(self) -> bool {
        !matches!(self, Self::Unaligned | Self::Safety | Self::PatchSafety | Self::PatchHelpful)
    }

    /// Whether it tells what is kept, so that chance need not.
    pub fn is_mask(self) -> bool {
        matches!(self, Self::Mask | Self::MaskSafety | Self::MaskHelpful)
    }

    /// Where such a thing comes from.
    pub fn origin(self) -> &'static str {
        match self {
            Self::Unaligned => {
                "it is the pre-trained model that the base was aligned from, such as `Qwen/Qwen2.5-0.5B` of its `-Instruct`"
            }
            Self::Safety | Self::PatchSafety => {
                "it is the base tuned on harmful requests with refusals as answers, by a recipe of its own: a run folder, an \
                 adapter or a model folder"
            }
            Self::PatchHelpful => {
                "it is the base tuned to be more helpful, by a recipe of its own: a run folder, an adapter or a model folder"
            }
            Self::ScoreSafety | Self::ScoreHelpful => {
                "it is a safetensors file with a score for each number of the patched weights, such as |W ∂L/∂W|"
            }
            Self::Mask | Self::MaskSafety | Self::MaskHelpful => {
                "it is a safetensors file under the weights' names, 1 for what is kept"
            }
        }
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One merge: a method's name, λ, and the method's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub method: String,
    pub lambda: Option<Lambda>,
    /// λ of some weights instead; the first place that fits counts.
    pub places: Vec<(Place, Lambda)>,
    /// The model that λ is the weight of.
    pub of: Of,
    pub parameters: toml::Table,
}

/// Which of the models that a training gives is merged with the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Of {
    /// The weights after the last step.
    #[default]
    Tuned,
    /// Their moving average, of a training with `train.ema`.
    Ema,
}

/// λ over the depth of a model: one number, or even steps through several from the first layer to
/// the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Lambda(Vec<f64>);

impl Lambda {
    /// The value at `depth`, 0 at the first layer and before it, 1 at the last and behind it.
    pub fn at(&self, depth: f64) -> f64 {
        along(&self.0, depth)
    }

    /// The value, if it is the same everywhere.
    pub fn single(&self) -> Option<f64> {
        self.0.iter().all(|x| *x == self.0[0]).then_some(self.0[0])
    }

    /// The numbers it goes through.
    pub fn points(&self) -> &[f64] {
        &self.0
    }
}

/// The value at `place`, from 0 to 1, of even steps through at least one point.
pub fn along(points: &[f64], place: f64) -> f64 {
    let place = place.clamp(0.0, 1.0) * (points.len() - 1) as f64;
    let i = (place as usize).min(points.len().saturating_sub(2));
    let part = place - i as f64;
    points.get(i + 1).map_or(points[0], |next| (1.0 - part) * points[i] + part * next)
}

impl FromStr for Lambda {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.parse::<f64>().ok().filter(|x| x.is_finite());
        let points = text.split('~').map(number).collect::<Option<Vec<_>>>();
        points.map(Self).ok_or_else(|| match text.contains('~') {
            true => format!("`{text}` is no way over the depth, such as `0.2~0.8`"),
            false => "λ is not a number".to_owned(),
        })
    }
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&points.join("~"))
    }
}

/// Why a text is not a merge.
#[derive(Debug, Error, Diagnostic)]
#[error("`{text}` is not a merge: {why}")]
#[diagnostic(
    code(merge::bad_spec),
    help(
        "write `slerp:0.5`, `linear:0.2..0.8/0.2`, `linear:0.3,0.5`, `slerp:0.5,attn=0.3` or `linear:0.2~0.8` (over depth)"
    )
)]
pub struct SpecError {
    pub text: String,
    pub why: String,
}

/// The key of a spec that says which model is merged with the base; it is none of the method's parameters.
const OF: &str = "of";

/// A range gives at most this many merges; more is a slip.
const MOST: usize = 1001;

/// The numbers of `from..to/step`, both ends included.
pub(super) fn range(from: &str, to: &str, step: &str) -> Result<Vec<f64>, &'static str> {
    let number = |word: &str| word.trim().parse::<f64>().ok().filter(|x| x.is_finite());
    let (Some(from), Some(to), Some(step)) = (number(from), number(to), number(step)) else {
        return Err("a range is three numbers, `a..b/step`");
    };
    if !(step > 0.0 && from <= to) {
        return Err("a range rises by a step above 0");
    }
    let n = ((to - from) / step + 1e-9).floor();
    if n >= MOST as f64 {
        return Err("the range has more than 1000 steps");
    }
    // Rounded to what a person would have written: 0.2 + 2 · 0.2 is 0.6.
    Ok((0..=n as usize).map(|i| ((from + i as f64 * step) * 1e9).round() / 1e9).collect())
}

impl Spec {
    /// The merges that a text stands for: one, or as many as its range has points.
    ///
    /// # Errors
    ///
    /// The text does not follow `METHOD[:λ|:λ,λ…|:a..b/step][,key=value]…`.
    pub fn parse_range(text: &str) -> Result<Vec<Self>, SpecError> {
        let Some((method, rest)) = text.split_once(':') else { return Ok(vec![text.parse()?]) };
        let (lambda, parameters) = rest.split_once(',').map_or((rest, ""), |(lambda, rest)| (lambda, rest));
        let Some((from, rest)) = lambda.split_once("..") else {
            return Self::parse_list(text, method, (lambda, parameters));
        };
        let wrong = |why: &str| SpecError { text: text.to_owned(), why: why.to_owned() };
        let (to, step) = rest.split_once('/').ok_or_else(|| wrong("a range is `a..b/step`"))?;
        let points = range(from, to, step).map_err(wrong)?.into_iter();
        let more = if parameters.is_empty() { String::new() } else { format!(",{parameters}") };
        points.map(|lambda| format!("{method}:{lambda}{more}").parse()).collect()
    }
}

impl Spec {
    /// One merge for each λ of a list such as `linear:0.3,0.5,0.7`.
    fn parse_list(text: &str, method: &str, (first, rest): (&str, &str)) -> Result<Vec<Self>, SpecError> {
        let is_lambda = |word: &&str| !word.contains('=') && word.parse::<Lambda>().is_ok();
        let parts: Vec<&str> = rest.split(',').collect();
        let n = parts.iter().take_while(|word| is_lambda(word)).count();
        if n == 0 {
            return Ok(vec![text.parse()?]);
        }
        let more: String = parts[n..].iter().map(|part| format!(",{part}")).collect();
        let lambdas = std::iter::once(first).chain(parts[..n].iter().copied());
        lambdas.map(|lambda| format!("{method}:{lambda}{more}").parse()).collect()
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
        let lambda = lambda.map(str::parse::<Lambda>).transpose().map_err(wrong)?;
        let (places, parameters) = (Vec::new(), toml::Table::new());
        let mut spec = Self { method: method.to_owned(), lambda, places, of: Of::Tuned, parameters };
        for pair in rest.into_iter().flat_map(|rest| rest.split(',')) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong(format!("`{pair}` has no `=`")))?;
            if !spec.set(key, value).map_err(wrong)? {
                return Err(wrong(format!("`{key}` is given twice")));
            }
        }
        Ok(spec)
    }
}

impl Spec {
    /// λ, if there is one and it is the same for every weight.
    pub fn single_lambda(&self) -> Option<f64> {
        let single = self.lambda.as_ref()?.single()?;
        self.places.iter().all(|(_, lambda)| lambda.single() == Some(single)).then_some(single)
    }

    /// Sets one `key=value`; says no if it is there already.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        if key == "lambda" {
            return Err(format!("λ stands after the colon: `{}:{value}`", self.method));
        }
        if Place::is_key(key) {
            let place: Place = key.parse().map_err(|error| format!("`{key}` is no place: {error}"))?;
            let known = self.places.iter().any(|(other, _)| *other == place);
            self.places.push((place, value.parse().map_err(|why| format!("`{key}`: {why}"))?));
            return Ok(!known);
        }
        if key == OF {
            return match value {
                EMA => Ok(std::mem::replace(&mut self.of, Of::Ema) == Of::Tuned),
                _ => Err(format!("`{OF}` is `{value}`, and `{OF}={EMA}` is all it can be")),
            };
        }
        let value = match (value.parse::<i64>(), value.parse::<f64>(), value.parse::<bool>()) {
            (Ok(whole), _, _) => whole.into(),
            (_, Ok(number), _) => number.into(),
            (_, _, Ok(switch)) => switch.into(),
            _ => toml::Value::String(value.to_owned()),
        };
        Ok(self.parameters.insert(key.to_owned(), value).is_none())
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)?;
        if let Some(lambda) = &self.lambda {
            write!(f, ":{lambda}")?;
        }
        for (place, lambda) in &self.places {
            write!(f, ",{place}={lambda}")?;
        }
        for (key, value) in &self.parameters {
            match value {
                toml::Value::String(text) => write!(f, ",{key}={text}")?,
                value => write!(f, ",{key}={value}")?,
            }
        }
        match self.of {
            Of::Tuned => Ok(()),
            Of::Ema => write!(f, ",{OF}={EMA}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Of, Spec};

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
        assert_eq!(spelt_out("linear:0.3,0.5,0.7"), ["linear:0.3", "linear:0.5", "linear:0.7"]);
        assert_eq!(spelt_out("ties:0.3,1,density=0.2"), ["ties:0.3,density=0.2", "ties:1,density=0.2"]);
        assert_eq!(spelt_out("slerp:0.2~0.6,0.5,attn=0.3")[0], "slerp:0.2~0.6,attn=0.3");
    }

    #[test]
    fn places_and_depth_have_their_own_lambda() {
        let spec: Spec = "slerp:0.2~0.6~0.8,attn=0.3,layers.4-7=0,q_proj=1,collinear=0.99".parse().unwrap();
        assert_eq!(spec.to_string(), "slerp:0.2~0.6~0.8,attn=0.3,layers.4-7=0,q_proj=1,collinear=0.99");
        assert_eq!(spec.parameters.len(), 1);
        let at = |depth| (spec.lambda.as_ref().unwrap().at(depth) * 1e9).round() / 1e9;
        assert_eq!([at(0.0), at(0.25), at(0.5), at(1.0)], [0.2, 0.4, 0.6, 0.8]);
        let holds = |name: &str| spec.places.iter().position(|(place, _)| place.holds(name));
        assert_eq!(holds("model.layers.5.self_attn.q_proj.weight"), Some(0));
        assert_eq!(holds("model.layers.5.mlp.up_proj.weight"), Some(1));
        assert_eq!(holds("model.layers.8.mlp.up_proj.weight"), None);
        let spec: Spec = "linear:0.5,*.up_proj=0.1,self_attn.q_proj=1".parse().unwrap();
        assert_eq!(spec.to_string(), "linear:0.5,*.up_proj=0.1,self_attn.q_proj=1");
        assert_eq!(spec.places.len(), 2);
        assert_eq!(spec.single_lambda(), None);
        assert_eq!("linear:0.5".parse::<Spec>().unwrap().single_lambda(), Some(0.5));
    }

    #[test]
    fn which_model_is_merged_is_no_parameter_of_the_method() {
        let spec: Spec = "ties:0.5,of=ema,attn=0.3,density=0.2".parse().unwrap();
        assert_eq!((spec.of, spec.parameters.len()), (Of::Ema, 1));
        assert_eq!(spec.to_string(), "ties:0.5,attn=0.3,density=0.2,of=ema");
        assert_eq!(spec.to_string().parse::<Spec>().unwrap(), spec);
        assert_eq!(spelt_out("linear:0..1/0.5,of=ema")[1], "linear:0.5,of=ema");
        assert_eq!("linear:0.5".parse::<Spec>().unwrap().of, Of::Tuned);
        let error = "linear:0.5,of=emma".parse::<Spec>().unwrap_err();
        assert_eq!(error.why, "`of` is `emma`, and `of=ema` is all it can be");
        let error = "linear:0.5,of=ema,of=ema".parse::<Spec>().unwrap_err();
        assert_eq!(error.why, "`of` is given twice");
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
            "slerp:0.2~",
            "slerp:0.5,attn=much",
            "slerp:0.5,attn=0.1,attn=0.2",
            "slerp:0.5,*.[q_proj=0.1",
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
