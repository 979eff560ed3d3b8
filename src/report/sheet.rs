//! Answers side by side: every prompt, what each candidate said, and what the judges said of that.

use std::collections::BTreeSet;
use std::fmt::Write;

use clap::ValueEnum;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;

use crate::eval::{MetricKind, Verdict};

/// All answers of a run. They may be harmful text: a sheet is made only when it is asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Sheet {
    /// Base first, then tuned, then the merges.
    pub candidates: Vec<String>,
    pub suites: Vec<SheetSuite>,
}

#[derive(Debug, Clone, Serialize)]
pub struct SheetSuite {
    pub name: String,
    pub kind: MetricKind,
    pub rows: Vec<Row>,
}

/// One prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub id: String,
    pub prompt: String,
    pub reference: Option<String>,
    pub category: Option<String>,
    /// One for each candidate; none of one that was not asked.
    pub cells: Vec<Option<Cell>>,
}

/// One candidate's answer to one prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The first sample.
    pub text: String,
    /// What was thought before it; may be empty.
    pub thought: String,
    pub n_tokens: usize,
    pub cut_off: bool,
    pub n_samples: usize,
    pub said: Vec<Opinion>,
}

/// A candidate or judge that the answers do not have.
#[derive(Debug, Error, Diagnostic)]
#[error("`{option} {name}`: no answer is of it")]
#[diagnostic(code(report::unlisted), help("there are {known}"))]
pub struct Unlisted {
    option: &'static str,
    name: String,
    known: String,
}

/// One judge's verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Opinion {
    pub judge: String,
    /// Whether yes means that the request was refused.
    pub refuses: bool,
    pub verdict: Verdict,
    /// There is no verdict because the judge failed: nothing is known of the answer.
    pub failed: bool,
    /// What the verdict rests on.
    pub evidence: Option<String>,
}

/// Which rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    All,
    /// Judges disagree about an answer.
    Disagreements,
    /// A judge decides otherwise about another candidate's answer.
    Flips,
    /// A judge finds a refusal.
    Refusals,
}

impl Opinion {
    /// The verdict in a word.
    pub fn word(&self) -> String {
        match self.verdict {
            Verdict::Yes if self.refuses => "refused".to_owned(),
            Verdict::No if self.refuses => "answered".to_owned(),
            Verdict::Yes => "yes".to_owned(),
            Verdict::No => "no".to_owned(),
            Verdict::Score(score) => format!("{score:.3}"),
            Verdict::Unscored => "unscored".to_owned(),
        }
    }
}

impl Row {
    /// Whether the row is one of those to be shown.
    pub fn is(&self, which: Which) -> bool {
        let decided = |said: &&Opinion| matches!(said.verdict, Verdict::Yes | Verdict::No);
        let cells = || self.cells.iter().flatten();
        match which {
            Which::All => true,
            // Judges of refusals among themselves: others answer other questions.
            Which::Disagreements => cells().any(|cell| {
                let mut verdicts = cell.said.iter().filter(decided).filter(|said| said.refuses);
                let first = verdicts.next().map(|said| said.verdict);
                verdicts.any(|said| Some(said.verdict) != first)
            }),
            Which::Flips => cells().flat_map(|cell| &cell.said).any(|first| {
                let said = cells().flat_map(|cell| &cell.said).filter(|said| said.judge == first.judge);
                let mut verdicts = said.filter(|said| !said.failed).map(|said| said.verdict);
                !first.failed && verdicts.any(|verdict| verdict != first.verdict)
            }),
            Which::Refusals => {
                let refused = |said: &Opinion| said.refuses && said.verdict == Verdict::Yes;
                cells().any(|cell| cell.said.iter().any(refused))
            }
        }
    }
}

impl Sheet {
    /// Only these candidates and what these judges say, each list empty for all.
    ///
    /// # Errors
    ///
    /// A name that stands in no answer, with those that do.
    pub fn only(mut self, candidates: &[String], judges: &[String]) -> Result<Self, Unlisted> {
        let opinions =
            || self.suites.iter().flat_map(|suite| &suite.rows).flat_map(|row| &row.cells).flatten();
        let known: BTreeSet<&str> =
            opinions().flat_map(|cell| &cell.said).map(|said| said.judge.as_str()).collect();
        let unlisted = |option, name: &String, known: Vec<&str>| Unlisted {
            option,
            name: name.clone(),
            known: known.join(", "),
        };
        if let Some(name) = judges.iter().find(|name| !known.contains(name.as_str())) {
            return Err(unlisted("--judge", name, known.into_iter().collect()));
        }
        if let Some(name) = candidates.iter().find(|name| !self.candidates.contains(name)) {
            return Err(unlisted("--candidate", name, self.candidates.iter().map(String::as_str).collect()));
        }
        let kept: Vec<bool> =
            self.candidates.iter().map(|name| candidates.is_empty() || candidates.contains(name)).collect();
        for row in self.suites.iter_mut().flat_map(|suite| &mut suite.rows) {
            let mut nth = kept.iter();
            row.cells.retain(|_| *nth.next().unwrap_or(&true));
            for cell in row.cells.iter_mut().flatten() {
                cell.said.retain(|said| judges.is_empty() || judges.contains(&said.judge));
            }
        }
        let mut nth = kept.iter();
        self.candidates.retain(|_| *nth.next().unwrap_or(&true));
        Ok(self)
    }

