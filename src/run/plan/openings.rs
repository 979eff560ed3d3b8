//! Answers that begin with a text of their own for each item: the first tokens of a field that the file has.
//!
//! How far an answer must have gone before a model no longer stops is what methods of refusal differ in most: Qi et al.,
//! "Safety alignment should be made more than just a few tokens deep", 2024, arXiv 2406.05946, measure it after k tokens of
//! a harmful answer, and Yuan et al., "Refuse whenever you feel unsafe", 2024, arXiv 2407.09121, train against it.

use std::sync::Arc;

use super::posed::Posed;
use crate::eval::{EvalError, Form};
use crate::generate::Thinking;
use crate::run::failure::Failure;
use crate::snapshot::tokenizer::{Tokenizer, TokenizerError};

/// That the suite writes answers, if its items have openings.
///
/// # Errors
///
/// It compares likelihoods.
pub(super) fn check(posed: &Posed) -> Result<(), EvalError> {
    let suite = &posed.suite;
    match suite.opening_field.is_some() && suite.task.form != Form::Answer {
        true => Err(EvalError::OpeningOfChoice { suite: suite.name.clone(), task: suite.task.name }),
        false => Ok(()),
    }
}

/// Keeps of every item's opening as many tokens as the suite asks for.
///
/// # Errors
///
/// The tokenizer has no way to write one.
pub(super) fn cut(posed: &mut Arc<Posed>, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let Some(n_tokens) = posed.asked.prefill_tokens else { return Ok(()) };
    for item in &mut Arc::make_mut(posed).items {
        item.opening = first_tokens(tokenizer, &item.opening, n_tokens)?;
    }
    Ok(())
}

/// The text of the first `n` tokens with which `text` is written alone; all of it if it has no more. A character of which
/// some tokens are left out is kept whole.
fn first_tokens(tokenizer: &Tokenizer, text: &str, n: usize) -> Result<String, TokenizerError> {
    let pieces = tokenizer.encode_pieces(text)?;
    if pieces.len() <= n {
        return Ok(text.to_owned());
    }
    let end = pieces[..n].last().map_or(0, |piece| piece.end);
    Ok(text[..text.ceil_char_boundary(end)].to_owned())
}

/// Whether answers begin within the thinking, by all openings; none where they differ.
pub(super) fn opened(posed: &Posed, found: &Thinking, unopened: bool) -> Result<bool, EvalError> {
    let of = |opening: &str| match (opening.contains(&found.close), found.opens(opening)) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => unopened,
    };
    if posed.suite.opening_field.is_none() {
        return Ok(of(&posed.opening));
    }
    let first = posed.items.first().is_some_and(|item| of(&item.opening));
    match posed.items.iter().find(|item| of(&item.opening) != first) {
        Some(item) => {
            Err(EvalError::MixedThinking { suite: posed.suite.name.clone(), item: item.id.clone() })
        }
        None => Ok(first),
    }
}

/// Says in which suites some items' fields, so many, have fewer tokens than answers are to begin with.
pub(super) fn short<'a>(suites: impl Iterator<Item = (&'a Posed, usize)>) -> Vec<String> {
    let sentence = |(posed, n): (&Posed, usize)| {
        let (wanted, field) = (posed.asked.prefill_tokens?, posed.asked.prefill_field.as_ref()?);
        let (of, name) = (posed.items.len(), &posed.suite.name);
        (n > 0).then(|| {
            format!(
                "{n} of {of} items of suite `{name}` have fewer than prefill_tokens = {wanted} tokens in `{field}`: their \
                 answers begin with all of it"
            )
        })
    };
    suites.filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn tokens_are_counted_as_the_field_alone_is_written_and_characters_stay_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model");
        let tokenizer = Tokenizer::load(&folder).unwrap();
        let text = "Sure, here it is: take step one.";
        let ids = tokenizer.encode(text).unwrap();
        for n in 0..=ids.len() + 1 {
            let found = first_tokens(&tokenizer, text, n).unwrap();
            assert_eq!(found, tokenizer.decode(&ids[..n.min(ids.len())], false), "{n}");
        }
        let grown: Vec<String> = (0..6).map(|n| first_tokens(&tokenizer, "é漢a", n).unwrap()).collect();
        assert!(grown.is_sorted_by_key(String::len) && grown[0].is_empty(), "{grown:?}");
        assert!(grown.iter().all(|text| "é漢a".starts_with(text.as_str())), "{grown:?}");
    }
}
