//! The models under evaluation, by name.

use crate::merge::{Resolved, Restoring, Role};
use crate::recipe::Spec;
use crate::run::plan::Plan;
use crate::run::plan::named::Named;
use crate::run::plan::steering::{Steering, steered};

/// A model under evaluation.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name in reports: `base`, `tuned`, `ema`, `slerp:0.5`.
    pub name: String,
    pub(super) made: Origin,
    /// Whether its hidden states are steered.
    pub(super) steered: bool,
}

/// What a candidate is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The model of a role, as it is.
    Of(Role),
    /// A merge of models by their roles.
    By(Resolved),
    /// One of the models that the recipe names.
    Named(usize),
    /// One of the other candidates, behind the guard.
    Guarded(usize),
}

impl Candidate {
    fn plain(name: &str, made: Origin) -> Self {
        Self { name: name.to_owned(), made, steered: false }
    }

    /// Those of a plan, in the order of a report.
    pub fn of_plan(plan: &Plan) -> Vec<Self> {
        let mut all = Self::of(&plan.training.roles(), &plan.merging.merges, &plan.merging.named);
        let twins = twins(&all, plan.steering.as_deref());
        all.extend(twins.into_iter().map(|(_, twin)| twin));
        all
    }

    /// The model of a role under a name.
    pub fn new(name: &str, role: Role) -> Self {
        Self::plain(name, Origin::Of(role))
    }

    /// The `nth` of the models of one's own under a name.
    pub fn named(name: &str, nth: usize) -> Self {
        Self::plain(name, Origin::Named(nth))
    }

    /// The `nth` of the candidates behind a guard, under a name.
    pub(super) fn guarded(name: &str, nth: usize) -> Self {
        Self::plain(name, Origin::Guarded(nth))
    }

    /// The models of these roles, these merges of them and these other models, in the order of a report.
    pub fn of(roles: &[Role], merges: &[Resolved], named: &[Named]) -> Vec<Self> {
        let merges = merges.iter().map(|merge| Self::plain(&merge.name(), Origin::By(merge.clone())));
        let named = named.iter().enumerate();
        let named = named.map(|(nth, model)| Self::plain(&model.name, Origin::Named(nth)));
        let roles = roles.iter().map(|role| Self::new(role.candidate(), *role));
        roles.chain(merges).chain(named).collect()
    }

    /// The method that its name asks for, if it is a merge's: one that a probe settled is made by another.
    pub fn asked_as(&self) -> Option<String> {
        self.name.parse::<Spec>().ok().map(|spec| spec.method)
    }

    /// How it goes by a probe of the layers, if it does.
    pub fn restoring(&self) -> Option<Restoring> {
        self.made_by().and_then(Resolved::restoring)
    }

    /// The merge that it is, if it is one: what a merge that is steered says is not what the merge says.
    pub fn merge(&self) -> Option<&Resolved> {
        self.made_by().filter(|_| !self.steered)
    }

    /// The merge that makes its weights, if one does.
    pub(super) fn made_by(&self) -> Option<&Resolved> {
        match &self.made {
            Origin::Of(_) | Origin::Named(_) | Origin::Guarded(_) => None,
            Origin::By(merge) => Some(merge),
        }
    }
}

/// The candidates that are steered, with the places of those that they are the twins of.
pub(super) fn twins(candidates: &[Candidate], steering: Option<&Steering>) -> Vec<(usize, Candidate)> {
    let Some(steering) = steering else { return Vec::new() };
    let is_steered = |(_, one): &(usize, &Candidate)| steering.candidates.contains(&one.name);
    let twin = |(nth, one): (usize, &Candidate)| {
        (nth, Candidate { name: steered(&one.name), made: one.made.clone(), steered: true })
    };
    candidates.iter().enumerate().filter(is_steered).map(twin).collect()
}
