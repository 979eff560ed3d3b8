//! What a method must be given: models by their roles, and what else it looks at.

use std::fmt;
use std::ops::RangeInclusive;

use crate::recipe::EMA;

/// The part that a model plays in a merge.
///
/// A method that needs a model of another kind, such as one without safety training, adds its role here,
/// names it in its row's [`Needs::roles`], and [`super::Pair`] gets a place for it. Whoever merges asks the
/// row which roles are needed, and no list of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// As it was before tuning.
    Base,
    /// Tuned from the base.
    Tuned,
    /// The moving average of the weights while they were tuned.
    Ema,
}

impl Role {
    /// What the model of this role is called as a candidate.
    pub fn candidate(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Tuned => "tuned",
            Self::Ema => EMA,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Tuned => "tuned model",
            Self::Ema => "average of the weights",
        })
    }
}

/// What a method must be given in a spec. A row begins with one of the constants and says what differs.
#[derive(Debug, Clone)]
pub struct Needs {
    /// How many models of each role, at least and at most.
    pub roles: &'static [(Role, RangeInclusive<usize>)],
    /// How much each number matters to each of the models.
    pub importance: bool,
    /// Chance plays a part, drawn by the spec's own seed or that of the run.
    pub random: bool,
}

impl Needs {
    /// A base and one tuned model.
    pub const PAIR: Self =
        Self { roles: &[ONE_BASE, (Role::Tuned, 1..=1)], importance: false, random: false };
    /// A base and any number of tuned models.
    pub const ANY: Self = Self { roles: &[ONE_BASE, (Role::Tuned, 1..=usize::MAX)], ..Self::PAIR };
    /// A base and several tuned models, which are compared: seeds, or checkpoints of one run.
    pub const SEVERAL: Self = Self { roles: &[ONE_BASE, (Role::Tuned, 2..=usize::MAX)], ..Self::PAIR };

    /// The same with the importance of every number.
    pub const fn with_importance(self) -> Self {
        Self { importance: true, ..self }
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

    /// Whether several tuned models are compared with each other.
    pub fn several_tuned(&self) -> bool {
        *self.count(Role::Tuned).start() > 1
    }
}

const ONE_BASE: (Role, RangeInclusive<usize>) = (Role::Base, 1..=1);
