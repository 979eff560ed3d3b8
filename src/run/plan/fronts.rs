//! What is put on candidates from without: a steering of their hidden states, a guard in front of them.

use super::guard::GuardPlan;
use super::model::Model;
use super::questions::Questions;
use super::sources::Sources;
use super::steering::{self, Steering};
use crate::merge::Resolved;
use crate::recipe::Recipe;
use crate::run::failure::Failure;

/// Both, settled.
pub struct Fronts {
    pub steering: Option<Steering>,
    /// A guard, and the candidates that it stands in front of.
    pub guard: Option<(GuardPlan, Vec<String>)>,
}

impl Fronts {
    /// Settles `[steer]` and `[guard]` for the candidates of these names, and that the bounds of a recipe are about one of
    /// them all.
    ///
    /// # Errors
    ///
    /// Vectors or guard are nowhere or do not fit, or a candidate is named that there is not.
    pub fn open(
        recipe: &Recipe,
        (names, merges): (Vec<String>, &[Resolved]),
        model: &Model,
        suites: &[Questions],
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let merged: Vec<String> = merges.iter().map(Resolved::name).collect();
        let steering = Steering::open(recipe, (&names, &merged), model, suites, sources)?;
        let names = steering::with_steered(names, steering.as_ref());
        let guard = GuardPlan::of_recipe(recipe.guard.as_ref(), &names, sources)?;
        let behind = guard.iter().flat_map(|(_, behind)| behind.iter().map(|name| GuardPlan::name_of(name)));
        let all: Vec<String> = names.into_iter().chain(behind).collect();
        recipe.gates.iter().try_for_each(|gate| gate.check_candidate(&all))?;
        Ok(Self { steering, guard })
    }
}
