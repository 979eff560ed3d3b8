//! The reward model of `[objective]`: a decoder of a known family with a head of one number, as transformers saves one
//! for sequence classification with one label.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::model::Model;
use super::sources::Sources;
use crate::model::{Decoder, DecoderShape, families};
use crate::recipe::{Mask, Recipe};
use crate::run::failure::{Failure, RewardError};
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::snapshot::files::WeightFiles;
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::{Config, SnapshotError, Weight, WeightInfo, Weights};
use crate::train;

/// The weight of the head, as transformers calls it in every family.
const HEAD: &str = "score.weight";

/// A reward model, opened.
pub struct Rewards {
    source: String,
    pub shape: DecoderShape,
    weights: Headless,
    head: Vec<f32>,
    /// The digest of what decides its scores.
    pub key: String,
}

/// The files of a reward model without its head.
struct Headless {
    files: WeightFiles,
    infos: BTreeMap<String, WeightInfo>,
}

impl Weights for Headless {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        self.files.weight(name)
    }
}

impl Rewards {
    /// Opens the reward model that `[objective]` names, if it names one.
    ///
    /// # Errors
    ///
    /// It is nowhere or broken, has no head of one number, or other tokens than the base.
    pub fn settle(
        recipe: &Recipe,
        model: &Model,
        sources: &mut Sources<'_>,
    ) -> Result<Option<Self>, Failure> {
        let Some(source) = &recipe.objective.reward_model else { return Ok(None) };
        let folder = sources.model(source)?;
        sources.weights(source)?;
        let rewards = Self::open(source, &folder)?;
        check_vocabulary(&folder, rewards.shape.vocab_size, &model.tokenizer)?;
        Ok(Some(rewards))
    }

    /// Opens the reward model in a folder.
    ///
    /// # Errors
    ///
    /// It is broken, of an unknown family, or has no head of one number.
    pub fn open(source: &str, folder: &Path) -> Result<Self, Failure> {
        let config = Config::read(folder)?;
        // What is read of it ends before any head.
        let shape = DecoderShape { tied: true, ..families::shape(&config)? };
        let files = WeightFiles::open(folder)?;
        let mut infos = files.infos().clone();
        let Some(head) = infos.remove(HEAD) else {
            return Err(RewardError::NoHead { folder: folder.to_owned(), found: other_heads(&infos) }.into());
        };
        if head.shape != [1, shape.hidden_size] {
            let (found, width) = (head.shape, shape.hidden_size);
            return Err(RewardError::BadHead { folder: folder.to_owned(), found, width }.into());
        }
        let weights = Headless { files, infos };
        Decoder::check(&shape, &weights, &folder.display().to_string())?;
        let head = weights.weight(HEAD)?.to_f32();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let paths = weights.files.paths().map(Path::to_owned).chain([folder.join("config.json")]);
        let named: Vec<(String, PathBuf)> = paths.map(|path| (name(&path), path)).collect();
        let key = of_json(&json!(of_files(&named, Algorithm::Sha256)?));
        Ok(Self { source: source.to_owned(), shape, weights, head, key })
    }

    /// What a user should know before it starts.
    pub fn said(&self) -> String {
        format!(
            "the reward model `{}` scores the tokens of both answers before the first step; scores that the file has are not read",
            self.source
        )
    }

    /// For the training itself.
    pub fn given(&self, mask: Mask) -> train::rewards::Rewards<'_> {
        train::rewards::Rewards { shape: &self.shape, weights: &self.weights, head: &self.head, mask }
    }
}

/// What else a folder has that may be meant for a head, in words.
fn other_heads(infos: &BTreeMap<String, WeightInfo>) -> String {
    let heads = ["lm_head.weight", "v_head.summary.weight", "value_head.weight", "classifier.weight"];
    let found: Vec<String> =
        heads.iter().filter(|name| infos.contains_key(**name)).map(|name| format!("`{name}`")).collect();
    match found.is_empty() {
        true => String::new(),
        false => format!("; this one has {}", found.join(", ")),
    }
}

/// That a reward model knows every token of the base by its row.
fn check_vocabulary(folder: &Path, n_rows: usize, base: &Tokenizer) -> Result<(), Failure> {
    let (own, base) = (Tokenizer::load(folder)?.vocabulary(), base.vocabulary());
    let why = base.iter().find_map(|(token, row)| match own.get(token) {
        Some(other) if other != row => {
            Some(format!("token `{token}` has row {other} there, and row {row} in the base"))
        }
        Some(_) if *row < n_rows => None,
        Some(_) => Some(format!("token `{token}` has row {row}, and the model there {n_rows} rows")),
        None => Some(format!("token `{token}` is unknown there")),
    });
    match why {
        None => Ok(()),
        Some(why) => Err(RewardError::OtherVocabulary { folder: folder.to_owned(), why }.into()),
    }
}
