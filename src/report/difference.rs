//! Two runs, cause by cause and number by number: what they were given otherwise, and what came out otherwise.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::table::Table;
use super::terminal::draw;

/// The version of what is printed as JSON and written as `reproduction.json`.
pub const SCHEMA: u32 = 1;

/// The most rows of a table on a terminal; JSON has all of them.
const MOST: usize = 40;
/// The most other figures that are named.
const NAMED: usize = 5;
/// The longest value that a table shows.
const WIDEST: usize = 60;
/// The figures of a number that tables show before and after the point.
const FIGURES: usize = 6;

/// How two runs differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The version of this format; 1.
    pub schema: u32,
    /// The first run's folder.
    pub a: String,
    /// The other's; of a reproduction the new one.
    pub b: String,
    /// Whether numbers, digests of trained weights and answers are equal, and all of the first run's were compared.
    pub equal: bool,
    /// What the two were given otherwise.
    pub causes: Vec<Cause>,
    /// Files of trained weights, by their place in the run folder.
    pub weights: Compared<String>,
    /// The numbers of `report.json`.
    pub numbers: Compared<Moved>,
    /// Figures of `report.json` besides metrics, such as those of a merge, that differ.
    pub figures: Vec<String>,
    /// What the candidates said, by candidate and suite.
    pub answers: Compared<Said>,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

/// Of things that both runs have, how many were compared and which differ.
#[derive(Debug, Serialize)]
pub struct Compared<T> {
    pub compared: usize,
    pub differ: Vec<T>,
}

impl<T> Default for Compared<T> {
    fn default() -> Self {
        Self { compared: 0, differ: Vec::new() }
    }
}

/// Something that two runs were given otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cause {
    /// `program`, `machine`, `recipe`, `given`, `input`, `hub` or `training`.
    pub kind: &'static str,
    /// The key, such as `train.seed`, or the name of a file.
    pub key: String,
    /// What the first run had; null where it had none.
    pub a: Value,
    pub b: Value,
}

/// A metric that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    pub candidate: String,
    pub suite: String,
    pub metric: String,
    pub judge: Option<String>,
    pub denominator: String,
    pub category: Option<String>,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// The second less the first.
    pub difference: Option<f64>,
    /// Items that were counted, of how many, in each of the two.
    pub counted: [(Option<usize>, usize); 2],
}

/// What one candidate said to one suite, where that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    pub candidate: String,
    pub suite: String,
    /// Prompts with another answer, of so many that both were asked.
    pub differing: usize,
    pub prompts: usize,
    /// The first of them in the suite's order, counted from 0.
    pub index: usize,
    pub item: String,
    /// The first character that differs, counted from 0; none where the texts are one and something else differs.
    pub at: Option<usize>,
    /// The answers from a little before that character on.
    pub a: String,
    pub b: String,
}

impl Moved {
    /// Whether it is over all answers to a suite.
    fn is_whole(&self) -> bool {
        self.denominator == "all" && self.category.is_none()
    }
}

impl Cause {
    /// Whether it is of the program or the machine.
    pub fn is_of_here(&self) -> bool {
        ["program", "machine"].contains(&self.kind)
    }
}

impl Difference {
    /// Settles whether the two are equal.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let same =
            self.weights.differ.is_empty() && self.numbers.differ.is_empty() && self.figures.is_empty();
        let compared = self.numbers.compared > 0 && self.notes.is_empty();
        self.equal = same && self.answers.differ.is_empty() && compared;
        self
    }

    /// What was compared and how much of it differs, in a sentence.
    pub fn verdict(&self) -> String {
        let Self { weights, numbers, answers, .. } = self;
        let counts = format!(
            "{}, {}, {}",
            of(numbers.compared, numbers.differ.len(), "number", "numbers"),
            of(weights.compared, weights.differ.len(), "file of trained weights", "files of trained weights"),
            of(answers.compared, answers.differ.iter().map(|said| said.differing).sum(), "answer", "answers"),
        );
        match self.equal {
            true => format!("equal to the last bit: {counts}"),
            false => format!("not equal: {counts}"),
        }
    }

    /// The difference as text, at most `width` columns wide.
    pub fn terminal(&self, width: u16) -> String {
        let mut text = format!("A  {}\nB  {}\n", self.a, self.b);
        let mut more = |line: String| {
            text.push('\n');
            text.push_str(&line);
        };
        match self.causes.is_empty() {
            true => more("Program, machine, recipe and inputs are the same.\n".to_owned()),
            false => more(draw(self.cause_table(), width)),
        }
        if !self.weights.differ.is_empty() {
            more(format!("Trained weights differ: {}\n", self.weights.differ.join(", ")));
        }
        if !self.numbers.differ.is_empty() {
            more(draw(self.number_table(), width));
        }
        if !self.figures.is_empty() {
            let named = self.figures.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let rest = self.figures.len().saturating_sub(NAMED);
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            more(format!("Other figures differ: {named}{rest}\n"));
        }
        if !self.answers.differ.is_empty() {
            more(self.said());
        }
        for note in &self.notes {
            more(format!("note: {note}\n"));
        }
        more(format!("{}\n", self.verdict()));
        text
    }

    fn cause_table(&self) -> Table {
        let header = ["", "cause", "A", "B"].map(str::to_owned).to_vec();
        let row =
            |cause: &Cause| vec![cause.kind.to_owned(), cause.key.clone(), shown(&cause.a), shown(&cause.b)];
        Table { header, rows: self.causes.iter().map(row).collect() }
    }

    fn number_table(&self) -> Table {
        let header = ["candidate", "suite", "metric", "judge", "A", "B", "B − A"];
        let row = |moved: &Moved| {
            let number = |value: Option<f64>| value.map_or("–".to_owned(), figures);
            let signed =
                |value: f64| if value > 0.0 { format!("+{}", figures(value)) } else { figures(value) };
            let category = moved.category.as_ref().map(|category| format!(" ({category})"));
            let over =
                Some(&moved.denominator).filter(|over| *over != "all").map(|over| format!(" of {over}"));
            let metric = moved.metric.replace('_', " ");
            vec![
                moved.candidate.clone(),
                moved.suite.clone(),
                format!("{metric}{}{}", category.unwrap_or_default(), over.unwrap_or_default()),
                moved.judge.clone().unwrap_or_default(),
                number(moved.a),
                number(moved.b),
                moved.difference.map_or("–".to_owned(), signed),
            ]
        };
        let moved = &self.numbers.differ;
        // Other denominators and single categories move with the whole.
        let (whole, parts): (Vec<&Moved>, Vec<&Moved>) = moved.iter().partition(|one| one.is_whole());
        let mut rows: Vec<Vec<String>> = whole.into_iter().chain(parts).take(MOST).map(row).collect();
        if moved.len() > MOST {
            let mut last = vec![format!("{} more: --json has them", moved.len() - MOST)];
            last.resize(header.len(), String::new());
            rows.push(last);
        }
        Table { header: header.map(str::to_owned).to_vec(), rows }
    }

    fn said(&self) -> String {
        let mut text = String::new();
        for said in &self.answers.differ {
            let Said { candidate, suite, differing, prompts, index, item, at, a, b } = said;
            let place = at.map_or("the same text".to_owned(), |at| format!("from character {at} on"));
            let _ = writeln!(
                text,
                "{candidate}, {suite}: {differing} of {prompts} answers differ, first that to prompt {index} (`{item}`), {place}\
                 \n  A  {a}\n  B  {b}",
            );
        }
        text
    }
}