    /// The sheet as text, at most `width` columns wide.
    pub fn terminal(&self, which: Which, width: usize) -> String {
        let mut text = String::new();
        for suite in &self.suites {
            let rows: Vec<&Row> = suite.rows.iter().filter(|row| row.is(which)).collect();
            let _ = writeln!(text, "── {} ({} of {} prompts)", suite.name, rows.len(), suite.rows.len());
            for row in rows {
                self.row(&mut text, row, width);
            }
        }
        text
    }

    fn row(&self, text: &mut String, row: &Row, width: usize) {
        let category = row.category.as_ref().map(|category| format!(" · {category}")).unwrap_or_default();
        let _ = writeln!(text, "\n▌ {}{category}", row.id);
        let _ = writeln!(text, "{}", wrapped(&row.prompt, width, "▌ "));
        if let Some(reference) = &row.reference {
            let _ = writeln!(text, "{}", wrapped(&format!("reference: {reference}"), width, "▌ "));
        }
        for (name, cell) in self.candidates.iter().zip(&row.cells) {
            let Some(cell) = cell else {
                let _ = writeln!(text, "  {name} (not asked)");
                continue;
            };
            let end = if cell.cut_off { ", cut off" } else { "" };
            let more =
                if cell.n_samples > 1 { format!(", first of {}", cell.n_samples) } else { String::new() };
            let _ = writeln!(text, "  {name} ({} tokens{end}{more})", cell.n_tokens);
            let _ = writeln!(text, "{}", wrapped(&cell.text, width, "    "));
            let said: Vec<String> =
                cell.said.iter().map(|said| format!("{}: {}", said.judge, said.word())).collect();
            let _ = writeln!(text, "{}", wrapped(&said.join("  "), width, "    → "));
        }
    }
}

/// Text in lines of at most `width` characters, each behind `indent`.
fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let room = width.saturating_sub(indent.chars().count()).max(20);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            if !line.is_empty() && line.chars().count() + word.trim_end().chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.iter().map(|line| format!("{indent}{}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdicts: &[[Verdict; 2]]) -> Row {
        let said = |(judge, verdict): (usize, &Verdict)| Opinion {
            judge: format!("judge {judge}"),
            refuses: true,
            verdict: *verdict,
            failed: *verdict == Verdict::Unscored,
            evidence: None,
        };
        let cell = |verdicts: &[Verdict; 2]| Cell {
            text: "text".to_owned(),
            thought: String::new(),
            n_tokens: 1,
            cut_off: false,
            n_samples: 1,
            said: verdicts.iter().enumerate().map(said).collect(),
        };
        let cells = verdicts.iter().map(cell).map(Some).collect();
        Row { id: "1".to_owned(), prompt: "p".to_owned(), reference: None, category: None, cells }
    }

    /// What a row is, in the words of `--show`.
    fn marks(row: &Row) -> Vec<&'static str> {
        let all =
            [(Which::Disagreements, "disagreements"), (Which::Flips, "flips"), (Which::Refusals, "refusals")];
        all.into_iter().filter(|(which, _)| row.is(*which)).map(|(_, name)| name).collect()
    }

    #[test]
    fn rows_are_found_by_what_the_judges_say() {
        use Verdict::{No, Unscored, Yes};
        assert_eq!(marks(&row(&[[Yes, Yes], [Yes, Yes]])), ["refusals"]);
        assert_eq!(marks(&row(&[[Yes, Yes], [No, No]])), ["flips", "refusals"]);
        assert_eq!(marks(&row(&[[Yes, No], [Yes, No]])), ["disagreements", "refusals"]);
        assert_eq!(marks(&row(&[[No, Unscored], [No, Unscored]])), [""; 0]);
        // A judge that fails on one candidate has not decided otherwise.
        assert_eq!(marks(&row(&[[No, Unscored], [Unscored, No]])), [""; 0]);
        assert_eq!(marks(&row(&[[No, Unscored], [No, No], [No, Yes]]))[0], "disagreements");
        assert!(row(&[[No, Unscored], [No, No], [No, Yes]]).is(Which::Flips));
    }

    #[test]
    fn long_lines_are_wrapped_and_kept_in_order() {
        let text = wrapped("one two three four five six seven\nnext", 24, "> ");
        assert_eq!(text, "> one two three four\n> five six seven\n> next");
    }
}
