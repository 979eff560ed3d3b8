//! What others say, short enough to be stored with every answer.

/// The longest message of a verdict, in bytes. Python cuts its own shorter; beside its tests a program can say anything.
const LONGEST_MESSAGE: usize = 2 << 10;

/// The beginning of a long text, and that it was cut.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    let note = format!("… (cut, {} bytes)", text.len());
    let end = text.floor_char_boundary(LONGEST_MESSAGE - note.len());
    format!("{}{note}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short"), "short");
        for text in ["x".repeat(60_000), "ü".repeat(60_000), format!("x{}", "🦀".repeat(9_999))] {
            let short = cut(&text);
            assert!((LONGEST_MESSAGE - 4..=LONGEST_MESSAGE).contains(&short.len()));
            assert!(short.ends_with(&format!("… (cut, {} bytes)", text.len())));
            assert_eq!(cut(&short), short);
        }
    }
}