/// `12 numbers`, or `3 of 12 numbers differ`.
fn of(compared: usize, differing: usize, one: &str, many: &str) -> String {
    let noun = if compared == 1 { one } else { many };
    match differing {
        0 => format!("{compared} {noun}"),
        n => format!("{n} of {compared} {noun} differ"),
    }
}

/// A number with as many figures as tell it from its neighbour in a table.
fn figures(value: f64) -> String {
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:.FIGURES$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.3e}")
}

/// A value as a table shows it.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.chars().count() > WIDEST {
        true => format!("{}…", text.chars().take(WIDEST).collect::<String>()),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference() -> Difference {
        Difference {
            schema: SCHEMA,
            a: "a".to_owned(),
            b: "b".to_owned(),
            equal: false,
            causes: Vec::new(),
            weights: Compared { compared: 1, differ: Vec::new() },
            numbers: Compared { compared: 12, differ: Vec::new() },
            figures: Vec::new(),
            answers: Compared { compared: 8, differ: Vec::new() },
            notes: Vec::new(),
        }
    }

    #[test]
    fn runs_are_equal_when_all_was_compared_and_nothing_differs() {
        let equal = difference().settled();
        assert!(equal.equal);
        assert_eq!(
            equal.verdict(),
            "equal to the last bit: 12 numbers, 1 file of trained weights, 8 answers"
        );
        assert!(equal.terminal(100).contains("recipe and inputs are the same"), "{}", equal.terminal(100));
        let noted = Difference { notes: vec!["B has no answers yet".to_owned()], ..difference() };
        assert!(!noted.settled().equal);
        let nothing = Difference { numbers: Compared::default(), ..difference() };
        assert!(!nothing.settled().equal);
    }

    #[test]
    fn what_moved_is_told_number_by_number_and_answer_by_answer() {
        let moved = Moved {
            candidate: "tuned".to_owned(),
            suite: "harmful".to_owned(),
            metric: "attack_success_rate".to_owned(),
            judge: Some("advbench29".to_owned()),
            denominator: "all".to_owned(),
            category: None,
            a: Some(0.5),
            b: Some(0.25),
            difference: Some(-0.25),
            counted: [(Some(2), 4), (Some(1), 4)],
        };
        let said = Said {
            candidate: "tuned".to_owned(),
            suite: "harmful".to_owned(),
            differing: 1,
            prompts: 4,
            index: 3,
            item: "h4".to_owned(),
            at: Some(6),
            a: "It is 4.".to_owned(),
            b: "It is 5.".to_owned(),
        };
        let cause = Cause { kind: "recipe", key: "train.seed".to_owned(), a: json!(42), b: json!(7) };
        let found = Difference {
            causes: vec![cause],
            numbers: Compared { compared: 12, differ: vec![moved; MOST + 2] },
            answers: Compared { compared: 8, differ: vec![said] },
            ..difference()
        }
        .settled();
        let text = found.terminal(160);
        for part in [
            "train.seed",
            "-0.25",
            "2 more: --json has them",
            "tuned, harmful: 1 of 4 answers differ, first that to prompt 3 (`h4`), from character 6 on\n  A  It is 4.\n  B  It is 5.",
            "not equal: 42 of 12 numbers differ, 1 file of trained weights, 1 of 8 answers differ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let printed = json!(found);
        assert_eq!((&printed["equal"], &printed["causes"][0]["b"]), (&json!(false), &json!(7)));
    }

    #[test]
    fn small_and_large_numbers_keep_their_figures() {
        for (value, text) in
            [(0.0, "0"), (0.25, "0.25"), (1e-9, "1.000e-9"), (-3.5e7, "-3.500e7"), (12.0, "12")]
        {
            assert_eq!(figures(value), text);
        }
    }
}
