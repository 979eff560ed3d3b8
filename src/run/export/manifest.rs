//! What a merged folder says of itself for programs, and what proves it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Request;
use crate::merge::{MergeReport, WeightReport};

/// The manifest's file name.
pub(super) const MANIFEST: &str = "merge.json";

/// How a folder was merged and from what: enough to do it again and to check it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    /// Of this program.
    pub version: String,
    pub request: Request,
    /// The folder that the request's paths are seen from.
    pub seen_from: PathBuf,
    /// BLAKE3 of each file that was read; empty without digests.
    pub inputs: BTreeMap<PathBuf, String>,
    /// BLAKE3 of each file of weights that was written; empty without digests.
    pub shards: BTreeMap<String, String>,
    /// In sum and for each weight that tuning touched; absent without statistics.
    pub report: Option<MergeReport>,
    pub weights: BTreeMap<String, WeightReport>,
}
