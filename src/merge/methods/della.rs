//! Drop at random, small numbers more often than large ones, and rescale.

use crate::merge::deltas::{Deltas, Thin};
use crate::merge::{Method, Needs};

const SOURCE: &str = "Deep et al. 2024, arXiv 2406.11617";

pub(super) const DELLA: Method = Method {
    name: "della",
    summary: "as della_linear; of several models, what agrees in sign",
    source: SOURCE,
    example: "della:0.5,density=0.5,epsilon=0.1",
    needs: Needs::PAIR.with_chance(),
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::RandomByRank, parameters)?)),
    of_models: &["weight", "density", "epsilon"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::RandomByRank, true, true, true, settings)?))
    },
};

pub(super) const DELLA_LINEAR: Method = Method {
    name: "della_linear",
    summary: "drop numbers of the update at random, the small ones of a row more often, scale up the rest",
    source: SOURCE,
    example: "della_linear:0.5,density=0.5,epsilon=0.1",
    needs: Needs::PAIR.with_chance(),
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::RandomByRank, parameters)?)),
    of_models: &["weight", "density", "epsilon"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::RandomByRank, false, false, true, settings)?))
    },
};
