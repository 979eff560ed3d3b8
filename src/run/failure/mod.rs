//! Every way a command ends badly, and its exit code.
//!
//! The errors of the rooms beside this one lie here too: every room may fail with any of them.

use miette::Diagnostic;
use thiserror::Error;

mod folder;
mod guard;
mod inspect;
mod judge;
mod reproduce;
mod reward;
mod room;
mod selftest;
mod source;
mod steer;
mod study;
mod verify;

pub use folder::FolderError;
pub use guard::GuardError;
pub use inspect::InspectError;
pub use judge::JudgeError;
pub use reproduce::ReproduceError;
pub use reward::RewardError;
pub use room::RoomError;
pub use selftest::SelftestError;
pub use source::SourceError;
pub use steer::SteerError;
pub use study::{CellsFailed, JobsFailed, StudyError};
pub use verify::VerifyError;

use crate::data::DataError;
use crate::device::DeviceError;
use crate::eval::EvalError;
use crate::eval::endpoint::EndpointError;
use crate::event::Unwritable;
use crate::hub::HubError;
use crate::merge::MergeError;
use crate::recipe::{RecipeError, SpecError};
use crate::report::sheet::Unlisted;
use crate::sandbox::SandboxError;
use crate::snapshot::SnapshotError;
use crate::snapshot::template::TemplateError;
use crate::snapshot::tokenizer::TokenizerError;
use crate::train::TrainError;

/// Something that nobody foresaw.
pub const UNEXPECTED: u8 = 1;
/// The recipe or the command line.
pub const RECIPE: u8 = 2;
/// The world: a file, a hub, a device, memory.
pub const WORLD: u8 = 3;
/// The training diverged.
pub const DIVERGED: u8 = 4;
/// A bound of the recipe is not kept.
pub const GATE: u8 = 5;
/// Stopped on request; the same command goes on.
pub const STOPPED: u8 = 6;

/// Why a command failed.
#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(transparent)]
pub enum Failure {
    Recipe(#[from] RecipeError),
    Spec(#[from] SpecError),
    Merge(#[from] MergeError),
    Source(#[from] SourceError),
    Hub(#[from] HubError),
    Data(#[from] DataError),
    Eval(#[from] EvalError),
    Snapshot(#[from] SnapshotError),
    Tokenizer(#[from] TokenizerError),
    Template(#[from] TemplateError),
    Device(#[from] DeviceError),
    Train(#[from] TrainError),
    Folder(#[from] FolderError),
    Selftest(#[from] SelftestError),
    Inspect(#[from] InspectError),
    Steer(#[from] SteerError),
    Verify(#[from] VerifyError),
    Judge(#[from] JudgeError),
    Guard(#[from] GuardError),
    Reward(#[from] RewardError),
    Room(#[from] RoomError),
    Sandbox(#[from] SandboxError),
    Incomplete(#[from] Incomplete),
    Unlisted(#[from] Unlisted),
    NothingInCommon(#[from] NothingInCommon),
    Reproduce(#[from] ReproduceError),
    Study(#[from] StudyError),
    CellsFailed(#[from] CellsFailed),
    JobsFailed(#[from] JobsFailed),
    GateFailed(#[from] GateFailed),
    Stopped(#[from] Stopped),
    Broken(#[from] Broken),
}

/// This program or a library of it broke a promise of its own.
#[derive(Debug, Error, Diagnostic)]
#[error("{0}")]
#[diagnostic(
    code(run::broken),
    help(
        "every finished file is whole, and the same command goes on from there. It should not have happened: please \
         report it with this message and what was read, and `RUST_BACKTRACE=1` shows where"
    )
)]
pub struct Broken(pub String);

/// Stored answers were to be judged, and some are missing.
#[derive(Debug, Error, Diagnostic)]
#[error("{n} answers of `{candidate}` are missing in `{folder}`")]
#[diagnostic(
    code(run::incomplete),
    help("run the study again with the same recipe: it asks only what is missing")
)]
pub struct Incomplete {
    pub candidate: String,
    pub n: usize,
    pub folder: String,
}

/// Runs were to be compared, and no candidate was asked the same prompt in two of them.
#[derive(Debug, Error, Diagnostic)]
#[error("`{folders}` have nothing in common that could be compared: {notes}")]
#[diagnostic(
    code(run::nothing_in_common),
    help("ask the same suites in each: `finetune report RUN` shows what was asked")
)]
pub struct NothingInCommon {
    pub folders: String,
    pub notes: String,
}

/// Everything was done and reported, and a bound of the recipe is not kept.
#[derive(Debug, Error, Diagnostic)]
#[error("{n} of the recipe's bounds {}: {which}", if *n == 1 { "is not kept" } else { "are not kept" })]
#[diagnostic(code(run::gate_failed), help("everything was done, and the report is written"))]
pub struct GateFailed {
    pub n: usize,
    pub which: String,
}

/// The run was asked to stop and did.
#[derive(Debug, Clone, Error, Diagnostic)]
#[error("stopped on request; everything so far is kept in `{folder}`")]
#[diagnostic(code(run::stopped), help("the same command goes on from there"))]
pub struct Stopped {
    pub folder: String,
}

impl Failure {
    /// The code the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Recipe(RecipeError::Unreadable { .. }) => WORLD,
            Self::Merge(error) if !error.is_request() => WORLD,
            Self::Recipe(_)
            | Self::Spec(_)
            | Self::Merge(_)
            | Self::Unlisted(_)
            | Self::NothingInCommon(_)
            | Self::Inspect(_)
            | Self::Study(
                StudyError::NoCell { .. }
                | StudyError::NoGrid { .. }
                | StudyError::BadContrast { .. }
                | StudyError::NothingToChooseBy { .. },
            )
            | Self::Reproduce(ReproduceError::NotARun { .. } | ReproduceError::Study { .. })
            | Self::Source(SourceError::WholeRepository { .. })
            | Self::Hub(HubError::BadName { .. })
            | Self::Train(
                TrainError::NoTarget { .. }
                | TrainError::NotAdapted { .. }
                | TrainError::PastTheLayers { .. }
                | TrainError::NothingToFreeze { .. }
                | TrainError::AllFrozen { .. }
                | TrainError::DeviceChange { .. },
            )
            | Self::Device(DeviceError::Unknown { .. }) => RECIPE,
            Self::Steer(error) if error.is_request() => RECIPE,
            Self::Data(error) if error.is_recipe() => RECIPE,
            Self::Eval(error) if error.is_recipe() => RECIPE,
            Self::Judge(error) if error.is_recipe() => RECIPE,
            Self::Guard(error) if error.is_recipe() => RECIPE,
            Self::Train(TrainError::Diverged { .. } | TrainError::NotFinite { .. })
            | Self::CellsFailed(_) => DIVERGED,
            Self::GateFailed(_) | Self::Reproduce(ReproduceError::NotEqual { .. }) => GATE,
            Self::JobsFailed(error) => error.code,
            Self::Stopped(_) => STOPPED,
            Self::Broken(_) => UNEXPECTED,
            _ => WORLD,
        }
    }
}

impl Failure {
    /// Whether a cell of a study waits for others.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Study(StudyError::Waits { .. }))
    }

    /// Whether a training ended badly, which says nothing of others.
    pub fn is_divergence(&self) -> bool {
        self.exit_code() == DIVERGED
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        JudgeError::from(error).into()
    }
}

impl From<Unwritable> for Failure {
    fn from(error: Unwritable) -> Self {
        FolderError::from(error).into()
    }
}
