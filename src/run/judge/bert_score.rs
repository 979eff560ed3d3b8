//! Answers compared with their references by `BERTScore`, the scores stored.
//!
//! Tokens are those of `bert_score` 0.3.13: a text stripped, a space before it for RoBERTa, cut to the model's length
//! between its two special tokens.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settle::{Assessor, Desk, Waiting};
use crate::eval::measures::bertscore::{BertScore, Idf, Tokens, plain_weights};
use crate::eval::measures::python_text::strip;
use crate::eval::{Completion, Criterion, Fault, Item, Judgement, Verdict};
use crate::model::encoder::{Encoder, EncoderShape, Positions};
use crate::run::failure::Failure;
use crate::run::plan::judges::BertScorePlan;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::{WeightFiles, read_json};
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::{Config, SnapshotError};

/// The name of this judge in reports.
const NAME: &str = "bertscore";
/// Pairs between two looks at the disk.
const PART: usize = 32;
/// Above this, a tokenizer's `model_max_length` says that there is none.
const NO_LIMIT: f64 = 1e9;

/// An encoder with the tokens of its texts.
pub struct Scorer {
    encoder: Encoder,
    tokenizer: Tokenizer,
    /// The special tokens around every text.
    ends: [u32; 2],
    max_tokens: usize,
    micro_tokens: usize,
}

impl Scorer {
    /// Loads the encoder in a folder up to `layer`.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, the family is unknown, or the tokenizer puts no two tokens around a text.
    pub fn load(folder: &Path, layer: usize, device: &Device, micro_tokens: usize) -> Result<Self, Failure> {
        let shape = EncoderShape::read(&Config::read(folder)?)?;
        let tokenizer = Tokenizer::load(folder)?;
        let ends = tokenizer.ends()?;
        let weights = WeightFiles::open(folder)?;
        let encoder = Encoder::load(&shape, &weights, &folder.display().to_string(), layer, device)?;
        Ok(Self { max_tokens: max_tokens(folder, &shape)?, encoder, tokenizer, ends, micro_tokens })
    }

    /// The ids of a text as the encoder reads it.
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write it.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let [first, last] = self.ends;
        let text = strip(text);
        let inside = match text.is_empty() {
            true => Vec::new(),
            // Words at the start as they are elsewhere: upstream's `add_prefix_space`.
            false if self.encoder.shape.family == "roberta" => self.tokenizer.encode(&format!(" {text}"))?,
            false => self.tokenizer.encode(text)?,
        };
        let inside = inside.into_iter().take(self.max_tokens.saturating_sub(2));
        Ok([first].into_iter().chain(inside).chain([last]).collect())
    }

    /// The vectors of a text's tokens.
    pub fn vectors(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        self.encoder.vectors(&[ids], self.micro_tokens).remove(0)
    }

    /// How rare tokens are among references.
    ///
    /// # Errors
    ///
    /// As [`Self::ids`].
    pub fn idf<'t>(&self, references: impl IntoIterator<Item = &'t str>) -> Result<Idf, Failure> {
        let references: Vec<_> =
            references.into_iter().map(|text| self.ids(text)).collect::<Result<_, Failure>>()?;
        Ok(Idf::of(&references))
    }

    /// The scores of pairs of a candidate and its reference.
    ///
    /// # Errors
    ///
    /// As [`Self::ids`].
    pub fn scores(&self, pairs: &[(&str, &str)], idf: Option<&Idf>) -> Result<Vec<BertScore>, Failure> {
        let mut ids: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for text in pairs.iter().flat_map(|(candidate, reference)| [*candidate, *reference]) {
            if !ids.contains_key(text) {
                ids.insert(text, self.ids(text)?);
            }
        }
        let all: Vec<&[u32]> = ids.values().map(Vec::as_slice).collect();
        let vectors = self.encoder.vectors(&all, self.micro_tokens);
        let weights = |ids: &Vec<u32>| match idf {
            Some(idf) => idf.weights(ids, &self.ends),
            None => plain_weights(ids, &self.ends),
        };
        let known: BTreeMap<&str, (Vec<Vec<f64>>, Vec<f64>)> =
            ids.iter().zip(vectors).map(|((text, ids), vectors)| (*text, (vectors, weights(ids)))).collect();
        let tokens = |text: &str| {
            let (embeddings, weights) = &known[text];
            Tokens { embeddings, weights }
        };
        let score =
            |(candidate, reference): &(&str, &str)| BertScore::of(tokens(candidate), tokens(reference));
        Ok(pairs.iter().map(score).collect())
    }
}

