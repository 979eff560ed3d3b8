//! `[steer]` settled: the vectors, who is steered by them, and where the prompts of every suite end.

use std::path::PathBuf;

use serde_json::json;

use super::model::Model;
use super::questions::Questions;
use super::sources::Sources;
use super::writing;
use crate::generate::scans::file::{About, File, Unread, digest_of};
use crate::generate::scans::read::{Probe, Reading};
use crate::generate::scans::{Scans, Settings};
use crate::recipe::{First, MERGES, Recipe, RecipeError};
use crate::run::failure::{Failure, SteerError};
use crate::snapshot::digest::of_json;
use crate::train::Machine;

/// The file in a folder that `finetune steer fit` wrote.
pub const FILE: &str = "steer.safetensors";

/// What stands behind the name of a candidate that is steered.
const STEERED: &str = "+steer";

/// Steering, settled.
pub struct Steering {
    /// With what the recipe says otherwise than the file.
    pub scans: Scans,
    /// How the vectors came about.
    pub about: About,
    /// The file, as the recipe names it.
    pub source: String,
    /// Who is steered, by the names they have without.
    pub candidates: Vec<String>,
    /// From which token on.
    pub first: First,
    /// By suite and item, what is classified and where states are pushed; empty of suites that have no prompts.
    pub prompts: Vec<Vec<Prompt>>,
    /// The digest of all that decides how states are pushed.
    pub key: String,
}

/// A prompt that may be steered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub probe: Probe,
    /// The first of its own tokens that is pushed, where an answer is written behind it.
    pub from: usize,
}

/// The name of a candidate that is steered.
pub fn steered(name: &str) -> String {
    format!("{name}{STEERED}")
}

/// The names of candidates, and of their steered twins.
pub fn with_steered(mut names: Vec<String>, steering: Option<&Steering>) -> Vec<String> {
    let twins =
        steering.into_iter().flat_map(|steering| steering.candidates.iter().map(|name| steered(name)));
    names.extend(twins.collect::<Vec<_>>());
    names
}

/// Opens a file of vectors, or that in a folder; they are of a model of this shape.
///
/// # Errors
///
/// It is nowhere, broken, or of another model.
pub fn read(
    key: &str,
    source: &str,
    model: &Model,
    sources: &mut Sources<'_>,
) -> Result<(File, PathBuf), Failure> {
    let mut path = sources.find(key, source)?;
    if path.is_dir() {
        path.push(FILE);
        sources.traces.note(&format!("{source}/{FILE}"), &path);
    }
    let file = File::read(&path).map_err(|error| match error {
        Unread::Disk(source) => SteerError::Unreadable { path: path.clone(), source },
        Unread::Wrong(why) => SteerError::NoVectors { path: path.clone(), why },
    })?;
    let found = [file.scans.vectors.len(), file.scans.vectors[0].len()];
    let expected = [model.shape.n_layers, model.shape.hidden_size];
    match found == expected {
        true => Ok((file, path)),
        false => Err(SteerError::OtherModel { path, found, model: model.source.clone(), expected }.into()),
    }
}

/// What a prompt is classified by.
///
/// # Errors
///
/// The suffix adds no token to it.
pub fn probe(prompt: &[u32], with_suffix: Vec<u32>, suffix: &str, model: &Model) -> Result<Probe, Failure> {
    Probe::new(prompt, with_suffix).ok_or_else(|| {
        let text = model.tokenizer.decode(prompt, false);
        let prompt = text.chars().take(80).collect();
        SteerError::NoSuffix { suffix: suffix.to_owned(), prompt }.into()
    })
}

impl Steering {
    /// Settles `[steer]`, if the recipe has it; `names` are those of all candidates, and of merges.
    ///
    /// # Errors
    ///
    /// The file is nowhere, broken or of another model; a candidate or a layer is none of the run's; a test set holds an
    /// anchor.
    pub fn open(
        recipe: &Recipe,
        (names, merges): (&[String], &[String]),
        model: &Model,
        suites: &[Questions],
        sources: &mut Sources<'_>,
    ) -> Result<Option<Self>, Failure> {
        let Some(asked) = &recipe.steer else { return Ok(None) };
        let (File { mut scans, about }, _) = read("steer.vectors", &asked.vectors, model, sources)?;
        let settings = &mut scans.settings;
        settings.alpha = asked.alpha.unwrap_or(settings.alpha);
        if let Some(threshold) = asked.threshold {
            may_be(threshold, settings.threshold, "steer.threshold")?;
            settings.threshold = threshold;
        }
        settings.layers = asked.layers.unwrap_or(settings.layers);
        if settings.layers[1] >= model.shape.n_layers {
            let [from, to] = settings.layers;
            let expected = format!("layers from 0 to {}", model.shape.n_layers - 1);
            let (key, found) = ("steer.layers".to_owned(), format!("[{from}, {to}]"));
            return Err(RecipeError::BadValue { key, found, expected }.into());
        }
        apart(&about, &asked.vectors, suites)?;
        let candidates = chosen(asked.candidates.as_deref(), names, merges)?;
        let suffix = scans.settings.suffix.clone();
        writing::write(suites, &recipe.eval, model.reader())?;
        let prompts = suites.iter().map(|suite| {
            let both = writing::unopened(suite, &recipe.eval, model.reader(), &suffix)?.into_iter();
            let prompt = |(nth, [prompt, with_suffix]): (usize, [Vec<u32>; 2])| {
                let opened = suite.tokens().prompts.get(nth).map_or(&prompt[..], Vec::as_slice);
                // What begins the answer may share a token with the prompt's end.
                let n = prompt.iter().zip(opened).take_while(|(a, b)| a == b).count();
                let from = first_pushed(asked.first, n);
                Ok(Prompt { probe: probe(&prompt, with_suffix, &suffix, model)?, from })
            };
            both.enumerate().map(prompt).collect::<Result<Vec<_>, Failure>>()
        });
        let prompts = prompts.collect::<Result<_, _>>()?;
        let key = of_json(&json!([scans.vectors, scans.reference, scans.settings, asked.first]));
        let source = asked.vectors.clone();
        Ok(Some(Self { scans, about, source, candidates, first: asked.first, prompts, key }))
    }

