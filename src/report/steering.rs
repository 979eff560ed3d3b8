//! What is said of candidates whose hidden states are steered, and of the vectors that steer them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::table::Table;

/// What stands under the table of candidates that are steered.
pub(super) const STEERING: &str = "A prompt with a score of T or more is pushed towards refusing, any other away from it: the classifier alone decides, \
     so what it misses loses refusals. AUROC is of the scores of harmful suites against those of benign ones.";

/// How a candidate is steered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steered {
    /// The file as the recipe names it.
    pub vectors: String,
    /// Which model they were fitted on: `base` or `tuned` of a run, else `model`.
    pub fitted_on: String,
    pub alpha: f64,
    /// The layers that are pushed, both ends included.
    pub layers: [usize; 2],
    /// From which score on a prompt counts as harmful.
    pub threshold: f64,
    pub suites: Vec<Pushed>,
    /// How well this candidate's own states tell harmful suites from benign ones; none where it was not asked both.
    pub auroc: Option<f64>,
}

/// Which way the prompts of a suite were pushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    pub suite: String,
    pub n: usize,
    /// Towards refusing; all others away from it.
    pub towards: usize,
}

/// How candidates were steered, a row each.
pub(super) fn table<'r>(steered: impl Iterator<Item = (&'r str, &'r Steered)> + Clone) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for pushed in steered.clone().flat_map(|(_, one)| &one.suites) {
        if !names.contains(&pushed.suite.as_str()) {
            names.push(&pushed.suite);
        }
    }
    let mut header: Vec<String> =
        ["candidate", "vectors of", "α", "layers", "T", "AUROC"].map(str::to_owned).to_vec();
    header.extend(names.iter().map(|name| format!("{name} steered to refusal")));
    let row = |(name, one): (&str, &Steered)| {
        let mut cells = vec![
            name.to_owned(),
            format!("{} ({})", one.fitted_on, one.vectors),
            one.alpha.to_string(),
            format!("{}-{}", one.layers[0], one.layers[1]),
            format!("{:.4}", one.threshold),
            one.auroc.map_or("–".to_owned(), |auroc| format!("{auroc:.3}")),
        ];
        let of = |name: &&str| one.suites.iter().find(|pushed| pushed.suite == *name);
        let cell = |pushed: &Pushed| format!("{} of {}", pushed.towards, pushed.n);
        cells.extend(names.iter().map(|name| of(name).map_or("–".to_owned(), cell)));
        cells
    };
    Table { header, rows: steered.map(row).collect() }
}

/// What `finetune steer fit` did.
#[derive(Debug, Serialize)]
pub struct Fitted {
    /// The version of this format; 1.
    pub schema: u32,
    /// The run folder or the model.
    pub of: String,
    /// Whose states: `base` or `tuned` of a run, else `model`.
    pub model: String,
    /// Harmful and harmless anchors, of the directions and of the threshold.
    pub anchors: [usize; 2],
    pub held_out: [usize; 2],
    /// What the thirds of the layers say through the head; empty where layers were given.
    pub thirds: Vec<Third>,
    pub layers: [usize; 2],
    pub score_layers: [usize; 2],
    pub alpha: f64,
    pub threshold: f64,
    /// Of the held-out anchors.
    pub told_apart: ToldApart,
    pub notes: Vec<String>,
}

/// What a third of the layers says through the head.
#[derive(Debug, Serialize)]
pub struct Third {
    pub layers: [usize; 2],
    /// How far it raises the words of refusals, in standard deviations of the vocabulary.
    pub refusal: f64,
    /// The tokens that it raises most.
    pub tokens: Vec<String>,
}

/// How well scores tell harmful prompts from harmless ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToldApart {
    /// None where one kind is not there.
    pub auroc: Option<f64>,
    /// Harmful prompts at or above the threshold, of how many.
    pub harmful: [usize; 2],
    /// Harmless prompts at or above it, of how many.
    pub harmless: [usize; 2],
}

impl ToldApart {
    fn in_words(&self) -> String {
        let auroc = self.auroc.map_or("–".to_owned(), |auroc| format!("{auroc:.4}"));
        let [caught, harmful] = self.harmful;
        let [alarms, harmless] = self.harmless;
        format!(
            "AUROC {auroc}; at or above T {caught} of {harmful} harmful and {alarms} of {harmless} harmless prompts"
        )
    }
}

impl Fitted {
    /// The fit as text.
    pub fn terminal(&self) -> String {
        let mut text = format!("vectors of {} ({})\n", self.of, self.model);
        let [harmful, harmless] = self.anchors;
        let _ = writeln!(text, "fitted on {harmful} harmful and {harmless} harmless anchors");
        for Third { layers: [from, to], refusal, tokens } in &self.thirds {
            let _ = writeln!(
                text,
                "layers {from}-{to} raise words of refusals by {refusal:+.2} sd, most: {}",
                tokens.join(" ")
            );
        }
        let ([from, to], [first, last]) = (self.layers, self.score_layers);
        let _ = writeln!(
            text,
            "steer layers {from}-{to} by α = {}; score over layers {first}-{last}",
            self.alpha
        );
        let _ = writeln!(text, "T = {:.4}, held-out anchors: {}", self.threshold, self.told_apart.in_words());
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

/// What `finetune steer score` found.
#[derive(Debug, Serialize)]
pub struct Guarded {
    /// The version of this format; 1.
    pub schema: u32,
    pub of: String,
    pub model: String,
    pub vectors: String,
    pub threshold: f64,
    pub told_apart: ToldApart,
    pub prompts: Vec<ScoredPrompt>,
}

/// A prompt's score.
#[derive(Debug, Serialize)]
pub struct ScoredPrompt {
    pub file: String,
    /// The item's, as suites have them.
    pub id: String,
    /// As the file says: `harmful` or `harmless`.
    pub kind: &'static str,
    pub score: f64,
    /// Whether it is at or above the threshold.
    pub flagged: bool,
}

impl Guarded {
    /// The scores in sum, as text.
    pub fn terminal(&self) -> String {
        let Self { of, model, vectors, threshold, told_apart, .. } = self;
        format!(
            "prompts scored by {of} ({model}) with {vectors}, T = {threshold:.4}\n{}\n",
            told_apart.in_words()
        )
    }

    /// One line for each prompt; its text is not among them.
    pub fn csv(&self) -> String {
        let mut text = "file,id,kind,score,flagged\n".to_owned();
        for ScoredPrompt { file, id, kind, score, flagged } in &self.prompts {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let _ = writeln!(text, "{},{},{kind},{score},{flagged}", quoted(file), quoted(id));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whose_vectors_and_which_way() {
        let pushed = |suite: &str, towards| Pushed { suite: suite.to_owned(), n: 10, towards };
        let one = Steered {
            vectors: "v".to_owned(),
            fitted_on: "base".to_owned(),
            alpha: 3.5,
            layers: [1, 2],
            threshold: 0.25,
            suites: vec![pushed("harmful", 9), pushed("benign", 1)],
            auroc: Some(0.98),
        };
        let less = Steered { suites: vec![pushed("benign", 0)], auroc: None, ..one.clone() };
        let table = table([("base+steer", &one), ("tuned+steer", &less)].into_iter());
        assert_eq!(table.header[6..], ["harmful steered to refusal", "benign steered to refusal"]);
        assert_eq!(
            table.rows[0],
            ["base+steer", "base (v)", "3.5", "1-2", "0.2500", "0.980", "9 of 10", "1 of 10"]
        );
        assert_eq!(table.rows[1][5..], ["–", "–", "0 of 10"]);
    }
}
