//! Pairs: two samples for each prompt, with the chosen and with the rejected answer, and which tokens of them count.
//!
//! The mask by token scores is that of Tan et al., "Equilibrate RLHF: Towards Balancing Helpfulness-Safety Trade-off in
//! Large Language Models", 2025, arXiv 2502.11555 (adaptive message-wise alignment): of the chosen answer those tokens
//! count that a reward model finds good, of the rejected one those that it finds bad. What is masked has no label, so
//! that it takes no part in the loss and has a gradient of exactly zero.

use rayon::prelude::*;

use super::conversation::{Conversation, Message};
use super::encode::Encoder;
use super::error::DataError;
use super::sample::{Made, Sample};
use crate::recipe::Mask;

/// Encodes pairs: the chosen and the rejected sample of each conversation, one after the other.
///
/// # Errors
///
/// One cannot be encoded, or has no scores where a mask is made by them.
pub fn samples(
    conversations: &[Conversation],
    encoder: &Encoder<'_>,
    mask: Option<Mask>,
) -> Result<Made, DataError> {
    let each = |conversation: &Conversation| pair(conversation, encoder, mask);
    let pairs: Vec<[Sample; 2]> = conversations.par_iter().map(each).collect::<Result<_, DataError>>()?;
    let mut said = Vec::new();
    let same = |pair: &&[Sample; 2]| pair[0].ids == pair[1].ids;
    let n_same = pairs.iter().filter(same).count();
    if n_same > 0 {
        said.push(format!("{n_same} of {} pairs have the same answer twice and teach nothing", pairs.len()));
    }
    if mask.is_some() {
        let counts = |pair: &[Sample; 2]| pair.iter().map(Sample::n_trained).sum::<usize>();
        let n_tokens: usize = pairs.iter().map(counts).sum();
        let n_silent = pairs.iter().filter(|pair| counts(pair) == 0).count();
        said.push(format!(
            "mask: {n_tokens} tokens of {} pairs count by their scores; in {n_silent} pairs none does",
            pairs.len()
        ));
    }
    Ok(Made { samples: pairs.into_iter().flatten().collect(), said })
}

fn pair(
    conversation: &Conversation,
    encoder: &Encoder<'_>,
    mask: Option<Mask>,
) -> Result<[Sample; 2], DataError> {
    let other = conversation.other.as_ref().expect("whoever has pairs made has looked for both answers");
    let mut rejected = conversation.clone();
    if let Some(last) = rejected.messages.last_mut() {
        *last = Message::new(last.role, other.answer.as_str());
    }
    let mut pair = [encoder.sample(conversation)?, encoder.sample(&rejected)?];
    let Some(mask) = mask else { return Ok(pair) };
    let scores = other.scores.as_ref().ok_or(DataError::NoScores { line: conversation.line })?;
    for (nth, (sample, scores)) in pair.iter_mut().zip(scores).enumerate() {
        let labels: Vec<usize> = (0..sample.labels.len()).filter(|i| sample.labels[*i].is_some()).collect();
        let is_stop = |i: &&usize| sample.labels[**i].is_some_and(|id| encoder.stop_ids().contains(&id));
        let n_stops = labels.iter().rev().take_while(is_stop).count();
        if scores.len() != labels.len() && scores.len() + n_stops != labels.len() {
            let which = ["chosen", "rejected"][nth];
            let (line, found, n) = (conversation.line, scores.len(), labels.len());
            return Err(DataError::ScoresMisfit { line, which, found, n });
        }
        let counts = counted(scores, mask, if nth == 0 { 1 } else { -1 });
        // An end that has no score does not count.
        for (place, counts) in labels.iter().zip(counts.into_iter().chain(std::iter::repeat(false))) {
            if !counts {
                sample.labels[*place] = None;
            }
        }
        sample.is_open = true;
    }
    Ok(pair)
}

/// Which tokens with these scores count in an answer whose good (`sign` 1) or bad (`sign` -1) tokens do.
pub fn counted(scores: &[f64], mask: Mask, sign: i8) -> Vec<bool> {
    match mask {
        Mask::Threshold(threshold) => {
            scores.iter().map(|score| score * f64::from(sign) > threshold).collect()
        }
        Mask::Hysteresis(height) => {
            states(scores, height, 0).into_iter().map(|state| state == sign).collect()
        }
    }
}

