//! Equality of an extracted answer and its reference, once both are cleaned.
//!
//! As lm-eval 0.4.13 computes `exact_match`: a task names what is removed from both sides, in order, and whether case
//! counts.

use std::borrow::Cow;

/// What a task has removed before it compares. Order matters: a full stop before a quotation mark is not a final one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Every one of this character.
    Every(char),
    /// `\.$`: a full stop at the end, or before a line break that ends the text.
    FinalStop,
    /// `(?s).*#### `: everything up to the last such mark.
    UpToHashes,
}

/// How a task compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    pub removed: &'static [Removed],
    pub ignore_case: bool,
}

impl Comparison {
    /// Whether `found` is `reference`.
    pub fn equal(&self, found: &str, reference: &str) -> bool {
        self.cleaned(found) == self.cleaned(reference)
    }

    fn cleaned<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let cleaned = self.removed.iter().fold(Cow::Borrowed(text), |text, removed| removed.from(text));
        if self.ignore_case { Cow::Owned(cleaned.to_lowercase()) } else { cleaned }
    }
}

impl Removed {
    fn from(self, text: Cow<'_, str>) -> Cow<'_, str> {
        match self {
            Self::Every(c) if text.contains(c) => Cow::Owned(text.replace(c, "")),
            Self::Every(_) => text,
            Self::FinalStop => {
                let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
                match line.strip_suffix('.') {
                    Some(rest) => Cow::Owned(format!("{rest}{end}")),
                    None => text,
                }
            }
            Self::UpToHashes => match text.rsplit_once("#### ") {
                Some((_, rest)) => Cow::Owned(rest.to_owned()),
                None => text,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(removed: &'static [Removed], found: &str, reference: &str) -> bool {
        Comparison { removed, ignore_case: false }.equal(found, reference)
    }

    #[test]
    fn the_order_of_removals_counts() {
        assert!(equal(&[Removed::Every('"'), Removed::FinalStop], "\"x.\"", "x"));
        assert!(!equal(&[Removed::FinalStop, Removed::Every('"')], "\"x.\"", "x"));
    }

    #[test]
    fn a_stop_before_the_last_line_break_is_final() {
        assert!(equal(&[Removed::FinalStop], "x.\n", "x\n"));
        assert!(!equal(&[Removed::FinalStop], "x.\n\n", "x\n\n"));
        assert!(!equal(&[Removed::FinalStop], "x..", "x"));
    }

    #[test]
    fn case_counts_unless_it_is_ignored() {
        assert!(!equal(&[], "True", "true"));
        assert!(Comparison { removed: &[], ignore_case: true }.equal("True", "true"));
    }
}
