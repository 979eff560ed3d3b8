//! Layers put back to the base one by one in a tuned model, and refusals counted: which of them are to be merged.

use super::ask::{Exam, ask};
use super::cast::{Candidate, Cast};
use super::failure::Failure;
use super::plan::probing::Probing;
use super::plan::{Model, Plan};
use super::session::Session;
use crate::device::Opened;
use crate::eval::{Judgement, Verdict};
use crate::event::Event;
use crate::merge::{self, Resolved, Restoring};
use crate::recipe::Spec;
use crate::report::inspection::Refusals;
use crate::train::Machine;

/// In a run folder, where probes keep what they asked and found.
pub const FOLDER: &str = "inspect";

/// The merge in which these layers are the base's and all else is tuned.
///
/// # Errors
///
/// Never of a range of layers.
pub fn restored(layers: &str, seed: u64) -> Result<Resolved, Failure> {
    put_back(&[layers.to_owned()], 0.0, seed)
}

/// The merge that has `weight` of the tuned model in these layers and all of it elsewhere.
fn put_back(layers: &[String], weight: f64, seed: u64) -> Result<Resolved, Failure> {
    let places = layers.iter().map(|layers| format!(",layers.{layers}={weight}"));
    let spec: Spec = format!("linear:1{}", places.collect::<String>()).parse()?;
    Ok(merge::resolve(&spec, seed)?)
}

/// The refusals of every candidate, in their order; answers that are there already are taken over.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the wish to stop.
pub fn count(
    Probing { evaluation, judge }: &Probing,
    (model, machine, opened): (&Model, &Machine, &Opened),
    cast: &Cast,
    session: &mut Session<'_>,
) -> Result<Vec<Refusals>, Failure> {
    let exam = Exam { model, evaluation, machine, device: &opened.name };
    let gathered = ask(exam, cast, session)?;
    let posed = &evaluation.suites[0].posed;
    let rule = (judge.build)();
    let counts = gathered.answered.iter().map(|said| {
        let said = said.suites[0].as_ref().expect("every candidate was just asked");
        let judged = Judgement::by_rule(judge, rule.as_ref(), &posed.items, &said.answers);
        let verdicts: Vec<Verdict> = judged.verdicts.into_iter().flatten().collect();
        let refused = verdicts.iter().filter(|verdict| **verdict == Verdict::Yes).count();
        Refusals::of(refused, verdicts.len())
    });
    Ok(counts.collect())
}

/// The cast of a finished training, in which merges that go by a probe have been told their layers.
///
/// # Errors
///
/// A file is missing or broken, the disk refuses, or the run was asked to stop.
pub fn cast(plan: &Plan, session: &mut Session<'_>) -> Result<Cast, Failure> {
    let mut cast = Cast::of_run(plan, session)?;
    let Some(probing) = &plan.merging.probing else { return Ok(cast) };
    let Plan { model, machine, opened, training, .. } = plan;
    let seed = training.train.seed;
    let layers: Vec<String> = (0..model.shape.n_layers).map(|layer| layer.to_string()).collect();
    let merges = layers.iter().map(|layer| restored(layer, seed)).collect::<Result<Vec<_>, _>>()?;
    let probed = cast.of_pair(&merges);
    let folder = session.folder().path().join(FOLDER);
    let counts =
        session.within(&folder, |session| count(probing, (model, machine, opened), &probed, session))?;
    let [_, tuned, restored @ ..] = counts.as_slice() else {
        unreachable!("base and tuned model come first")
    };
    let refused: Vec<usize> = restored.iter().map(|refusals| refusals.refused).collect();
    let candidates: Vec<Candidate> = cast.candidates.clone();
    for (nth, candidate) in candidates.iter().enumerate() {
        let Some(restoring) = candidate.restoring() else { continue };
        let chosen = chosen(&refused, tuned.refused, restoring);
        let layers: Vec<String> = chosen.iter().map(|layer| layers[*layer].clone()).collect();
        let merge = put_back(&layers, restoring.weight, seed)?;
        let text = match chosen.as_slice() {
            [] => format!(
                "{}: put back alone, no layer brings refusals back; it is the tuned model",
                candidate.name
            ),
            _ => {
                let found = chosen.iter().map(|layer| format!("layer {layer}: {}", refused[*layer]));
                format!(
                    "{} is `{}`; of {} requests the tuned model refuses {}, with a layer put back: {}",
                    candidate.name,
                    merge.name(),
                    tuned.n,
                    tuned.refused,
                    found.collect::<Vec<_>>().join(", ")
                )
            }
        };
        session.event(Event::Note { text })?;
        cast.settle_as(nth, merge);
    }
    Ok(cast)
}

/// The layers that bring back most, of equals the first; those that bring nothing back are none of them.
fn chosen(refused: &[usize], tuned: usize, restoring: Restoring) -> Vec<usize> {
    let mut layers: Vec<usize> = (0..refused.len()).filter(|layer| refused[*layer] > tuned).collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(refused[*layer]));
    layers.truncate(restoring.layers);
    layers.sort_unstable();
    layers
}

#[cfg(test)]
mod tests {
    use super::{chosen, put_back};
    use crate::merge::Restoring;

    #[test]
    fn the_layers_that_bring_back_most_are_chosen_and_none_that_brings_nothing() {
        let of = |refused: &[usize], layers: usize| chosen(refused, 3, Restoring { layers, weight: 0.5 });
        assert_eq!(of(&[3, 9, 2, 9, 5], 1), [1]);
        assert_eq!(of(&[3, 9, 2, 9, 5], 2), [1, 3]);
        assert_eq!(of(&[3, 9, 2, 9, 5], 9), [1, 3, 4]);
        assert!(of(&[3, 0, 2], 2).is_empty());
    }

    #[test]
    fn what_is_put_back_is_a_merge_by_places() {
        let layers = ["2".to_owned(), "7".to_owned()];
        assert_eq!(put_back(&layers, 0.25, 0).unwrap().name(), "linear:1,layers.2=0.25,layers.7=0.25");
        assert_eq!(put_back(&[], 0.25, 0).unwrap().name(), "linear:1");
    }
}