/// The state at each score, from `start` on: 1 from a score of at least `height` on, -1 from one of at most its
/// negative on, else what it was before.
pub fn states(scores: &[f64], height: f64, start: i8) -> Vec<i8> {
    let mut state = start;
    let mut next = |score: &f64| {
        if *score >= height {
            state = 1;
        } else if *score <= -height {
            state = -1;
        }
        state
    };
    scores.iter().map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Other;
    use super::super::tiny::{self, CHATML};
    use super::*;
    use crate::recipe::LossOn;

    fn of(
        chosen: &str,
        rejected: &str,
        scores: Option<[Vec<f64>; 2]>,
        mask: Option<Mask>,
    ) -> Result<Made, DataError> {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let template = tiny::template(CHATML, "<|im_end|>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion).unwrap();
        let mut conversation = tiny::conversation(&["user: b?", &format!("assistant: {chosen}")]);
        conversation.other = Some(Other { answer: rejected.to_owned(), scores });
        samples(&[conversation], &encoder, mask)
    }

    #[test]
    fn a_pair_is_two_samples_that_differ_in_the_answer_alone() {
        let made = of("xyz", "q", None, None).unwrap();
        let [chosen, rejected] = &made.samples[..] else { panic!("{made:?}") };
        assert_eq!((chosen.n_trained(), rejected.n_trained()), (4, 2));
        let first = chosen.labels.iter().position(Option::is_some).unwrap();
        assert_eq!(chosen.ids[..first], rejected.ids[..first]);
        assert!(made.said.is_empty());
        assert!(
            of("xyz", "xyz", None, None).unwrap().said[0].starts_with("1 of 1 pairs have the same answer")
        );
    }

    #[test]
    fn good_tokens_of_the_chosen_and_bad_ones_of_the_rejected_answer_count() {
        let scores = || Some([vec![0.5, 0.0, -0.5, 0.1], vec![-0.2, 0.4]]);
        let learned = |made: &Made| -> Vec<Vec<usize>> {
            let places =
                |sample: &Sample| (0..sample.ids.len()).filter(|i| sample.labels[*i].is_some()).collect();
            made.samples.iter().map(places).collect()
        };
        let all = learned(&of("xyz", "q", None, None).unwrap());
        let made = of("xyz", "q", scores(), Some(Mask::Threshold(0.0))).unwrap();
        assert_eq!(learned(&made), [vec![all[0][0], all[0][3]], vec![all[1][0]]]);
        assert!(made.samples.iter().all(|sample| sample.is_open));
        let made = of("xyz", "q", scores(), Some(Mask::Threshold(0.2))).unwrap();
        assert_eq!(learned(&made), [vec![all[0][0]], vec![]]);
        // From 0.5 on the state is good, from -0.5 on bad.
        let made = of("xyz", "q", scores(), Some(Mask::Hysteresis(0.5))).unwrap();
        assert_eq!(learned(&made), [vec![all[0][0], all[0][1]], vec![]]);
        // The end of an answer may have no score.
        let without = Some([vec![0.5, 0.0, -0.5], vec![-0.2]]);
        let made = of("xyz", "q", without, Some(Mask::Threshold(0.0))).unwrap();
        assert_eq!(learned(&made), [vec![all[0][0]], vec![all[1][0]]]);
        for scores in [None, Some([vec![0.5; 2], vec![1.0; 2]]), Some([vec![0.5; 4], vec![1.0; 3]])] {
            let error = of("xyz", "q", scores, Some(Mask::Threshold(0.0))).unwrap_err();
            assert!(matches!(error, DataError::NoScores { .. } | DataError::ScoresMisfit { .. }), "{error}");
        }
    }

    #[test]
    fn a_state_changes_only_at_its_bounds() {
        assert_eq!(states(&[0.1, 0.4, 0.1, -0.2, -0.4, 0.2], 0.3, 0), [0, 1, 1, 1, -1, -1]);
        assert_eq!(states(&[0.3, 0.0, -0.3, 0.0], 0.3, -1), [1, 1, -1, -1]);
    }
}
