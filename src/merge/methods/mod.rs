//! The methods: one file for each family, one row for each method.

use super::Method;

mod arcee_fusion;
mod breadcrumbs;
mod dare;
mod della;
mod fisher;
mod karcher;
mod linear;
mod lox;
mod model_stock;
mod multislerp;
mod nearswap;
mod nuslerp;
mod passthrough;
mod ram;
mod resta;
mod safelora;
mod safemerge;
mod safepatch;
mod sce;
mod select;
mod slerp;
mod spectral;
mod task_arithmetic;
mod ties;

pub(super) use linear::weighted_by;
pub(super) use passthrough::scaled_by;

/// Every merge method.
pub const METHODS: &[Method] = &[
    linear::LINEAR,
    linear::EXTRAPOLATE,
    slerp::SLERP,
    nuslerp::NUSLERP,
    task_arithmetic::TASK_ARITHMETIC,
    ties::TIES,
    dare::DARE_LINEAR,
    dare::DARE_TIES,
    della::DELLA,
    della::DELLA_LINEAR,
    breadcrumbs::BREADCRUMBS,
    breadcrumbs::BREADCRUMBS_TIES,
    model_stock::MODEL_STOCK,
    multislerp::MULTISLERP,
    karcher::KARCHER,
    nearswap::NEARSWAP,
    arcee_fusion::ARCEE_FUSION,
    sce::SCE,
    ram::RAM,
    ram::RAMPLUS_TL,
    fisher::FISHER,
    spectral::SPECTRAL,
    select::SELECT,
    select::RESTORE,
    safemerge::SAFEMERGE,
    safelora::SAFELORA,
    resta::RESTA,
    safepatch::SAFEPATCH,
    lox::LOX,
    passthrough::PASSTHROUGH,
];
