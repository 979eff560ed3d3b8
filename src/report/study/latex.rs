//! The study as a LaTeX table for a paper, in the style of `booktabs`.

use std::fmt::Write;

use super::tables::Scale;
use super::{Row, StudyReport, title};
use crate::eval::MetricKind;

/// Below this probability a candidate is told from the best of its column.
const TOLD_APART: f64 = 0.05;

/// A `table` for each group of cells: the best of a column in bold, what a paired test over prompts does not tell from it
/// marked with a dagger. Needs the package `booktabs`.
pub fn latex(report: &StudyReport) -> String {
    let mut text = format!(
        "% {}, by finetune {}; needs \\usepackage{{booktabs}}\n",
        report.study.replace(['\n', '\r'], " "),
        report.version
    );
    for group in report.groups() {
        table(&mut text, report, group);
    }
    text
}

fn table(text: &mut String, report: &StudyReport, group: &str) {
    let rows = report.group(group);
    let columns = rows.columns();
    let _ = write!(
        text,
        "\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{l{}}}\n\\toprule\nCandidate",
        "r".repeat(columns.len())
    );
    for column in &columns {
        let arrow = if column.kind == MetricKind::Task { "\\uparrow" } else { "\\downarrow" };
        let _ = write!(
            text,
            " & {} {} ${arrow}$",
            escaped(&column.suite),
            escaped(&column.metric.replace('_', " "))
        );
    }
    text.push_str(" \\\\\n\\midrule\n");
    for candidate in rows.candidates() {
        text.push_str(&escaped(candidate));
        for column in &columns {
            let found = rows.row(candidate, column);
            let _ = write!(text, " & {}", found.map_or("--".to_owned(), value));
        }
        text.push_str(" \\\\\n");
    }
    let seeds = rows.0.iter().map(|row| row.seeds.len()).max().unwrap_or(0);
    let prompts: Vec<String> = columns.iter().map(|column| column.estimate.n_prompts.to_string()).collect();
    let _ = write!(
        text,
        "\\bottomrule\n\\end{{tabular}}\n\\caption{{{}: mean $\\pm$ standard deviation over {seeds} seed{}; {} prompts. Best of all but base and tuned in \
         bold; $\\dagger$: not told from it by a paired test over prompts ($p \\ge {TOLD_APART}$, uncorrected).}}\n\\end{{table}}\n",
        escaped(title(group)),
        if seeds == 1 { "" } else { "s" },
        prompts.join(", ")
    );
}

fn value(row: &Row) -> String {
    let Scale { times, digits, .. } = Scale::of(&row.metric);
    let mean = format!("{:.digits$}", times * row.estimate.mean);
    let sd = row.estimate.sd.map(|sd| format!(" $\\pm$ {:.digits$}", times * sd)).unwrap_or_default();
    match row.behind_best {
        Some(1.0) => format!("\\textbf{{{mean}}}{sd}"),
        Some(p) if p >= TOLD_APART => format!("{mean}{sd}$^\\dagger$"),
        _ => format!("{mean}{sd}"),
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => safe.extend(['\\', c]),
            '\\' => safe.push_str("\\textbackslash{}"),
            '~' => safe.push_str("\\textasciitilde{}"),
            '^' => safe.push_str("\\textasciicircum{}"),
            'λ' => safe.push_str("$\\lambda$"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_command() {
        assert_eq!(escaped("a_b & 30% \\x"), "a\\_b \\& 30\\% \\textbackslash{}x");
    }
}
