//! Trim, elect sign and merge.

use crate::merge::Method;
use crate::merge::deltas::{Deltas, Thin};

pub(super) const TIES: Method = Method {
    name: "ties",
    summary: "add the largest part of the update; of several models, what agrees in sign",
    source: "Yadav et al. 2023, arXiv 2306.01708",
    example: "ties:0.5,density=0.2",
    tuned: 1..=1,
    by_importance: false,
    random: false,
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Smallest, parameters)?)),
    of_models: &["weight", "density"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::Smallest, true, true, false, settings)?))
    },
};
