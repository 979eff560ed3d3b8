//! HEx-PHI: 30 harmful requests for each kind of harm that usage policies forbid.
//!
//! Qi et al., "Fine-tuning Aligned Language Models Compromises Safety, Even When Users Do Not Intend To!", 2023, arXiv
//! 2310.03693. The files are given on request only (huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI), one for each
//! category, without a header; its second category was taken back, so that today's copy has 300 of the paper's 330.

use std::path::Path;

use super::table::{self, Columns};
use super::{Load, Source, Task, examples, harmful};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

pub(super) const HEXPHI: Task = Task {
    load: Load::Own(load),
    ..harmful::harmful(
        "hexphi",
        "30 harmful requests for each of eleven policy categories (category_1.csv … or their folder; jsonl: instruction, category)",
        "Qi et al. 2023, arXiv 2310.03693; huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI",
        COLUMNS,
    )
};

/// Of a copy that is one table.
const COLUMNS: Columns = Columns { category: Some("category"), ..Columns::prompt("instruction") };

/// By the number in a file's name.
const CATEGORIES: [&str; 11] = [
    "Illegal Activity",
    "Child Abuse Content",
    "Hate/Harass/Violence",
    "Malware",
    "Physical Harm",
    "Economic Harm",
    "Fraud/Deception",
    "Adult Content",
    "Political Campaigning",
    "Privacy Violation Activity",
    "Tailored Financial Advice",
];

fn load(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    if path.is_dir() {
        let files = (1..=CATEGORIES.len()).map(|n| (n, path.join(format!("category_{n}.csv"))));
        let files = files.filter(|(_, file)| file.is_file());
        let items = files.map(|(n, file)| category(source.suite, &file, n));
        return Ok(items.collect::<Result<Vec<_>, _>>()?.concat());
    }
    match number(path) {
        Some(n) => category(source.suite, path, n),
        None => table::items(source, &COLUMNS),
    }
}

/// The number in `category_3.csv`.
fn number(path: &Path) -> Option<usize> {
    let n = path.file_name()?.to_str()?.strip_prefix("category_")?.strip_suffix(".csv")?.parse().ok()?;
    (1..=CATEGORIES.len()).contains(&n).then_some(n)
}

/// A request a line, in quotes where it holds a comma or quotes. Some copies write `\"` for a quote, which is no csv.
fn category(suite: &str, path: &Path, n: usize) -> Result<Vec<Item>, EvalError> {
    let text = table::text(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let item = |(idx, line): (usize, &str)| {
        let quoted = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
        Item {
            id: format!("{suite}-{n}-{idx}"),
            prompt: quoted
                .map_or_else(|| line.to_owned(), |text| text.replace("\"\"", "\"").replace("\\\"", "\"")),
            category: Some(CATEGORIES[n - 1].to_owned()),
            ..Item::default()
        }
    };
    Ok(lines.enumerate().map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_a_file_without_a_header() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("category_3.csv", "\"Say \"\"no\"\", please\"\nfirst, second\n\n");
        write("category_11.csv", "\"a \\\"sure\\\" gain\"\n");
        write("README.md", "no request");
        let all = HEXPHI.load(&Source::plain("hexphi", folder.path())).unwrap();
        let found: Vec<_> =
            all.iter().map(|item| (item.prompt.as_str(), item.category.as_deref().unwrap())).collect();
        let hate = "Hate/Harass/Violence";
        let expected = [
            ("Say \"no\", please", hate),
            ("first, second", hate),
            ("a \"sure\" gain", "Tailored Financial Advice"),
        ];
        assert_eq!(found, expected);
        let one = HEXPHI.load(&Source::plain("hexphi", &folder.path().join("category_11.csv"))).unwrap();
        assert_eq!(one, all[2..]);
    }

    #[test]
    fn a_copy_may_be_one_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("HEx-PHI.jsonl");
        std::fs::write(&path, "{\"instruction\": \"Do it.\", \"category\": \"Malware\"}\n").unwrap();
        let items = HEXPHI.load(&Source::plain("hexphi", &path)).unwrap();
        assert_eq!((items[0].prompt.as_str(), items[0].category.as_deref()), ("Do it.", Some("Malware")));
    }

    #[test]
    fn a_folder_without_its_files_holds_no_items() {
        let folder = tempfile::tempdir().unwrap();
        let error = HEXPHI.load(&Source::plain("hexphi", folder.path())).unwrap_err().to_string();
        assert!(error.contains("holds no items for suite `hexphi`"), "{error}");
    }
}
