//! Where an answer ends.

use super::Thinking;

/// The text before the first stop string in it; thinking is no part of the answer, and nothing in it ends it.
pub fn cut_at_stop_string<'t>(text: &'t str, stops: &[String], thinking: Option<&Thinking>) -> &'t str {
    let Some(start) = thinking.map_or(Some(0), |thinking| thinking.answer_start(text)) else { return text };
    let answer = &text[start..];
    let ends = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| answer.find(stop.as_str()));
    &text[..start + ends.min().unwrap_or(answer.len())]
}

/// Looks for stop strings in an answer that grows by tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// The token from which on the answer is known to have begun.
    answer: Option<usize>,
}

impl Watch {
    /// Whether a stop string is in the answer that `ids` end with; asked after every token.
    pub(super) fn stops(
        &mut self,
        ids: &[u32],
        stops: &[String],
        thinking: Option<&Thinking>,
        decode: &dyn Fn(&[u32]) -> String,
    ) -> bool {
        if stops.is_empty() {
            return false;
        }
        // Texts end in whole strings, so looking at the last tokens is enough to notice one.
        let tail =
            |from: usize, longest: usize| decode(&ids[from.max(ids.len().saturating_sub(longest + 8))..]);
        let from = match (self.answer, thinking) {
            (Some(from), _) => from,
            (None, None) => *self.answer.insert(0),
            (None, Some(thinking)) => {
                if tail(0, thinking.close.len()).contains(&thinking.close) {
                    self.answer = Some(ids.len());
                } else if !thinking.opened {
                    let first = decode(&ids[..ids.len().min(thinking.open.len() + 8)]);
                    if !thinking.opens(&first) && !thinking.may_open(&first) {
                        self.answer = Some(0);
                    }
                }
                let Some(from) = self.answer else { return false };
                from
            }
        };
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let text = tail(from, longest);
        stops.iter().any(|stop| text.contains(stop.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think(opened: bool) -> Thinking {
        Thinking { open: "<think>".to_owned(), close: "</think>".to_owned(), opened }
    }

    #[test]
    fn the_first_of_several_stops_wins() {
        let stops = ["\n\n".to_owned(), "Q:".to_owned(), String::new()];
        assert_eq!(cut_at_stop_string("42 Q: and\n\n", &stops, None), "42 ");
        assert_eq!(cut_at_stop_string("42", &stops, None), "42");
    }

    #[test]
    fn a_stop_string_within_the_thinking_ends_nothing() {
        let stops = ["Q:".to_owned()];
        for (text, opened, cut) in [
            ("<think>Q: 6?</think>\n42 Q: and", false, "<think>Q: 6?</think>\n42 "),
            ("Q: 6?</think>42 Q: and", true, "Q: 6?</think>42 "),
            ("<think>Q: 6? Perhaps", false, "<think>Q: 6? Perhaps"),
            ("42 Q: and", false, "42 "),
        ] {
            assert_eq!(cut_at_stop_string(text, &stops, Some(&think(opened))), cut);
            // Token by token, here a byte each: it stops where the cut text has ended and the stop string is whole.
            let ids: Vec<u32> = text.bytes().map(u32::from).collect();
            let decode = |ids: &[u32]| ids.iter().map(|id| char::from_u32(*id).unwrap()).collect::<String>();
            let mut watch = Watch::default();
            let stopped =
                (1..=ids.len()).find(|n| watch.stops(&ids[..*n], &stops, Some(&think(opened)), &decode));
            let expected = (cut.len() < text.len()).then_some(cut.len() + 2);
            assert_eq!(stopped, expected, "{text:?}");
        }
    }
}
