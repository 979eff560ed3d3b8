//! What a user should know about the questions before they are asked.

use rayon::prelude::*;
use serde_json::json;

use super::encoding::{Beyond, Encoding};
use super::guard::GuardPlan;
use super::kept::kept;
use super::model::Model;
use super::openings;
use super::overlap::Trained;
use super::questions::Questions;
use super::training::Read;
use crate::data::Role;
use crate::eval::{EvalError, Form, MetricKind};
use crate::recipe::Data;
use crate::run::failure::Failure;
use crate::snapshot::template::{ChatTemplate, TemplateError};

/// A sentence, if some suites are measured by likelihoods, which a guard says nothing to.
pub fn guarded(suites: &[Questions], guard: &GuardPlan) -> Option<String> {
    let by_likelihood = suites.iter().filter(|suite| suite.posed.suite.task.form != Form::Answer);
    let names: Vec<String> = by_likelihood.map(|suite| format!("`{}`", suite.posed.suite.name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the guard `{}` looks at requests that are answered in words: behind it {} count as without it",
            guard.folder.display(),
            names.join(", ")
        )
    })
}

/// The suites that λ is chosen by share no prompt with those that are reported, blanks and case aside; what was compared
/// before is kept.
///
/// # Errors
///
/// They do.
pub fn apart(suites: &[Questions]) -> Result<(), Failure> {
    let of = |validation: bool| suites.iter().filter(move |suite| suite.posed.asked.validation == validation);
    if of(true).next().is_none() || of(false).next().is_none() {
        return Ok(());
    }
    let drawn = [true, false].map(|validation| of(validation).map(Questions::drawn).collect::<Vec<_>>());
    let check = || {
        for kept in of(true) {
            let known = Trained::new(kept.posed.items.iter().map(|item| item.prompt.as_str()));
            of(false).try_for_each(|test| check_apart(kept, &known, test))?;
        }
        Ok(true)
    };
    kept("apart", &json!(drawn), check).map(drop)
}

/// That a suite shares no prompt with one that λ is chosen by, whose prompts are `known`.
fn check_apart(kept: &Questions, known: &Trained<'_>, test: &Questions) -> Result<(), EvalError> {
    let items = test.posed.items.par_iter();
    let shared: Vec<&str> =
        items.map(|item| item.prompt.as_str()).filter(|prompt| known.within(prompt).is_some()).collect();
    match shared.first() {
        None => Ok(()),
        Some(first) => Err(EvalError::Leak {
            validation: kept.posed.suite.name.clone(),
            test: test.posed.suite.name.clone(),
            n: shared.len(),
            first: first.chars().take(80).collect(),
        }),
    }
}

/// Where benign requests are refused in training, a suite that is reported measures what that does to others.
///
/// # Errors
///
/// There is none.
pub fn over_refusal(data: &Data, suites: &[Questions]) -> Result<(), EvalError> {
    let measures = |asked: &Questions| {
        asked.posed.suite.task.kind == MetricKind::OverRefusal && !asked.posed.asked.validation
    };
    match data.refusal_mix.is_some() && !suites.iter().any(measures) {
        true => Err(EvalError::NoOverRefusal),
        false => Ok(()),
    }
}

/// Says how many evaluation prompts were trained on; what was compared before is kept.
///
/// # Errors
///
/// The training data cannot be read.
pub fn overlap(read: &Read, suites: &[Questions]) -> Result<Vec<String>, Failure> {
    let drawn: Vec<&str> = suites.iter().map(Questions::drawn).collect();
    let found = kept("overlap", &json!([read.key(), drawn]), || {
        let messages = read.sets()?.train.iter().flat_map(|conversation| &conversation.messages);
        let users = messages.filter(|message| message.role == Role::User);
        let trained = Trained::new(users.map(|message| message.content.as_str()));
        let count = |asked: &Questions| {
            let items = asked.posed.items.par_iter();
            let found: Vec<bool> = items.filter_map(|item| trained.within(&item.prompt)).collect();
            [found.len(), found.iter().filter(|verbatim| **verbatim).count()]
        };
        Ok(suites.iter().map(count).collect::<Vec<[usize; 2]>>())
    })?
    .found;
    let sentence = |(asked, [n, exact]): (&Questions, [usize; 2])| {
        let (name, of) = (&asked.posed.suite.name, asked.posed.items.len());
        (n > 0).then(|| {
            format!("{n} of {of} prompts of suite `{name}` stand in the training data, {exact} word for word")
        })
    };
    Ok(suites.iter().zip(found).filter_map(sentence).collect())
}