/// How long texts may be: what the tokenizer says, within the table of positions.
fn max_tokens(folder: &Path, shape: &EncoderShape) -> Result<usize, SnapshotError> {
    let path = folder.join("tokenizer_config.json");
    let config: Value = if path.is_file() { read_json(&path)? } else { Value::Null };
    let said = config["model_max_length"].as_f64().filter(|n| *n < NO_LIMIT).map(|n| n as usize);
    Ok(match (said, shape.positions) {
        (Some(n), Positions::None) => n,
        (Some(n), _) => n.min(shape.max_tokens()),
        (None, _) => shape.max_tokens(),
    })
}

/// The scores of one answer, before any baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared {
    item: String,
    precision: f64,
    recall: f64,
    f1: f64,
}

/// The comparison of one suite's answers; the encoder is loaded when it is needed.
pub(super) struct Comparison<'a> {
    plan: &'a BertScorePlan,
    /// With idf, a suite's references count once each, however many answers an item has.
    references: Vec<String>,
    /// The digest of the references, where scores depend on them.
    among: Option<String>,
    scorer: &'a mut Option<Scorer>,
}

impl<'a> Comparison<'a> {
    /// For a suite with these items.
    pub fn new(plan: &'a BertScorePlan, items: &[Item], scorer: &'a mut Option<Scorer>) -> Self {
        let references: Vec<String> =
            items.iter().flat_map(|item| item.references().map(str::to_owned)).collect();
        let among = plan.idf.then(|| of_json(&json!(references)));
        Self { plan, references, among, scorer }
    }
}

impl Assessor for Comparison<'_> {
    type Finding = Compared;

    fn file(&self, suite: &str) -> String {
        format!("{suite}.bert_score.jsonl")
    }

    fn title(&self, candidate: &str, suite: &str) -> String {
        format!("compare {candidate}, {suite}")
    }

    fn key(&self, item: &Item, answer: &Completion) -> Option<String> {
        let references: Vec<&str> = item.references().collect();
        let references = match references.as_slice() {
            [] => return None,
            [one] => json!(one),
            several => json!(several),
        };
        Some(of_json(&json!([self.plan.key, self.among, answer.text, references]))[..32].to_owned())
    }

    fn assess(&mut self, waiting: &[Waiting<'_>], desk: &mut Desk<'_, '_, Compared>) -> Result<(), Failure> {
        if self.scorer.is_none() {
            let (BertScorePlan { folder, layer, .. }, machine) = (self.plan, desk.machine);
            *self.scorer = Some(Scorer::load(folder, *layer, &machine.device, machine.micro_tokens)?);
        }
        let scorer = self.scorer.as_ref().expect("it was just loaded");
        let references = self.references.iter().map(String::as_str);
        let idf = self.plan.idf.then(|| scorer.idf(references)).transpose()?;
        for (nth, part) in waiting.chunks(PART).enumerate() {
            let pairs: Vec<(&str, &str)> = part
                .iter()
                .flat_map(|waiting| {
                    waiting.item.references().map(|reference| (waiting.answer.text.as_str(), reference))
                })
                .collect();
            let mut found = scorer.scores(&pairs, idf.as_ref())?.into_iter();
            let lines = part.iter().enumerate().map(|(i, waiting)| {
                // Of several references each measure takes its best, as `bert_score` does.
                let own = found.by_ref().take(waiting.item.references().count());
                let best = own.reduce(BertScore::best).expect("what waits has a reference");
                let BertScore { precision, recall, f1 } = best;
                (nth * PART + i, Compared { item: waiting.item.id.clone(), precision, recall, f1 })
            });
            desk.put(lines.collect())?;
        }
        Ok(())
    }

    fn judged(&mut self, findings: Vec<Vec<Option<Compared>>>) -> Judgement {
        let verdict = |found: &Option<Compared>| {
            let Some(Compared { precision, recall, f1, .. }) = *found else { return Verdict::Unscored };
            let score = BertScore { precision, recall, f1 };
            let score = self.plan.baseline().map_or(score, |baseline| score.rescaled(baseline));
            // With idf, a text of tokens that are in every reference has no score.
            if score.f1.is_finite() { Verdict::Score(score.f1) } else { Verdict::Unscored }
        };
        Judgement {
            name: NAME.to_owned(),
            asks: Criterion::Good { metric: "bertscore_f1" },
            fault: Fault::Judge,
            verdicts: findings.iter().map(|samples| samples.iter().map(verdict).collect()).collect(),
            scores: None,
            off_form: None,
            evidence: findings.iter().map(|samples| vec![None; samples.len()]).collect(),
            pooled: Vec::new(),
            trials: None,
        }
    }
}
