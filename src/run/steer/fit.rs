//! Directions, reference, layers and threshold from anchors.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Tensor, TensorData};
use serde_json::json;

use super::anchors::{Pool, Prompt, digests, texts};
use super::{SCHEMA, folder, loaded, read_from};
use crate::doing;
use crate::eval::measures::roc::{Cut, auroc};
use crate::event::{Event, Listener};
use crate::generate::scans::file::{About, File};
use crate::generate::scans::fit::{Anchors, Spoken, principal, spoken, thirds};
use crate::generate::scans::read::{Probe, States, states};
use crate::generate::scans::{LastLayer, Precision, Scans, Settings};
use crate::hub;
use crate::model::Decoder;
use crate::recipe::{Purpose, RecipeError, Suite};
use crate::report::steering::{Fitted, Third, ToldApart};
use crate::run::cast::RoleWeights;
use crate::run::conclude::prove;
use crate::run::failure::{Failure, SteerError};
use crate::run::inspect::Of;
use crate::run::inspect::subject::Subject;
use crate::run::plan::probing::greedy;
use crate::run::plan::sources::Sources;
use crate::run::plan::steering::{FILE, apart, may_be, reading};
use crate::run::plan::{Options, questions};
use crate::run::session::Session;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::writer::write_json;

/// Words with which refusals are told from other answers, where nobody names others.
const WORDS: [&str; 14] = [
    "sorry",
    "Sorry",
    "cannot",
    "can't",
    "unable",
    "refuse",
    "apologize",
    "apologies",
    "unfortunately",
    "Unfortunately",
    "illegal",
    "unethical",
    "harmful",
    "inappropriate",
];

/// The fewest anchors of a kind: a mean of one prompt is that prompt.
const LEAST: usize = 2;

/// Tokens that are shown of a direction.
const SHOWN: usize = 10;

/// Below this a classifier lets through, or holds back, too much to be left to decide: said, not refused.
const WEAK: f64 = 0.8;

/// What is fitted on what.
#[derive(Debug, Clone)]
pub struct Fit {
    pub of: Of,
    /// Read a run's tuned model and not its base.
    pub tuned: bool,
    pub harmful: Suite,
    pub harmless: Suite,
    /// What sets the threshold, where it is not what is left of the files above.
    pub held_out: [Option<Suite>; 2],
    /// How many of each kind directions are fitted on, and how many set the threshold, at most.
    pub n_anchors: usize,
    pub n_held_out: usize,
    /// Test sets that hold no anchor, besides a run's own.
    pub tests: Vec<Suite>,
    /// The layers that are steered; by what they say if absent.
    pub layers: Option<[usize; 2]>,
    /// The layers whose cosines are the score; from the first that is steered to the last of all if absent.
    pub score_layers: Option<[usize; 2]>,
    /// Words of refusals; ours if empty.
    pub words: Vec<String>,
    pub alpha: f64,
    /// By the held-out anchors if absent.
    pub threshold: Option<f64>,
    pub suffix: String,
    pub last_layer: LastLayer,
    pub states: Precision,
    pub seed: u64,
    /// Assignments to the recipe's keys.
    pub set: Vec<String>,
}

/// The anchors: harmful, harmless, and the two that are held out.
struct Pools([Pool; 4]);

