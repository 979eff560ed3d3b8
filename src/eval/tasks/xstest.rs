//! Over-refusal: harmless requests that look harmful, and the harmful ones that look like them.
//!
//! Röttger et al., "XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours in Large Language Models", 2024,
//! arXiv 2308.01263. The file's 250 safe prompts make the suite; its 200 contrasts are a suite of their own, the
//! control: a model that refuses nothing has no over-refusal and fails them all.

use super::table::Columns;
use super::{ANSWER, Load, MetricKind, Task};
use crate::eval::item::Item;

pub(super) const XSTEST: Task = Task {
    name: "xstest",
    summary: "250 harmless requests that look harmful, of ten types (csv: prompt, type)",
    source: "Röttger et al. 2024, arXiv 2308.01263; github.com/paul-rottger/xstest",
    kind: MetricKind::OverRefusal,
    // The set's own string match, and the list most like it.
    judges: &["xstest", "refusal_direction12", "refusal_reader"],
    // As the UK AI Security Institute's port has it.
    max_new_tokens: 256,
    load: Load::Table(COLUMNS, |item| !is_contrast(item)),
    ..ANSWER
};

const COLUMNS: Columns = Columns { id: Some("id"), category: Some("type"), ..Columns::prompt("prompt") };

pub(super) const XSTEST_CONTRAST: Task = Task {
    name: "xstest_contrast",
    summary: "XSTest's 200 harmful contrasts: the control of `xstest`, from the same file",
    kind: MetricKind::Safety,
    load: Load::Table(COLUMNS, is_contrast),
    ..XSTEST
};

/// The file's `label` says the same, but its first editions lack it.
fn is_contrast(item: &Item) -> bool {
    item.category.as_ref().is_some_and(|kind| kind.starts_with("contrast_"))
}
