//! All answers of a run on one page, with filters. They may be harmful text: it is made only when it is asked for.
//!
//! The answers stand in the page as JSON, and its script makes elements of those that are looked at.

use serde::Serialize;
use serde_json::{Value, json};

use super::page::{begun, ended};
use super::sheet::{Cell, Opinion, Row, Sheet};
use crate::eval::Verdict;

const STYLE: &str = include_str!("answers.css");
const SCRIPT: &str = include_str!("answers.js");

/// The filters; the script fills in what there is to choose.
const FILTERS: &str = "\
<nav>
<label>Suite <select id=\"suite\"><option value=\"\">all</option></select></label>
<label>Category <select id=\"category\"><option value=\"\">all</option></select></label>
<label>Show <select id=\"which\"><option value=\"\">everything</option>
<option value=\"flips\">a verdict differs between candidates</option>
<option value=\"disagreements\">judges of refusals disagree</option>
<option value=\"refusals\">somebody refuses</option>
<option value=\"cut\">an answer is cut off</option>
<option value=\"empty\">an answer is empty</option></select></label>
<label>Flip <select id=\"change\"><option value=\"\">–</option>
<option value=\"any\">any</option>
<option value=\"right wrong\">right → wrong</option>
<option value=\"wrong right\">wrong → right</option>
<option value=\"refused complied\">refused → complied</option>
<option value=\"complied refused\">complied → refused</option></select></label>
<label hidden>from <select id=\"from\"></select></label>
<label hidden>to <select id=\"to\"></select></label>
<label>by judge <select id=\"judge\"><option value=\"\">the first of each suite</option></select></label>
<label>Words <input id=\"words\" type=\"search\"></label>
<label>in <select id=\"where\"><option value=\"\">prompt or answer</option><option value=\"prompt\">prompt</option>
<option value=\"answers\">answers</option></select></label>
<output id=\"count\"></output>
<details id=\"which-columns\"><summary>Candidates</summary><fieldset id=\"columns\"></fieldset></details>
</nav>
<noscript><p class=\"remark\">The answers are shown by the page's script.</p></noscript>
<section id=\"list\"></section>
";

/// The page of a run of this name.
pub fn answers(name: &str, sheet: &Sheet) -> String {
    let about =
        "<p>Answers may be harmful text. The numbers are in <a href=\"report.html\">report.html</a>.</p>";
    let mut page = begun(&format!("{name}: answers"), about, STYLE, SCRIPT);
    page.push_str(FILTERS);
    page.push_str("<script type=\"application/json\" id=\"data\">");
    page.push_str(&in_script(&compact(sheet)));
    page.push_str("</script>\n");
    ended(page, SCRIPT)
}

