//! What an inspection of a model's layers found, as text, JSON and CSV.

use std::fmt::Write;

use serde::Serialize;

use super::plot::Picture;
use super::table::Table;
use super::terminal::draw;
use super::{SuiteSetup, page};
use crate::eval::stats::wilson;

/// What was looked into, by which prompts, and what came of it.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The version of this format; 1.
    pub schema: u32,
    /// `restore`, `scaling` or `cosine`.
    pub probe: &'static str,
    /// The run folder or the model.
    pub of: String,
    /// Whose layers: `base` or `tuned` of a run, else `model`.
    pub model: &'static str,
    /// What was asked.
    pub suites: Vec<SuiteSetup>,
    /// Who says what a refusal is; none where nobody is asked.
    pub judge: Option<String>,
    /// Sentences that say what the numbers mean.
    pub notes: Vec<String>,
    #[serde(flatten)]
    pub found: Found,
}

/// The rows of each probe.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Found {
    Restored {
        rows: Vec<Restored>,
    },
    Scaled {
        /// The refusals of the model as it is.
        unscaled: Refusals,
        factors: Vec<f64>,
        rows: Vec<Scaled>,
    },
    Cosines {
        /// The first layer from which on the gap is above `threshold` and stays positive.
        onset: Option<usize>,
        /// From the onset to the layer behind which the gap grows no more.
        range: Option<[usize; 2]>,
        threshold: f64,
        /// Of each kind.
        pairs: usize,
        rows: Vec<Cosine>,
    },
}

/// How many requests were refused.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Refusals {
    pub refused: usize,
    pub n: usize,
    /// `refused / n`, 0 to 1, and the ends of Wilson's 95 % interval.
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

impl Refusals {
    /// So many of so many.
    ///
    /// # Panics
    ///
    /// Nothing was asked.
    pub fn of(refused: usize, n: usize) -> Self {
        let (low, high) = wilson(refused, n).expect("a suite has items");
        Self { refused, n, rate: refused as f64 / n as f64, low, high }
    }

    fn cell(&self) -> String {
        let Self { refused, n, low, high, .. } = self;
        format!("{refused} of {n} [{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
    }
}

/// A model in which some layers were put back to the base, or a model as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    /// `base`, `tuned` or the merge that makes it.
    pub name: String,
    /// The layers that were put back; none of base and tuned model.
    pub layers: Option<String>,
    #[serde(flatten)]
    pub refusals: Refusals,
}

/// Layers whose linear maps were multiplied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    pub layers: String,
    /// By factor.
    pub refusals: Vec<Refusals>,
    /// The largest of (refusals at 1 + s − refusals at 1 − s) / s; none where the factors do not come in such pairs.
    pub kappa: Option<f64>,
}

/// Mean cosines of last-token states behind one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cosine {
    pub layer: usize,
    /// Of pairs of normal, of malicious, and of a normal and a malicious prompt.
    pub normal: f64,
    pub malicious: f64,
    pub across: f64,
    /// `normal − across`.
    pub gap: f64,
}

impl Inspection {
    /// What was looked into, in a line.
    fn title(&self) -> String {
        format!("layers of {} ({}) by {}", self.of, self.model, self.probe)
    }

    /// What was asked and who judged, a sentence each.
    fn asked(&self) -> Vec<String> {
        let suite = |SuiteSetup { suite, source, items, of, .. }: &SuiteSetup| {
            format!("asked: {items} of {of} prompts of suite `{suite}` ({source})")
        };
        let judge = |judge: &String| format!("refusals by {judge}, with 95 % Wilson intervals in percent");
        self.suites.iter().map(suite).chain(self.judge.as_ref().map(judge)).collect()
    }

    /// The inspection as a page: its picture, its table, its notes.
    pub fn html(&self) -> String {
        let paragraph = |text: &String| format!("<p class=\"note\">{}</p>\n", page::escaped(text));
        let title = self.title();
        let mut page =
            page::begun(&title, &self.asked().iter().map(paragraph).collect::<String>(), "", page::TABLES);
        page::shown(
            &mut page,
            &[Picture { file: String::new(), title, svg: self.svg(), dots: Vec::new() }],
            &|_| None,
        );
        page::section(&mut page, "Layers", &self.table(), "");
        page.extend(self.notes.iter().map(paragraph));
        page::ended(page, page::TABLES)
    }