/// Fits vectors and writes them and what is known of them into a folder; returns that and the file.
///
/// # Errors
///
/// Whatever is wrong with the model, the anchors or the device; or the wish to stop.
pub fn fit<'a>(
    asked: &Fit,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(Fitted, PathBuf), Failure> {
    let _doing = doing::now(format!("fitting vectors of `{}`", asked.of));
    check(asked)?;
    let (recipe, origin) = asked.of.recipe(&asked.set)?;
    let mut sources = Sources::new(&origin, asked.of.run(), tell);
    let subject = Subject::open(&asked.of, recipe, options, &mut sources)?;
    let pools = Pools::read(asked, &subject, &mut sources)?;
    let all = pools.0.each_ref();
    let (which, weights) = read_from(&asked.of, &subject, asked.tuned)?;
    let about = About {
        model: subject.model.source.clone(),
        which: which.to_owned(),
        base: subject.base.key.clone(),
        weights: weights.key.clone(),
        template_sha256: subject.model.template.as_ref().map(ChatTemplate::digest),
        prompt_end: "the last token of the prompt, before what begins the answer".to_owned(),
        seed: asked.seed,
        files: digests(&all)?,
        anchors: [all[0].len(), all[1].len()],
        held_out: [all[2].len(), all[3].len()],
        auroc: None,
        texts: texts(&all)?,
    };
    clear_of_tests(asked, &about, &subject, &mut sources)?;
    let n_layers = subject.model.shape.n_layers;
    within("--layers", asked.layers, n_layers)?;
    within("--score-layers", asked.score_layers, n_layers)?;
    let words = asked.layers.is_none().then(|| words(asked, &subject)).transpose()?;
    if words.is_some() && thirds(n_layers).is_none() {
        return Err(SteerError::NoThirds { n: n_layers }.into());
    }
    let prompts = all.map(|pool| pool.prompts(&asked.suffix, &subject));
    let prompts: Vec<Vec<Prompt>> = prompts.into_iter().collect::<Result<_, _>>()?;
    let folder = folder(&asked.of, options.out.as_ref(), &subject);
    let mut session = Session::open(&folder, None, stop, watcher)?;
    prove(&subject.opened, &subject.model)?;
    let work = Work { asked, subject: &subject, prompts, words, which };
    let (mut file, fitted) = work.run(&weights, about, &mut session)?;
    file.about.auroc = fitted.told_apart.auroc;
    let path = folder.join(FILE);
    file.write(&path)?;
    write_json(&folder.join("steer.json"), &json!(fitted))?;
    Ok((fitted, path))
}

/// That no number is out of range.
fn check(asked: &Fit) -> Result<(), RecipeError> {
    let bad = |key: &str, found: String, expected: &str| {
        Err(RecipeError::BadValue { key: key.to_owned(), found, expected: expected.to_owned() })
    };
    if !(asked.alpha.is_finite() && asked.alpha >= 0.0) {
        return bad(
            "--alpha",
            asked.alpha.to_string(),
            "0 or more; which way a prompt is pushed the classifier says",
        );
    }
    if let Some(threshold) = asked.threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
        return bad("--threshold", threshold.to_string(), "a mean of cosines, from -1 to 1");
    }
    let counts = [("--anchors", asked.n_anchors), ("--held-out", asked.n_held_out)];
    match counts.into_iter().find(|(_, n)| *n < LEAST) {
        Some((key, n)) => bad(key, n.to_string(), "2 or more"),
        None => Ok(()),
    }
}

fn within(key: &str, layers: Option<[usize; 2]>, n_layers: usize) -> Result<(), RecipeError> {
    match layers.filter(|[from, to]| from > to || *to >= n_layers) {
        Some([from, to]) => Err(RecipeError::BadValue {
            key: key.to_owned(),
            found: format!("{from}-{to}"),
            expected: format!("layers from 0 to {}, such as 1-2", n_layers - 1),
        }),
        None => Ok(()),
    }
}

/// That no test set that run or command names holds an anchor.
fn clear_of_tests(
    asked: &Fit,
    about: &About,
    subject: &Subject,
    sources: &mut Sources<'_>,
) -> Result<(), Failure> {
    let own = subject.recipe.eval.suites.iter().filter(|suite| suite.purpose == Purpose::Test);
    // All that a file has, whether it is asked or not.
    let whole = |suite: &Suite| Suite { limit: Some(0), ..suite.clone() };
    let tests: Vec<Suite> = own.chain(&asked.tests).map(whole).collect();
    let tests = questions::draw(&greedy(&subject.recipe.eval, tests), sources)?;
    Ok(apart(about, FILE, &tests)?)
}

