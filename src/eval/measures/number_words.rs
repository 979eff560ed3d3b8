//! Numbers written as English words, where the zero-shot tasks of BIG-Bench Hard find no digits.
//!
//! As lm-eval 0.4.13 (tasks/bbh) finds them and the package word2number 1.1 reads them. The pattern was written for
//! long numbers: six to nine alone are not found, nor as the last word of one.

use std::sync::LazyLock;

use regex::Regex;

const START: &str = "zero|one|two|three|four|five|(?:twen|thir|for|fif|six|seven|nine)(?:teen|ty)|eight(?:|een|y)\
    |ten|eleven|twelve|fourteen|hundred|thousand|(?:m|b|tr)illion";
const INSIDE: &str = "zero|one|two|three|four|five|(?:twen|thir|for|fif|six|seven|nine)(?:|teen|ty)|eight(?:een|y)\
    |ten|eleven|twelve|fourteen|hundred|thousand|(?:m|b|tr)illion|[\\s&&[^\\r\\n]]|,|and|&";
const END: &str = "zero|one|two|three|four|five|(?:twen|thir|for|fif|six|seven|nine)(?:teen|ty)|eight(?:een|y)\
    |ten|eleven|twelve|fourteen|hundred|thousand|(?:m|b|tr)illion";

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!("(?:(?:{START})(?:{INSIDE})+)?(?:{END})")).expect("the pattern is valid")
});

/// Every run of number words in a text of lower case.
pub fn find_all(text: &str) -> impl Iterator<Item = &str> {
    NUMBER.find_iter(text).map(|found| found.as_str())
}

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

fn word_value(word: &str) -> Option<i64> {
    if let Some(value) = ONES.iter().position(|known| *known == word) {
        return Some(value as i64);
    }
    if let Some(tens) = TENS.iter().position(|known| *known == word) {
        return Some((tens as i64 + 2) * 10);
    }
    match word {
        "hundred" => Some(100),
        "thousand" => Some(THOUSAND),
        "million" => Some(MILLION),
        "billion" => Some(BILLION),
        _ => None,
    }
}

const THOUSAND: i64 = 1_000;
const MILLION: i64 = 1_000_000;
const BILLION: i64 = 1_000_000_000;

/// The number that words of lower case stand for; none where word2number raises.
///
/// Words it does not know are skipped, a group of more than four counts as its first.
pub fn read(text: &str) -> Option<i64> {
    let spaced = text.replace('-', " ");
    let values: Vec<i64> = spaced.split_whitespace().filter_map(word_value).collect();
    if let [single] = values.as_slice() {
        return Some(*single);
    }
    if values.is_empty() {
        return None;
    }
    let scales = [BILLION, MILLION, THOUSAND];
    if scales.iter().any(|scale| values.iter().filter(|value| *value == scale).count() > 1) {
        return None;
    }
    // The scales must fall, and each has the words before it, back to the scale above.
    let places = scales.map(|scale| values.iter().position(|value| *value == scale));
    let mut start = 0;
    let mut total = 0;
    for (scale, place) in scales.into_iter().zip(places) {
        let Some(place) = place else { continue };
        total += group(values.get(start..place)?)? * scale;
        start = place + 1;
    }
    // Behind a scale that ends the text the words of the scale above count again: "one million two thousand" has
    // 2 + 1000 too much.
    let not_last = places.into_iter().rev().flatten().find(|place| place + 1 < values.len());
    let rest = match not_last {
        Some(place) => group(&values[place + 1..])?,
        None if start == 0 => group(&values)?,
        None => 0,
    };
    Some(total + rest)
}

/// A number below a thousand, or what upstream makes of words that are none; none of no words.
fn group(values: &[i64]) -> Option<i64> {
    match values {
        [] => None,
        [hundreds, hundred, tens, ones] => Some(hundreds * hundred + tens + ones),
        [hundreds, hundred, rest] => Some(hundreds * hundred + rest),
        [a, b] if *a == 100 || *b == 100 => Some(a * b),
        [a, b] => Some(a + b),
        [first, ..] => Some(*first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_as_by_word2number() {
        for (words, value) in [
            ("two hundred and thirty four", Some(234)),
            ("one million twenty three thousand and forty-nine", Some(1_023_049)),
            ("hundred", Some(100)),
            ("two thousand", Some(2000)),
            ("thousand two", None),
            ("two thousand three thousand", None),
            ("one thousand two million", None),
            ("one million two thousand", Some(1_003_002)),
            ("one million two thousand five", Some(1_002_005)),
            ("trillion", None),
            ("five five five five five", Some(5)),
            ("two hundred", Some(200)),
            ("twenty one", Some(21)),
        ] {
            assert_eq!(read(words), value, "{words}");
        }
    }

    #[test]
    fn six_to_nine_alone_are_not_found() {
        let found = |text| find_all(text).collect::<Vec<_>>();
        assert!(["six", "seven", "eight", "nine"].iter().all(|word| found(word).is_empty()));
        assert_eq!(found("sixteen, then twenty six dogs and five"), ["sixteen", "twenty", "five"]);
        assert_eq!(found("two\nthree"), ["two", "three"]);
    }
}
