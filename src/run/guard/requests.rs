//! Requests in a file, with labels or without.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::data::guard::label_of;
use crate::data::{DataError, Limits, table};
use crate::recipe::Field;
use crate::run::failure::{Failure, GuardError};
use crate::run::start;

/// A request of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The line or record of the file, counted from 1.
    pub number: usize,
    pub text: String,
    /// Whether the file says that it is harmful; none if it says nothing.
    pub is_harmful: Option<bool>,
}

/// The requests of a file: those of the column that is named, else of one that published sets have; with labels where
/// a column `label`, or the one that is named, has them.
///
/// # Errors
///
/// The file cannot be read, has no such columns, or a label that is none.
pub fn read(path: &Path, names: &BTreeMap<Field, String>) -> Result<Vec<Request>, Failure> {
    let columns = start::columns(path)?;
    let known = || columns.join(", ");
    if let Some(name) = names.values().find(|name| !columns.contains(*name)) {
        let (path, column) = (path.to_owned(), name.clone());
        return Err(GuardError::NoColumn { path, column, columns: known() }.into());
    }
    let prompt = names.get(&Field::Prompt).cloned().or_else(|| start::requests(&columns));
    let prompt = prompt.ok_or_else(|| GuardError::NoRequests { path: path.to_owned(), columns: known() })?;
    let label = names.get(&Field::Label).cloned().unwrap_or_else(|| Field::Label.name());
    let (mut all, mut bad) = (Vec::new(), None);
    table::read(path, Limits::default(), &mut |record, place| {
        let text = record.get(&prompt).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        let found = record.get(&label).filter(|value| !value.is_null());
        let is_harmful = found.and_then(label_of);
        if let (Some(value), None, None) = (found, is_harmful, &bad) {
            bad = Some(GuardError::BadLabel { place: place.to_string(), found: format!("`{value}`") });
        }
        if text.is_empty() {
            return Err(DataError::EmptyText { place, field: prompt.clone() });
        }
        all.push(Request { number: place.number, text, is_harmful });
        Ok(())
    })?;
    match bad {
        Some(error) => Err(error.into()),
        None if all.is_empty() => Err(DataError::Empty { path: path.to_owned() }.into()),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::read;
    use crate::recipe::Field;

    #[test]
    fn requests_come_with_the_labels_that_their_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.csv");
        let of = |text: &str, names: &[(Field, &str)]| {
            std::fs::write(&path, text).unwrap();
            let names = names.iter().map(|(field, name)| (*field, (*name).to_owned()));
            read(&path, &names.collect::<BTreeMap<_, _>>()).map_err(|error| error.to_string())
        };
        let labels = |text: &str, names: &[(Field, &str)]| {
            of(text, names).unwrap().into_iter().map(|one| (one.text, one.is_harmful)).collect::<Vec<_>>()
        };
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert_eq!(labels("goal\na\nb\n", &[]), [(a.clone(), None), (b.clone(), None)]);
        let both = [(a, Some(true)), (b, Some(false))];
        assert_eq!(labels("prompt,label\na,harmful\nb,safe\n", &[]), both);
        let named = [(Field::Prompt, "q"), (Field::Label, "toxicity")];
        assert_eq!(labels("q,toxicity\na,1\nb,0\n", &named), both);
        assert!(of("x,y\na,1\n", &[]).unwrap_err().ends_with("its columns are x, y"));
        assert!(of("prompt\na\n", &named).unwrap_err().contains("has no column `q`"));
        assert!(of("prompt,label\na,perhaps\n", &[]).unwrap_err().contains("has the label `\"perhaps\"`"));
    }
}
