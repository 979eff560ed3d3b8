//! What was asked and where the answers lie: all that judging and showing them needs, when model and data are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::asking::Asking;
use super::responses::{About, Gathered, Responses, Transcript};
use super::stores::{Speaker, Stores, SuiteKeys};
use crate::eval::{Completion, Item, Suite, presets, rubrics};
use crate::merge::{MergeReport, Resolved};
use crate::recipe::{Compute, Eval, RecipeError, is_name};
use crate::report::{Run, SuiteSetup};
use crate::run::failure::{Failure, Incomplete, JudgeError};
use crate::run::plan::judges::{BertScorePlan, Judges, RubricPlan};
use crate::run::plan::posed::Posed;
use crate::run::session::folder::eval_folder;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;

/// The only schema there is.
const SCHEMA: u32 = 1;
/// The file in a run folder.
const FILE: &str = "index.json";

/// What was asked in a run folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct Index {
    schema: u32,
    /// What the report says of the run.
    pub run: Run,
    /// The seed of the run, which stands beside every metric.
    pub seed: u64,
    /// `[eval]`, settled.
    pub eval: Eval,
    /// The format in which judges that are models compute.
    pub compute: Compute,
    pub(super) suites: Vec<Listed>,
    pub(super) candidates: Vec<About>,
    /// Those that cannot stand beside them, and can again when the run is as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) apart: Vec<About>,
    rubrics: Vec<Rubric>,
    bert_score: Option<BertScorePlan>,
    /// The judge whose rates tables show, where the user chose another than the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headline: Option<String>,
}

/// A suite as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    path: PathBuf,
    pub judges: Vec<String>,
    pub items: Vec<Item>,
    pub asked: SuiteSetup,
}

/// A judge that is a model, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Rubric {
    rubric: String,
    key: String,
    /// From which score on a guard's verdict is yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
}

impl Index {
    /// What was asked, and what the report is to say of the run.
    pub fn new(
        run: Run,
        seed: u64,
        (eval, compute): (&Eval, Compute),
        Gathered { suites, judges, answered, apart }: &Gathered,
    ) -> Self {
        let rubric = |plan: &RubricPlan| {
            let RubricPlan { rubric, key, threshold, .. } = plan;
            Rubric { rubric: rubric.name.to_owned(), key: key.clone(), threshold: *threshold }
        };
        Self {
            schema: SCHEMA,
            run,
            seed,
            eval: eval.clone(),
            compute,
            suites: suites.iter().map(|posed| listed(posed)).collect(),
            candidates: answered.iter().map(|answered| answered.about.clone()).collect(),
            apart: apart.clone(),
            rubrics: judges.rubrics.iter().map(rubric).collect(),
            bert_score: judges.bert_score.clone(),
            headline: judges.headline.clone(),
        }
    }

