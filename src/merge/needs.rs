//! What a method must be given: models by their roles, and what else it looks at.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use crate::recipe::{EMA, HARDENED, Helper};

/// The part that a model plays in a merge.
///
/// A method that needs a model of another kind adds it to [`Helper`] and names it in its row's [`Needs::roles`].
/// Whoever merges asks the row which roles are needed, and no list of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// As it was before tuning.
    Base,
    /// The base as it was hardened before tuning.
    Hardened,
    /// Tuned from the base.
    Tuned,
    /// The moving average of the weights while they were tuned.
    Ema,
    /// Another that the user names.
    Helper(Helper),
}

impl Role {
    /// What the model of this role is called as a candidate.
    pub fn candidate(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Hardened => HARDENED,
            Self::Tuned => "tuned",
            Self::Ema => EMA,
            Self::Helper(helper) => helper.name(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Hardened => "hardened base",
            Self::Tuned => "tuned model",
            Self::Helper(helper) => helper.name(),
            Self::Ema => "average of the weights",
        })
    }
}

/// What a method must be given in a spec. A row begins with one of the constants and says what differs.
#[derive(Debug, Clone)]
pub struct Needs {
    /// How many models of each role, at least and at most. A method's inputs are in this order; masks are no inputs.
    pub roles: &'static [(Role, RangeInclusive<usize>)],
    /// How much each number matters to each of the models.
    pub importance: bool,
    /// Which layers the tuned model's lost refusals hang on; only a run can ask it.
    pub probe: bool,
    /// Chance plays a part, drawn by the spec's own seed or that of the run.
    pub random: bool,
}

impl Needs {
    /// A base and one tuned model.
    pub const PAIR: Self =
        Self { roles: &[ONE_BASE, (Role::Tuned, 1..=1)], importance: false, probe: false, random: false };
    /// A base and any number of tuned models.
    pub const ANY: Self = Self { roles: &[ONE_BASE, (Role::Tuned, 1..=usize::MAX)], ..Self::PAIR };
    /// A base and several tuned models, which are compared: seeds, or checkpoints of one run.
    pub const SEVERAL: Self = Self { roles: &[ONE_BASE, (Role::Tuned, 2..=usize::MAX)], ..Self::PAIR };

    /// These roles and nothing else.
    pub const fn of(roles: &'static [(Role, RangeInclusive<usize>)]) -> Self {
        Self { roles, ..Self::PAIR }
    }

    /// The same with the importance of every number.
    pub const fn with_importance(self) -> Self {
        Self { importance: true, ..self }
    }

    /// The same with the layers that refusals hang on.
    pub const fn with_probe(self) -> Self {
        Self { probe: true, ..self }
    }

    /// The same, drawn by a seed.
    pub const fn with_chance(self) -> Self {
        Self { random: true, ..self }
    }

    /// How many models of this role, at least and at most.
    pub fn count(&self, role: Role) -> RangeInclusive<usize> {
        let found = self.roles.iter().find(|(own, _)| *own == role);
        found.map_or(0..=0, |(_, count)| count.clone())
    }

    /// What it looks at besides base and tuned models, in order.
    pub fn helpers(&self) -> impl Iterator<Item = Helper> {
        self.roles.iter().filter_map(|(role, _)| match role {
            Role::Helper(helper) => Some(*helper),
            Role::Base | Role::Hardened | Role::Tuned | Role::Ema => None,
        })
    }

    /// That all that it needs besides base and tuned models is given; the first that is not is the error.
    pub fn given(&self, given: &BTreeSet<Helper>) -> Result<(), Helper> {
        let missing =
            |helper: &Helper| !given.contains(helper) && *self.count(Role::Helper(*helper)).start() > 0;
        self.helpers().find(missing).map_or(Ok(()), Err)
    }

    /// What must be given besides a base and one tuned model, for a list.
    pub fn in_words(&self) -> String {
        let must = |helper: &Helper| *self.count(Role::Helper(*helper)).start() > 0;
        let helpers = self.helpers().filter(must).map(|helper| helper.name().to_owned());
        let several = self.several_tuned().then(|| "several tuned models".to_owned());
        let importance = self.importance.then(|| "importance of every number".to_owned());
        let probe = self.probe.then(|| "harmful requests for validation, in a run".to_owned());
        helpers.chain(several).chain(importance).chain(probe).collect::<Vec<_>>().join(", ")
    }

    /// Whether several tuned models are compared with each other.
    pub fn several_tuned(&self) -> bool {
        *self.count(Role::Tuned).start() > 1
    }
}

/// A base.
pub(super) const ONE_BASE: (Role, RangeInclusive<usize>) = (Role::Base, 1..=1);
/// One tuned model.
pub(super) const ONE_TUNED: (Role, RangeInclusive<usize>) = (Role::Tuned, 1..=1);

/// One that the user must name.
pub(super) const fn one(helper: Helper) -> (Role, RangeInclusive<usize>) {
    (Role::Helper(helper), 1..=1)
}

/// One that the user may name.
pub(super) const fn perhaps(helper: Helper) -> (Role, RangeInclusive<usize>) {
    (Role::Helper(helper), 0..=1)
}
