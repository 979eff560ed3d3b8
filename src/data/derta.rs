//! DeRTa: samples that teach to refuse from within a harmful answer.
//!
//! Yuan et al., "Refuse Whenever You Feel Unsafe: Improving Safety in LLMs via Decoupled Refusal Training", 2024,
//! arXiv 2407.09121. A request comes with a safe and a harmful answer. Of them are made:
//!
//! - `prefix`: the beginning of the harmful answer, cut between two words, and the safe one, which alone is learned
//!   (the first term of Eq. 3); of every third request the beginning is empty;
//! - `rto`: the harmful answer, in which at every place the refusal's first token is to come (its second term);
//! - `plain`: the safe answer.
//!
//! The authors' program has one token for all places. Here a place at the answer's beginning and one behind a word
//! each have the token with which the refusal begins there, which differ where a tokenizer writes blanks into tokens;
//! and it is that of the request's own safe answer unless the recipe gives a text.

use rand::Rng;
use rayon::prelude::*;

use super::conversation::{Conversation, Message};
use super::encode::Encoder;
use super::error::DataError;
use super::sample::{Made, Sample};
use crate::recipe::{Derta, DertaRecord, RtoDraw};
use crate::seed;

/// Of so many requests one has its safe answer behind no word of the harmful one.
const UNBROKEN: usize = 3;

/// Encodes conversations: each with a harmful answer as the records that `derta` wants, others as they are.
///
/// # Errors
///
/// One cannot be encoded.
pub fn samples(
    conversations: &[Conversation],
    encoder: &Encoder<'_>,
    derta: &Derta,
    seed: u64,
    set: &str,
) -> Result<Made, DataError> {
    let mut nth = 0;
    let numbered: Vec<(usize, &Conversation)> = conversations
        .iter()
        .map(|conversation| {
            let own = nth;
            nth += usize::from(conversation.other.is_some());
            (own, conversation)
        })
        .collect();
    let of_one = |(nth, conversation): &(usize, &Conversation)| match &conversation.other {
        None => Ok(vec![encoder.sample(conversation)?]),
        Some(other) => {
            let cut = cut(&other.answer, *nth, seed, set);
            let made = derta.records.iter().map(|kind| record(conversation, encoder, derta, *kind, cut));
            Ok(made.collect::<Result<Vec<_>, DataError>>()?.into_iter().flatten().collect())
        }
    };
    let made: Vec<Vec<Sample>> = numbered.par_iter().map(of_one).collect::<Result<_, DataError>>()?;
    let mut samples: Vec<Sample> = made.into_iter().flatten().collect();
    let row = samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
    let (mut n_rto, mut n_labels, mut n_kept) = (0, 0, 0);
    for sample in samples.iter_mut().filter(|sample| sample.is_open) {
        n_labels += sample.n_trained();
        keep(sample, derta, row, seed, &format!("derta/keep/{set}/{n_rto}"));
        n_kept += sample.n_trained();
        n_rto += 1;
    }
    // Where nothing is kept there is nothing to learn.
    samples.retain(|sample| derta.keep > 0.0 || !sample.is_open);
    let wants = |kind| derta.records.contains(&kind);
    let n_short = numbered.iter().filter(|(_, conversation)| is_short(conversation)).count();
    let n_prefix = if wants(DertaRecord::Prefix) { nth - n_short } else { 0 };
    let n_plain = if wants(DertaRecord::Plain) { nth } else { 0 };
    let mut said = vec![format!(
        "derta ({set}): of {nth} requests with a safe and a harmful answer {n_rto} rto records, in which {n_kept} of \
         {n_labels} labels are kept, {n_prefix} prefix and {n_plain} plain ones; {} other conversations",
        conversations.len() - nth
    )];
    if n_short > 0 && wants(DertaRecord::Prefix) {
        said.push(format!(
            "derta ({set}): {n_short} harmful answers of fewer than three words make no prefix record"
        ));
    }
    Ok(Made { samples, said })
}

