//! A few benign requests that are refused, beside the data that are trained on.
//!
//! Wang et al., "Do we really need curated malicious data for safety alignment in multi-modal large language models?",
//! CVPR 2025, arXiv 2504.10000, and its code (`ybwang119/MLLM_safety_study`): fine-tuning data in which nothing is ever
//! refused hide a model's refusals; some benign requests of other domains, answered with one fixed refusal, bring them back
//! without a harmful text. The end of that refusal is kept out of the loss, so that only its beginning is learned
//! ([`super::Encoder::with_refusals`]).
//!
//! Refusals spread within the domain that they are taken from, so several files are asked for, and a plan wants a suite that
//! measures over-refusal. The authors write the refusal into a record's first reply and keep what follows it; here the
//! conversation ends with the refusal, whichever reply it is, for else nobody would learn it with `loss_on = "completion"`.

use std::collections::HashSet;

use super::conversation::{Conversation, Message, Role};
use super::draw::{self, Drawn, Pool, normal, reply_at};
use super::error::DataError;
use crate::recipe::RefusalMix;

/// Its row among the transforms: name, what it does, how it is written, source.
pub const LISTED: [&str; 4] = [
    "data.refusal_mix",
    "mix in a few benign requests of other files, refused, the end of the refusal not learned; watch over-refusal",
    "[data.refusal_mix] sources = [{ source = \"chat.jsonl\" }]",
    "Wang et al. 2025, arXiv 2504.10000",
];

/// Adds refusals of requests of `pools`, one for each source, to what is trained on.
///
/// # Errors
///
/// A pool has too few requests that stand neither in the training nor in the validation data.
pub(super) fn add(
    mix: &RefusalMix,
    pools: &[Vec<Conversation>],
    train: &mut Vec<Conversation>,
    validation: &[Conversation],
    seed: u64,
    said: &mut Vec<String>,
) -> Result<(), DataError> {
    let seed = mix.seed.unwrap_or(seed);
    let users = train.iter().chain(validation).flat_map(|one| &one.messages);
    let users = users.filter(|message| message.role == Role::User);
    let taken: HashSet<String> = users.map(|message| normal(&message.content)).collect();
    let n = train.len();
    let refused: Vec<Vec<(Conversation, String)>> = pools
        .iter()
        .enumerate()
        .map(|(i, pool)| pool.iter().map(|one| refuse(one, mix, seed, i)).collect())
        .collect();
    let asked = Pool::all(&refused, mix, n);
    for ((drawn, pool), of) in draw::draw(&asked, &taken, seed)?.into_iter().zip(&refused).zip(&asked) {
        let Drawn { places, n_free } = drawn;
        said.push(format!(
            "{} of {} requests of `{}` are refused and trained on, {} of them stand in the data already",
            places.len(),
            pool.len(),
            of.name,
            pool.len() - n_free
        ));
        train.extend(places.into_iter().map(|at| pool[at].0.clone()));
    }
    said.push(format!(
        "{} of {} conversations are benign requests that are refused",
        train.len() - n,
        train.len()
    ));
    if pools.len() == 1 {
        said.push(
            "all refused requests come from one file: refusals spread within the domain that they are taken from, so watch \
             over-refusal there, or name files of several domains"
                .to_owned(),
        );
    }
    Ok(())
}

/// The conversation up to the reply that becomes the refusal, and the request that is refused.
fn refuse(one: &Conversation, mix: &RefusalMix, seed: u64, source: usize) -> (Conversation, String) {
    let is_reply = |(at, message): (usize, &Message)| (message.role == Role::Assistant).then_some(at);
    let replies: Vec<usize> = one.messages.iter().enumerate().filter_map(is_reply).collect();
    let name = format!("refusal_mix/{source}/turn/{}", one.line.number);
    let at = replies[reply_at(mix.turn, replies.len(), seed, &name)];
    let mut messages = one.messages[..at].to_vec();
    let request = messages.iter().rfind(|message| message.role == Role::User);
    let request = normal(request.map_or("", |message| &message.content));
    messages.push(Message::new(Role::Assistant, mix.reply.as_str()));
    (Conversation { messages, ..one.clone() }, request)
}

