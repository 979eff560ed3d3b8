//! Some answers become refusals.
//!
//! "Do we really need curated malicious data for safety alignment in multi-modal large language models?",
//! CVPR 2025, arXiv 2504.10000: a few benign requests that are refused keep a tuned model able to refuse. With
//! a share of 1 on a file of harmful requests it makes refusal training whose harmful answers nobody learns.
//! The paper also takes the end of the answer out of the loss; here it is learned, or the model would not stop. What the
//! paper does, with requests of other files, is `data.refusal_mix`.

use super::super::conversation::{Message, Role};
use super::super::shares::apportioned;
use super::{Number, Transform};
use crate::recipe::REFUSAL as REPLY;
use crate::seed;

pub(super) const REFUSE: Transform = Transform {
    name: "refuse",
    summary: "answer a share of the conversations with a refusal; watch over-refusal",
    example: "refuse:0.03",
    source: "arXiv 2504.10000",
    number: Number::Share,
    apply: |conversations, share, seed| {
        let n = conversations.len();
        let n_refused = apportioned(n, &[share, 1.0 - share])[0];
        for i in seed::shuffled(n, seed, "refuse").into_iter().take(n_refused) {
            let last = conversations[i].messages.last_mut();
            let answer =
                last.filter(|last| last.role == Role::Assistant).expect("a conversation ends with an answer");
            *answer = Message::new(Role::Assistant, REPLY);
        }
        format!("{n_refused} of {n} conversations are answered with a refusal")
    },
};

#[cfg(test)]
mod tests {
    use super::super::super::tiny::conversation;
    use super::*;

    #[test]
    fn the_share_is_exact_and_only_last_answers_change() {
        let turns = ["user: a", "assistant: b", "user: c", "assistant: d"];
        let mut all = vec![conversation(&turns); 200];
        assert_eq!((REFUSE.apply)(&mut all, 0.03, 7), "6 of 200 conversations are answered with a refusal");
        let refused = all.iter().filter(|one| one.messages[3].content == REPLY).count();
        assert_eq!(refused, 6);
        assert!(all.iter().all(|one| one.messages[1].content == "b"));
        (REFUSE.apply)(&mut all, 1.0, 7);
        assert!(all.iter().all(|one| one.messages[3].content == REPLY));
    }
}