/// What a user should know of the questions and of how answers are read.
pub fn asked(suites: &[Questions], model: &Model) -> Vec<String> {
    let short = openings::short(suites.iter().map(|asked| (&*asked.posed, asked.outline.n_short)));
    let long = long(suites, model.shape.max_positions);
    [short, untried(suites), thinking(suites).into_iter().collect(), long].concat()
}

/// Says where answers begin, if not at their beginning.
fn thinking(suites: &[Questions]) -> Option<String> {
    let found = suites.iter().find_map(|asked| asked.decoding.thinking.as_ref())?;
    let n = suites.iter().map(|asked| asked.decoding.max_new_tokens).min().unwrap_or(0);
    Some(format!(
        "answers begin after `{}`: what a model thinks before is kept, and neither judged nor searched for stop \
         strings; its tokens count, and the shortest answers may have {n} (`thinking` under `[eval]`)",
        found.close
    ))
}

/// Says that what the run writes has no chat template, where the base has one and the recipe does without.
pub fn template(asked: &str, model: &Model) -> Option<String> {
    let has = || {
        !matches!(
            ChatTemplate::load(&model.folder, &model.tokenizer, None),
            Err(TemplateError::Missing { .. })
        )
    };
    (asked == "none" && has()).then(|| {
        "`template = \"none\"`: the folders that the run writes carry no chat template, not even the base's, for it \
        trains and asks without one"
            .to_owned()
    })
}

/// Says how many samples are longer than a model's `window`: they train positions that it was not made for. A window
/// that slides over the layers is no such limit.
pub fn beyond(encoding: &Encoding, window: usize) -> Vec<String> {
    let sentence = |(Beyond { n, of, longest }, what): (&Beyond, &str)| {
        (*n > 0).then(|| {
            format!(
                "{n} of {of} {what} are longer than the model's {window} positions (max_position_embeddings), the longest \
                 has {longest} tokens: lower `data.max_tokens`, and `data.too_long` says what becomes of them"
            )
        })
    };
    encoding.beyond.iter().zip(["samples", "held-out samples"]).filter_map(sentence).collect()
}

/// Says whose programs have tests that nothing can be tried on before the answers.
fn untried(suites: &[Questions]) -> Vec<String> {
    let programs = suites.iter().filter(|asked| !asked.posed.suite.task.programs.is_empty());
    let sentence = |asked: &Questions| {
        let (name, of) = (&asked.posed.suite.name, asked.posed.items.len());
        let n = asked.posed.items.iter().filter(|item| item.reference.is_none()).count();
        (n > 0).then(|| {
            format!("{n} of {of} items of suite `{name}` bring no solution that shows that their tests can be passed")
        })
    };
    programs.filter_map(sentence).collect()
}

/// Says how many reference answers are longer than a suite lets answers be, and how many questions leave a model's
/// `window` no room for an answer.
fn long(suites: &[Questions], window: usize) -> Vec<String> {
    let reference = |asked: &Questions| {
        let (most, n) = (asked.decoding.max_new_tokens, asked.outline.n_long);
        let (of, name) = (asked.posed.items.len(), &asked.posed.suite.name);
        (n > 0).then(|| {
            format!(
                "{n} of {of} reference answers of suite `{name}` are longer than its max_new_tokens = {most}"
            )
        })
    };
    let cramped = |asked: &Questions| {
        let most = asked.decoding.max_new_tokens;
        let n = asked.outline.prompts.iter().filter(|n_tokens| **n_tokens + most > window).count();
        let (of, name) = (asked.posed.items.len(), &asked.posed.suite.name);
        (n > 0).then(|| {
            format!(
                "{n} of {of} prompts of suite `{name}` with max_new_tokens = {most} are more than the model's {window} positions"
            )
        })
    };
    suites.iter().filter_map(reference).chain(suites.iter().filter_map(cramped)).collect()
}