    /// Writes it down, as all such files readable by its owner only: prompts may be harmful text.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        Ok(write_json(&folder.join(FILE), &json!(self))?)
    }

    /// Reads what was asked in the run folder `run`.
    ///
    /// # Errors
    ///
    /// The folder is none of a run that was evaluated.
    pub fn read(run: &Path) -> Result<Self, Failure> {
        let path = run.join(FILE);
        if !path.is_file() {
            let help = match run.join("manifest.json").is_file() {
                true => {
                    "nothing was asked there yet, or by an older version: the command that made it, typed \
                         again, asks what is missing"
                }
                false => "a run folder holds `manifest.json`; name the folder that the study wrote",
            };
            let name = run.display().to_string();
            return Err(RecipeError::NotFound { name, help: help.to_owned() }.into());
        }
        let index: Self = read_json(&path)?;
        index.check(&path)?;
        Ok(index)
    }

    /// What was asked before in the run folder `run`, if anything was.
    ///
    /// # Errors
    ///
    /// As [`Index::read`].
    pub fn found(run: &Path) -> Result<Option<Self>, Failure> {
        match run.join(FILE).is_file() {
            true => Self::read(run).map(Some),
            false => Ok(None),
        }
    }

    /// The candidates that cannot stand beside the others now.
    pub fn apart(&self) -> Vec<About> {
        self.apart.clone()
    }

    /// That it is of this version, and that no name in it leads out of its folder: it may be a stranger's.
    fn check(&self, path: &Path) -> Result<(), RecipeError> {
        let wrong = |key: &str, found: &str, expected: &str| RecipeError::BadValue {
            key: format!("{key}` of `{}", path.display()),
            found: format!("`{found}`"),
            expected: expected.to_owned(),
        };
        if self.schema != SCHEMA {
            return Err(wrong("schema", &self.schema.to_string(), "1, the only one this version knows"));
        }
        let mut suites = self.suites.iter().map(|listed| listed.asked.suite.as_str());
        let mut candidates = self.candidates.iter().map(|about| about.name.as_str());
        let wrong_name = suites.find(|name| !is_name(name));
        // A candidate's name becomes a file's with its slashes taken away.
        if let Some(name) = wrong_name.or(candidates.find(|name| ["", ".", ".."].contains(name))) {
            return Err(wrong("name", name, "the name of a suite or a candidate"));
        }
        match self.candidates.iter().find(|about| !self.is_whole(about)) {
            Some(about) => {
                Err(wrong("keys", &about.name, "a candidate with keys for every item of every suite"))
            }
            None => Ok(()),
        }
    }

    /// Whether a candidate has keys for all that was asked.
    fn is_whole(&self, about: &About) -> bool {
        let each = self.suites.iter().zip(&about.keys).all(|(listed, keys)| {
            let Some(keys) = keys else { return true };
            let n_keys = [keys.answers.len(), keys.texts.len(), keys.choices.len()];
            let n = listed.items.len();
            n_keys.contains(&n) && n_keys.iter().all(|n_keys| [0, n].contains(n_keys))
        });
        each && about.keys.len() == self.suites.len()
    }

    /// The suites as they were put.
    ///
    /// # Errors
    ///
    /// A task or a judge is none of this version's.
    pub fn posed(&self) -> Result<Vec<Arc<Posed>>, Failure> {
        self.suites.iter().map(Listed::posed).collect()
    }

    /// How the answers were judged; what these judges found is read, and nobody is asked again.
    ///
    /// # Errors
    ///
    /// A rubric or the preset is none of this version's.
    pub fn judges(&self) -> Result<Judges, Failure> {
        let known = |asked: &Rubric| {
            let unknown = || {
                let help = "another version of this program asked it".to_owned();
                Failure::from(JudgeError::UnknownRubric { name: asked.rubric.clone(), help })
            };
            let rubric = rubrics::find(&asked.rubric).ok_or_else(unknown)?;
            let (key, threshold) = (asked.key.clone(), asked.threshold);
            Ok(RubricPlan { rubric, by: None, max_new_tokens: None, key, threshold })
        };
        Ok(Judges {
            rubrics: self.rubrics.iter().map(known).collect::<Result<_, Failure>>()?,
            bert_score: self.bert_score.clone(),
            settles: false,
            unprotected_programs: false,
            preset: (!self.eval.preset.is_empty()).then(|| presets::find(&self.eval.preset)).transpose()?,
            headline: self.headline.clone(),
        })
    }

    /// Every candidate with its answers, which lie in the run folder `run`.
    ///
    /// # Errors
    ///
    /// Some are missing.
    pub fn answered(&self, run: &Path) -> Result<Vec<Responses>, Failure> {
        let one = |about: &About| {
            let path = eval_folder(run, &about.name);
            let suites = self.suites.iter().zip(&about.keys).map(|(listed, keys)| match keys {
                None => (None, 0),
                Some(keys) => {
                    let (said, n_missing) = listed.said(keys, &path);
                    (Some(said), n_missing)
                }
            });
            let (suites, missing): (Vec<Option<Transcript>>, Vec<usize>) = suites.unzip();
            match missing.iter().sum() {
                0 => Ok(Responses { about: about.clone(), path, suites }),
                n => {
                    let (candidate, folder) = (about.name.clone(), run.display().to_string());
                    Err(Incomplete { candidate, n, folder }.into())
                }
            }
        };
        self.candidates.iter().map(one).collect()
    }
}

impl Listed {
    /// The suite as it was put.
    ///
    /// # Errors
    ///
    /// As [`Index::posed`].
    pub fn posed(&self) -> Result<Arc<Posed>, Failure> {
        let mut suite = Suite::new(&self.asked.task, self.path.clone(), &self.judges)?;
        self.asked.suite.clone_into(&mut suite.name);
        Ok(Arc::new(Posed {
            suite,
            items: self.items.clone(),
            n_samples: self.asked.samples,
            opening: self.asked.opening.clone(),
            asked: self.asked.clone(),
        }))
    }

    /// What the candidate whose files lie in `folder` said to it, and how much of that is missing.
    pub fn said(&self, keys: &SuiteKeys, folder: &Path) -> (Transcript, usize) {
        said(keys, &Stores::peek(folder, &self.asked.suite), &self.asked, &self.items)
    }
}

