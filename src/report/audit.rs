//! What a file of requests holds: how many of each kind of harm, beside what has been advised.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::table::Table;
use super::terminal::draw;
use crate::eval::rubrics::KINDS;
use crate::eval::stats::wilson;

/// Labels of a file's requests, counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    pub schema: u32,
    /// The file.
    pub file: String,
    /// Who labelled, in words.
    pub judge: String,
    /// Requests asked about.
    pub n: usize,
    /// Replies in which no label could be read; they stay in every share's denominator.
    pub unscored: usize,
    pub kinds: Vec<Kind>,
    /// Records of general data that the harmful ones are held against: the file's own, or what the user says.
    pub general: usize,
    pub advice: Vec<Advice>,
}

/// One label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    pub label: String,
    pub meaning: String,
    pub n: usize,
    /// Of all requests, 0 to 1, and the ends of Wilson's 95 % interval.
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// Records of a kind for each record of general data, beside the advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    pub label: String,
    /// None without general data.
    pub found: Option<f64>,
    /// The advised ends.
    pub from: f64,
    pub to: f64,
}

/// Tan et al. 2025, arXiv 2502.11555, earlier advice: records of each kind for a record of general data. The mixture that
/// they end with is 10 : 3 : 1 of EHD, IHD and MHD.
const ADVISED: [(&str, f64, f64); 3] =
    [("EHD", 1.0 / 30.0, 1.0 / 20.0), ("IHD", 1.0 / 100.0, 1.0 / 50.0), ("MHD", 1.0 / 200.0, 1.0 / 100.0)];

impl Audit {
    /// Counts labels, one for each request, none where none could be read. `general` is how many records of general data
    /// the file is for; those labelled NONE if absent.
    ///
    /// # Panics
    ///
    /// There is no request.
    pub fn of(file: String, judge: String, labels: &[Option<String>], general: Option<usize>) -> Self {
        let count = |name: &str| labels.iter().flatten().filter(|label| *label == name).count();
        let kind = |(name, meaning): (&str, &str)| {
            let (k, n) = (count(name), labels.len());
            let (low, high) = wilson(k, n).expect("a file has requests");
            Kind {
                label: name.to_owned(),
                meaning: meaning.to_owned(),
                n: k,
                share: k as f64 / n as f64,
                low,
                high,
            }
        };
        let general = general.unwrap_or_else(|| count("NONE"));
        let advice = |(name, from, to): (&str, f64, f64)| Advice {
            label: name.to_owned(),
            found: (general > 0).then(|| count(name) as f64 / general as f64),
            from,
            to,
        };
        Self {
            schema: 1,
            file,
            judge,
            n: labels.len(),
            unscored: labels.iter().filter(|label| label.is_none()).count(),
            kinds: KINDS.map(kind).to_vec(),
            general,
            advice: ADVISED.map(advice).to_vec(),
        }
    }

    /// The audit as text, at most `width` columns wide.
    pub fn terminal(&self, width: u16) -> String {
        let mut text = format!("{} requests of {}, labelled by {}\n", self.n, self.file, self.judge);
        let header = ["label", "requests", "share [95 %]", "per general record", "recommended"];
        let row = |kind: &Kind| {
            let percent = |x: f64| format!("{:.1}", 100.0 * x);
            let share = format!("{} % [{}, {}]", percent(kind.share), percent(kind.low), percent(kind.high));
            let advice = self.advice.iter().find(|advice| advice.label == kind.label);
            let found = advice.and_then(|advice| advice.found).map(one_to);
            let advised = advice.map(|advice| format!("{} to {}", one_to(advice.from), one_to(advice.to)));
            let dash = || "–".to_owned();
            vec![
                kind.label.clone(),
                kind.n.to_string(),
                share,
                found.unwrap_or_else(dash),
                advised.unwrap_or_else(dash),
            ]
        };
        let mut rows: Vec<Vec<String>> = self.kinds.iter().map(row).collect();
        rows.push(vec![
            "unscored".to_owned(),
            self.unscored.to_string(),
            String::new(),
            String::new(),
            String::new(),
        ]);
        text.push_str(&draw(Table { header: header.map(str::to_owned).to_vec(), rows }, width));
        let harmful: Vec<String> = self.kinds[..3].iter().map(|kind| kind.n.to_string()).collect();
        let _ = writeln!(
            text,
            "EHD : IHD : MHD is {}; the authors' mixture is 10 : 3 : 1 (arXiv 2502.11555). Their advice is for general data \
             of theirs and is no rule: {} general records are counted here.",
            harmful.join(" : "),
            self.general
        );
        text
    }
}

/// `1:40`; 0 is none.
fn one_to(ratio: f64) -> String {
    if ratio == 0.0 { "0".to_owned() } else { format!("1:{:.0}", 1.0 / ratio) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_over_all_requests_and_held_against_the_advice() {
        let labels: Vec<Option<String>> = ["EHD"; 4]
            .into_iter()
            .chain(["IHD"; 1])
            .chain(["NONE"; 100])
            .map(|label| Some(label.to_owned()))
            .chain(std::iter::repeat_n(None, 3))
            .collect();
        let audit = Audit::of("a.jsonl".to_owned(), "a judge".to_owned(), &labels, None);
        assert_eq!((audit.n, audit.unscored, audit.general), (108, 3, 100));
        assert_eq!(audit.kinds.iter().map(|kind| kind.n).collect::<Vec<_>>(), [4, 1, 0, 100]);
        assert_eq!((audit.kinds[0].low, audit.kinds[0].high), wilson(4, 108).unwrap());
        let text = audit.terminal(120);
        for shown in ["1:25", "1:30 to 1:20", "1:100 to 1:50", "3.7 % [1.4, 9.1]", "4 : 1 : 0", "unscored"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        let audit = Audit::of("a.jsonl".to_owned(), String::new(), &labels[..5], Some(200));
        assert_eq!(audit.advice[0].found, Some(0.02));
        assert_eq!(Audit::of(String::new(), String::new(), &labels[..5], None).advice[0].found, None);
    }
}
