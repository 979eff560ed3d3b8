//! The last look before the first step: refuses what would train to no purpose or to harm.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::conversation::Line;
use super::encode::Encoder;
use super::error::{DataError, places};
use super::sample::Sample;
use crate::snapshot::tokenizer::Tokenizer;

/// What there is to learn, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    pub n_samples: usize,
    pub n_tokens: usize,
    /// Tokens that the loss covers.
    pub n_trained: usize,
    pub longest: usize,
    /// In how many samples the loss covers the token that ends the answer.
    pub n_stop_trained: usize,
}

/// Checks samples and counts them.
///
/// `vocab_size` is the number of rows of the model's embedding.
///
/// # Errors
///
/// A sample has nothing to learn, begins with bos twice or has ids outside the vocabulary, or most
/// samples do not train the stop token.
pub fn check(samples: &[Sample], encoder: &Encoder, vocab_size: usize) -> Result<Preflight, DataError> {
    let n = samples.len();
    let lines = |wrong: &dyn Fn(&Sample) -> bool| -> Vec<Line> {
        samples.iter().filter(|sample| wrong(sample)).map(|sample| sample.line).collect()
    };
    check_vocabulary(samples, encoder, vocab_size)?;
    if let Some(bos) = encoder.tokenizer().bos_id() {
        let twice = lines(&|sample| sample.ids.starts_with(&[bos, bos]));
        if !twice.is_empty() {
            let (bos, places) = (encoder.token(bos), places(&twice));
            return Err(DataError::BosTwice { found: twice.len(), n, bos, places });
        }
    }
    let nothing = lines(&|sample| !sample.is_open && !learns_something(sample, encoder));
    if !nothing.is_empty() {
        return Err(DataError::NothingToLearn { found: nothing.len(), n, places: places(&nothing) });
    }
    if n > 0 && samples.iter().all(|sample| sample.n_trained() == 0) {
        return Err(DataError::AllMasked);
    }
    let is_open = |sample: &&Sample| sample.is_open;
    let n_open = samples.iter().filter(is_open).count();
    let endless = lines(&|sample| !sample.is_open && !trains_stop(sample, encoder));
    if endless.len() * 2 > n - n_open {
        return Err(stop_not_trained(&endless, n, encoder));
    }
    Ok(Preflight {
        n_samples: n,
        n_tokens: samples.iter().map(|sample| sample.ids.len()).sum(),
        n_trained: samples.iter().map(Sample::n_trained).sum(),
        longest: samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0),
        n_stop_trained: samples.iter().filter(|sample| trains_stop(sample, encoder)).count(),
    })
}

fn check_vocabulary(samples: &[Sample], encoder: &Encoder, vocab_size: usize) -> Result<(), DataError> {
    let outside = |&&id: &&u32| id as usize >= vocab_size;
    let wrong: Vec<Line> = samples
        .iter()
        .filter(|sample| sample.ids.iter().any(|id| outside(&id)))
        .map(|sample| sample.line)
        .collect();
    let Some(largest) = samples.iter().flat_map(|sample| &sample.ids).filter(outside).max().copied() else {
        return Ok(());
    };
    Err(DataError::OutsideVocabulary {
        found: wrong.len(),
        n: samples.len(),
        largest,
        token: encoder.token(largest),
        vocab_size,
        places: places(&wrong),
    })
}

/// Whether the loss covers more than stop tokens: an empty answer teaches silence.
fn learns_something(sample: &Sample, encoder: &Encoder) -> bool {
    sample.labels.iter().flatten().any(|id| !encoder.stop_ids().contains(id))
}

/// Whether the last thing that is learned, but for white space, is a stop token.
fn trains_stop(sample: &Sample, encoder: &Encoder) -> bool {
    for id in sample.labels.iter().rev().flatten() {
        if encoder.stop_ids().contains(id) {
            return true;
        }
        if !encoder.tokenizer().decode(&[*id], false).trim().is_empty() {
            return false;
        }
    }
    false
}

fn stop_not_trained(endless: &[Line], n: usize, encoder: &Encoder) -> DataError {
    let stops: Vec<String> =
        encoder.stop_ids().iter().map(|&id| format!("`{}`", encoder.token(id))).collect();
    let stops = if stops.is_empty() { "the model's files name none".to_owned() } else { stops.join(", ") };
    let help = match encoder.template() {
        Some(template) => format!(
            "write the stop token after the answer in chat template `{}`, or raise `max_tokens` if answers are cut off",
            template.name()
        ),
        None => "raise `max_tokens` under `[data]`: the answers are cut off".to_owned(),
    };
    DataError::StopNotTrained { found: endless.len(), n, stops, places: places(endless), help }
}

