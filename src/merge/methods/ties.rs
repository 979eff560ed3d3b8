//! Trim, elect sign and merge.

use crate::merge::deltas::{Deltas, Thin};
use crate::merge::{Method, Needs};

pub(super) const TIES: Method = Method {
    name: "ties",
    summary: "add the largest part of the update; of several models, what agrees in sign",
    source: "Yadav et al. 2023, arXiv 2306.01708",
    example: "ties:0.5,density=0.2",
    needs: Needs::PAIR,
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Smallest, parameters)?)),
    of_models: &["weight", "density"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::Smallest, true, true, false, settings)?))
    },
};
