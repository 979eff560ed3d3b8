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

/// `score-first`: the number of the first response alone; none without responses.
pub fn first<'r>(responses: &[&'r str]) -> Option<&'r str> {
    responses.first().map(|response| extract(response))
}

/// `maj@64`: the number that most of all responses give; none without responses. Upstream does not ask for 64.
pub fn majority<'r>(responses: &[&'r str]) -> Option<&'r str> {
    let numbers: Vec<&str> = responses.iter().map(|response| extract(response)).collect();
    most_frequent(&numbers).map(|place| numbers[place])
}

/// The place of the vote that is given most often; of equally frequent ones that of the first.
pub fn most_frequent<T: PartialEq>(votes: &[T]) -> Option<usize> {
    let count = |place: &usize| votes.iter().filter(|vote| **vote == votes[*place]).count();
    // The last of equal maxima is taken, so the search goes backwards.
    (0..votes.len()).rev().max_by_key(count)
}

/// `maj@k`: the vote of the first `k` responses; none if there are fewer, which upstream refuses to score.
pub fn majority_of_first<'r>(responses: &[&'r str], k: usize) -> Option<&'r str> {
    majority(responses.get(..k)?)
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
        assert_eq!(majority(&RESPONSES), Some(INVALID));
        assert_eq!(majority(&RESPONSES[1..]), Some("7"));
        assert_eq!(majority(&RESPONSES[1..3]), Some("1,200"));
        assert_eq!((first(&RESPONSES), first(&[])), (Some(INVALID), None));
    }

    #[test]
    fn a_vote_of_more_than_there_are_is_none() {
        assert_eq!(majority_of_first(&RESPONSES, 6), None);
        assert_eq!(majority_of_first(&RESPONSES, 2), Some(INVALID));
        assert_eq!(majority_of_first(&[], 0), None);
    }

    #[test]
    fn numbers_are_compared_without_their_commas() {
        assert!(is_right("1,200", "$1200.") && is_right("1,200", "a #### b\n#### 1200"));
        assert!(!is_right("1,200", "1200.0") && !is_right(INVALID, "0"));
    }
}
