//! The study as a page: pictures, answers to the questions, then a table for each group of cells.
//!
//! It holds what was found over the seeds; the numbers of each cell stay in `rows.parquet`. Where groups are many, those
//! behind the first are made when they are opened.

use std::fmt::Write;

use super::pictures::parts;
use super::tables::{CHOICES, CONTRASTS, NOTE, choices, contrasts, differences, overview, state};
use super::{CellLine, Gallery, Row, StudyReport, title};
use crate::report::beside::Beside;
use crate::report::html::provenance;
use crate::report::page::{TABLES, begun, ended, escaped, in_address, kept, row_address, section, shown};
use crate::report::table::Table;

/// So many groups are shown whole.
const WHOLE: usize = 3;

/// What a study's page knows of its folder.
#[derive(Debug, Clone, Default)]
pub struct StudyBeside {
    /// The cells' folders that have a page with answers, as the report names them.
    pub answered: Vec<String>,
    /// The cells' folders that have numbers alone, and no page.
    pub pageless: Vec<String>,
    /// What the numbers come from: its other parts are a run's.
    pub beside: Beside,
}

/// The study as a page of its own.
pub fn html(report: &StudyReport, gallery: &Gallery, found: &StudyBeside) -> String {
    let about = format!(
        "<p>{}. Written by finetune {}.</p><p class=\"note\">{}</p>",
        escaped(&state(report)),
        escaped(&report.version),
        match found.answered.is_empty() {
            true =>
                "A dot leads to the report of its first cell; once <code>finetune report STUDY --answers</code> has \
                     written the answers, it leads to them.",
            false => "A dot leads to the answers of its first cell, which may be harmful text.",
        }
    );
    let mut page = begun(&report.study, &about, "", TABLES);
    let groups = report.groups();
    for gate in report.gates.iter().filter(|gate| !gate.holds) {
        let said = escaped(&gate.in_words());
        let _ = writeln!(page, "<p class=\"remark\">A bound of the recipe is not kept: {said}.</p>");
    }
    let together = |of: &str| {
        let (group, candidate) = parts(of);
        address(report, found, group, candidate)
    };
    shown(&mut page, &gallery.together, &together);
    let (whole, folded) = groups.split_at(if groups.len() > WHOLE { 1 } else { groups.len() });
    if let [only] = groups.as_slice() {
        pictures(&mut page, report, gallery, found, only);
        tables(&mut page, report, only, NOTE);
    }
    section(&mut page, CHOICES, &choices(report), "");
    section(&mut page, "Contrasts named in advance", &contrasts(report), CONTRASTS);
    if groups.len() > WHOLE {
        section(&mut page, "The tuned model of every group", &tuned(report), NOTE);
    }
    if groups.len() > 1 {
        for group in whole {
            pictures(&mut page, report, gallery, found, group);
            tables(&mut page, report, group, NOTE);
        }
    }
    for (nth, group) in folded.iter().enumerate() {
        let mut markup = String::new();
        pictures(&mut markup, report, gallery, found, group);
        tables(&mut markup, report, group, "");
        more(&mut markup, report, group);
        kept(&mut page, &format!("group-{nth}"), &escaped(title(group)), &markup);
    }
    for group in whole {
        more(&mut page, report, group);
    }
    for note in &report.notes {
        let _ = writeln!(page, "<p>{}</p>", escaped(note));
    }
    cells(&mut page, report, found);
    provenance(&mut page, &found.beside.facts, &found.beside.texts);
    ended(page, TABLES)
}

fn pictures(page: &mut String, report: &StudyReport, gallery: &Gallery, found: &StudyBeside, group: &str) {
    let own = |candidate: &str| address(report, found, group, candidate);
    shown(page, gallery.of(group), &own);
}

fn tables(page: &mut String, report: &StudyReport, group: &str, note: &str) {
    section(page, &escaped(title(group)), &overview(report, group), note);
}

fn more(page: &mut String, report: &StudyReport, group: &str) {
    let title = format!("Differences: {}", escaped(title(group)));
    section(page, &title, &differences(report, group), "");
}

