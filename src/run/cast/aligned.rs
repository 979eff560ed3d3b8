//! What merges look at besides base and tuned model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RoleWeights;
use crate::merge::{Alignments, Role};
use crate::recipe::Helper;
use crate::run::plan::helpers::Helpers;
use crate::snapshot::SharedWeights;

/// How the update of each tuned role lies to the alignment, where there is an unaligned model; nothing is looked at yet.
pub(super) fn aligned(
    roles: &BTreeMap<Role, RoleWeights>,
    helpers: &Helpers,
) -> BTreeMap<Role, Arc<Alignments>> {
    let weights = |role: Role| Some(roles.get(&role)?.weights.clone());
    let of = |role: Role| {
        let unaligned = helpers.get(&Helper::Unaligned)?.weights.clone();
        Some((role, Arc::new(Alignments::new(weights(Role::Base)?, weights(role)?, unaligned))))
    };
    [Role::Tuned, Role::Ema].into_iter().filter_map(of).collect()
}

/// The weights of what merges look at besides.
pub(super) fn weights_of(helpers: &Helpers) -> BTreeMap<Helper, SharedWeights> {
    helpers.iter().map(|(helper, one)| (*helper, one.weights.clone())).collect()
}
