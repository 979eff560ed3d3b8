//! A run's pages, and what lies in its folder for them: the loss of each step, pictures of other commands, digests.

use std::path::Path;

use serde_json::{Value, json};

use super::failure::Failure;
use crate::folders::{self, SETTINGS_BYTES};
use crate::recipe::Recipe;
use crate::report::sheet::Sheet;
use crate::report::{self, Beside, Losses, Report};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::file_at_once;

/// The page of a run.
pub const PAGE: &str = "report.html";
/// The page with the answers, made when it is asked for.
pub const ANSWERS: &str = "answers.html";

/// Folders of other commands, and how the names of the pictures begin that a run's page shows.
const OTHERS: [(&str, &[&str]); 2] =
    [("inspect", &["layers-"]), ("landscape", &["line", "around-", "compared-"])];
/// The most bytes of such a picture, of all of them, and of a log.
const PICTURE_BYTES: u64 = 2 << 20;
const PICTURES: usize = 16;
const LOG_BYTES: u64 = 256 << 20;

/// Writes the report for people: Markdown, the page and its pictures. Answers are in none of them.
///
/// # Errors
///
/// The disk refuses.
pub fn write(folder: &Path, report: &Report) -> Result<(), Failure> {
    let beside = beside(folder);
    file_at_once(&folder.join("report.md"), report::markdown(report).as_bytes())?;
    file_at_once(&folder.join(PAGE), report::html(report, &beside).as_bytes())?;
    for picture in report::pictures(report, &beside.losses) {
        file_at_once(&folder.join("pictures").join(&picture.file), picture.svg.as_bytes())?;
    }
    Ok(())
}

/// Writes the page with the answers.
///
/// # Errors
///
/// The disk refuses.
pub fn write_answers(folder: &Path, report: &Report, sheet: &Sheet) -> Result<(), Failure> {
    Ok(file_at_once(&folder.join(ANSWERS), report::answers(&report.run.name, sheet).as_bytes())?)
}

/// Draws the page of a finished run anew, now that something else lies beside it; a folder without a report has none.
///
/// # Errors
///
/// The disk refuses.
pub fn redraw(folder: &Path) -> Result<(), Failure> {
    match read_json::<Report>(&folder.join("report.json")) {
        Ok(report) => write(folder, &report),
        Err(_) => Ok(()),
    }
}

/// What a run's folder holds besides its report; what cannot be read is not shown.
fn beside(folder: &Path) -> Beside {
    let text = |name: &str, most| folders::read_text(&folder.join(name), most).ok();
    let manifest: Value = read_json(&folder.join("manifest.json")).unwrap_or_default();
    let given =
        text("recipe.toml", SETTINGS_BYTES).map(|text| ["The recipe as it was given".to_owned(), text]);
    let resolved = serde_json::from_value::<Recipe>(manifest["recipe"].clone()).ok();
    let resolved = resolved.map(|recipe| ["The recipe with every default".to_owned(), recipe.to_toml()]);
    Beside {
        losses: text("metrics.csv", LOG_BYTES).map(|text| Losses::of_csv(&text)).unwrap_or_default(),
        pictures: pictures(folder),
        answers: folder.join(ANSWERS).is_file().then(|| ANSWERS.to_owned()),
        facts: facts(&manifest),
        texts: given.into_iter().chain(resolved).collect(),
    }
}

fn pictures(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, starts) in OTHERS {
        for entry in std::fs::read_dir(folder.join(name)).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let is_picture = entry.path().extension().is_some_and(|extension| extension == "svg");
            if !is_picture || !starts.iter().any(|start| file.starts_with(start)) {
                continue;
            }
            if let Ok(svg) = folders::read_text(&entry.path(), PICTURE_BYTES) {
                found.push((format!("{name}/{file}"), svg));
            }
        }
    }
    found.sort();
    found.truncate(PICTURES);
    found
}

/// Parts of a manifest that are shown elsewhere, or are another whenever the same run is made again.
const UNSHOWN: [&str; 9] =
    ["schema", "recipe", "eval", "elapsed_s", "seconds", "started", "finished", "created", "time"];

/// What the manifest says, a line each, but for the recipe and the clock.
fn facts(manifest: &Value) -> Vec<[String; 2]> {
    let mut facts = Vec::new();
    for (key, value) in manifest.as_object().into_iter().flatten() {
        if !UNSHOWN.contains(&key.as_str()) {
            flat(key, value, &mut facts);
        }
    }
    facts
}

fn flat(name: &str, value: &Value, facts: &mut Vec<[String; 2]>) {
    match value {
        Value::Null => {}
        Value::Object(parts) => {
            for (key, value) in parts.iter().filter(|(key, _)| !UNSHOWN.contains(&key.as_str())) {
                flat(&format!("{name}: {key}"), value, facts);
            }
        }
        Value::Array(parts) if parts.iter().all(|part| !part.is_object() && !part.is_array()) => {
            let all: Vec<String> = parts.iter().map(plain).collect();
            if !all.is_empty() {
                facts.push([name.to_owned(), all.join(", ")]);
            }
        }
        Value::Array(parts) => facts.push([name.to_owned(), json!(parts).to_string()]),
        _ => facts.push([name.to_owned(), plain(value)]),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_what_lies_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let empty = beside(folder.path());
        assert!(empty.facts.is_empty() && empty.pictures.is_empty() && empty.answers.is_none());
        write("metrics.csv", "step,loss\n1,2.0\n2,1.0\n");
        write("inspect/layers-cosine.svg", "<svg></svg>");
        write("inspect/layers-cosine.csv", "x");
        write("landscape/plane-base-x.svg", "<svg></svg>");
        write("recipe.toml", "name = \"x\"");
        write("answers.html", "");
        write(
            "manifest.json",
            r#"{"schema":1,"program":{"name":"finetune","version":"9"},"recipe":{"name":"x"},"commits":{},
                "sha256":{"a.csv":"00"},"merges":["linear:0.5","slerp:0.5"],"template_sha256":null,
                "train":{"elapsed_s":7.5}}"#,
        );
        let found = beside(folder.path());
        assert_eq!(found.losses.training, [(1, 2.0), (2, 1.0)]);
        assert_eq!(found.pictures, [("inspect/layers-cosine.svg".to_owned(), "<svg></svg>".to_owned())]);
        assert_eq!(found.answers.as_deref(), Some("answers.html"));
        let facts: Vec<String> = found.facts.iter().map(|[name, value]| format!("{name}={value}")).collect();
        let all = [
            "program: name=finetune",
            "program: version=9",
            "sha256: a.csv=00",
            "merges=linear:0.5, slerp:0.5",
        ];
        assert_eq!(facts, all);
        assert_eq!(found.texts[0][1], "name = \"x\"");
    }
}
