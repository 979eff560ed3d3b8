//! Where answers begin: the marks of thinking that a recipe names, or that template and tokenizer show.

use crate::data::{Message, Role};
use crate::generate::Thinking;
use crate::recipe;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

/// The marks in use, most common first: DeepSeek's and Qwen's, Mistral's, Seed's, and what others write as text.
const KNOWN: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
];

/// The marks around the thinking of a model's answers; none where all of a text is the answer.
pub fn find(
    asked: &recipe::Thinking,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Option<Thinking> {
    let (open, close) = match asked {
        recipe::Thinking::None => return None,
        recipe::Thinking::Marks { open, close } => (open.as_str(), close.as_str()),
        recipe::Thinking::Auto => KNOWN.into_iter().find(|marks| is_used(*marks, tokenizer, template))?,
    };
    let opened = template
        .and_then(generation_prompt)
        .is_some_and(|text| !open.is_empty() && text.trim_end().ends_with(open));
    Some(Thinking { open: open.to_owned(), close: close.to_owned(), opened })
}

/// Whether the template writes the marks, or they are tokens.
fn is_used((open, close): (&str, &str), tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> bool {
    let is_token = |mark: &str| tokenizer.id_of(mark).is_some();
    template.is_some_and(|template| template.source().contains(close)) || is_token(open) && is_token(close)
}

/// What the template writes where it asks for an answer.
fn generation_prompt(template: &ChatTemplate) -> Option<String> {
    let question = [Message::new(Role::User, "x")];
    let text = |asked| template.render(&question, asked).ok();
    text(true)?.strip_prefix(&text(false)?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer with some tokens of its own.
    fn tokenizer(tokens: &[&str]) -> Tokenizer {
        let mut inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        let added = tokens.iter().map(|token| tokenizers::AddedToken::from(*token, true));
        inner.add_special_tokens(added.collect::<Vec<_>>()).unwrap();
        Tokenizer::new(inner)
    }

    fn found(asked: &recipe::Thinking, tokens: &[&str], template: Option<&str>) -> Option<Thinking> {
        let tokenizer = tokenizer(tokens);
        let template =
            template.map(|source| ChatTemplate::new("t", source.to_owned(), None, None, None).unwrap());
        find(asked, &tokenizer, template.as_ref())
    }

    const PLAIN: &str = "{{ messages[0].content }}{% if add_generation_prompt %}<a>{% endif %}";
    const OPENS: &str = "{{ messages[0].content.split('</think>')[-1] }}{% if add_generation_prompt %}<a><think>\n{% endif %}";

    #[test]
    fn marks_are_found_in_the_template_or_among_the_tokens() {
        let think = |opened| Some(Thinking { open: "<think>".into(), close: "</think>".into(), opened });
        let auto = recipe::Thinking::Auto;
        assert_eq!(found(&auto, &[], Some(PLAIN)), None);
        assert_eq!(found(&auto, &["<think>"], None), None);
        assert_eq!(found(&auto, &["<think>", "</think>"], Some(PLAIN)), think(false));
        assert_eq!(found(&auto, &[], Some(OPENS)), think(true));
        assert_eq!(found(&auto, &["[THINK]", "[/THINK]"], None).unwrap().close, "[/THINK]");
        assert_eq!(found(&recipe::Thinking::None, &["<think>", "</think>"], Some(OPENS)), None);
        let own = recipe::Thinking::Marks { open: String::new(), close: "So:".into() };
        let expected = Thinking { open: String::new(), close: "So:".into(), opened: false };
        assert_eq!(found(&own, &[], Some(OPENS)), Some(expected));
    }

    #[test]
    fn a_recipe_says_it_in_a_word_or_with_marks() {
        for (written, marks) in [
            ("\"auto\"", Some(recipe::Thinking::Auto)),
            ("\"none\"", Some(recipe::Thinking::None)),
            ("{ close = \"x\" }", Some(recipe::Thinking::Marks { open: String::new(), close: "x".into() })),
            ("{ close = \"\" }", None),
            ("{ open = \"x\" }", None),
            ("\"always\"", None),
        ] {
            let text = format!(
                "schema = 1\nname = \"x\"\n[model]\nsource = \"m\"\n[data]\nsource = \"d\"\n[eval]\nthinking = {written}"
            );
            let parsed = recipe::Recipe::parse(&text, "test", &[]);
            assert_eq!(parsed.as_ref().ok().map(|recipe| &recipe.eval.thinking), marks.as_ref(), "{written}");
            if let Ok(recipe) = parsed {
                assert_eq!(recipe::Recipe::parse(&recipe.to_toml(), "test", &[]).unwrap().eval, recipe.eval);
            }
        }
    }
}