    /// The inspection as text, at most `width` columns wide.
    pub fn terminal(&self, width: u16) -> String {
        let lines = std::iter::once(self.title()).chain(self.asked());
        let mut text: String = lines.map(|line| line + "\n").collect();
        text.push_str(&draw(self.table(), width));
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    fn table(&self) -> Table {
        let texts = |header: &[&str]| header.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>();
        match &self.found {
            Found::Restored { rows } => {
                let row = |row: &Restored| {
                    let layers = row.layers.clone().unwrap_or_else(|| "–".to_owned());
                    vec![layers, row.name.clone(), row.refusals.cell()]
                };
                Table {
                    header: texts(&["restored layers", "model", "refused [95 %]"]),
                    rows: rows.iter().map(row).collect(),
                }
            }
            Found::Scaled { unscaled, factors, rows } => {
                let mut header = vec!["layers".to_owned()];
                header.extend(factors.iter().map(|factor| format!("refused at × {factor}")));
                header.push("κ".to_owned());
                let mut first = vec!["as it is".to_owned(), unscaled.cell()];
                first.resize(header.len(), String::new());
                let row = |row: &Scaled| {
                    let mut cells = vec![row.layers.clone()];
                    cells.extend(row.refusals.iter().map(Refusals::cell));
                    cells.push(row.kappa.map_or("–".to_owned(), |kappa| format!("{kappa:+.0}")));
                    cells
                };
                Table { header, rows: std::iter::once(first).chain(rows.iter().map(row)).collect() }
            }
            Found::Cosines { rows, .. } => {
                let row = |row: &Cosine| {
                    let numbers = [row.normal, row.malicious, row.across, row.gap];
                    let cells = numbers.iter().map(|x| format!("{x:.4}"));
                    std::iter::once(row.layer.to_string()).chain(cells).collect()
                };
                Table {
                    header: texts(&["layer", "normal", "malicious", "across", "gap"]),
                    rows: rows.iter().map(row).collect(),
                }
            }
        }
    }

    /// One line for each row, the numbers in full.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        match &self.found {
            Found::Restored { rows } => {
                text.push_str("layers,model,refused,n,rate,low,high\n");
                for Restored { name, layers, refusals } in rows {
                    let Refusals { refused, n, rate, low, high } = refusals;
                    let layers = layers.as_deref().unwrap_or_default();
                    let _ = writeln!(text, "{layers},\"{name}\",{refused},{n},{rate},{low},{high}");
                }
            }
            Found::Scaled { unscaled, factors, rows } => {
                text.push_str("layers,factor,refused,n,rate,low,high,kappa\n");
                let mut line = |layers: &str, factor: f64, refusals: &Refusals, kappa: Option<f64>| {
                    let Refusals { refused, n, rate, low, high } = refusals;
                    let kappa = kappa.map(|kappa| kappa.to_string()).unwrap_or_default();
                    let _ = writeln!(text, "{layers},{factor},{refused},{n},{rate},{low},{high},{kappa}");
                };
                line("", 1.0, unscaled, None);
                for row in rows {
                    for (factor, refusals) in factors.iter().zip(&row.refusals) {
                        line(&row.layers, *factor, refusals, row.kappa);
                    }
                }
            }
            Found::Cosines { rows, .. } => {
                text.push_str("layer,normal,malicious,across,gap\n");
                for Cosine { layer, normal, malicious, across, gap } in rows {
                    let _ = writeln!(text, "{layer},{normal},{malicious},{across},{gap}");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_in_text_and_csv_with_its_numbers() {
        let refusals = |refused| Refusals::of(refused, 50);
        let scaled = |layers: &str, kappa| Scaled {
            layers: layers.to_owned(),
            refusals: vec![refusals(44), refusals(40)],
            kappa,
        };
        let inspection = |found| Inspection {
            schema: 1,
            probe: "x",
            of: "runs/a".to_owned(),
            model: "tuned",
            suites: Vec::new(),
            judge: Some("advbench29".to_owned()),
            notes: vec!["A note.".to_owned()],
            found,
        };
        let rows = vec![
            Restored { name: "tuned".to_owned(), layers: None, refusals: refusals(0) },
            Restored {
                name: "linear:1,layers.3=0".to_owned(),
                layers: Some("3".to_owned()),
                refusals: refusals(45),
            },
        ];
        let found = inspection(Found::Restored { rows });
        assert!(found.terminal(100).contains("45 of 50 [78.6, 95.7]"), "{}", found.terminal(100));
        assert!(found.terminal(100).ends_with("A note.\n"));
        let page = found.html();
        for part in
            ["<svg", "<td>45 of 50 [78.6, 95.7]</td>", "<p class=\"note\">A note.</p>", "layers of runs/a"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        let csv = found.csv();
        assert!(
            csv.lines().nth(2).unwrap().starts_with("3,\"linear:1,layers.3=0\",45,50,0.9,0.786"),
            "{csv}"
        );
        let rows = vec![scaled("0", Some(40.0)), scaled("2-3", None)];
        let found = inspection(Found::Scaled { unscaled: refusals(42), factors: vec![1.1, 0.9], rows });
        assert!(found.terminal(100).contains("+40"), "{}", found.terminal(100));
        assert_eq!(found.csv().lines().count(), 6);
        let row = Cosine { layer: 0, normal: 0.5, malicious: 0.25, across: 0.125, gap: 0.375 };
        let found = inspection(Found::Cosines {
            onset: Some(0),
            range: Some([0, 0]),
            threshold: 0.05,
            pairs: 500,
            rows: vec![row],
        });
        assert_eq!(found.csv(), "layer,normal,malicious,across,gap\n0,0.5,0.25,0.125,0.375\n");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["onset"], &json["rows"][0]["gap"]), (&0.into(), &0.375.into()));
    }
}