/// The tokens of the words of refusals.
fn words(asked: &Fit, subject: &Subject) -> Result<Vec<u32>, SteerError> {
    let tokenizer = &subject.model.tokenizer;
    let words: Vec<&str> = match asked.words.as_slice() {
        [] => WORDS.to_vec(),
        words => words.iter().map(String::as_str).collect(),
    };
    let mut found: Vec<u32> = words.iter().flat_map(|word| tokens_of(word, tokenizer)).collect();
    found.retain(|id| (*id as usize) < subject.model.shape.vocab_size);
    found.sort_unstable();
    found.dedup();
    match found.is_empty() {
        true => Err(SteerError::NoWords { model: subject.model.source.clone() }),
        false => Ok(found),
    }
}

/// The tokens that are a word, alone or behind a blank.
fn tokens_of(word: &str, tokenizer: &Tokenizer) -> Vec<u32> {
    let forms = [word.to_owned(), format!(" {word}")];
    let ids = forms.iter().filter_map(|form| tokenizer.encode(form).ok());
    ids.filter_map(|ids| <[u32; 1]>::try_from(ids).ok()).map(|[id]| id).collect()
}

impl Pools {
    /// Reads the files; the first anchors of each in the order that the seed draws are fitted on.
    fn read(asked: &Fit, subject: &Subject, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let files = [(&asked.harmful, "harmful"), (&asked.harmless, "harmless")];
        let (mut fitted, mut held) = (Vec::new(), Vec::new());
        for ((suite, kind), own) in files.into_iter().zip(&asked.held_out) {
            let pool = Pool::read(suite, subject, sources)?.drawn(asked.seed);
            let least = if own.is_none() { asked.n_anchors + LEAST } else { LEAST };
            pool.check(kind, least)?;
            let (first, rest) = pool.cut(asked.n_anchors);
            let rest = match own {
                Some(suite) => Pool::read(suite, subject, sources)?.drawn(asked.seed),
                None => rest,
            };
            rest.check(kind, LEAST)?;
            fitted.push(first);
            held.push(rest.cut(asked.n_held_out).0);
        }
        fitted.append(&mut held);
        Ok(Self(fitted.try_into().unwrap_or_else(|_| unreachable!("two kinds, twice"))))
    }
}

/// A fit whose prompts are settled.
struct Work<'a> {
    asked: &'a Fit,
    subject: &'a Subject,
    /// Harmful, harmless, and the two that are held out.
    prompts: Vec<Vec<Prompt>>,
    /// The tokens of words of refusals, where layers are chosen by them.
    words: Option<Vec<u32>>,
    which: &'static str,
}