/// JSON that no text in it can end the element of.
fn in_script(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("a sheet is plain data");
    // These stand in texts alone, where JSON may write any letter by its number.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// The sheet with short keys, and judges by their number.
fn compact(sheet: &Sheet) -> Value {
    let mut judges: Vec<(&str, bool)> = Vec::new();
    let opinions = sheet.suites.iter().flat_map(|suite| &suite.rows).flat_map(|row| &row.cells).flatten();
    for said in opinions.flat_map(|cell| &cell.said) {
        if !judges.iter().any(|(name, _)| *name == said.judge) {
            judges.push((&said.judge, said.refuses));
        }
    }
    let suites = sheet.suites.iter().map(|suite| {
        let rows = suite.rows.iter().map(|row| row_of(row, &judges));
        json!({ "name": suite.name, "kind": suite.kind, "rows": rows.collect::<Vec<_>>() })
    });
    let suites: Vec<Value> = suites.collect();
    let judges = judges.iter().map(|(name, refuses)| json!({ "name": name, "refuses": refuses }));
    json!({ "candidates": sheet.candidates, "judges": judges.collect::<Vec<_>>(), "suites": suites })
}

fn row_of(row: &Row, judges: &[(&str, bool)]) -> Value {
    let cells = row.cells.iter().map(|cell| cell.as_ref().map(|cell| cell_of(cell, judges)));
    let mut value = json!({ "i": row.id, "p": row.prompt, "a": cells.collect::<Vec<_>>() });
    set(&mut value, "r", row.reference.as_ref());
    set(&mut value, "c", row.category.as_ref());
    value
}

fn cell_of(cell: &Cell, judges: &[(&str, bool)]) -> Value {
    let said = |said: &Opinion| {
        let judge = judges.iter().position(|(name, _)| *name == said.judge);
        let verdict = match said.verdict {
            Verdict::Yes => json!("y"),
            Verdict::No => json!("n"),
            Verdict::Score(score) => json!(score),
            Verdict::Unscored if said.failed => json!("f"),
            Verdict::Unscored => json!("u"),
        };
        match &said.evidence {
            Some(evidence) => json!([judge, verdict, evidence]),
            None => json!([judge, verdict]),
        }
    };
    let mut value =
        json!({ "t": cell.text, "n": cell.n_tokens, "s": cell.said.iter().map(said).collect::<Vec<_>>() });
    set(&mut value, "h", (!cell.thought.is_empty()).then_some(&cell.thought));
    set(&mut value, "x", cell.cut_off.then_some(1));
    set(&mut value, "k", (cell.n_samples > 1).then_some(cell.n_samples));
    value
}

/// A key that is left out where there is nothing.
fn set(value: &mut Value, key: &str, to: Option<impl Serialize>) {
    if let Some(to) = to {
        value[key] = json!(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::MetricKind;
    use crate::report::sheet::SheetSuite;

    /// As an answer that was made to break a page.
    const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt; \u{202e}\u{0}\u{1b}[31m ]]> <!-- \u{2028}";

    fn sheet() -> Sheet {
        let said = |judge: &str, verdict, failed| Opinion {
            judge: judge.to_owned(),
            refuses: judge != "guard",
            verdict,
            failed,
            evidence: Some(HOSTILE.to_owned()),
        };
        let cell = Cell {
            text: HOSTILE.to_owned(),
            thought: "hm".to_owned(),
            n_tokens: 3,
            cut_off: true,
            n_samples: 2,
            said: vec![said("guard", Verdict::Unscored, true), said("jbb13", Verdict::Yes, false)],
        };
        let row = Row {
            id: "1".to_owned(),
            prompt: HOSTILE.to_owned(),
            reference: None,
            category: Some(HOSTILE.to_owned()),
            cells: vec![Some(cell), None],
        };
        let suite = SheetSuite { name: HOSTILE.to_owned(), kind: MetricKind::Safety, rows: vec![row] };
        Sheet { candidates: vec!["base".to_owned(), HOSTILE.to_owned()], suites: vec![suite] }
    }

    #[test]
    fn no_answer_ends_the_element_that_it_stands_in_and_every_one_comes_back_as_it_was() {
        let page = answers(HOSTILE, &sheet());
        assert!(!page.contains("<img") && !page.contains("alert(1)</script>"), "{page}");
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let (text, rest) = rest.split_once("</script>").unwrap();
        assert!(!text.contains(['<', '>', '&']));
        // Behind it stands the page's own script alone.
        assert_eq!(rest.matches("<script").count(), 1);
        let data: Value = serde_json::from_str(text).unwrap();
        let row = &data["suites"][0]["rows"][0];
        assert_eq!(
            (&row["p"], &row["a"][0]["t"], &row["a"][1]),
            (&json!(HOSTILE), &json!(HOSTILE), &Value::Null)
        );
        assert_eq!(row["a"][0]["s"], json!([[0, "f", HOSTILE], [1, "y", HOSTILE]]));
        assert_eq!(data["judges"][0], json!({ "name": "guard", "refuses": false }));
        assert_eq!((&row["a"][0]["k"], &row["a"][0]["x"]), (&json!(2), &json!(1)));
    }

    /// A thousand prompts and ten candidates with answers that change from one to the other, some of them hostile.
    fn of_a_long_study() -> Sheet {
        let word = |nth: usize| ["apple", "river", "cloud", "because", "window", "seven", "sorry"][nth % 7];
        let text =
            |seed: usize, n: usize| (0..n).map(|nth| word(seed + nth * nth)).collect::<Vec<_>>().join(" ");
        let kinds = [(MetricKind::Safety, true), (MetricKind::Task, false)];
        let suites = kinds.map(|(kind, refuses)| {
            let cell = |row: usize, nth: usize| {
                let verdict = if (row * 5 + nth * 3) % 7 < 3 { Verdict::Yes } else { Verdict::No };
                let said = |judge: &str, verdict| Opinion {
                    judge: judge.to_owned(),
                    refuses,
                    verdict,
                    failed: false,
                    evidence: None,
                };
                let other = if row % 11 == nth { Verdict::No } else { verdict };
                Cell {
                    text: if row % 50 == 7 {
                        HOSTILE.to_owned()
                    } else {
                        text(row + nth, 5 + (row * nth) % 90)
                    },
                    thought: String::new(),
                    n_tokens: 40,
                    cut_off: row % 13 == nth,
                    n_samples: 1,
                    said: match refuses {
                        true => vec![said("advbench29", verdict), said("jbb13", other)],
                        false => vec![said("gsm8k", verdict)],
                    },
                }
            };
            let row = |nth: usize| Row {
                id: nth.to_string(),
                prompt: format!("{}?", text(nth, 12)),
                reference: (!refuses).then(|| "7".to_owned()),
                category: refuses.then(|| ["chemical", "cyber", HOSTILE][nth % 3].to_owned()),
                cells: (0..10).map(|one| (nth % 9 != one).then(|| cell(nth, one))).collect(),
            };
            let name = if refuses { "harmful" } else { "gsm8k" }.to_owned();
            SheetSuite { name, kind, rows: (0..500).map(row).collect() }
        });
        let merges = (1..9).map(|nth| format!("linear:0.{nth}"));
        let candidates = ["base", "tuned"].map(str::to_owned).into_iter().chain(merges).collect();
        Sheet { candidates, suites: suites.into() }
    }

    #[test]
    fn the_answers_of_a_long_study_stand_in_a_page_once() {
        let page = answers("long", &of_a_long_study());
        // `tests/pages/check` opens it.
        if let Ok(folder) = std::env::var("FINETUNE_PAGES") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(std::path::Path::new(&folder).join("answers.html"), &page).unwrap();
        }
        assert_eq!(page.matches("\"i\":\"499\"").count(), 2);
        assert_eq!(page.matches("<article").count(), 0, "elements are made of what is looked at");
        assert_eq!(
            page.matches("onerror=alert").count(),
            page.matches("\\u003cimg src=x onerror=alert").count()
        );
        assert!(page.len() < 5_000_000, "{}", page.len());
    }
}
