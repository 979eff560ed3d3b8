//! What the candidates of a study are called, and that its gates are about them.

use crate::recipe::{Cell, EMA, Gate, HARDENED, MERGES, Recipe, Steer, Suite};
use crate::run::failure::Failure;
use crate::run::plan::steering;

/// That every gate is about a candidate that a cell has.
///
/// # Errors
///
/// One is not, or is about a suite that no cell has.
pub(super) fn check_gates(gates: &[Gate], cells: &[Cell]) -> Result<(), Failure> {
    for gate in gates {
        let names = cells.iter().flat_map(|cell| names(&cell.recipe));
        gate.check_candidate(&names.collect::<Vec<_>>())?;
        let suites = cells.iter().flat_map(|cell| cell.recipe.eval.suites.iter().map(Suite::name));
        let mut suites: Vec<&str> = suites.collect();
        suites.dedup();
        gate.check(&suites)?;
    }
    Ok(())
}

/// What the candidates of a recipe are called.
pub(super) fn names(recipe: &Recipe) -> Vec<String> {
    let merges = recipe.merge.specs().unwrap_or_default();
    let merges = merges.iter().map(ToString::to_string);
    let named = recipe.eval.candidates.iter().map(|candidate| candidate.name.clone());
    let average = recipe.train.ema.as_ref().filter(|_| recipe.model.tuned.is_none()).map(|_| EMA);
    let hardened = recipe.harden.as_ref().map(|_| HARDENED);
    let roles = ["base", "tuned"].into_iter().chain(hardened).chain(average).map(str::to_owned);
    let merges: Vec<String> = merges.collect();
    let mut names: Vec<String> = roles.chain(merges.iter().cloned()).chain(named).collect();
    let is_steered = |steer: &Steer, name: &String| {
        let all_merges = |word: &String| word == MERGES && merges.contains(name);
        steer
            .candidates
            .as_ref()
            .is_none_or(|asked| asked.iter().any(|word| word == name || all_merges(word)))
    };
    let twins =
        names.iter().filter(|name| recipe.steer.as_ref().is_some_and(|steer| is_steered(steer, name)));
    names.extend(twins.map(|name| steering::steered(name)).collect::<Vec<_>>());
    names
}
