//! The number that a worked answer ends in, as a person reads it.
//!
//! Ours, under a name of its own: the published rules for GSM8K hold `$29.00` and `4.0` for other numbers than 29 and 4,
//! miss a typographic minus, and take the number of an example that the model made up behind its answer.

use std::sync::LazyLock;

use regex::Regex;

const NUMBER: &str = r"(?:[-−–]\s?)?(?:[$€£¥]\s?)?[-−–]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|[-−–]?[$€£¥]?\.[0-9]+";

/// What the answer comes to, written as [`plain`] writes it; none if it holds no number.
///
/// Of the text before the next example: the number behind the first `####`, else in the last `\boxed{}`, else behind the
/// last "answer is" or "answer:", behind its last equals sign if it is an equation; else the last number.
pub fn number(text: &str) -> Option<String> {
    let own = own_answer(text);
    let marked = own.split_once("####").and_then(|(_, behind)| first(behind.lines().next()?));
    let boxed = || BOXED.captures_iter(own).last().and_then(|found| first(&found[1]));
    let said = || {
        let behind = &own[ANSWER.find_iter(own).last()?.end()..];
        let line = behind.trim_start().lines().next()?;
        let sentence = SENTENCE.find(line).map_or(line, |end| &line[..end.start()]);
        first(sentence.rsplit_once('=').map_or(sentence, |(_, value)| value))
    };
    let last = || numbers(own).last();
    marked.or_else(boxed).or_else(said).or_else(last)
}

/// The text up to where the model goes on with a question of its own.
pub fn own_answer(text: &str) -> &str {
    let text = text.trim_start();
    NEXT.find_iter(text).find(|next| next.start() > 0).map_or(text, |next| &text[..next.start()])
}

/// A number without currency, grouping, leading zeros and a fraction of noughts.
pub fn plain(number: &str) -> String {
    let is_negative = number.contains(['-', '−', '–']);
    let digits: String = number.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if is_negative && (whole, fraction) != ("0", "") { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

fn first(text: &str) -> Option<String> {
    numbers(text).next()
}

fn numbers(text: &str) -> impl Iterator<Item = String> {
    FOUND.find_iter(text).map(|found| {
        // Between two numbers or in a word a stroke is no sign: "10-3", "9 - 5", "step-2".
        let before = &text[..found.start()];
        let is_in_word = before.chars().next_back().is_some_and(char::is_alphanumeric);
        let of_number = |c: char| c.is_ascii_digit() || c == ')' || c == '%';
        let is_joined = is_in_word || before.trim_end().chars().next_back().is_some_and(of_number);
        let number = found.as_str();
        plain(if is_joined { number.trim_start_matches(['-', '−', '–', ' ']) } else { number })
    })
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns of this file are valid")
}

static FOUND: LazyLock<Regex> = LazyLock::new(|| pattern(NUMBER));
static BOXED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\boxed\s*\{([^{}]*)\}"));
static ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\banswer\b[^.\n:=]{0,60}?(?:\bis\b|\bwas\b|\bwould be\b|\bequals\b|[:=])")
});
/// A full stop that is no decimal point.
static SENTENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"[.!?;](?:\s|$|\*)"));
static NEXT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?mi)^\s*(?:\*\*)?(?:q|question|problem|example|exercise|user|human|### ?(?:question|problem|instruction))(?: ?[0-9]+)?(?:\*\*)?\s*:",
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_however_it_is_dressed() {
        for (text, read) in [
            ("It comes to $29.00.", "29"),
            ("She has €1,250.50 left", "1250.5"),
            ("So the answer is **18**.", "18"),
            (r"Thus \boxed{$42} is it, in 2 steps.", "42"),
            ("Outside it is −5 degrees.", "-5"),
            ("#### -$3", "-3"),
            ("The answer: 4.0", "4"),
            ("#### 1,000.", "1000"),
            ("#### 12 eggs in 3 rows", "12"),
            ("The answer is 7.\n(Checked in 2 ways.)", "7"),
            ("The final answer is 5 + 3 = 8.", "8"),
            ("The answer to question 3 is 0.50", "0.5"),
            ("10-3 leaves 10 - 3", "3"),
            ("007", "7"),
            ("-0", "0"),
            ("It is .5", "0.5"),
        ] {
            assert_eq!(number(text).as_deref(), Some(read), "{text}");
        }
        assert_eq!(number("I cannot say."), None);
    }

    #[test]
    fn an_example_of_the_models_own_is_not_its_answer() {
        assert_eq!(number("3 + 4 = 7\n#### 7\n\nQ: And 9 and 5?\nA: 14\n#### 14").as_deref(), Some("7"));
        assert_eq!(number("It makes 7.\n\nQuestion 2: And 9 and 5?\nIt makes 14.").as_deref(), Some("7"));
        assert_eq!(number("Question: what is 2 + 2? It is 4").as_deref(), Some("4"));
    }

    #[test]
    fn the_mark_of_the_training_data_goes_before_all_else() {
        assert_eq!(number("The answer is 6. No:\n#### 7\nThe answer is 8.").as_deref(), Some("7"));
    }
}
