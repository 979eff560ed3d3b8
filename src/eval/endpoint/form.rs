//! How a request limits and draws its answer, in which models behind endpoints differ.
//!
//! Models that think before they answer refuse `max_tokens`, for it would not count their thinking, and any temperature
//! but their own. A refusal that names the one or the other is believed once: the request is put again without it, and
//! so is every request from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::{Complaint, Form};

/// The form that an endpoint takes, as far as it is known.
#[derive(Debug)]
pub(super) struct Known {
    completion_tokens: AtomicBool,
    temperature: AtomicBool,
    /// What was learned and not told yet.
    is_news: AtomicBool,
}

/// Words of an endpoint that refuses a setting and not its value.
const REFUSES: &[&str] = &[
    "unsupported",
    "not supported",
    "does not support",
    "not permitted",
    "not allowed",
    "unrecognized",
    "unknown",
    "unexpected",
    "deprecated",
    "only the default",
];

impl Known {
    /// Of an endpoint that `thinks` as the recipe says, or of one that nothing is known of.
    pub fn new(thinks: bool) -> Self {
        Self {
            completion_tokens: AtomicBool::new(thinks),
            temperature: AtomicBool::new(!thinks),
            is_news: AtomicBool::new(false),
        }
    }

    pub fn form(&self) -> Form {
        Form {
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
            temperature: self.temperature.load(Ordering::Relaxed),
        }
    }

    /// Whether a complaint about a request of the form `sent` is about that form: then another is to be tried.
    pub fn learn(&self, sent: Form, complaint: &Complaint) -> bool {
        let is_refused = |setting: &str| {
            let said = complaint.said.to_lowercase();
            let code = complaint.code.to_lowercase();
            (complaint.param == setting || said.contains(setting))
                && REFUSES.iter().any(|words| said.contains(words) || code.starts_with(words))
        };
        let limit = !sent.completion_tokens && is_refused("max_tokens");
        let temperature = sent.temperature && is_refused("temperature");
        if limit {
            self.is_news.fetch_or(!self.completion_tokens.swap(true, Ordering::Relaxed), Ordering::Relaxed);
        }
        if temperature {
            self.is_news.fetch_or(self.temperature.swap(false, Ordering::Relaxed), Ordering::Relaxed);
        }
        limit || temperature
    }

    /// What was learned since this was asked last, in words.
    pub fn news(&self) -> Option<&'static str> {
        let Form { completion_tokens, temperature } = self.form();
        self.is_news.swap(false, Ordering::Relaxed).then_some(match (completion_tokens, temperature) {
            (true, true) => "is asked with `max_completion_tokens`, for it refuses `max_tokens`",
            (false, _) => "is asked without a temperature, for it refuses ours; its verdicts may differ between calls",
            (true, false) => {
                "is asked with `max_completion_tokens` and without a temperature, for it refuses ours; its verdicts may \
                 differ between calls"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(said: &str, code: &str, param: &str) -> Complaint {
        Complaint { code: code.to_owned(), said: said.to_owned(), param: param.to_owned() }
    }

    #[test]
    fn a_refusal_by_name_is_believed_once() {
        let known = Known::new(false);
        let first = known.form();
        let of_limit = complaint(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
            "max_tokens",
        );
        assert!(known.learn(first, &of_limit));
        // Another thread sent the same form before.
        assert!(known.learn(first, &of_limit));
        let second = known.form();
        assert_eq!(second, Form { completion_tokens: true, temperature: true });
        assert!(!known.learn(second, &of_limit));
        assert!(known.news().is_some_and(|news| !news.contains("temperature")));
        assert!(known.learn(second, &complaint("`temperature` does not support 0", "", "")));
        assert!(!known.form().temperature);
        assert!(known.news().is_some_and(|news| news.contains("temperature")));
        assert_eq!(known.news(), None);
    }

    #[test]
    fn a_wrong_value_is_no_refusal_of_the_setting() {
        let known = Known::new(false);
        for said in [
            "max_tokens is too large: 9000. This model takes at most 4096 completion tokens",
            "'max_tokens' or 'max_completion_tokens' is too large",
            "unknown field `seed`",
            "unsupported model",
        ] {
            assert!(!known.learn(known.form(), &complaint(said, "invalid_request_error", "")), "{said}");
        }
        assert_eq!(
            (known.form(), known.news()),
            (Form { completion_tokens: false, temperature: true }, None)
        );
    }

    #[test]
    fn an_endpoint_that_thinks_as_the_recipe_says_is_no_news() {
        let known = Known::new(true);
        assert_eq!(
            (known.form(), known.news()),
            (Form { completion_tokens: true, temperature: false }, None)
        );
    }
}
