//! The recipe: everything that changes a result, in one TOML file.
//!
//! A setting is one field of one struct; its meaning and default stand there and nowhere else.
//! An unknown key is an error that shows the line. What does not change a result (device, folders,
//! micro-batches) is a flag of the command line.

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::{did_you_mean, nearest};
use crate::folders::{self, SETTINGS_BYTES};

mod data;
mod eval;
mod form;
mod gate;
mod grid;
mod guard;
mod harden;
mod labelling;
mod merge;
mod method;
mod model;
mod objective;
mod penalty;
mod place;
mod refusal_mix;
mod shipped;
pub mod slips;
mod soup;
mod steer;
mod train;

pub use data::{Data, LossOn, Part, TooLong};
pub use eval::{BertScore, Chat, Eval, NamedCandidate, Purpose, RubricJudge, Suite, Thinking};
pub use form::{Field, Fields, Form};
pub use gate::{Against, By, Gate};
pub use grid::{ALL_SEEDS, Cell, Contrast, Grid, SEED, VARIANT, cells};
pub use guard::Guard;
pub use harden::Harden;
pub use labelling::{FittedBy, Labelling};
pub use merge::{Helper, Lambda, Merge, Of, Spec, SpecError, along};
pub use method::{Method, MethodKind, Quantization, Targets, Variant};
pub use model::{Init, Model};
pub use objective::{
    Derta, DertaRecord, Mask, Objective, ObjectiveKind, Preference, PreferenceLoss, RtoDraw,
};
pub use penalty::{Asft, Direction, Kl, Measure, Projection};
pub use place::{Pattern, Place, layer_of};
pub use refusal_mix::{EndRule, REFUSAL, REFUSALS_PER_RECORD, RefusalMix, Refused, Turn};
pub use shipped::{Shipped, shipped};
pub use soup::{Ingredients, Soup};
pub use steer::{First, MERGES, Steer};
pub use train::{AutoFreeze, Compute, Ema, MOST_STEPS, OfAdapter, OptimizerKind, Recompute, Schedule, Train};

/// The only schema there is.
pub const SCHEMA: u32 = 1;

/// What the moving average of the weights is called, as a candidate and in merges `of=ema`.
pub const EMA: &str = "ema";

/// What the base that `[harden]` makes is called, as a candidate and as a folder.
pub const HARDENED: &str = "hardened";

fn schema() -> u32 {
    SCHEMA
}

/// A whole recipe, every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The version of this format; 1.
    #[serde(default = "schema")]
    pub schema: u32,
    /// What the run is called; its folder starts with it.
    pub name: String,
    pub model: Model,
    /// What the base is made into before it is tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harden: Option<Harden>,
    pub data: Data,
    #[serde(default)]
    pub method: Method,
    #[serde(default, skip_serializing_if = "Objective::is_default")]
    pub objective: Objective,
    #[serde(default)]
    pub train: Train,
    #[serde(default)]
    pub merge: Merge,
    #[serde(default)]
    pub eval: Eval,
    /// Candidates that are also asked while their hidden states are steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steer: Option<Steer>,
    /// A guard in front of candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Bounds that the results must keep: `[[gate]]` tables.
    #[serde(default, rename = "gate", skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// What varies: with it the recipe is a study of many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

/// Why a recipe cannot be read.
#[derive(Debug, Error, Diagnostic)]
pub enum RecipeError {
    #[error("{message}")]
    #[diagnostic(code(recipe::invalid))]
    Invalid {
        message: String,
        #[source_code]
        text: NamedSource<String>,
        #[label("{label}")]
        span: Option<SourceSpan>,
        label: String,
        #[help]
        help: Option<String>,
    },
    #[error("`--set {assignment}` cannot be applied: {why}")]
    #[diagnostic(code(recipe::bad_set), help("{help}"))]
    BadSet { assignment: String, why: String, help: String },
    #[error("`{key}` is {found}, expected {expected}")]
    #[diagnostic(code(recipe::bad_value), help("{}", cure(key)))]
    BadValue { key: String, found: String, expected: String },
    #[error("cell `{cell}` of the grid: `{key}`: {why}")]
    #[diagnostic(code(recipe::bad_cell), help("{help}"))]
    BadCell { cell: String, key: String, why: String, help: String },
    #[error("`{name}` is neither a file nor a shipped recipe")]
    #[diagnostic(code(recipe::not_found), help("{help}"))]
    NotFound { name: String, help: String },
    #[error("`{name}` is YAML, and a recipe is TOML")]
    #[diagnostic(code(recipe::yaml), help("{help}"))]
    Yaml { name: String, help: String },
    #[error("cannot read recipe `{path}`")]
    #[diagnostic(code(recipe::unreadable), help("a recipe is a UTF-8 text file in TOML"))]
    Unreadable { path: String, source: std::io::Error },
}

