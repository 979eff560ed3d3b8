//! The threshold of a guard that was just trained, fitted on the requests that were held out.

use std::collections::BTreeMap;

use super::Guard;
use crate::data::guard::{self, TOKENS};
use crate::eval::measures::detection::{Detection, Labelled, fitted};
use crate::run::failure::Failure;
use crate::run::plan::Plan;
use crate::run::plan::guard::{Card, SCHEMA};
use crate::run::session::Session;
use crate::snapshot::Weights;

/// What is to stand in `guard.json` beside these weights, or nothing if no guard was trained.
///
/// # Errors
///
/// A weight cannot be computed, or the run was asked to stop.
pub fn card(plan: &Plan, weights: &dyn Weights, session: &mut Session<'_>) -> Result<Option<Card>, Failure> {
    let (Some(marks), Some((labelling, held_out))) = (&plan.model.marks, plan.training.labelling()?) else {
        return Ok(None);
    };
    let requests: Vec<&str> = held_out.iter().map(guard::request).collect();
    let mut found: Vec<Labelled> = held_out.iter().map(|one| (0.0, guard::is_harmful(one))).collect();
    session.stage("fit the guard's threshold", (requests.len() as u64, None), |session| {
        let guard = Guard::load(plan.model.clone(), marks.labels(), weights, &plan.machine)?;
        let mut done = 0;
        guard.probabilities(&requests, &mut |part| {
            done += part.len() as u64;
            for (nth, p) in part {
                found[nth].0 = p;
            }
            session.advance(done, None)
        })
    })?;
    let threshold = fitted(&found, labelling.threshold);
    Ok(Some(Card {
        schema: SCHEMA,
        tokens: TOKENS.map(str::to_owned).to_vec(),
        threshold,
        fitted_by: labelling.threshold,
        validation: Detection::of(&found, threshold),
        answer: labelling.answer,
        run: plan.key.digest.clone(),
        sha256: BTreeMap::new(),
    }))
}