/// A sample's text with what is learned marked: bold and underlined in `colour`, else in `[[…]]`.
pub fn preview(sample: &Sample, tokenizer: &Tokenizer, colour: bool) -> String {
    let (open, close) = if colour { ("\x1b[1;4m", "\x1b[0m") } else { ("[[", "]]") };
    let mut out = String::new();
    let mut shown = String::new();
    let mut at = 0;
    for run in sample.trained().chunk_by(|a, b| a == b) {
        let end = at + run.len();
        // Decoded from the start: a tokenizer may treat the beginning of a text in its own way.
        let text = tokenizer.decode(&sample.ids[..end], false);
        let part = match text.strip_prefix(&shown) {
            Some(part) => part.to_owned(),
            None => tokenizer.decode(&sample.ids[at..end], false),
        };
        let part = printable(&part);
        if run[0] {
            write!(out, "{open}{part}{close}").expect("a string takes all");
        } else {
            out.push_str(&part);
        }
        (at, shown) = (end, text);
    }
    out
}

/// A data set must not move the cursor of the terminal that shows it.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Conversation;
    use super::super::tiny::{self, CHATML};
    use super::*;
    use crate::recipe::LossOn;

    const TURNS: [&str; 2] = ["user: hello", "assistant: ab"];

    /// Samples of one template, changed by `edit`, checked.
    fn outcome(source: &str, edit: impl Fn(&mut Sample)) -> Result<Preflight, DataError> {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let template = tiny::template(source, "<|im_end|>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion)?;
        let conversations: Vec<_> =
            (1..=8).map(|line| Conversation { line: line.into(), ..tiny::conversation(&TURNS) }).collect();
        let mut samples = encoder.encode(&conversations)?.samples;
        samples.iter_mut().for_each(edit);
        check(&samples, &encoder, tokenizer.vocab_size())
    }

    #[test]
    fn good_samples_are_counted() {
        let facts = outcome(CHATML, |_| {}).unwrap();
        assert_eq!((facts.n_samples, facts.n_stop_trained), (8, 8));
        // `ab` is one token, and the stop token.
        assert_eq!(facts.n_trained, 16);
        assert_eq!(facts.n_tokens, 8 * facts.longest);
    }

    #[test]
    fn a_sample_with_nothing_to_learn_is_refused() {
        let error = outcome(CHATML, |sample| {
            if sample.line.number > 2 {
                sample.labels.fill(None);
            }
        });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "6 of 8 samples have nothing to learn: line or record 3, 4, 5, 6, 7 and 1 more");
        let silent = "{% for m in messages %}{{ m.content if m.role == 'user' }}<|im_end|>{% endfor %}";
        assert!(matches!(outcome(silent, |_| {}), Err(DataError::NotWhole { .. })));
    }

    #[test]
    fn a_stop_token_that_most_samples_do_not_train_is_refused() {
        let endless = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        let error = outcome(endless, |_| {}).unwrap_err();
        assert!(
            matches!(&error, DataError::StopNotTrained { found: 8, n: 8, stops, .. } if stops == "`<|im_end|>`"),
            "{error:?}"
        );
        let cut = |limit: usize| {
            move |sample: &mut Sample| {
                if sample.line.number <= limit {
                    sample.truncate(sample.ids.len() - 2);
                }
            }
        };
        assert_eq!(outcome(CHATML, cut(4)).unwrap().n_stop_trained, 4);
        assert!(matches!(outcome(CHATML, cut(5)), Err(DataError::StopNotTrained { found: 5, .. })));
    }

    #[test]
    fn two_beginnings_are_refused() {
        let error = outcome(&format!("<s>{{{{ bos_token }}}}{CHATML}"), |_| {}).unwrap_err();
        assert!(matches!(&error, DataError::BosTwice { found: 8, bos, .. } if bos == "<s>"), "{error:?}");
    }

    #[test]
    fn ids_outside_the_vocabulary_are_refused() {
        let error = outcome(CHATML, |sample| sample.ids[1] = 90_000).unwrap_err();
        assert!(matches!(error, DataError::OutsideVocabulary { found: 8, largest: 90_000, .. }), "{error:?}");
    }

    #[test]
    fn a_preview_marks_what_is_learned_and_obeys_no_escape_codes() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let ids = tokenizer.encode("a\x1b[2Jb é").unwrap();
        let mut trained = vec![false; ids.len()];
        *trained.last_mut().unwrap() = true;
        trained[1..6].fill(true);
        let sample = Sample::of_trained(ids, trained, 1.into());
        let text = preview(&sample, &tokenizer, false);
        assert!(text.starts_with("a[[\\u{1b}[2Jb]]"), "{text}");
        assert!(preview(&sample, &tokenizer, true).contains("\x1b[1;4m"));
    }
}