impl Recipe {
    /// Reads a recipe, then applies assignments such as `train.steps=20` in order.
    ///
    /// `origin` names the text in messages.
    ///
    /// # Errors
    ///
    /// The text is not TOML, has an unknown or missing key, or a value out of range.
    pub fn parse(text: &str, origin: &str, assignments: &[String]) -> Result<Self, RecipeError> {
        let mut recipe: Self = toml::from_str(text).map_err(|error| {
            let yaml = slips::yaml(text, origin);
            yaml.map_or_else(
                || explain(&error, text, origin),
                |help| RecipeError::Yaml { name: origin.to_owned(), help },
            )
        })?;
        if !assignments.is_empty() {
            let mut table: toml::Table =
                toml::from_str(text).map_err(|error| explain(&error, text, origin))?;
            for assignment in assignments {
                assign(&mut table, assignment)?;
                // One by one, so that a fault is blamed on the assignment that made it.
                recipe = table.clone().try_into().map_err(|error: toml::de::Error| {
                    let (why, help) = in_words(error.message());
                    let help = help.unwrap_or_else(|| "the reference recipe lists every key".to_owned());
                    RecipeError::BadSet { assignment: assignment.clone(), why, help }
                })?;
            }
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// The whole recipe as TOML, defaults included.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    fn check(&self) -> Result<(), RecipeError> {
        if self.schema != SCHEMA {
            return Err(bad("schema", self.schema, "1, the only schema this version knows"));
        }
        if !is_name(&self.name) {
            return Err(bad("name", format!("`{}`", self.name), NAME));
        }
        if let (Some(tuned), Init::Random) = (&self.model.tuned, self.model.init) {
            return Err(bad(
                "model.tuned",
                format!("`{tuned}` on a base drawn at random"),
                "`model.init = \"checkpoint\"`",
            ));
        }
        self.harden.as_ref().map_or(Ok(()), |harden| harden.spec().map(drop))?;
        if let (Some(harden), Some(tuned)) = (&self.harden, &self.model.tuned) {
            return Err(bad(
                "harden.method",
                format!("`{}` before a training, and `model.tuned` is `{tuned}`", harden.method),
                "no `[harden]` where nothing is trained",
            ));
        }
        self.data.check()?;
        self.method.check()?;
        self.objective.check(&self.data, &self.method, &self.merge)?;
        self.train.check(self.method.kind)?;
        self.merge.check()?;
        self.eval.check()?;
        guard::check(self)?;
        self.steer.as_ref().map_or(Ok(()), Steer::check)?;
        let named = |name: &str| self.eval.candidates.iter().any(|candidate| candidate.name == name);
        let taken = [
            (EMA, self.train.ema.is_some(), "another name: with `train.ema` it is the average's"),
            (HARDENED, self.harden.is_some(), "another name: with `[harden]` it is the hardened base's"),
        ];
        if let Some((name, _, expected)) =
            taken.into_iter().find(|(name, is_made, _)| *is_made && named(name))
        {
            return Err(bad("eval.candidates.name", format!("`{name}`"), expected));
        }
        if self.grid.is_none() {
            let suites: Vec<&str> = self.eval.suites.iter().map(Suite::name).collect();
            self.gates.iter().try_for_each(|gate| gate.check(&suites))?;
        }
        self.grid.as_ref().map_or(Ok(()), Grid::check)
    }
}

/// Where a value is changed: `--set` reaches no entry of a list.
fn cure(key: &str) -> String {
    // Of an option or a place of the command line no recipe is there that could be changed.
    if key.starts_with("--") || key.chars().all(char::is_uppercase) {
        return "change it on the command line".to_owned();
    }
    match key.split('.').any(|part| part.parse::<usize>().is_ok()) {
        true => "change it in the recipe".to_owned(),
        false => format!("change it in the recipe, or on the command line with `--set {key}=…`"),
    }
}

/// What a name may be.
const NAME: &str = "1 to 64 of a–z, 0–9, `-`, `_` and `.`";

/// Whether a run or a suite may be called so: its files are, and must stay in their folder.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// A value that parsed but makes no sense.
fn bad(key: &str, found: impl ToString, expected: &str) -> RecipeError {
    RecipeError::BadValue { key: key.to_owned(), found: found.to_string(), expected: expected.to_owned() }
}

/// Sets one key of a table from text such as `train.learning_rate=1e-4`.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), RecipeError> {
    let wrong = |why: String, help: &str| RecipeError::BadSet {
        assignment: assignment.to_owned(),
        why,
        help: help.to_owned(),
    };
    let (path, value) = assignment
        .split_once('=')
        .ok_or_else(|| wrong("it has no `=`".to_owned(), "write `--set train.steps=20`"))?;
    // A bare word is a string: shells eat quotes.
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    set(table, path.trim(), value)
        .map_err(|why| wrong(why, "write `--set train.steps=20`; it reaches keys of sections"))
}