impl Work<'_> {
    fn run(
        &self,
        weights: &RoleWeights,
        about: About,
        session: &mut Session<'_>,
    ) -> Result<(File, Fitted), Failure> {
        let Self { asked, subject, prompts, .. } = self;
        let n_all: usize = prompts.iter().map(Vec::len).sum();
        let n_layers = subject.model.shape.n_layers;
        let mut settings = Settings {
            layers: [0, n_layers - 1],
            score_layers: [0, n_layers - 1],
            alpha: asked.alpha,
            threshold: 0.0,
            suffix: asked.suffix.clone(),
            last_layer: asked.last_layer,
            states: asked.states,
        };
        session.stage("read anchors", (n_all as u64, None), |session| {
            let decoder = loaded(subject, weights)?;
            let mut done = 0;
            let mut read = |prompts: &[Prompt], add: &mut dyn FnMut(States)| {
                let probes: Vec<Probe> = prompts.iter().map(|prompt| prompt.probe.clone()).collect();
                states(&decoder, &probes, reading(&settings, &subject.machine), |_, states| {
                    add(states);
                    done += 1;
                    session.event(Event::Progress { done, remaining: None })?;
                    Ok::<(), Failure>(session.go_on()?)
                })
            };
            let (mut harmful, mut harmless) = (Anchors::default(), Anchors::default());
            read(&prompts[0], &mut |states| harmful.add(&states))?;
            read(&prompts[1], &mut |states| harmless.add(&states))?;
            let (vectors, reference) = (harmful.directions(&harmless), harmful.reference());
            let said = self.spoken(&decoder, &vectors);
            let most = said.iter().max_by(|a, b| a.refusal.total_cmp(&b.refusal));
            let layers =
                asked.layers.or(most.map(|said| said.layers)).expect("without layers there are thirds");
            let score_layers = asked.score_layers.unwrap_or([layers[0], n_layers - 1]);
            let is_nothing = |layer: &usize| vectors[*layer].iter().all(|x| *x == 0.0);
            if let Some(layer) = (layers[0]..=layers[1]).find(is_nothing) {
                return Err(SteerError::NoDirection { layer }.into());
            }
            let mut scans =
                Scans { vectors, reference, settings: Settings { layers, score_layers, ..settings.clone() } };
            let (mut high, mut low) = (Vec::new(), Vec::new());
            read(&prompts[2], &mut |states| high.push(scans.score(&states)))?;
            read(&prompts[3], &mut |states| low.push(scans.score(&states)))?;
            let best = Cut::best(&high, &low).expect("both kinds have held-out anchors");
            asked.threshold.map_or(Ok(()), |given| may_be(given, best.at, "--threshold"))?;
            settings.threshold = asked.threshold.unwrap_or(best.at);
            scans.settings.threshold = settings.threshold;
            let fitted = self.fitted(&scans.settings, said, &high, &low);
            Ok((File { scans, about }, fitted))
        })
    }

    /// What the thirds of the layers say through the head, where layers are to be chosen.
    fn spoken(&self, decoder: &Decoder, vectors: &[Vec<f32>]) -> Vec<Spoken> {
        let (Some(words), Some(thirds)) = (&self.words, thirds(vectors.len())) else { return Vec::new() };
        let said = thirds.map(|[from, to]| {
            let component = principal(&vectors[from..=to]);
            let data = TensorData::new(component, [1, vectors[0].len()]);
            let component = Tensor::<2>::from_data(data, (&decoder.device, decoder.compute));
            let logits = decoder.frozen_head().logits(component).try_into_vec_as::<f32>();
            let logits = logits.expect("a device that opened gives its results back");
            spoken([from, to], &logits, words, SHOWN)
        });
        said.to_vec()
    }

    fn fitted(&self, settings: &Settings, said: Vec<Spoken>, high: &[f64], low: &[f64]) -> Fitted {
        let Self { asked, subject, prompts, which, .. } = self;
        let tokenizer = &subject.model.tokenizer;
        let third = |Spoken { layers, tokens, refusal }: Spoken| Third {
            layers,
            refusal,
            tokens: tokens.iter().map(|id| tokenizer.token_of(*id).unwrap_or_default()).collect(),
        };
        let told_apart = told_apart(settings.threshold, high, low);
        let weak = told_apart.auroc.filter(|auroc| *auroc < WEAK);
        let weak = weak.map(|_| {
            "The score tells the held-out anchors apart badly: steering by it takes refusals from harmful requests that it \
             misses."
                .to_owned()
        });
        let given = asked.threshold.map(|_| "T was given and not fitted.".to_owned());
        Fitted {
            schema: SCHEMA,
            of: asked.of.to_string(),
            model: (*which).to_owned(),
            anchors: [prompts[0].len(), prompts[1].len()],
            held_out: [prompts[2].len(), prompts[3].len()],
            thirds: said.into_iter().map(third).collect(),
            layers: settings.layers,
            score_layers: settings.score_layers,
            alpha: settings.alpha,
            threshold: settings.threshold,
            told_apart,
            notes: given.into_iter().chain(weak).collect(),
        }
    }
}

/// How well scores tell harmful prompts from harmless ones at a threshold.
pub(super) fn told_apart(threshold: f64, harmful: &[f64], harmless: &[f64]) -> ToldApart {
    let cut = Cut::new(threshold, harmful, harmless);
    ToldApart {
        auroc: auroc(harmful, harmless),
        harmful: [cut.positive, harmful.len()],
        harmless: [cut.negative, harmless.len()],
    }
}
