//! Whether an answer does what it was told: the 25 verifiable instruction types of `IFEval`.
//!
//! Zhou et al., "Instruction-Following Evaluation for Large Language Models", 2023, arXiv 2311.07911. The rules are
//! those of lm-eval 0.4.13 (`tasks/ifeval`), quirks included: a keyword counts inside longer words, two highlights
//! hide in `**one**`, and `NaN` is JSON. The rules come from Python, so text is read as Python reads it, and cut into
//! sentences and words as NLTK does it. Data that was learned lies beside the code: NLTK's English sentence model and
//! the language profiles of langdetect, both Apache-2.0.
//!
//! Languages are detected with seed 0, where upstream draws a new seed for every run.
//!
//! An [`Instruction`] is one id with its arguments; [`strict`] judges the answer as it stands, [`loose`] forgives a
//! first line, a last line and markdown asterisks.

mod arguments;
mod cases;
mod formats;
mod json;
mod keywords;
mod language;
mod lengths;
mod python;
mod sentences;
mod shape;
mod words;

use serde_json::Value;

use self::arguments::Arguments;

/// Decides about one answer.
type Rule = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Reads the arguments of a type and makes its rule.
type Build = fn(&Arguments) -> Result<Rule, String>;

/// The types by their ids.
const TYPES: [(&str, Build); 25] = [
    ("keywords:existence", keywords::existence),
    ("keywords:frequency", keywords::frequency),
    ("keywords:forbidden_words", keywords::forbidden_words),
    ("keywords:letter_frequency", keywords::letter_frequency),
    ("language:response_language", cases::response_language),
    ("length_constraints:number_sentences", lengths::number_sentences),
    ("length_constraints:number_paragraphs", lengths::number_paragraphs),
    ("length_constraints:number_words", lengths::number_words),
    ("length_constraints:nth_paragraph_first_word", lengths::nth_paragraph_first_word),
    ("detectable_content:number_placeholders", formats::number_placeholders),
    ("detectable_content:postscript", formats::postscript),
    ("detectable_format:number_bullet_lists", formats::number_bullet_lists),
    ("detectable_format:constrained_response", formats::constrained_response),
    ("detectable_format:number_highlighted_sections", formats::number_highlighted_sections),
    ("detectable_format:multiple_sections", formats::multiple_sections),
    ("detectable_format:json_format", formats::json_format),
    ("detectable_format:title", formats::title),
    ("combination:two_responses", shape::two_responses),
    ("combination:repeat_prompt", shape::repeat_prompt),
    ("startend:end_checker", shape::end_checker),
    ("change_case:capital_word_frequency", cases::capital_word_frequency),
    ("change_case:english_capital", cases::english_capital),
    ("change_case:english_lowercase", cases::english_lowercase),
    ("punctuation:no_comma", shape::no_comma),
    ("startend:quotation", shape::quotation),
];

/// One thing that an answer was told to do.
pub struct Instruction {
    id: &'static str,
    rule: Rule,
}

impl std::fmt::Debug for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instruction").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Instruction {
    /// The instruction of the type `id` with the arguments `kwargs`, an object as in the published file.
    ///
    /// An argument that is absent, null, zero or empty is missing. Upstream would then draw one at random and judge by
    /// that; here it is an error.
    pub fn of(id: &str, kwargs: &Value) -> Result<Self, String> {
        let Some((id, build)) = TYPES.into_iter().find(|(name, _)| *name == id) else {
            return Err(format!("instruction `{id}` is none of the {} types", TYPES.len()));
        };
        let arguments = Arguments::of(kwargs).map_err(|what| format!("`{id}`: {what}"))?;
        let rule = build(&arguments).and_then(|rule| arguments.all_read().map(|()| rule));
        Ok(Self { id, rule: rule.map_err(|what| format!("`{id}`: {what}"))? })
    }

    /// The name of its type.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// Whether `response` follows; a blank one follows nothing, not even "no commas".
    ///
    /// No type looks at the prompt: one that repeats it carries the text to repeat as an argument.
    pub fn follows(&self, _prompt: &str, response: &str) -> bool {
        !python::strip(response).is_empty() && (self.rule)(response)
    }
}

/// Which instructions the response follows as it stands.
pub fn strict(instructions: &[Instruction], prompt: &str, response: &str) -> Vec<bool> {
    instructions.iter().map(|instruction| instruction.follows(prompt, response)).collect()
}

/// Which instructions any of eight variants of the response follows.
///
/// The variants are the response as it is, without its first line, without its last, without both, and these four
/// without asterisks. Each instruction may choose another variant.
pub fn loose(instructions: &[Instruction], prompt: &str, response: &str) -> Vec<bool> {
    let lines: Vec<&str> = response.split('\n').collect();
    let n = lines.len();
    // A single line is first and last at once: without it nothing is left.
    let joined = |from: usize, to: usize| {
        python::strip(&lines.get(from..to).unwrap_or_default().join("\n")).to_owned()
    };
    let whole = [response.to_owned(), joined(1, n), joined(0, n - 1), joined(1, n - 1)];
    let plain: Vec<String> = whole.iter().map(|text| text.replace('*', "")).collect();
    let variants: Vec<&String> = whole.iter().chain(&plain).collect();
    instructions
        .iter()
        .map(|instruction| variants.iter().any(|variant| instruction.follows(prompt, variant)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whether a response follows, strictly and loosely.
    fn both(id: &str, kwargs: &Value, response: &str) -> (bool, bool) {
        let instruction = [Instruction::of(id, kwargs).unwrap()];
        (strict(&instruction, "", response)[0], loose(&instruction, "", response)[0])
    }

    #[test]
    fn a_blank_answer_follows_nothing() {
        assert_eq!(both("punctuation:no_comma", &json!({}), " \n\u{1f} "), (false, false));
    }

    #[test]
    fn loose_forgives_a_preamble_a_farewell_and_asterisks() {
        let quotation = |response| both("startend:quotation", &json!({}), response);
        assert_eq!(quotation("Sure:\n\"Text.\""), (false, true));
        assert_eq!(quotation("\"Text.\"\nBye"), (false, true));
        assert_eq!(quotation("Sure:\n**\"Text.\"**\nBye"), (false, true));
        assert_eq!(quotation("Sure:\n\nOr:\n\"Text.\""), (false, false));
    }

    #[test]
    fn arguments_that_upstream_would_draw_at_random_are_errors() {
        for kwargs in [json!({}), json!({ "num_bullets": null }), json!({ "num_bullets": 0 })] {
            let error = Instruction::of("detectable_format:number_bullet_lists", &kwargs).unwrap_err();
            assert!(error.contains("num_bullets"), "{error}");
        }
    }

    #[test]
    fn what_a_type_does_not_know_is_an_error() {
        assert!(Instruction::of("multi-turn:constrained_start", &json!({})).is_err());
        assert!(Instruction::of("punctuation:no_comma", &json!({ "keyword": "a" })).is_err());
        // The published copy on the hub fills every other argument with null.
        assert!(Instruction::of("punctuation:no_comma", &json!({ "keyword": null })).is_ok());
        let kwargs = json!({ "num_words": 3, "relation": "at most" });
        assert!(Instruction::of("length_constraints:number_words", &kwargs).is_err());
    }
}