/// Sets the value behind a dotted key; else says what is wrong with the key.
fn set(table: &mut toml::Table, path: &str, value: toml::Value) -> Result<(), String> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty() && !keys.contains(&""));
    let last = last.ok_or_else(|| "its key is empty".to_owned())?;
    let mut place = table;
    for key in keys {
        let entry = place.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry.as_table_mut().ok_or_else(|| format!("`{key}` is not a section"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// A TOML error with the line it points at and the nearest key.
fn explain(error: &toml::de::Error, text: &str, origin: &str) -> RecipeError {
    let (message, help) = in_words(error.message());
    let span =
        error.span().map(|span| SourceSpan::new(span.start.into(), span.end.saturating_sub(span.start)));
    let label = if error.message().starts_with("unknown field") { "not a key here" } else { "here" };
    RecipeError::Invalid {
        message,
        text: NamedSource::new(origin, text.to_owned()).with_language("toml"),
        span,
        label: label.to_owned(),
        help,
    }
}

/// serde's sentence in ours, with the nearest of the keys it names.
fn in_words(message: &str) -> (String, Option<String>) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let word = quoted.next().unwrap_or_default();
        let names: Vec<&str> = quoted.collect();
        let what = if message.starts_with("unknown field") { "key" } else { "value" };
        let message = format!("unknown {what} `{word}`");
        let near = did_you_mean(word, names.iter().copied());
        let help = slips::hint(word).map_or(near.clone(), |hint| format!("{hint}; {near}"));
        return (message, Some(help));
    }
    if message.starts_with("missing field") {
        let field = quoted.next().unwrap_or_default();
        return (
            format!("key `{field}` is missing"),
            Some("`recipes/reference.toml` shows every key".to_owned()),
        );
    }
    (message.lines().next().unwrap_or_default().to_owned(), None)
}

/// The text of the recipe that `name` means, and where it was found: a file, else a shipped recipe.
///
/// # Errors
///
/// There is neither, or the file cannot be read.
pub fn find(name: &str) -> Result<(String, String), RecipeError> {
    let path = std::path::Path::new(name);
    if path.is_file() {
        let text = folders::read_text(path, SETTINGS_BYTES);
        return match text {
            Ok(text) => Ok((text, name.to_owned())),
            Err(source) => Err(RecipeError::Unreadable { path: name.to_owned(), source }),
        };
    }
    let stem = name.strip_suffix(".toml").unwrap_or(name);
    match shipped().iter().find(|recipe| recipe.name == stem) {
        Some(recipe) => Ok((recipe.text.to_owned(), format!("shipped:{stem}.toml"))),
        None => {
            let names = shipped().iter().map(|recipe| recipe.name);
            let slip = nearest(stem, names.clone())
                .map(|near| format!("did you mean `{near}`? "))
                .unwrap_or_default();
            let all = names.collect::<Vec<_>>().join(", ");
            Err(RecipeError::NotFound {
                name: name.to_owned(),
                help: format!("{slip}Shipped recipes: {all}"),
            })
        }
    }
}
