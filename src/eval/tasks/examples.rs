//! Worked examples before a question: where their file lies, and which of them an item gets.

use std::path::{Path, PathBuf};

use super::Source;
use crate::eval::error::EvalError;
use crate::eval::fewshot::Sampler;
use crate::eval::item::Item;

/// lm-eval's own (`fewshot_random_seed`).
const SEED: u64 = 1234;

/// A question as it is put, and its answer.
pub(super) type Example = (String, String);

/// The file of examples: what the user named, or the first of `names` that lies beside the task's own file, plain or
/// gzipped.
pub(super) fn file(source: &Source<'_>, names: &[&str]) -> PathBuf {
    if let Some(path) = source.shots_path {
        return path.to_owned();
    }
    let folder = if source.path.is_dir() { source.path } else { source.path.parent().unwrap_or(source.path) };
    let both = names.iter().flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))]);
    let mut both = both.peekable();
    let first = both.peek().cloned().unwrap_or_else(|| folder.to_owned());
    // Where there is none, the error names the first.
    both.find(|path| path.is_file()).unwrap_or(first)
}

/// Puts the first of `pool` before every item.
pub(super) fn first(
    source: &Source<'_>,
    path: &Path,
    pool: &[Example],
    items: &mut [Item],
) -> Result<(), EvalError> {
    put(Sampler::First, source, path, pool, items)
}

/// Draws from `pool` for every item as lm-eval does: one generator for all, item after item in the file's order.
///
/// What an item gets therefore depends on its row, and a subset is taken only afterwards.
pub(super) fn drawn(
    source: &Source<'_>,
    path: &Path,
    pool: &[Example],
    items: &mut [Item],
) -> Result<(), EvalError> {
    put(Sampler::seeded(SEED), source, path, pool, items)
}

fn put(
    mut sampler: Sampler,
    source: &Source<'_>,
    path: &Path,
    pool: &[Example],
    items: &mut [Item],
) -> Result<(), EvalError> {
    for item in items {
        let rows = sampler.rows(pool.len(), source.shots);
        let rows = rows.ok_or_else(|| too_few(source, path, pool.len()))?;
        item.shots = rows.into_iter().map(|row| pool[row].clone()).collect();
    }
    Ok(())
}

/// For a task that has no examples to show.
pub(super) fn none(source: &Source<'_>) -> Result<(), EvalError> {
    if source.shots == 0 { Ok(()) } else { Err(EvalError::NoShots { suite: source.suite.to_owned() }) }
}

/// That more examples were asked for than the `found` ones.
pub(super) fn too_few(source: &Source<'_>, path: &Path, found: usize) -> EvalError {
    let (suite, path) = (source.suite.to_owned(), path.to_owned());
    EvalError::FewShots { suite, asked: source.shots, path, found }
}