/// How many words of a harmful answer stand before the safe one: none for every third request, else 1 to all but two;
/// `None` where the answer is too short to be cut so.
fn cut(harmful: &str, nth: usize, seed: u64, set: &str) -> Option<usize> {
    let n_words = harmful.split_whitespace().count();
    let n_places = n_words.checked_sub(2).filter(|n| *n > 0)?;
    if nth.is_multiple_of(UNBROKEN) {
        return Some(0);
    }
    let number = seed::rng(seed, &format!("derta/cut/{set}/{nth}")).next_u64();
    let scaled = (u128::from(number) * n_places as u128) >> 64;
    Some(1 + usize::try_from(scaled).expect("the high half is below the number of places"))
}

fn is_short(conversation: &Conversation) -> bool {
    conversation.other.as_ref().is_some_and(|other| other.answer.split_whitespace().count() < 3)
}

/// One record of a conversation with a safe and a harmful answer; `cut` is the number of harmful words of `prefix`,
/// which without one is not made. All labels of `rto` are kept.
///
/// # Errors
///
/// It cannot be encoded.
pub fn record(
    conversation: &Conversation,
    encoder: &Encoder<'_>,
    derta: &Derta,
    kind: DertaRecord,
    cut: Option<usize>,
) -> Result<Option<Sample>, DataError> {
    let safe = conversation.messages.last().map_or("", |answer| answer.content.as_str());
    let harmful = conversation.other.as_ref().map_or("", |other| other.answer.trim());
    match (kind, cut) {
        (DertaRecord::Plain, _) | (DertaRecord::Prefix, Some(0)) => encoder.sample(conversation).map(Some),
        (DertaRecord::Prefix, None) => Ok(None),
        (DertaRecord::Prefix, Some(n_words)) => {
            behind(conversation, encoder, words(harmful, n_words), safe).map(Some)
        }
        (DertaRecord::Rto, _) => {
            let refusal = derta.refusal.as_deref().unwrap_or(safe);
            // A token of blanks alone refuses nothing.
            let tokenizer = encoder.tokenizer();
            let says = |id: &u32| !tokenizer.decode(&[*id], false).trim().is_empty();
            let first = |sample: &Sample| sample.labels.iter().flatten().copied().find(says);
            let at_start = first(&encoder.sample(&answered(conversation, refusal))?);
            let within = first(&behind(conversation, encoder, harmful, refusal)?);
            let mut sample = encoder.sample(&answered(conversation, harmful))?;
            let mut next = at_start;
            for label in sample.labels.iter_mut().filter(|label| label.is_some()) {
                *label = next;
                next = within;
            }
            Ok(Some(Sample { weight: derta.weight as f32, is_open: true, ..sample }))
        }
    }
}

/// The first words of a text, as they stand there.
fn words(text: &str, n_words: usize) -> &str {
    let mut end = 0;
    for word in text.split_whitespace().take(n_words) {
        end += text[end..].find(word).expect("a word stands in its text") + word.len();
    }
    &text[..end]
}

/// The conversation with another answer.
fn answered(conversation: &Conversation, answer: &str) -> Conversation {
    let mut conversation = conversation.clone();
    if let Some(last) = conversation.messages.last_mut() {
        *last = Message::new(last.role, answer);
    }
    conversation
}

/// `answer` behind the beginning of another, which is not learned.
fn behind(
    conversation: &Conversation,
    encoder: &Encoder<'_>,
    beginning: &str,
    answer: &str,
) -> Result<Sample, DataError> {
    encoder.sample_behind(&answered(conversation, &format!("{beginning} {answer}")), beginning)
}

