//! Candidates behind a guard: the weights of another, and in front of them a model that answers what is harmful.

use super::{Candidate, Cast, Origin};
use crate::run::plan::guard::GuardPlan;

impl Cast {
    /// The same cast with a guard in front of some candidates: those behind it are candidates of their own.
    #[must_use]
    pub fn behind(mut self, guard: Option<&(GuardPlan, Vec<String>)>) -> Self {
        let Some((plan, names)) = guard else { return self };
        for name in names {
            let nth = self.candidates.iter().position(|candidate| candidate.name == *name);
            let nth = nth.expect("the plan knows who stands behind the guard");
            self.candidates.push(Candidate::guarded(&GuardPlan::name_of(name), nth));
            self.besides.push(Vec::new());
        }
        self.guard = Some(plan.clone());
        self
    }

    /// The guard in front of a candidate and the name of who stands behind it, if one does.
    pub fn guard_of(&self, candidate: &Candidate) -> Option<(&GuardPlan, &str)> {
        match &candidate.made {
            Origin::Guarded(nth) => Some((self.guard.as_ref()?, &self.candidates[*nth].name)),
            _ => None,
        }
    }
}
