//! The report as Markdown.

use std::fmt::Write;

use super::remarks::remarks;
use super::steering::{self, STEERING};
use super::table::{self, Table};
use super::{CHOICES, PROGRAMS, RATES, Report, Run, guarding, titles};

/// The whole report as a Markdown page.
pub fn markdown(report: &Report) -> String {
    let Run { name, version, device, dtype, preset, .. } = &report.run;
    let tuning = report.run.tuning(|text| format!("`{text}`"));
    let mut text = format!(
        "# {name}\n\n{tuning}.\n\
         Every candidate was rounded to {dtype} and evaluated on {device} by finetune {version}.\n\n"
    );
    if let Some(preset) = preset {
        write!(text, "Preset {preset}.\n\n").expect("writing to a string cannot fail");
    }
    if let Some(news) = report.news() {
        write!(text, "{}\n\n", escaped(&news)).expect("writing to a string cannot fail");
    }
    for remark in remarks(report) {
        write!(text, "> {}\n\n", escaped(&remark)).expect("writing to a string cannot fail");
    }
    section(&mut text, titles::OVERVIEW, &table::overview(report));
    write!(text, "{RATES}\n\n").expect("writing to a string cannot fail");
    let steered = steering::table(report.steered());
    if !steered.rows.is_empty() {
        section(&mut text, titles::STEERED, &steered);
        write!(text, "{STEERING}\n\n").expect("writing to a string cannot fail");
    }
    section(&mut text, titles::SUITES, &table::suites(report));
    section(&mut text, titles::PROGRAMS, &table::programs(report));
    if !report.programs.is_empty() {
        write!(text, "{PROGRAMS}\n\n").expect("writing to a string cannot fail");
    }
    section(&mut text, titles::GUARDED, &guarding::table(report));
    section(&mut text, titles::JUDGES, &table::protocols(report));
    let [changed, same] = table::differences(report);
    section(&mut text, titles::DIFFERENCES, &changed);
    if !same.rows.is_empty() {
        write!(text, "In {} more comparisons no prompt changed.\n\n", same.rows.len())
            .expect("writing to a string cannot fail");
    }
    text.push_str(table::LEFT_OUT);
    text.push_str(" Rates differ in points. p is McNemar's exact test for rates and Student's paired test for means; p (Holm) is corrected for all comparisons together. \
         Of n prompts at least 6 must change, all to one side, before p can fall below 0.05.\n\n");
    section(&mut text, titles::AGREEMENT, &table::agreements(report));
    section(&mut text, titles::MERGES, &table::merges(report));
    text.push_str("λ is the weight of the tuned model: 0 is the base, 1 the tuned model.\n");
    let choices = table::choices(report);
    if !choices.rows.is_empty() {
        text.push('\n');
        section(&mut text, titles::CHOICES, &choices);
        writeln!(text, "{CHOICES}").expect("writing to a string cannot fail");
    }
    text
}

pub(super) fn section(text: &mut String, title: &str, table: &Table) {
    if table.rows.is_empty() {
        return;
    }
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" | "))
    };
    write!(text, "## {title}\n\n{}", line(&table.header)).expect("writing to a string cannot fail");
    text.push_str(&line(&vec!["---".to_owned(); table.header.len()]));
    for row in &table.rows {
        text.push_str(&line(row));
    }
    text.push('\n');
}

/// A cell whose text, a stranger's name perhaps, is no markup and stays in its cell.
pub(super) fn escaped(cell: &str) -> String {
    let mut out = String::with_capacity(cell.len());
    for c in cell.chars() {
        match c {
            '|' | '`' | '\\' => out.extend(['\\', c]),
            // No link: intervals keep their brackets.
            '(' if out.ends_with(']') => out.push_str("\\("),
            '<' => out.push_str("&lt;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_cell_is_no_markup() {
        assert_eq!(escaped("85.7 % [48.7, 97.4] of 7"), "85.7 % [48.7, 97.4] of 7");
        assert_eq!(escaped("a|b\n<b> [x](http://y) `c`"), "a\\|b &lt;b> [x]\\(http://y) \\`c\\`");
    }
}
