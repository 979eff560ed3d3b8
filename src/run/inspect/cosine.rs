//! How alike hidden states of normal and malicious prompts are, layer by layer: [`super::super::plan::hidden`] of a model
//! and two suites.

use super::subject::Subject;
use super::{Asked, Outcome, no_tuned};
use crate::eval::{MetricKind, tasks};
use crate::event::Event;
use crate::merge::Rounded;
use crate::model::Decoder;
use crate::recipe::Suite;
use crate::report::inspection::Found;
use crate::run::failure::{Failure, InspectError};
use crate::run::plan::hidden::{PAIRS, THRESHOLD};
pub use crate::run::plan::hidden::{Pairs, States, cosines, growth, onset, states};
use crate::run::plan::probing::{greedy, posed};
use crate::run::plan::questions::Questions;
use crate::run::plan::sources::Sources;
use crate::run::session::Session;
use crate::snapshot::SharedWeights;

/// The probe, settled.
pub(super) struct Cosines<'a> {
    subject: &'a Subject,
    /// What the model is called.
    name: &'static str,
    weights: SharedWeights,
    malicious: Questions,
    normal: Questions,
}

impl<'a> Cosines<'a> {
    /// Settles which prompts are read: the first suite of harmful requests, and the first of any others.
    ///
    /// # Errors
    ///
    /// There are none, or too few prompts.
    pub(super) fn new(
        subject: &'a Subject,
        asked: &Asked,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let (name, own) = subject.one(asked.tuned).ok_or_else(|| no_tuned(asked))?;
        let suites = subject.suites(&asked.suites);
        let first = |harmful: bool, what, example| {
            let fits = |suite: &&Suite| {
                tasks::find(&suite.task).is_ok_and(|task| (task.kind == MetricKind::Safety) == harmful)
            };
            suites.iter().find(fits).cloned().ok_or(InspectError::NoSuite { what, example })
        };
        let both = vec![
            first(true, "harmful requests", "harmful=FILE,field=goal")?,
            first(false, "normal requests", "benign=FILE,field=prompt")?,
        ];
        let mut posed = {
            let asked = (&subject.model, &subject.opened.device);
            posed(&greedy(&subject.recipe.eval, both), asked, sources)?
        };
        if let Some(few) = posed.iter().find(|suite| suite.outline.prompts.len() < 2) {
            let (suite, n) = (few.posed.suite.name.clone(), few.outline.prompts.len());
            return Err(InspectError::FewPrompts { suite, n }.into());
        }
        let (normal, malicious) = (posed.pop().expect("the second"), posed.pop().expect("the first"));
        let weights: SharedWeights = std::sync::Arc::new(Rounded::new(own.weights, &subject.base.dtypes));
        Ok(Self { subject, name, weights, malicious, normal })
    }

    /// Reads the prompts and compares.
    ///
    /// # Errors
    ///
    /// A weight cannot be read, the disk refuses, or the wish to stop.
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<Outcome, Failure> {
        let Subject { model, machine, recipe, .. } = self.subject;
        let n_all = (self.malicious.outline.prompts.len() + self.normal.outline.prompts.len()) as u64;
        let [normal, malicious] = session.stage("read prompts", (n_all, None), |session| {
            let decoder = Decoder::load(&model.shape, &self.weights, &machine.device, machine.answers)?;
            let mut before = 0;
            let mut read = |suite: &Questions| {
                let found = states(&decoder, &suite.tokens().prompts, machine, |done| {
                    session.event(Event::Progress { done: (before + done) as u64, remaining: None })?;
                    Ok::<(), Failure>(session.go_on()?)
                });
                before += suite.outline.prompts.len();
                found
            };
            Ok([read(&self.normal)?, read(&self.malicious)?])
        })?;
        let seed = recipe.eval.seed;
        let pairs = Pairs::drawn(
            self.normal.outline.prompts.len(),
            self.malicious.outline.prompts.len(),
            PAIRS,
            seed,
        );
        let rows = cosines(&normal, &malicious, &pairs);
        let onset = onset(&rows, THRESHOLD);
        let range = onset.map(|onset| growth(&rows, onset));
        let suites = [&self.malicious, &self.normal].map(|suite| suite.posed.asked.clone()).to_vec();
        let found = Found::Cosines { onset, range, threshold: THRESHOLD, pairs: PAIRS, rows };
        Ok(Outcome { model: self.name, suites, judge: None, notes: notes(range, seed), found })
    }
}

/// What the numbers are, and where the gap opens.
fn notes(range: Option<[usize; 2]>, seed: u64) -> Vec<String> {
    let opens = match range {
        None => format!("No gap above {THRESHOLD} stays positive to the last layer."),
        Some([from, to]) => format!(
            "The gap opens at layer {from} (above {THRESHOLD}, and positive from there on) and grows to layer {to}. Prompts \
             of another topic open one too."
        ),
    };
    let what = format!(
        "Mean cosines of {PAIRS} pairs of each kind, drawn by seed {seed}; gap = normal − across. States are the blocks' \
         outputs, the last layer's too (before the final norm)."
    );
    vec![what, opens]
}
