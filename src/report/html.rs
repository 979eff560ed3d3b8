//! The report as one HTML page that needs nothing else: no network, no other file. Answers are in none of it.

use std::fmt::Write;

use super::beside::Beside;
use super::page::{
    TABLES, begun, ended, escaped, folded, in_address, named_rows, quoted, row_address, section, shown,
};
use super::pictures::pictures;
use super::remarks::remarks;
use super::steering::{self, STEERING};
use super::table::{self, Table};
use super::{CHOICES, PROGRAMS, RATES, Report, Run, guarding, titles};

/// The whole report, pictures first.
pub fn html(report: &Report, beside: &Beside) -> String {
    let mut page = begun(&report.run.name, &about(report, beside), "", TABLES);
    for remark in remarks(report) {
        let _ = writeln!(page, "<p class=\"remark\">{}</p>", escaped(&remark));
    }
    let address = |candidate: &str| match &beside.answers {
        Some(answers) => Some(format!("{answers}#candidate={}", in_address(candidate))),
        None => Some(row_address(candidate)),
    };
    shown(&mut page, &pictures(report, &beside.losses), &address);
    let names: Vec<&str> = report.candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    named_rows(&mut page, titles::OVERVIEW, &table::overview(report), &names, RATES);
    section(&mut page, titles::STEERED, &steering::table(report.steered()), STEERING);
    section(&mut page, titles::SUITES, &table::suites(report), "");
    section(&mut page, titles::PROGRAMS, &table::programs(report), PROGRAMS);
    section(&mut page, titles::GUARDED, &guarding::table(report), "");
    section(&mut page, titles::JUDGES, &table::protocols(report), "");
    let differences = format!(
        "{} p is McNemar's exact test for rates and Student's paired test for means; p (Holm) is corrected for all \
         comparisons together.",
        table::LEFT_OUT
    );
    let [changed, same] = table::differences(report);
    section(&mut page, titles::DIFFERENCES, &changed, &differences);
    folded(&mut page, &format!("{} more comparisons in which no prompt changed", same.rows.len()), &same);
    section(&mut page, titles::AGREEMENT, &table::agreements(report), "κ is Cohen's.");
    section(&mut page, titles::MERGES, &table::merges(report), "λ is the weight of the tuned model.");
    section(&mut page, titles::CHOICES, &table::choices(report), CHOICES);
    quoted(&mut page, "Layers and landscape", &beside.pictures);
    provenance(&mut page, &beside.facts, &beside.texts);
    ended(page, TABLES)
}

/// What stands under the title.
fn about(report: &Report, beside: &Beside) -> String {
    let Run { version, device, dtype, preset, .. } = &report.run;
    let preset = preset.as_ref().map(|preset| format!("<p>Preset {}.</p>", escaped(preset)));
    let dots = match &beside.answers {
        Some(answers) => format!(
            "A dot leads to the candidate's answers, which stand in <a href=\"{0}\">{0}</a> and may be harmful text.",
            escaped(answers)
        ),
        None => "A dot leads to the candidate's row; once <code>finetune report RUN --answers</code> has written the \
                 answers, it leads there."
            .to_owned(),
    };
    format!(
        "<p>{}. Rounded to {dtype}, evaluated on {device} by finetune {version}.</p>{}{}<p class=\"note\">{dots}</p>",
        report.run.tuning(|text| format!("<code>{}</code>", escaped(text))),
        preset.unwrap_or_default(),
        report.news().map(|news| format!("<p>{}</p>", escaped(&news))).unwrap_or_default(),
    )
}

/// What the numbers come from, at the end of a page.
pub(super) fn provenance(page: &mut String, facts: &[[String; 2]], texts: &[[String; 2]]) {
    if facts.is_empty() && texts.is_empty() {
        return;
    }
    let header = ["what", "which"].map(str::to_owned).to_vec();
    let table = Table { header, rows: facts.iter().map(|fact| fact.to_vec()).collect() };
    section(page, "Where the numbers come from", &table, "");
    for [title, text] in texts {
        let _ = writeln!(
            page,
            "<details><summary>{}</summary><pre class=\"code\">{}</pre></details>",
            escaped(title),
            escaped(text)
        );
    }
}