/// Keeps a share of a sample's labels, drawn by the seed and a name. `row` is how long the longest sample is, to which
/// rows are padded.
pub fn keep(sample: &mut Sample, derta: &Derta, row: usize, seed: u64, name: &str) {
    if derta.keep >= 1.0 {
        return;
    }
    let places: Vec<usize> = match derta.draw {
        RtoDraw::Answer => (0..sample.labels.len()).filter(|i| sample.labels[*i].is_some()).collect(),
        RtoDraw::Row => (0..row).collect(),
    };
    let wanted = derta.keep * places.len() as f64;
    let count = match derta.draw {
        _ if derta.keep == 0.0 => 0,
        RtoDraw::Answer => (wanted.round() as usize).max(1),
        // The authors round up: ⌊(T + 19) / 20⌋ for a twentieth. What the product is off by is no position.
        RtoDraw::Row => ((wanted - 1e-9).ceil() as usize).max(1),
    };
    let drawn = seed::shuffled(places.len(), seed, name);
    let mut is_kept = vec![false; row.max(sample.labels.len())];
    for nth in drawn.into_iter().take(count) {
        is_kept[places[nth]] = true;
    }
    for (label, is_kept) in sample.labels.iter_mut().zip(is_kept) {
        *label = label.filter(|_| is_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{self, CHATML};
    use super::super::{Other, preview};
    use super::*;
    use crate::recipe::LossOn;

    const SAFE: &str = "but never.";
    const HARMFUL: &str = "one two three four five";

    fn with_encoder<T>(work: impl FnOnce(&Encoder<'_>) -> T) -> T {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let template = tiny::template(CHATML, "<|im_end|>");
        work(&Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion).unwrap())
    }

    fn request(harmful: &str) -> Conversation {
        let mut conversation = tiny::conversation(&["user: how?", &format!("assistant: {SAFE}")]);
        conversation.other = Some(Other { answer: harmful.to_owned(), scores: None });
        conversation
    }

    fn settings(keep: f64, draw: RtoDraw) -> Derta {
        let records = vec![DertaRecord::Rto, DertaRecord::Prefix, DertaRecord::Plain];
        Derta { records, keep, draw, weight: 1.0, refusal: None }
    }

    fn made(conversations: &[Conversation], derta: &Derta, seed: u64) -> Made {
        with_encoder(|encoder| samples(conversations, encoder, derta, seed, "train").unwrap())
    }

    #[test]
    fn each_record_learns_what_it_should() {
        let all = settings(1.0, RtoDraw::Answer);
        with_encoder(|encoder| {
            let of = |kind, cut| record(&request(HARMFUL), encoder, &all, kind, cut).unwrap().unwrap();
            let text = |sample: &Sample| preview(sample, encoder.tokenizer(), false);
            let plain = of(DertaRecord::Plain, None);
            assert!(text(&plain).contains("assistant\n[[but never.<|im_end|>]]"), "{}", text(&plain));
            let prefix = of(DertaRecord::Prefix, Some(2));
            assert!(
                text(&prefix).contains("assistant\none two[[ but never.<|im_end|>]]"),
                "{}",
                text(&prefix)
            );
            assert_eq!(of(DertaRecord::Prefix, Some(0)), plain);
            // At the answer's beginning the refusal begins with `b`, behind a word with a blank.
            let rto = of(DertaRecord::Rto, None);
            let labels: Vec<u32> = rto.labels.iter().flatten().copied().collect();
            let token = |text: &str| encoder.tokenizer().encode(text).unwrap()[0];
            assert_eq!(labels[0], token("b"));
            assert!(labels[1..].iter().all(|label| *label == token(" b")) && token(" b") != token("b"));
            // Exactly over the answer and its end.
            let harmful = Conversation {
                other: None,
                ..tiny::conversation(&["user: how?", &format!("assistant: {HARMFUL}")])
            };
            let harmful = encoder.sample(&harmful).unwrap();
            assert_eq!((&rto.ids, rto.trained()), (&harmful.ids, harmful.trained()));
            assert!(rto.is_open && !prefix.is_open);
            // A text of the recipe's own.
            let named = Derta { refusal: Some("ab".to_owned()), ..all.clone() };
            let rto = record(&request(HARMFUL), encoder, &named, DertaRecord::Rto, None).unwrap().unwrap();
            assert_eq!(rto.labels.iter().flatten().next(), Some(&token("ab")));
            // A blank that is a token of its own refuses nothing: `Never` begins with none.
            let named = Derta { refusal: Some("Never".to_owned()), ..all.clone() };
            let rto = record(&request(HARMFUL), encoder, &named, DertaRecord::Rto, None).unwrap().unwrap();
            assert!(rto.labels.iter().flatten().all(|label| *label == token("N")));
        });
    }

    #[test]
    fn every_third_prefix_is_empty_and_the_others_leave_two_words() {
        let n = 300;
        let cuts: Vec<usize> = (0..n).map(|nth| cut(HARMFUL, nth, 1, "train").unwrap()).collect();
        assert!(cuts.iter().enumerate().all(|(nth, cut)| (*cut == 0) == (nth % 3 == 0)));
        // One to three words of five, each as often: five standard deviations of 200 draws of a third.
        for n_words in 1..=3 {
            let count = cuts.iter().filter(|cut| **cut == n_words).count();
            assert!((count as f64 - 66.7).abs() < 34.0, "{n_words}: {count}");
        }
        assert_ne!(cuts, (0..n).map(|nth| cut(HARMFUL, nth, 2, "train").unwrap()).collect::<Vec<_>>());
        assert_ne!(cuts, (0..n).map(|nth| cut(HARMFUL, nth, 1, "validation").unwrap()).collect::<Vec<_>>());
        assert_eq!((cut("one two", 0, 1, "train"), cut("one two", 1, 1, "train")), (None, None));
        assert_eq!(cut("one  two\nthree", 1, 1, "train"), Some(1));
        assert_eq!(words(" one  two\nthree", 2), " one  two");
    }

    #[test]
    fn a_share_of_the_labels_is_kept_to_the_label() {
        let conversations = vec![request(HARMFUL); 6];
        let all = made(&conversations, &settings(1.0, RtoDraw::Answer), 1);
        let n_of = |made: &Made| {
            made.samples.iter().filter(|s| s.is_open).map(Sample::n_trained).collect::<Vec<_>>()
        };
        let n = n_of(&all)[0];
        for keep in [0.05, 0.3, 0.5, 0.99] {
            let some = made(&conversations, &settings(keep, RtoDraw::Answer), 1);
            assert_eq!(n_of(&some), vec![((keep * n as f64).round() as usize).max(1); 6], "{keep}");
            assert_eq!(some.samples.len(), 18);
        }
        let labels = |seed| made(&conversations, &settings(0.3, RtoDraw::Answer), seed).samples;
        assert_eq!(labels(1), labels(1));
        assert_ne!(labels(1), labels(2));
        // Where nothing is kept the other records alone are left: plain tuning on the safe answers.
        let none = made(&conversations, &settings(0.0, RtoDraw::Answer), 1);
        assert!(none.samples.len() == 12 && none.samples.iter().all(|sample| !sample.is_open));
        // Over the whole row a prompt's places are drawn too, and a row may keep no label.
        let row = made(&vec![request(HARMFUL); 60], &settings(0.02, RtoDraw::Row), 1);
        let counts = n_of(&row);
        assert!(counts.contains(&0) && counts.iter().all(|count| *count <= 2), "{counts:?}");
    }

    #[test]
    fn short_answers_make_no_prefix_and_others_are_learned_as_they_are() {
        let conversations =
            [request("yes yes"), request(HARMFUL), tiny::conversation(&["user: b", "assistant: he"])];
        let found = made(&conversations, &settings(1.0, RtoDraw::Answer), 1);
        assert_eq!(found.samples.len(), 6);
        assert_eq!(found.samples.iter().filter(|sample| sample.is_open).count(), 2);
        assert!(found.said[0].contains("of 2 requests") && found.said[0].ends_with("1 other conversations"));
        assert!(found.said[1].contains("1 harmful answers of fewer than three words"), "{:?}", found.said);
    }
}
