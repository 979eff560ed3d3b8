//! What the candidates of two runs said to the same prompts.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use crate::eval::Completion;
use crate::report::difference::{Compared, Said};
use crate::run::ask::{Index, Responses, Transcript};
use crate::run::failure::Failure;
use crate::run::plan::posed::Posed;

/// Characters of an answer that are shown before the first that differs, and in all.
const BEFORE: usize = 20;
const SHOWN: usize = 80;

/// The answers of both runs to the prompts that they share, candidate by candidate; the first that differs is shown.
///
/// # Errors
///
/// A run's index cannot be read.
pub fn answers(runs: [&Path; 2], notes: &mut Vec<String>) -> Result<Compared<Said>, Failure> {
    let mut found = Compared::default();
    let mut read = Vec::new();
    for (run, letter) in runs.into_iter().zip(["A", "B"]) {
        let Some(index) = Index::found(run)? else {
            notes.push(format!("{letter} has no answers yet"));
            return Ok(found);
        };
        match index.answered(run) {
            Ok(answered) => read.push((index.posed()?, answered)),
            Err(error) => {
                notes.push(format!("answers of {letter} are not compared: {error}"));
                return Ok(found);
            }
        }
    }
    let [(suites, answered), (other_suites, others)] = read.as_slice() else {
        unreachable!("two runs have two indexes")
    };
    for (nth, posed) in suites.iter().enumerate() {
        let is_same = |other: &&std::sync::Arc<Posed>| {
            other.suite.name == posed.suite.name && other.suite.task.name == posed.suite.task.name
        };
        let Some(place) = other_suites.iter().position(|other| is_same(&other)) else {
            notes.push(format!("`{}` was not asked in B", posed.suite.name));
            continue;
        };
        let pairs = shared(posed, &other_suites[place]);
        let most = posed.items.len().max(other_suites[place].items.len());
        if pairs.len() < most {
            let name = &posed.suite.name;
            notes.push(format!("`{name}`: only {} of up to {most} prompts were asked in both", pairs.len()));
        }
        for said in answered {
            let other = others.iter().find(|other| other.about.name == said.about.name);
            let both = said.suites[nth].as_ref().zip(other.and_then(|other| other.suites[place].as_ref()));
            let Some((a, b)) = both else { continue };
            found.compared += pairs.len();
            found.differ.extend(first(said, posed, (a, b), &pairs));
        }
    }
    Ok(found)
}

/// The places of the prompts that both were asked, in the order of the first.
fn shared(a: &Posed, b: &Posed) -> Vec<(usize, usize)> {
    let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (nth, item) in b.items.iter().enumerate() {
        places.entry(item.prompt.as_str()).or_default().push_back(nth);
    }
    let place = |(nth, item): (usize, &crate::eval::Item)| {
        Some((nth, places.get_mut(item.prompt.as_str())?.pop_front()?))
    };
    a.items.iter().enumerate().filter_map(place).collect()
}

/// The first prompt with another answer, and how many there are.
fn first(
    said: &Responses,
    posed: &Posed,
    (a, b): (&Transcript, &Transcript),
    pairs: &[(usize, usize)],
) -> Option<Said> {
    let differing: Vec<&(usize, usize)> =
        pairs.iter().filter(|(own, other)| apart((a, *own), (b, *other)).is_some()).collect();
    let (own, other) = **differing.first()?;
    let (at, texts) = apart((a, own), (b, other))?;
    let [a, b] = texts;
    Some(Said {
        candidate: said.about.name.clone(),
        suite: posed.suite.name.clone(),
        differing: differing.len(),
        prompts: pairs.len(),
        index: own,
        item: posed.items[own].id.clone(),
        at,
        a,
        b,
    })
}

/// How two answers differ, if they do: from which character on, and what stands there.
fn apart(
    (a, own): (&Transcript, usize),
    (b, other): (&Transcript, usize),
) -> Option<(Option<usize>, [String; 2])> {
    let whole = |said: &Transcript, nth: usize| -> Vec<(String, Completion)> {
        let answers = said.answers.get(nth).into_iter().flatten();
        let thoughts = said.thoughts.get(nth).into_iter().flatten().cloned();
        let thoughts = thoughts.chain(std::iter::repeat(String::new()));
        answers.zip(thoughts).map(|(answer, thought)| (thought, answer.clone())).collect()
    };
    let (all, others) = (whole(a, own), whole(b, other));
    if let Some(((thought, answer), (its_thought, its))) =
        all.iter().zip(&others).find(|(own, other)| own != other)
    {
        let texts = [format!("{thought}{}", answer.text), format!("{its_thought}{}", its.text)];
        let at = texts[0].chars().zip(texts[1].chars()).take_while(|(a, b)| a == b).count();
        if texts[0] == texts[1] {
            let ends = [answer, its].map(|said| format!("{} tokens, {:?}", said.n_tokens, said.finish));
            return Some((None, ends));
        }
        return Some((Some(at), texts.map(|text| excerpt(&text, at))));
    }
    if all.len() != others.len() {
        return Some((None, [all.len(), others.len()].map(|n| format!("{n} answers"))));
    }
    let numbers = |said: &Transcript, nth: usize| -> Vec<f64> {
        let text = said.texts.get(nth).map(|(log_likelihood, _)| *log_likelihood);
        text.into_iter().chain(said.choices.get(nth).into_iter().flatten().copied()).collect()
    };
    let (a, b) = (numbers(a, own), numbers(b, other));
    (a != b).then(|| (None, [a, b].map(|all| format!("log-likelihood {all:?}"))))
}

/// A line of a text around a character.
fn excerpt(text: &str, at: usize) -> String {
    let start = at.saturating_sub(BEFORE);
    let shown: String = text.chars().skip(start).take(SHOWN).collect();
    let head = if start > 0 { "…" } else { "" };
    let tail = if text.chars().count() > start + SHOWN { "…" } else { "" };
    format!("{head}{}{tail}", shown.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Finish;

    fn said(text: &str, n_tokens: usize, likely: f64) -> Transcript {
        let answer = Completion { text: text.to_owned(), n_tokens, finish: Finish::Stop };
        Transcript {
            answers: vec![vec![answer]],
            thoughts: vec![vec![String::new()]],
            texts: vec![(likely, 3)],
            choices: Vec::new(),
            by_guard: Vec::new(),
        }
    }

    #[test]
    fn answers_are_apart_by_text_by_length_or_by_likelihood() {
        let a = said("It is 4.", 4, -1.5);
        let of = |b: Transcript| apart((&a, 0), (&b, 0));
        assert_eq!(of(said("It is 4.", 4, -1.5)), None);
        let (at, texts) = of(said("It is 5.", 4, -1.5)).unwrap();
        assert_eq!((at, texts), (Some(6), ["It is 4.", "It is 5."].map(str::to_owned)));
        let (at, texts) = of(said("It is 4.", 5, -1.5)).unwrap();
        assert_eq!((at, texts[1].as_str()), (None, "5 tokens, Stop"));
        let (at, texts) = of(said("It is 4.", 4, -1.25)).unwrap();
        assert_eq!((at, texts[1].as_str()), (None, "log-likelihood [-1.25]"));
    }

    #[test]
    fn an_excerpt_is_a_line_around_the_place() {
        let text = format!("{}x\ny{}", "a".repeat(40), "b".repeat(100));
        let shown = excerpt(&text, 40);
        assert!(shown.starts_with("…aaaa") && shown.contains("x\\ny") && shown.ends_with('…'), "{shown}");
        assert_eq!(excerpt("short", 2), "short");
    }
}
