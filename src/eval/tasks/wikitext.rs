//! How likely a candidate finds pages of Wikipedia.
//!
//! Merity et al., "Pointer Sentinel Mixture Models", 2016, arXiv 1609.07843. Pages and their cleaning are those of
//! lm-eval 0.4.13, task wikitext; words and bytes are counted on the page as it was before.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::json;

use super::{ANSWER, Form, Load, Source, Task, examples, table};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

pub(super) const WIKITEXT: Task = Task {
    name: "wikitext",
    version: 2,
    summary: "perplexity on the pages of a WikiText file (txt)",
    source: "lm-eval 0.4.13 wikitext; Merity et al. 2016",
    form: Form::Read,
    raw: true,
    delimiter: "",
    load: Load::Own(load),
    ..ANSWER
};

fn load(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let text = table::text(source.path)?;
    let item = |(idx, page): (usize, String)| Item {
        id: format!("{}-{idx}", source.suite),
        prompt: detokenized(&page),
        details: json!({ "page": page }),
        ..Item::default()
    };
    Ok(pages(&text).into_iter().enumerate().map(item).collect())
}

/// A page begins at each heading of the first level, `= Title =`; blank ones are left out, the last one apart.
fn pages(text: &str) -> Vec<String> {
    let mut pages = Vec::new();
    let mut page: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        let heading = line.replace("= = =", "===").replace("= =", "==");
        let heading = heading.trim();
        if heading.starts_with("= ") && heading.ends_with(" =") {
            let joined = std::mem::take(&mut page).join("\n");
            if !joined.trim().is_empty() {
                pages.push(joined);
            }
        }
        page.push(line);
    }
    let last = page.join("\n");
    // Upstream keeps a blank last page too, but a file always has one with text.
    if !(pages.is_empty() && last.trim().is_empty()) {
        pages.push(last);
    }
    pages
}

/// Takes back what the set's tokenizer did to punctuation, in upstream's order.
fn detokenized(page: &str) -> String {
    const NUMBERS: [(&str, &str); 3] = [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")];
    const PUNCTUATION: [(&str, &str); 6] =
        [(" : ", ": "), (" ; ", "; "), (" . ", ". "), (" ! ", "! "), (" ? ", "? "), (" , ", ", ")];
    const REST: [(&str, &str); 8] = [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ];
    // Perl's notation, which upstream's Python takes for text: it needs two slashes on the page.
    static SLASHES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("/' [0-9]/").expect("the patterns of this file are valid"));
    static PAIRS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
        let pattern = |pattern| Regex::new(pattern).expect("the patterns of this file are valid");
        [
            (pattern(r"\(\s*([^)]*?)\s*\)"), "($1)"),
            (pattern(r"\[\s*([^\]]*?)\s*\]"), "[$1]"),
            (pattern(r"\{\s*([^}]*?)\s*\}"), "{$1}"),
            (pattern("\"\\s*([^\"]*?)\\s*\""), "\"$1\""),
            (pattern(r"'\s*([^']*?)\s*'"), "'$1'"),
        ]
    });
    let replaced = |text: String, rules: &[(&str, &str)]| {
        rules.iter().fold(text, |text, (from, to)| text.replace(from, to))
    };
    let text = SLASHES.replace_all(&page.replace("s '", "s'"), "/'[0-9]/").into_owned();
    let text = replaced(replaced(text, &NUMBERS), &PUNCTUATION);
    let text = PAIRS.iter().fold(text, |text, (pattern, to)| pattern.replace_all(&text, *to).into_owned());
    replaced(text, &REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_at_a_heading_of_the_first_level() {
        let text = " \n = One = \n \n a\n = = Part = = \n b\n = = = Deep = = = \n = Two = \n c\n";
        let pages = pages(text);
        assert_eq!(pages.len(), 2);
        assert!(pages[0].contains("Deep") && pages[1].starts_with(" = Two = \n c"));
        assert!(super::pages(" \n").is_empty());
    }

    #[test]
    fn blanks_around_punctuation_go() {
        assert_eq!(detokenized("the dogs ' 3 @.@ 5 ( m ) , \" so \" . "), "the dogs' 3.5 (m), \"so\". ");
        assert_eq!(detokenized(" = = Part = = \n it 's"), " == Part ==\nit's");
    }
}