    /// How states are read to be scored.
    pub fn reading(&self, machine: &Machine) -> Reading {
        reading(&self.scans.settings, machine)
    }

    /// The first token that is pushed, where the answer's first has this place.
    pub fn from(&self, answer: usize) -> usize {
        first_pushed(self.first, answer)
    }

    /// What a user should know before it starts; `base` is the digest of the run's base.
    pub fn said(&self, base: &str) -> String {
        let settings = &self.scans.settings;
        let [from, to] = settings.layers;
        let of = match self.about.base == base {
            true if self.about.which == "tuned" => "a tuned model of this base".to_owned(),
            true => "this base".to_owned(),
            false => format!("`{}`, which is not this base", self.about.model),
        };
        format!(
            "steered by vectors of {of} (`{}`), α = {}, layers {from}-{to}, towards refusing from a score of {:.4} on, away \
             from it below: {}",
            self.source,
            settings.alpha,
            settings.threshold,
            self.candidates.join(", ")
        )
    }
}

/// How states are read under these settings.
pub fn reading(settings: &Settings, machine: &Machine) -> Reading {
    Reading {
        last_layer: settings.last_layer,
        states: settings.states,
        micro_tokens: machine.micro_tokens,
        multiple: machine.multiple,
    }
}

fn first_pushed(first: First, answer: usize) -> usize {
    match first {
        First::PromptEnd => answer.saturating_sub(1),
        First::Answer => answer,
    }
}

/// That no test set has an anchor in it.
///
/// # Errors
///
/// One has.
pub fn apart(about: &About, vectors: &str, suites: &[Questions]) -> Result<(), SteerError> {
    for suite in suites.iter().filter(|suite| !suite.posed.asked.validation) {
        let items = &suite.posed.items;
        let shared: Vec<&str> = items
            .iter()
            .map(|item| item.prompt.as_str())
            .filter(|prompt| about.texts.contains(&digest_of(prompt)))
            .collect();
        if let Some(first) = shared.first() {
            return Err(SteerError::Leak {
                suite: suite.posed.suite.name.clone(),
                vectors: vectors.to_owned(),
                n: shared.len(),
                of: items.len(),
                first: first.chars().take(80).collect(),
            });
        }
    }
    Ok(())
}

/// That a threshold is no higher than the one that held-out anchors gave: above it harmful prompts would be pushed away from
/// refusing that the classifier finds.
///
/// # Errors
///
/// It is.
pub fn may_be(threshold: f64, fitted: f64, key: &str) -> Result<(), RecipeError> {
    match threshold > fitted {
        true => Err(RecipeError::BadValue {
            key: key.to_owned(),
            found: threshold.to_string(),
            expected: format!(
                "at most {fitted:.4}, what the held-out anchors gave: above it harmful prompts would lose their refusals"
            ),
        }),
        false => Ok(()),
    }
}

/// Who is steered, in the order of all.
fn chosen(asked: Option<&[String]>, names: &[String], merges: &[String]) -> Result<Vec<String>, RecipeError> {
    let Some(asked) = asked else { return Ok(names.to_vec()) };
    let is_known = |name: &&String| *name != MERGES && !names.contains(name);
    if let Some(name) = asked.iter().find(is_known) {
        let expected = format!("`{MERGES}` or of {}", names.join(", "));
        return Err(RecipeError::BadValue {
            key: "steer.candidates".to_owned(),
            found: format!("`{name}`"),
            expected,
        });
    }
    let is_asked = |name: &&String| {
        asked.contains(name) || (asked.iter().any(|word| word == MERGES) && merges.contains(name))
    };
    Ok(names.iter().filter(is_asked).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn candidates_are_chosen_by_name_and_merges_together() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (names, merges) =
            (owned(&["base", "tuned", "linear:0.5", "slerp:0.5"]), owned(&["linear:0.5", "slerp:0.5"]));
        let of = |asked: &[&str]| chosen(Some(&owned(asked)), &names, &merges);
        assert_eq!(chosen(None, &names, &merges).unwrap(), names);
        assert_eq!(of(&["merges", "base"]).unwrap(), owned(&["base", "linear:0.5", "slerp:0.5"]));
        assert_eq!(of(&["slerp:0.5", "tuned"]).unwrap(), owned(&["tuned", "slerp:0.5"]));
        let error = of(&["linear:0.4"]).unwrap_err().to_string();
        assert!(error.contains("`linear:0.4`, expected `merges` or of base, tuned"), "{error}");
    }
}