fn listed(posed: &Posed) -> Listed {
    let Posed { suite, items, asked, .. } = posed;
    // Neither judges nor reports look at worked examples.
    let item = |item: &Item| Item { shots: Vec::new(), description: String::new(), ..item.clone() };
    Listed {
        path: suite.path.clone(),
        judges: suite.judges.iter().map(|judge| judge.name.to_owned()).collect(),
        items: items.iter().map(item).collect(),
        asked: asked.clone(),
    }
}

/// What a candidate said, everything asked.
pub(super) fn answered(asking: &Asking<'_>, made_of: &str) -> Result<Responses, Failure> {
    let (mut keys, mut suites) = (Vec::new(), Vec::new());
    for (suite, stores, of) in asking.suites() {
        let all = of.all();
        let (said, n_missing) = said(&all, stores, &suite.posed.asked, &suite.posed.items);
        assert_eq!(n_missing, 0, "everything was just asked");
        keys.push(Some(all));
        suites.push(Some(said));
    }
    let merge = asking.candidate.merge();
    let name = asking.candidate.name.clone();
    let figures = asking.figures()?.map(|figures| match figures.merge == name {
        true => figures,
        // One that a probe settled is told as what it came to.
        false => MergeReport { merge: format!("{name} ({})", figures.merge), ..figures },
    });
    let about = About {
        method: merge.map(|merge| asking.candidate.asked_as().unwrap_or(merge.method.name.to_owned())),
        name,
        lambda: merge.and_then(Resolved::lambda),
        seed: merge.and_then(Resolved::seed),
        figures,
        steered: asking.steered(),
        weights: asking.weights().to_owned(),
        made_of: made_of.to_owned(),
        keys,
    };
    Ok(Responses { about, path: asking.path.clone(), suites })
}

/// What lies under some keys, and how much of it is missing.
pub(super) fn said(
    keys: &SuiteKeys,
    stores: &Stores,
    asked: &SuiteSetup,
    items: &[Item],
) -> (Transcript, usize) {
    let mut n_missing = 0;
    let answer = |opening: &str, key: &String| {
        let found = stores.answer(key)?;
        let by_guard = found.guard.map(|watched| watched.by == Speaker::Guard);
        if by_guard == Some(true) {
            // It was told no beginning, and thinks nothing.
            let said =
                Completion { text: found.text.clone(), n_tokens: found.n_tokens, finish: found.finish };
            return Some((said, String::new(), by_guard));
        }
        // What a judge sees begins as the answer was made to begin, and has no thinking in it.
        let mut thought = format!("{}{opening}{}", asked.opening, found.text);
        let start = asked.thinking.as_ref().map_or(Some(0), |thinking| thinking.answer_start(&thought));
        let text = thought.split_off(start.unwrap_or(thought.len()));
        Some((Completion { text, n_tokens: found.n_tokens, finish: found.finish }, thought, by_guard))
    };
    let (mut answers, mut thoughts, mut by_guard) = (Vec::new(), Vec::new(), Vec::new());
    for (nth, samples) in keys.answers.iter().enumerate() {
        let opening = items.get(nth).map_or("", |item| &item.opening);
        let (mut found, mut thought, mut by) = (Vec::new(), Vec::new(), Vec::new());
        for (completion, before, is_by_guard) in samples.iter().filter_map(|key| answer(opening, key)) {
            found.push(completion);
            thought.push(before);
            by.extend(is_by_guard);
        }
        n_missing += samples.len() - found.len();
        answers.push(found);
        thoughts.push(thought);
        by_guard.push(by);
    }
    if by_guard.iter().all(Vec::is_empty) {
        by_guard.clear();
    }
    let texts: Vec<(f64, usize)> = keys
        .texts
        .iter()
        .filter_map(|key| stores.text(key))
        .filter_map(|found| Some((*found.log_likelihood.first()?, *found.n_tokens.first()?)))
        .collect();
    // A line with more or fewer numbers than the item has options is none of ours.
    let options = |item: Option<&Item>| item.and_then(|item| Some(item.choices.as_ref()?.texts.len()));
    let choice = |(nth, key): (usize, &String)| {
        let found = &stores.choice(key)?.log_likelihood;
        (options(items.get(nth)) == Some(found.len())).then(|| found.clone())
    };
    let choices: Vec<Vec<f64>> = keys.choices.iter().enumerate().filter_map(choice).collect();
    n_missing += keys.texts.len() - texts.len() + keys.choices.len() - choices.len();
    (Transcript { answers, thoughts, texts, choices, by_guard }, n_missing)
}
