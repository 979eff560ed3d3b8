//! Where an answer ends, by text: at the first stop string, behind the last mark that thinking is over.
//!
//! As lm-eval 0.4.13, `handle_stop_sequences` and `postprocess_generated_text`.

use super::python_text::is_space;
use crate::generate::cut_at_stop_string;

/// A task's stop strings, and the text of the end token behind them unless it is among them.
pub fn with_end_token(until: &[String], end: Option<&str>) -> Vec<String> {
    let mut stops = until.to_vec();
    if let Some(end) = end.filter(|end| !until.iter().any(|stop| stop == end)) {
        stops.push(end.to_owned());
    }
    stops
}

/// What counts of a generation.
///
/// Thinking goes first, with the white space behind its mark, so that no stop string fires in it; a text without the
/// mark is kept whole. An empty stop string or mark does nothing.
pub fn cut<'t>(generation: &'t str, stops: &[String], thinking_ends: Option<&str>) -> &'t str {
    let mut text = generation;
    if let Some(mark) = thinking_ends.filter(|mark| !mark.is_empty()) {
        text = text.rsplit_once(mark).map_or(text, |(_, answer)| answer).trim_start_matches(is_space);
    }
    cut_at_stop_string(text, stops, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_stop_wins_whatever_their_order() {
        let stops = ["b".to_owned(), String::new(), "a".to_owned()];
        assert_eq!(cut("xxaxxb", &stops, None), "xx");
        assert_eq!(cut("xxbxxa", &stops, None), "xx");
    }

    #[test]
    fn stops_in_the_thinking_do_not_count() {
        let stops = ["Q".to_owned()];
        assert_eq!(cut("Q</think>Q</think>\n\n7 Q", &stops, Some("</think>")), "7 ");
        assert_eq!(cut("  7 Q", &stops, Some("</think>")), "7 ");
    }

    #[test]
    fn the_end_token_is_not_listed_twice() {
        let until = ["Q".to_owned(), "</s>".to_owned()];
        assert_eq!(with_end_token(&until, Some("</s>")), until);
        assert_eq!(with_end_token(&until, Some("<eos>")).len(), 3);
        assert_eq!(with_end_token(&[], None).len(), 0);
    }
}
