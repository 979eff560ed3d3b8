//! The report as a person reads it after a run.

use comfy_table::{ContentArrangement, presets};

use super::remarks::remarks;
use super::steering;
use super::table::{self, Table};
use super::{Report, guarding};

/// The overview and the merges as text, at most `width` columns wide.
pub fn terminal(report: &Report, width: u16) -> String {
    let preset = report.run.preset.as_ref().map(|preset| format!("preset {preset}\n")).unwrap_or_default();
    let mut text = format!("{}\n{preset}", report.run.tuning(str::to_owned));
    text.extend(report.news().map(|news| format!("{news}\n")));
    text.push_str(&draw(table::overview(report), width));
    let steered = steering::table(report.steered());
    if !steered.rows.is_empty() {
        text.push('\n');
        text.push_str(&draw(steered, width));
    }
    if !report.programs.is_empty() {
        text.push('\n');
        text.push_str(&draw(table::programs(report), width));
        if report.programs.iter().any(|tests| !tests.same_process.is_empty()) {
            text.push_str("Programs in one process with their tests could forge their verdict.\n");
        }
    }
    if !report.guarded.is_empty() {
        text.push('\n');
        text.push_str(&draw(guarding::table(report), width));
    }
    if !report.merge.is_empty() {
        text.push('\n');
        text.push_str(&draw(table::merges(report), width));
    }
    let choices = table::choices(report);
    if !choices.rows.is_empty() {
        text.push('\n');
        text.push_str(&draw(choices, width));
    }
    for remark in remarks(report) {
        text.push('\n');
        text.push_str(&remark);
        text.push('\n');
    }
    if let Some(line) = table::most_left_out(report) {
        text.push('\n');
        text.push_str(&line);
    }
    text.push_str("\nRates with 95 % Wilson intervals; differences on the same prompts are in report.md.\n");
    text
}

pub(super) fn draw(table: Table, width: u16) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(table.header)
        .add_rows(table.rows);
    format!("{drawn}\n")
}
