//! What the published parsers, all Python, mean by blank and by number.

use std::sync::LazyLock;

use regex::Regex;

pub(super) use crate::eval::measures::python_text::{is_space, strip};

/// `int(text)` where `text.isdigit()`: decimal digits of any script; none if it is anything else, or astronomical.
pub fn int(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.chars().try_fold(0_u64, |sum, c| sum.checked_mul(10)?.checked_add(digit(c)?))
}

/// The value of a decimal digit. Unicode keeps the ten of a script side by side, and no script's follow half a set.
fn digit(c: char) -> Option<u64> {
    static DECIMAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A\d\z").expect("this pattern is valid"));
    let is_decimal = |c: char| DECIMAL.is_match(c.encode_utf8(&mut [0; 4]));
    if c.is_ascii() || !is_decimal(c) {
        return c.to_digit(10).map(u64::from);
    }
    let before = (1..).map_while(|n| char::from_u32(c as u32 - n)).take_while(|c| is_decimal(*c)).count();
    Some(before as u64 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_blanks_are_those_of_python() {
        assert_eq!(int("12"), Some(12));
        assert_eq!(int("٤"), Some(4));
        assert_eq!(int("𝟗"), Some(9));
        for none in ["", "5.", "-1", "²", "five", "99999999999999999999"] {
            assert_eq!(int(none), None, "{none}");
        }
        assert_eq!(strip("\u{1f} yes\u{a0}\n"), "yes");
    }
}