#[cfg(test)]
mod tests {
    use super::super::tiny;
    use super::*;
    use crate::recipe::{EndRule, Refused, Turn};

    fn mix(counts: &[Option<usize>], ratio: Option<f64>, turn: Turn) -> RefusalMix {
        let source = |count: &Option<usize>| Refused {
            source: "x.jsonl".to_owned(),
            format: crate::recipe::Form::Auto,
            fields: crate::recipe::Fields::new(),
            count: *count,
        };
        RefusalMix {
            sources: counts.iter().map(source).collect(),
            ratio,
            reply: "No, sorry.".to_owned(),
            turn,
            mask_eos: true,
            rule: EndRule::Chat,
            seed: None,
        }
    }

    /// `n` conversations of two questions each.
    fn pool(n: usize, word: &str) -> Vec<Conversation> {
        let one = |i: usize| {
            let turns = [
                format!("user: {word} {i}"),
                "assistant: a".to_owned(),
                format!("user: and {word} {i}"),
                "assistant: b".to_owned(),
            ];
            let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
            Conversation { line: (i + 1).into(), ..tiny::conversation(&turns) }
        };
        (0..n).map(one).collect()
    }

    fn mixed(mix: &RefusalMix, seed: u64) -> Result<(Vec<Conversation>, Vec<String>), DataError> {
        let mut train = pool(100, "sum");
        // Cases and blanks aside, the first ten poems' last questions are trained on.
        train.extend(pool(10, "POEM ").into_iter().map(|mut one| {
            one.messages.drain(..2);
            one
        }));
        let mut said = Vec::new();
        add(mix, &[pool(60, "poem"), pool(60, "story")], &mut train, &pool(5, "story"), seed, &mut said)?;
        Ok((train.split_off(110), said))
    }

    #[test]
    fn counts_are_exact_the_same_for_a_seed_and_disjoint_from_the_data() {
        let (refused, said) = mixed(&mix(&[None, None], Some(0.1), Turn::Last), 5).unwrap();
        assert_eq!(refused.len(), 11);
        assert!(said[0].starts_with("6 of 60 requests of `x.jsonl` are refused"), "{said:?}");
        assert_eq!(said[2], "11 of 121 conversations are benign requests that are refused");
        assert_eq!(refused, mixed(&mix(&[None, None], Some(0.1), Turn::Last), 5).unwrap().0);
        assert_ne!(refused, mixed(&mix(&[None, None], Some(0.1), Turn::Last), 6).unwrap().0);
        // All that are free: ten poems are trained on, five stories held out.
        let (all, said) = mixed(&mix(&[Some(50), Some(55)], None, Turn::Last), 5).unwrap();
        assert_eq!(all.len(), 105);
        assert!(said[0].ends_with("10 of them stand in the data already"), "{said:?}");
        let asked = |one: &Conversation| one.messages[2].content.clone();
        assert!(!all.iter().any(|one| asked(one) == "and poem 3" || asked(one) == "and story 4"));
        let error = mixed(&mix(&[Some(51), Some(55)], None, Turn::Last), 5).err().unwrap();
        let expected = "source 1 of the refusal mix, `x.jsonl`, has 60 requests, of which 50 stand neither in the data nor \
                        twice, and 51 are needed";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_conversation_ends_with_the_refusal_whichever_reply_it_is() {
        let lengths = |turn| {
            let (refused, _) = mixed(&mix(&[Some(20), Some(20)], None, turn), 5).unwrap();
            let last = |one: &Conversation| one.messages.last().unwrap().content.clone();
            assert!(refused.iter().all(|one| last(one) == "No, sorry."));
            refused.iter().map(|one| one.messages.len()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(lengths(Turn::First), [2].into());
        assert_eq!(lengths(Turn::Last), [4].into());
        assert_eq!(lengths(Turn::Random), [2, 4].into());
    }
}
