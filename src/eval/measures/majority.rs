//! GSM8K by vote: many answers to one question, and the number most of them end with.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022, arXiv 2203.11171. The
//! filters are those of lm-eval 0.4.13, `gsm8k_cot_self_consistency`. Answers without a number vote too, for
//! [`INVALID`]; of equally frequent numbers the one seen first wins.

use std::sync::LazyLock;

use regex::Regex;

use super::exact_match::{Comparison, Removed};

/// What upstream puts in place of an answer that was not found; it equals no number.
pub const INVALID: &str = "[invalid]";

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"The answer is (-?[0-9.,]*[0-9]+)").expect("the pattern is valid"));

const COMPARISON: Comparison = Comparison {
    removed: &[Removed::Every(','), Removed::Every('$'), Removed::UpToHashes, Removed::FinalStop],
    ignore_case: true,
};

/// The first number behind `The answer is `, or [`INVALID`].
pub fn extract(response: &str) -> &str {
    NUMBER.captures(response).and_then(|found| found.get(1)).map_or(INVALID, |number| number.as_str())
}

/// The place of the vote that is given most often; of equally frequent ones that of the first.
pub fn most_frequent<T: PartialEq>(votes: &[T]) -> Option<usize> {
    let count = |place: &usize| votes.iter().filter(|vote| **vote == votes[*place]).count();
    // The last of equal maxima is taken, so the search goes backwards.
    (0..votes.len()).rev().max_by_key(count)
}

/// Whether an extracted number is that of the reference, a bare number or a worked solution with its `#### `.
pub fn is_right(number: &str, reference: &str) -> bool {
    COMPARISON.equal(number, reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSES: [&str; 5] =
        ["Hm.", "The answer is 1,200.", "The answer is 7", "So. The answer is 7. The answer is 8.", "Hm."];

    #[test]
    fn what_was_seen_first_wins_a_tie_and_no_number_may_win() {
        let votes = RESPONSES.map(extract);
        let winner = |votes: &[&'static str]| most_frequent(votes).map(|place| votes[place]);
        assert_eq!(winner(&votes), Some(INVALID));
        assert_eq!(winner(&votes[1..]), Some("7"));
        assert_eq!(winner(&votes[1..3]), Some("1,200"));
        assert_eq!((winner(&votes[..1]), winner(&[])), (Some(INVALID), None));
    }

    #[test]
    fn numbers_are_compared_without_their_commas() {
        assert!(is_right("1,200", "$1200.") && is_right("1,200", "a #### b\n#### 1200"));
        assert!(!is_right("1,200", "1200.0") && !is_right(INVALID, "0"));
    }
}
