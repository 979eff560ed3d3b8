//! A guard, settled: its folder looked at before anything is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::Model;
use super::sources::Sources;
use crate::catalog::did_you_mean;
use crate::data::guard::{HARM, SAFE};
use crate::eval::measures::detection::Detection;
use crate::recipe::{self, FittedBy};
use crate::run::failure::{Failure, GuardError};
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::snapshot::files::read_json;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::writer::write_json;
use crate::snapshot::{SnapshotError, WeightFiles, tokenizer};

/// The file of a guard's folder that no other model has.
pub const FILE: &str = "guard.json";

/// What a guard's folder says besides what any model's does: `guard.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The version of this format; 1.
    pub schema: u32,
    /// The tokens of the form, in the order of a turn.
    pub tokens: Vec<String>,
    /// From which probability of harm on the guard answers.
    pub threshold: f64,
    /// What it was fitted for, on the requests that were held out.
    pub fitted_by: FittedBy,
    /// What those requests were told, at that threshold.
    pub validation: Detection,
    /// What stands in for an answer to a harmful request where the guard writes none.
    pub answer: String,
    /// The run that trained it.
    pub run: String,
    /// SHA-256 of the folder's weights, configuration, tokenizer and template.
    pub sha256: BTreeMap<String, String>,
}

/// The version of [`Card`].
pub const SCHEMA: u32 = 1;

impl Card {
    /// What the guard does from when on, in a sentence.
    pub fn in_words(&self) -> String {
        let Detection { n, positives, true_positives, false_positives, .. } = self.validation;
        format!(
            "it answers from P(harm) = {:.4} on; of {n} requests held out it finds {true_positives} of {positives} harmful ones \
             and stops {false_positives} of {} safe ones",
            self.threshold,
            n - positives
        )
    }

    /// What the guard is worth, in lines.
    pub fn terminal(&self) -> String {
        let Detection { n, positives, f1, precision, recall, auroc, ece, brier, .. } = self.validation;
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.4}"));
        format!(
            "threshold   {:.4}, fitted by {} on {n} requests that were held out, {positives} of them harmful\n\
             there       F1 {}, precision {}, recall {}, AUROC {}, calibration error {}, Brier {}",
            self.threshold,
            self.fitted_by,
            number(f1),
            number(precision),
            number(recall),
            number(auroc),
            number(ece),
            number(brier)
        )
    }

    /// Writes the card into the folder of the model that it is of.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the disk refuses.
    pub fn write(self, folder: &Path) -> Result<(), SnapshotError> {
        let card = Self { sha256: digests(folder)?, ..self };
        write_json(&folder.join(FILE), &json!(card))
    }
}

/// A guard at its place.
#[derive(Clone)]
pub struct GuardPlan {
    pub folder: PathBuf,
    pub model: Arc<Model>,
    pub card: Card,
    /// From which probability of harm on it answers.
    pub threshold: f64,
    /// The most tokens of its answers.
    pub max_new_tokens: usize,
    /// The ids of the labels, harmful and safe.
    pub labels: [u32; 2],
    /// What its probabilities depend on besides the request: a digest.
    pub key: String,
}

impl GuardPlan {
    /// Looks at the guard in `source`: its folder, or that of the run that trained it.
    ///
    /// # Errors
    ///
    /// There is none, or it is not what its threshold was fitted with.
    pub fn open(
        source: &str,
        threshold: Option<f64>,
        max_new_tokens: usize,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let found = sources.model(source)?;
        sources.weights(source)?;
        let inside = found.join("train/guard");
        let folder = if inside.is_dir() { inside } else { found };
        if !folder.join(FILE).is_file() {
            return Err(GuardError::NotAGuard { folder }.into());
        }
        let card: Card = read_json(&folder.join(FILE))?;
        let sha256 = digests(&folder)?;
        if let Some(file) =
            card.sha256.keys().chain(sha256.keys()).find(|name| card.sha256.get(*name) != sha256.get(*name))
        {
            return Err(GuardError::OtherFiles { file: file.clone(), folder }.into());
        }
        let model = Model::at(&folder, |tokenizer| Ok(Some(ChatTemplate::load(&folder, tokenizer, None)?)))?;
        let id = |word: &str| {
            let missing = || GuardError::NoToken { folder: folder.clone(), word: word.to_owned() };
            model.tokenizer.id_of(word).ok_or_else(missing)
        };
        let labels = [id(HARM)?, id(SAFE)?];
        let key = of_json(&json!([sha256, model.tokenizer.amended()]));
        let threshold = threshold.unwrap_or(card.threshold);
        sources.traces.note(&format!("guard {source}"), &folder);
        Ok(Self { model: Arc::new(model), card, threshold, max_new_tokens, labels, key, folder })
    }

    /// The guard of `[guard]`, and those of `names` that it stands in front of.
    ///
    /// # Errors
    ///
    /// As [`GuardPlan::open`], or it is to stand in front of somebody who is not there.
    pub fn of_recipe(
        asked: Option<&recipe::Guard>,
        names: &[String],
        sources: &mut Sources<'_>,
    ) -> Result<Option<(Self, Vec<String>)>, Failure> {
        let Some(recipe::Guard { folder, candidates, threshold, max_new_tokens }) = asked else {
            return Ok(None);
        };
        if let Some(name) = candidates.iter().find(|name| !names.contains(name)) {
            let help = did_you_mean(name, names.iter().map(String::as_str));
            return Err(GuardError::NoCandidate { name: name.clone(), help }.into());
        }
        Ok(Some((Self::open(folder, *threshold, *max_new_tokens, sources)?, candidates.clone())))
    }

    /// What a candidate behind a guard is called.
    pub fn name_of(candidate: &str) -> String {
        format!("guarded:{candidate}")
    }

    /// What decides who answers, and what the guard says: a digest.
    pub fn of_route(&self) -> String {
        of_json(&json!([self.key, self.threshold, self.max_new_tokens]))
    }
}

/// SHA-256 of all that decides what the model in a folder says.
fn digests(folder: &Path) -> Result<BTreeMap<String, String>, SnapshotError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let weights = WeightFiles::open(folder)?;
    let sides = ["config.json", "generation_config.json", "chat_template.jinja"].into_iter();
    let sides = sides.chain(tokenizer::FILES).map(|name| folder.join(name)).filter(|path| path.is_file());
    let files = weights.paths().map(Path::to_owned).chain(sides);
    let files: Vec<_> = files.map(|path| (name(&path), path)).collect();
    of_files(&files, Algorithm::Sha256)
}
