//! What can be removed from a run or a study, and what each costs to get back.

use std::fmt::Write;

use serde::Serialize;

use super::table::Table;
use super::terminal::draw;

/// The version of what is printed as JSON.
pub const SCHEMA: u32 = 1;

/// What can go, or went.
#[derive(Debug, Serialize)]
pub struct Cleaning {
    /// The version of this format; 1.
    pub schema: u32,
    pub folder: String,
    pub items: Vec<Removable>,
    /// What looks as if it could go and stays, and why.
    pub kept: Vec<Kept>,
    /// Whether the items were removed.
    pub removed: bool,
}

/// Something that can be had again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removable {
    pub what: What,
    pub path: String,
    /// Bytes that its removal frees: a file that two runs share is freed with the last.
    pub bytes: u64,
    pub to_get_back: String,
}

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What a killed process was writing.
    Partial,
    Checkpoint,
    Merge,
    Cache,
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub path: String,
    pub why: String,
}

impl What {
    fn in_words(self) -> &'static str {
        match self {
            Self::Partial => "partial file",
            Self::Checkpoint => "checkpoint",
            Self::Merge => "merged model",
            Self::Cache => "cache",
        }
    }
}

impl Cleaning {
    /// Bytes of all items together.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// The list as text, at most `width` columns wide.
    pub fn terminal(&self, width: u16) -> String {
        let mut text = String::new();
        if !self.items.is_empty() {
            let header = ["", "path", "size", "to get it back"].map(str::to_owned).to_vec();
            let row = |item: &Removable| {
                let Removable { what, path, bytes, to_get_back } = item;
                vec![what.in_words().to_owned(), path.clone(), size(*bytes), to_get_back.clone()]
            };
            text.push_str(&draw(Table { header, rows: self.items.iter().map(row).collect() }, width));
        }
        for Kept { path, why } in &self.kept {
            let _ = writeln!(text, "stays: {path}: {why}");
        }
        let all = match self.items.len() {
            0 => "nothing".to_owned(),
            1 => format!("1 item of {}", size(self.bytes())),
            n => format!("{n} items of {}", size(self.bytes())),
        };
        let _ = match (self.removed, self.items.is_empty()) {
            (_, true) => writeln!(text, "There is nothing to remove."),
            (true, false) => writeln!(text, "Removed {all}."),
            (false, false) => writeln!(text, "Nothing was removed; --yes removes {all}."),
        };
        text
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|(_, unit)| bytes as f64 >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_goes_what_stays_and_what_it_costs() {
        let item = |what, path: &str, bytes| Removable {
            what,
            path: path.to_owned(),
            bytes,
            to_get_back: "nothing: it is half-written".to_owned(),
        };
        let mut found = Cleaning {
            schema: SCHEMA,
            folder: "run".to_owned(),
            items: vec![item(What::Partial, "run/.tmpA", 12), item(What::Checkpoint, "run/c", 2_500_000)],
            kept: vec![Kept { path: "run/x".to_owned(), why: "it is a link".to_owned() }],
            removed: false,
        };
        let text = found.terminal(120);
        for part in [
            "partial file",
            "12 B",
            "2.5 MB",
            "stays: run/x: it is a link",
            "--yes removes 2 items of 2.5 MB.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        found.removed = true;
        assert!(found.terminal(120).ends_with("Removed 2 items of 2.5 MB.\n"));
        found.items.clear();
        assert!(found.terminal(120).contains("nothing to remove"));
    }
}
