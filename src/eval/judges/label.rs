//! The answer as a label, whole: as the papers on defended fine-tuning score SST-2 and AG News.

use super::{Criterion, Judge, JudgeRow};
use crate::eval::item::{Completion, Item, Verdict};
use crate::eval::measures::python_text::strip;

pub(super) const LABEL: JudgeRow = JudgeRow {
    name: "label",
    summary: "the whole answer is the right label in one of its spellings; anything but a label is unscored",
    source: "Huang et al. 2024, arXiv 2405.18641; git-disl/Lisa, pred_eval.py",
    asks: Criterion::Correct { metric: "accuracy" },
    build: || Box::new(Label),
};

/// A full stop behind the label makes it none, as upstream.
struct Label;

impl Judge for Label {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        Some(strip(&completion.text).to_owned()).filter(|text| !text.is_empty())
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let answer = strip(&completion.text);
        let labels = item.details["labels"].as_array().map(Vec::as_slice).unwrap_or_default();
        let said = labels
            .iter()
            .filter_map(|spellings| spellings.as_array())
            .find(|spellings| spellings.iter().any(|spelling| spelling.as_str() == Some(answer)));
        match (said, &item.reference) {
            (Some(spellings), Some(gold))
                if spellings.first().and_then(|label| label.as_str()) == Some(gold) =>
            {
                Verdict::Yes
            }
            (Some(_), Some(_)) => Verdict::No,
            _ => Verdict::Unscored,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eval::item::Finish;

    #[test]
    fn a_label_with_a_full_stop_is_none() {
        let details = json!({ "labels": [["World", "world"], ["Sci/Tech", "sci"]] });
        let item = Item { reference: Some("Sci/Tech".to_owned()), details, ..Item::default() };
        let verdict = |text: &str| {
            Label.judge(&item, &Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop })
        };
        assert_eq!([verdict(" sci\n"), verdict("Sci/Tech")], [Verdict::Yes; 2]);
        assert_eq!((verdict("world"), verdict("Sci/Tech.")), (Verdict::No, Verdict::Unscored));
    }
}
