//! The update, scaled and added.

use crate::merge::deltas::{Deltas, Thin};
use crate::merge::{Method, Needs};

pub(super) const TASK_ARITHMETIC: Method = Method {
    name: "task_arithmetic",
    summary: "add the scaled update to the base",
    source: "Ilharco et al. 2022, arXiv 2212.04089",
    example: "task_arithmetic:0.5",
    needs: Needs::PAIR,
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::No, parameters)?)),
    of_models: &["weight", "density"],
    from_settings: |settings| Ok(Box::new(Deltas::from_settings(Thin::No, false, false, false, settings)?)),
};
