//! News by topic, as the papers on defended fine-tuning ask.
//!
//! Zhang et al., "Character-level Convolutional Networks for Text Classification", 2015, arXiv 1509.01626. The wording,
//! the length and the judging are those of Lisa (Huang et al. 2024, arXiv 2405.18641; github.com/git-disl/Lisa), which
//! asks the first 1,000. Lisa puts instruction and article into Alpaca's frame; here they are the user's turn, as this
//! program's own training data has it.

use serde_json::json;

use super::table::{self, Row};
use super::{ANSWER, Load, Source, Task, examples};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

pub(super) const AG_NEWS: Task = Task {
    name: "ag_news",
    summary: "7,600 news articles of four topics (csv without a header: 1 to 4, title, description)",
    source: "Zhang et al. 2015; asked and judged as github.com/git-disl/Lisa",
    judges: &["label"],
    max_new_tokens: 200,
    load: Load::Own(load),
    ..ANSWER
};

/// Of the published table, which has no header.
const COLUMNS: [&str; 3] = ["class", "title", "description"];

const INSTRUCTION: &str = "Categorize the news article given in the input into one of the 4 categories:\n\nWorld\nSports\nBusiness\nSci/Tech\n";

/// Each label and the other spelling that Lisa takes.
const LABELS: [[&str; 2]; 4] =
    [["World", "world"], ["Sports", "sports"], ["Business", "business"], ["Sci/Tech", "sci"]];

fn load(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |(idx, row): (usize, &Row)| {
        let label = row.read(path, COLUMNS[0], "a class from 1 to 4", |class| {
            let class = class.as_u64().or_else(|| class.as_str()?.trim().parse().ok())?;
            LABELS.get(usize::try_from(class).ok()?.checked_sub(1)?)
        })?;
        // Either may be empty.
        let text = |column| row.read(path, column, "text", |text| text.as_str());
        let (title, description) = (text(COLUMNS[1])?, text(COLUMNS[2])?);
        Ok(Item {
            id: format!("{}-{idx}", source.suite),
            prompt: format!("{INSTRUCTION}\n\n{title} {description}"),
            reference: Some(label[0].to_owned()),
            category: Some(label[0].to_owned()),
            details: json!({ "labels": LABELS }),
            ..Item::default()
        })
    };
    table::rows_headless(path, &COLUMNS)?.iter().enumerate().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_article_and_its_class_a_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "\"4\",\"T\",\"D\"\n5,T,D\n").unwrap();
        let error = AG_NEWS.load(&Source::plain("ag_news", &path)).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        std::fs::write(&path, "\"4\",\"T\",\"D\"\n").unwrap();
        let items = AG_NEWS.load(&Source::plain("ag_news", &path)).unwrap();
        assert!(items[0].prompt.ends_with("Sci/Tech\n\n\nT D"));
        assert_eq!(items[0].reference.as_deref(), Some("Sci/Tech"));
    }
}
