//! A study's pages: its report with pictures, and the answers of every cell.

use std::path::Path;

use super::RECIPE;
use crate::folders::{self, SETTINGS_BYTES};
use crate::report::study::{self, StudyBeside, StudyReport};
use crate::report::{Beside, Report};
use crate::run::failure::Failure;
use crate::run::{pages, review};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::file_at_once;

/// Writes the report for people: Markdown, the page and the pictures. Answers are in none of them.
///
/// # Errors
///
/// The disk refuses.
pub fn write(folder: &Path, report: &StudyReport) -> Result<(), Failure> {
    let gallery = study::pictures(report);
    for picture in gallery.all() {
        file_at_once(&folder.join(&picture.file), picture.svg.as_bytes())?;
    }
    file_at_once(&folder.join("report.md"), study::markdown(report, &gallery).as_bytes())?;
    let page = study::html(report, &gallery, &beside(folder, report));
    Ok(file_at_once(&folder.join("report.html"), page.as_bytes())?)
}

/// Writes the page with the answers of every cell that is done, and the study's page anew, which leads there; returns how
/// many there are.
///
/// # Errors
///
/// A cell's answers are missing, or the disk refuses.
pub fn answers(folder: &Path, report: &StudyReport) -> Result<usize, Failure> {
    let mut n = 0;
    for cell in report.cells.iter().filter_map(|cell| cell.folder.as_ref()) {
        let cell = folder.join(cell);
        let own: Report = read_json(&cell.join("report.json"))?;
        pages::write_answers(&cell, &own, &review::sheet(&cell)?)?;
        pages::write(&cell, &own)?;
        n += 1;
    }
    write(folder, report)?;
    Ok(n)
}

fn beside(folder: &Path, report: &StudyReport) -> StudyBeside {
    let recipe = folders::read_text(&folder.join(RECIPE), SETTINGS_BYTES).ok();
    let cells = report.cells.iter().filter_map(|cell| cell.folder.as_ref());
    let has = |cell: &&String, file: &str| folder.join(cell).join(file).is_file();
    let answered = cells.clone().filter(|cell| has(cell, pages::ANSWERS)).cloned().collect();
    let pageless = cells.filter(|cell| !has(cell, pages::PAGE)).cloned().collect();
    let facts = [("program", format!("finetune {}", report.version)), ("made of", report.made_of.clone())];
    let beside = Beside {
        facts: facts.map(|(name, value)| [name.to_owned(), value]).into(),
        texts: recipe.map(|text| ["The study's recipe".to_owned(), text]).into_iter().collect(),
        ..Beside::default()
    };
    StudyBeside { answered, pageless, beside }
}
