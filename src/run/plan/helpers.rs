//! What merges look at besides base and tuned model: `[merge.models]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::model::{Base, Model};
use super::named::{adapter_on, given_folder, key};
use super::sources::Sources;
use crate::merge::{MergeError, Resolved};
use crate::model::Decoder;
use crate::recipe::{Helper, Recipe};
use crate::run::failure::Failure;
use crate::snapshot::tokenizer::{FILE, Tokenizer};
use crate::snapshot::{SharedWeights, WeightFiles, Weights, adapter};

/// One of them, opened.
pub struct Opened {
    pub weights: SharedWeights,
    /// The digest of what decides its numbers.
    pub key: String,
}

/// By their parts.
pub type Helpers = BTreeMap<Helper, Opened>;

/// Opens those that the merges look at; every model is of the base's shape and knows its tokens by the same rows.
///
/// # Errors
///
/// One is nowhere, broken, or of another model.
pub fn open(
    merges: &[Resolved],
    recipe: &Recipe,
    model: &Model,
    base: &Base,
    sources: &mut Sources<'_>,
) -> Result<Helpers, Failure> {
    let mut helpers = Helpers::new();
    for (helper, source) in &recipe.merge.models {
        if !merges.iter().any(|merge| merge.method.needs.helpers().any(|own| own == *helper)) {
            continue;
        }
        let opened = match helper.is_file() {
            true => file(*helper, source, base, sources)?,
            false => whole(*helper, source, model, base, sources)?,
        };
        helpers.insert(*helper, opened);
    }
    Ok(helpers)
}

/// What decides those that a merge looks at.
pub fn looked_at<'h>(merge: &'h Resolved, helpers: &'h Helpers) -> impl Iterator<Item = Value> + 'h {
    let needed = |helper: Helper| merge.method.needs.helpers().any(|own| own == helper);
    let found = helpers.iter().filter(move |(helper, _)| needed(**helper));
    found.map(|(helper, one)| json!([helper, one.key]))
}

fn file(helper: Helper, source: &str, base: &Base, sources: &mut Sources<'_>) -> Result<Opened, Failure> {
    let path = sources.find(&format!("merge.models.{helper}"), source)?;
    let files = WeightFiles::open_file(&path)?;
    check_shapes(helper, &path, &files, base.weights.as_ref())?;
    Ok(Opened { key: key(base, &[path])?, weights: Arc::new(files) })
}

/// That the numbers of a file that are named as weights have the weights' shapes.
///
/// # Errors
///
/// One has another.
pub fn check_shapes(
    helper: Helper,
    path: &Path,
    files: &WeightFiles,
    base: &dyn Weights,
) -> Result<(), MergeError> {
    let known = files.infos().iter().filter_map(|(name, info)| Some((name, info, base.infos().get(name)?)));
    let mut n_known = 0;
    for (name, own, of_base) in known {
        if own.shape != of_base.shape {
            let why = format!("`{name}` has shape {:?}, and the base's {:?}", own.shape, of_base.shape);
            return Err(MergeError::BadHelper { helper, path: path.to_owned(), why });
        }
        n_known += 1;
    }
    // A mask may be of an adapter's factors: a weight's name, and behind it which.
    let is_behind = |name: &String| base.infos().keys().any(|known| name.starts_with(known.as_str()));
    match n_known > 0 || helper == Helper::Mask && files.infos().keys().any(is_behind) {
        true => Ok(()),
        false => {
            let why = "none of its arrays is named as a weight of the base".to_owned();
            Err(MergeError::BadHelper { helper, path: path.to_owned(), why })
        }
    }
}

/// Opens a model or an adapter on the base, of the base's shape and tokens.
///
/// # Errors
///
/// It is nowhere, broken, or of another model.
pub fn whole(
    helper: Helper,
    source: &str,
    model: &Model,
    base: &Base,
    sources: &mut Sources<'_>,
) -> Result<Opened, Failure> {
    let folder = given_folder(source, sources)?;
    if folder.join(adapter::CONFIG).is_file() {
        let (weights, key) = adapter_on(base, &folder)?;
        return Ok(Opened { weights, key });
    }
    let files = WeightFiles::open(&folder)?;
    Decoder::check(&model.shape, &files, &folder.display().to_string())?;
    check_tokens(helper, &folder, &model.tokenizer)?;
    let paths: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
    Ok(Opened { key: key(base, &paths)?, weights: Arc::new(files) })
}

/// That a model in a folder has the base's rows for the tokens that both know.
///
/// # Errors
///
/// A token has another row, or the folder's tokenizer cannot be read.
pub fn check_tokens(helper: Helper, folder: &Path, base: &Tokenizer) -> Result<(), Failure> {
    if !folder.join(FILE).is_file() {
        return Ok(());
    }
    let own = Tokenizer::load(folder)?.vocabulary();
    let base = base.vocabulary();
    let differs = |(token, row): &(&String, &usize)| own.get(*token).is_some_and(|other| other != *row);
    match base.iter().find(differs) {
        None => Ok(()),
        Some((token, row)) => {
            let why = format!("token `{token}` has row {} there, and row {row} in the base", own[token]);
            Err(MergeError::BadHelper { helper, path: folder.to_owned(), why }.into())
        }
    }
}
