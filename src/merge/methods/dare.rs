//! Drop at random and rescale.

use crate::merge::deltas::{Deltas, Thin};
use crate::merge::{Method, Needs};

const SOURCE: &str = "Yu et al. 2023, arXiv 2311.03099";

pub(super) const DARE_LINEAR: Method = Method {
    name: "dare_linear",
    summary: "drop numbers of the update at random, scale up the rest and add it",
    source: SOURCE,
    example: "dare_linear:0.5,density=0.5",
    needs: Needs::PAIR.with_chance(),
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Random, parameters)?)),
    of_models: &["weight", "density"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::Random, false, false, true, settings)?))
    },
};

pub(super) const DARE_TIES: Method = Method {
    name: "dare_ties",
    summary: "as dare_linear; of several models, what agrees in sign",
    source: SOURCE,
    example: "dare_ties:0.5,density=0.5",
    needs: Needs::PAIR.with_chance(),
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Random, parameters)?)),
    of_models: &["weight", "density"],
    from_settings: |settings| Ok(Box::new(Deltas::from_settings(Thin::Random, true, false, true, settings)?)),
};
