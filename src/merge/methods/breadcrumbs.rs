//! Drop the smallest numbers of the update and the very largest.

use crate::merge::deltas::{Deltas, Thin};
use crate::merge::{Method, Needs};

const SOURCE: &str = "Davari and Belilovsky 2023, arXiv 2312.06795";

pub(super) const BREADCRUMBS: Method = Method {
    name: "breadcrumbs",
    summary: "add the update without its smallest and its very largest numbers",
    source: SOURCE,
    example: "breadcrumbs:0.5,density=0.9,gamma=0.01",
    needs: Needs::PAIR,
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Outliers, parameters)?)),
    of_models: &["weight", "density", "gamma"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::Outliers, false, false, false, settings)?))
    },
};

pub(super) const BREADCRUMBS_TIES: Method = Method {
    name: "breadcrumbs_ties",
    summary: "as breadcrumbs; of several models, what agrees in sign",
    source: SOURCE,
    example: "breadcrumbs_ties:0.5,density=0.9,gamma=0.01",
    needs: Needs::PAIR,
    from_spec: |parameters| Ok(Box::new(Deltas::from_spec(Thin::Outliers, parameters)?)),
    of_models: &["weight", "density", "gamma"],
    from_settings: |settings| {
        Ok(Box::new(Deltas::from_settings(Thin::Outliers, true, false, false, settings)?))
    },
};
