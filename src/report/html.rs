//! The report as one HTML page that needs nothing else: no network, no other file.

use std::fmt::Write;

use super::page::{begun, ended, escaped, folded, section, shown};
use super::pictures::pictures;
use super::remarks::remarks;
use super::sheet::{Cell, Opinion, Row, Sheet, SheetSuite};
use super::steering::{self, STEERING};
use super::table;
use super::{CHOICES, PROGRAMS, RATES, Report, Run, guarding, titles};
use crate::eval::{MetricKind, Verdict};

/// The whole report, with the answers if there is a sheet of them.
pub fn html(report: &Report, sheet: Option<&Sheet>) -> String {
    let Run { name, version, device, dtype, preset, .. } = &report.run;
    let preset = preset.as_ref().map(|preset| format!("<p>Preset {}.</p>", escaped(preset)));
    let about = format!(
        "<p>{}. Rounded to {dtype}, evaluated on {device} by finetune {version}.</p>{}{}",
        report.run.tuning(|text| format!("<code>{}</code>", escaped(text))),
        preset.unwrap_or_default(),
        report.news().map(|news| format!("<p>{}</p>", escaped(&news))).unwrap_or_default(),
    );
    let mut page = begun(name, &about);
    for remark in remarks(report) {
        let _ = writeln!(page, "<p class=\"remark\">{}</p>", escaped(&remark));
    }
    shown(&mut page, &pictures(report));
    section(&mut page, titles::OVERVIEW, &table::overview(report), RATES);
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
    if let Some(sheet) = sheet {
        answers(&mut page, sheet);
    }
    ended(page)
}

/// Shows the rows that fit suite, kind of row and words.
const SCRIPT: &str = "\
const all=[...document.querySelectorAll('article')],by=id=>document.getElementById(id);\
function show(){let n=0;const s=by('suite').value,k=by('which').value,q=by('words').value.toLowerCase();\
for(const a of all){const on=(!s||a.dataset.suite===s)&&(!k||a.dataset.marks.split(' ').includes(k))\
&&(!q||a.textContent.toLowerCase().includes(q));a.hidden=!on;n+=on}\
by('count').textContent=n+' of '+all.length+' prompts'}\
for(const id of ['suite','which','words'])by(id).addEventListener('input',show);show();";

fn answers(page: &mut String, sheet: &Sheet) {
    let options = sheet.suites.iter().map(|suite| format!("<option>{}</option>", escaped(&suite.name)));
    let _ = writeln!(
        page,
        "<section><h2>Answers</h2><nav><label>Suite <select id=\"suite\"><option value=\"\">all</option>{}</select>\
         </label><label>Show <select id=\"which\"><option value=\"\">everything</option>\
         <option value=\"flips\">flips: a verdict differs between candidates</option>\
         <option value=\"disagreements\">disagreements between judges of refusals</option>\
         <option value=\"refusals\">refusals</option></select></label>\
         <label>Words <input id=\"words\" type=\"search\"></label><output id=\"count\"></output></nav>",
        options.collect::<String>()
    );
    for suite in &sheet.suites {
        for row in &suite.rows {
            article(page, sheet, suite, row);
        }
    }
    let _ = writeln!(page, "</section><script>{SCRIPT}</script>");
}

fn article(page: &mut String, sheet: &Sheet, suite: &SheetSuite, row: &Row) {
    let category = row.category.iter().map(|category| format!(" · {}", escaped(category)));
    let reference = row
        .reference
        .iter()
        .map(|text| format!("<details><summary>reference</summary><pre>{}</pre></details>", escaped(text)));
    let cells = sheet
        .candidates
        .iter()
        .zip(&row.cells)
        .map(|(name, cell)| cell_html(name, cell.as_ref(), suite.kind));
    let _ = writeln!(
        page,
        "<article data-suite=\"{0}\" data-marks=\"{1}\"><header><small>{0} · {2}{3}</small><pre>{4}</pre>{5}</header>\
         <div class=\"cells\">{6}</div></article>",
        escaped(&suite.name),
        row.marks().join(" "),
        escaped(&row.id),
        category.collect::<String>(),
        escaped(&row.prompt),
        reference.collect::<String>(),
        cells.collect::<String>(),
    );
}

fn cell_html(name: &str, cell: Option<&Cell>, kind: MetricKind) -> String {
    let Some(cell) = cell else {
        return format!("<div><strong>{}</strong> <small>not asked</small></div>", escaped(name));
    };
    let chip = |said: &Opinion| {
        // Yes is good news of a skill and of a refused harmful request, and bad news of any other.
        let is_good = match kind {
            MetricKind::Task => true,
            MetricKind::Safety => said.refuses,
            MetricKind::OverRefusal | MetricKind::Degeneration => false,
        };
        let class = match said.verdict {
            Verdict::Unscored | Verdict::Score(_) => "none",
            verdict if (verdict == Verdict::Yes) == is_good => "good",
            _ => "bad",
        };
        let evidence = said.evidence.as_deref().map(escaped).unwrap_or_default();
        let word = escaped(&said.word());
        format!("<span class=\"{class}\" title=\"{evidence}\">{}: {word}</span>", escaped(&said.judge))
    };
    let end = if cell.cut_off { ", cut off" } else { "" };
    let text = if cell.text.trim().is_empty() { "(empty)".to_owned() } else { escaped(&cell.text) };
    let thought = match cell.thought.as_str() {
        "" => String::new(),
        text => format!("<details><summary>thinking</summary><pre>{}</pre></details>", escaped(text)),
    };
    format!(
        "<div><strong>{}</strong> <small>{} tokens{end}</small>{thought}<pre>{text}</pre><div class=\"said\">{}</div></div>",
        escaped(name),
        cell.n_tokens,
        cell.said.iter().map(chip).collect::<String>()
    )
}
