//! Answers compared with their references by `BERTScore`, the scores stored.
//!
//! Tokens are those of `bert_score` 0.3.13: a text stripped, a space before it for RoBERTa, cut to the model's length
//! between its two special tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers::Answers;
use super::asking::Asking;
use super::judge_model::JudgeModel;
use super::plan::{Plan, digest};
use super::sources::Sources;
use super::{Failure, Sink};
use crate::eval::measures::bertscore::{BertScore, Idf, Tokens, plain_weights};
use crate::eval::measures::python_text::strip;
use crate::eval::{Judged, Verdict, judges};
use crate::event::Event;
use crate::model::encoder::{Encoder, EncoderShape, Positions};
use crate::recipe::{self, Recipe, RecipeError};
use crate::snapshot::digest::{Algorithm, of_files};
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

/// `[eval.bert_score]`, settled.
pub struct PlannedBertScore {
    folder: PathBuf,
    layer: usize,
    idf: bool,
    rescale: Option<BertScore>,
    /// What scores depend on besides the texts.
    key: String,
}

/// Finds the encoder and looks at what it computes.
///
/// # Errors
///
/// The folder is missing or holds no encoder that is known, there is no such layer, or no suite to compare.
pub(super) fn plan(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Option<PlannedBertScore>, Failure> {
    let Some(recipe::BertScore { model, layer, idf, rescale }) = &recipe.eval.bert_score else {
        return Ok(None);
    };
    let wrong = |key: &str, found: String, expected: String| RecipeError::BadValue {
        key: format!("eval.bert_score{key}"),
        found,
        expected,
    };
    let mut tasks = recipe.eval.suites.iter().filter_map(|suite| crate::eval::tasks::find(&suite.task).ok());
    if !tasks.any(|task| task.free_text) {
        let expected = "a suite whose answers are compared with texts, such as `free_text`".to_owned();
        return Err(wrong("", "set".to_owned(), expected).into());
    }
    let folder = sources.model(model)?;
    sources.weights(model)?;
    let shape = EncoderShape::read(&Config::read(&folder)?)?;
    if *layer > shape.n_layers {
        let expected = format!("at most {}, the layers of `{model}`", shape.n_layers);
        return Err(wrong(".layer", layer.to_string(), expected).into());
    }
    let names = JudgeModel::files(&folder)?;
    let files: Vec<_> = names.into_iter().map(|name| (name.clone(), folder.join(name))).collect();
    let key = digest(&json!([of_files(&files, Algorithm::Sha256)?, layer, idf]));
    let rescale = rescale.map(|[precision, recall, f1]| BertScore { precision, recall, f1 });
    Ok(Some(PlannedBertScore { folder, layer: *layer, idf: *idf, rescale, key }))
}

/// The scores of one answer, before any baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Compared {
    item: String,
    precision: f64,
    recall: f64,
    f1: f64,
}

impl PlannedBertScore {
    /// Scores one candidate's answers to one suite that were not scored yet. With idf, a suite's references count
    /// once each, however many answers an item has.
    ///
    /// # Errors
    ///
    /// The encoder cannot be loaded, the disk refuses, or the run was asked to stop.
    pub(super) fn verdicts(
        &self,
        plan: &Plan,
        asking: &Asking<'_>,
        suite: usize,
        scorer: &mut Option<Scorer>,
        (stop, sink): (&AtomicBool, &mut Sink<'_>),
    ) -> Result<Judged, Failure> {
        let planned = &plan.suites[suite];
        let answers = asking.answers(suite);
        let path = asking.path().join(format!("{}.bert_score.jsonl", planned.suite.name));
        let mut store = Answers::<Compared>::open(&path)?;
        let references = || planned.items.iter().filter_map(|item| item.reference.as_deref());
        let among = self.idf.then(|| digest(&json!(references().collect::<Vec<_>>())));
        let key = |answer: &str, reference: &str| {
            digest(&json!([self.key, among, answer, reference]))[..32].to_owned()
        };
        let all = planned.items.iter().zip(&answers).flat_map(|(item, samples)| {
            let reference = item.reference.as_deref();
            samples.iter().filter_map(move |answer| Some((item, answer.text.as_str(), reference?)))
        });
        let waiting: Vec<_> =
            all.filter(|(_, answer, reference)| store.get(&key(answer, reference)).is_none()).collect();
        if !waiting.is_empty() {
            let started = Instant::now();
            let name = format!("compare {}, {}", asking.candidate().name(), planned.suite.name);
            sink.event(Event::Stage { name: name.clone(), total: waiting.len() as u64 })?;
            if scorer.is_none() {
                let machine = &plan.machine;
                *scorer =
                    Some(Scorer::load(&self.folder, self.layer, &machine.device, machine.micro_tokens)?);
            }
            let scorer = scorer.as_ref().expect("it was just loaded");
            let idf = self.idf.then(|| scorer.idf(references())).transpose()?;
            let mut done = 0;
            for part in waiting.chunks(PART) {
                let pairs: Vec<(&str, &str)> =
                    part.iter().map(|(_, answer, gold)| (*answer, *gold)).collect();
                let found = scorer.scores(&pairs, idf.as_ref())?;
                let lines = part.iter().zip(found).map(|((item, answer, gold), found)| {
                    let BertScore { precision, recall, f1 } = found;
                    (key(answer, gold), Compared { item: item.id.clone(), precision, recall, f1 })
                });
                store.append(lines.collect::<Vec<_>>())?;
                done += part.len() as u64;
                sink.advance(done, stop, asking.run_folder())?;
            }
            sink.event(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() })?;
        }
        let verdict = |reference: Option<&str>, answer: &str| {
            let Some(reference) = reference else { return Verdict::Unscored };
            self.verdict(store.get(&key(answer, reference)).expect("every answer was just compared"))
        };
        let judged = planned.items.iter().zip(&answers).map(|(item, samples)| {
            samples.iter().map(|answer| verdict(item.reference.as_deref(), &answer.text)).collect()
        });
        Ok(Judged {
            name: NAME.to_owned(),
            asks: judges::Asks::Good { metric: "bertscore_f1" },
            verdicts: judged.collect(),
            scores: None,
            evidence: answers.iter().map(|samples| vec![None; samples.len()]).collect(),
            pooled: Vec::new(),
        })
    }

    fn verdict(&self, found: &Compared) -> Verdict {
        let Compared { precision, recall, f1, .. } = *found;
        let score = BertScore { precision, recall, f1 };
        let score = self.rescale.map_or(score, |baseline| score.rescaled(baseline));
        // With idf, a text of tokens that are in every reference has no score.
        if score.f1.is_finite() { Verdict::Score(score.f1) } else { Verdict::Unscored }
    }
}