/// Where a candidate's dot leads: to the answers of the first cell of its group, or to that cell's report, if it is there.
fn address(report: &StudyReport, found: &StudyBeside, group: &str, candidate: &str) -> Option<String> {
    let of_group = |cell: &&CellLine| cell.group == group && cell.folder.is_some();
    let folder = report.cells.iter().find(of_group)?.folder.as_ref()?;
    if found.pageless.contains(folder) {
        return None;
    }
    Some(match found.answered.contains(folder) {
        true => format!("{}/answers.html#candidate={}", path(folder), in_address(candidate)),
        false => format!("{}/report.html{}", path(folder), row_address(candidate)),
    })
}

/// A folder as an address, seen from the page.
fn path(folder: &str) -> String {
    folder.split(['/', '\\']).map(in_address).collect::<Vec<_>>().join("/")
}

/// One line for each group, of its tuned model.
fn tuned(report: &StudyReport) -> Table {
    let columns: Vec<&Row> =
        report.groups().first().map(|first| report.group(first).columns()).unwrap_or_default();
    let mut header = vec!["group".to_owned()];
    header.extend(columns.iter().map(|column| super::tables::heading(column)));
    let row = |group: &&str| {
        let rows = report.group(group);
        let cell = |column: &&Row| rows.row("tuned", column).map_or("–".to_owned(), super::tables::value);
        std::iter::once(title(group).to_owned()).chain(columns.iter().map(cell)).collect()
    };
    Table { header, rows: report.groups().iter().map(row).collect() }
}

/// The cells with their pages.
fn cells(page: &mut String, report: &StudyReport, found: &StudyBeside) {
    let line = |cell: &CellLine| {
        let name = escaped(&cell.name);
        match &cell.folder {
            None => format!("<li>{name}: missing</li>\n"),
            Some(folder) if found.pageless.contains(folder) => {
                format!("<li><a href=\"{}/report.json\">{name}</a>, its numbers</li>\n", path(folder))
            }
            Some(folder) => {
                let answers = found.answered.contains(folder);
                let answers =
                    answers.then(|| format!(" · <a href=\"{}/answers.html\">answers</a>", path(folder)));
                let answers = answers.unwrap_or_default();
                format!("<li><a href=\"{}/report.html\">{name}</a>{answers}</li>\n", path(folder))
            }
        }
    };
    let lines: String = report.cells.iter().map(line).collect();
    kept(page, "cells", &format!("{} cells", report.cells.len()), &format!("<ul>\n{lines}</ul>"));
}

#[cfg(test)]
mod tests {
    use super::super::pictures::pictures as drawn;
    use super::super::tests::of_many;
    use super::*;

    #[test]
    fn a_dot_leads_to_the_answers_of_its_first_cell_or_to_its_report() {
        let report = of_many(2, 2, 3);
        let mut found = StudyBeside::default();
        let first =
            |page: &str| page.split("<a href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let page = html(&report, &drawn(&report), &found);
        assert_eq!(first(&page), "cells/group%200-seed-1-00/report.html#row-base");
        found.answered = vec!["cells/group 0-seed-1-00".to_owned()];
        let page = html(&report, &drawn(&report), &found);
        assert_eq!(first(&page), "cells/group%200-seed-1-00/answers.html#candidate=base");
        assert!(page.contains("report.html#row-linear%3A0.25"), "{page}");
    }

    #[test]
    fn of_a_study_of_five_hundred_cells_and_forty_four_candidates_one_group_is_drawn_at_once() {
        // 100 groups of five seeds; each with base, tuned model and 42 merges.
        let report = of_many(100, 5, 42);
        assert_eq!((report.cells.len(), report.rows.len()), (500, 100 * 44 * 3));
        let page = html(&report, &drawn(&report), &StudyBeside::default());
        // `tests/pages/check` opens it.
        if let Ok(folder) = std::env::var("FINETUNE_PAGES") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(std::path::Path::new(&folder).join("study.html"), &page).unwrap();
        }
        // What is not opened stands in scripts of no language, which cost nothing to read.
        assert_eq!(page.matches("<details data-kept=").count(), 99 + 1);
        assert!(page.len() < 30_000_000, "{} bytes", page.len());
        let outside: usize = page
            .split("<script type=\"text/plain\"")
            .map(|part| part.split_once("</script>").map_or(part.len(), |(_, rest)| rest.len()))
            .sum();
        assert!(outside < 1_000_000, "{outside} bytes");
        assert!(!page.contains("seed-5: "), "no number of a single cell");
    }
}
