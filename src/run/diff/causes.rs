//! What two runs were given otherwise: program, machine, recipe, inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::report::difference::Cause;

/// Keys of a recipe that decide nothing.
const IDLE: [&str; 2] = ["name", "schema"];
/// Parts of a training's key that no key of the recipe tells.
const PARTS: [&str; 5] = ["base", "compute", "guard", "numerics", "samples"];

/// Everything in which the manifests of two runs differ, and the parts of what decides their models.
pub fn causes(manifests: [&Value; 2], parts: [&Value; 2]) -> Vec<Cause> {
    let [a, b] = manifests;
    let mut found = Vec::new();
    let mut section = |kind, key: &str, without: &[&str]| {
        let all = Walk { kind, without };
        all.differing("", (&a[key], &b[key]), &mut found);
    };
    section("program", "program", &["name"]);
    section("machine", "device", &["asked"]);
    section("machine", "portions", &[]);
    let mut one = |kind, key: &str| {
        let (a, b) = (&a[key], &b[key]);
        // Builds that did not note it are no cause.
        if a != b && !a.is_null() && !b.is_null() {
            found.push(Cause { kind, key: key.to_owned(), a: a.clone(), b: b.clone() });
        }
    };
    one("machine", "compute");
    one("recipe", "dtype");
    let all = Walk { kind: "recipe", without: &IDLE };
    match [a, b].map(|manifest| manifest["recipe"].is_null()) {
        [false, false] => all.differing("", (&a["recipe"], &b["recipe"]), &mut found),
        [true, true] => {
            Walk { kind: "given", without: &[] }.differing("", (&a["given"], &b["given"]), &mut found);
            all.differing("", (&a["asked"], &b["asked"]), &mut found);
        }
        given => {
            let words = given.map(|given| json!(if given { "given" } else { "trained here" }));
            let [a, b] = words;
            found.push(Cause { kind: "given", key: "models".to_owned(), a, b });
        }
    }
    inputs([a, b], &mut found);
    Walk { kind: "hub", without: &[] }.differing("", (&a["commits"], &b["commits"]), &mut found);
    if a["key"] != b["key"] {
        for part in PARTS {
            let (a, b) = (&parts[0][part], &parts[1][part]);
            if a != b {
                found.push(Cause { kind: "training", key: part.to_owned(), a: a.clone(), b: b.clone() });
            }
        }
    }
    found
}

/// A walk through two values, place by place.
struct Walk<'a> {
    kind: &'static str,
    /// Keys at the top that are passed by.
    without: &'a [&'a str],
}

impl Walk<'_> {
    fn differing(&self, place: &str, (a, b): (&Value, &Value), found: &mut Vec<Cause>) {
        let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        match (a, b) {
            _ if a == b => {}
            (Value::Object(_), Value::Object(_) | Value::Null) | (Value::Null, Value::Object(_)) => {
                let none = Map::new();
                let [a, b] = [a, b].map(|value| value.as_object().unwrap_or(&none));
                let new = b.keys().filter(|key| !a.contains_key(*key));
                for key in a.keys().chain(new) {
                    if place.is_empty() && self.without.contains(&key.as_str()) {
                        continue;
                    }
                    let part = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                    self.differing(&below(key), (&part(a), &part(b)), found);
                }
            }
            (Value::Array(all), Value::Array(others)) if has_tables(all) || has_tables(others) => {
                for nth in 0..all.len().max(others.len()) {
                    let part = |of: &[Value]| of.get(nth).cloned().unwrap_or_default();
                    self.differing(&below(&nth.to_string()), (&part(all), &part(others)), found);
                }
            }
            _ => found.push(Cause { kind: self.kind, key: place.to_owned(), a: a.clone(), b: b.clone() }),
        }
    }
}

fn has_tables(all: &[Value]) -> bool {
    all.iter().any(Value::is_object)
}

/// Files that differ: first by what they are to the training, then by the names that the recipe gives them.
fn inputs(manifests: [&Value; 2], found: &mut Vec<Cause>) {
    let labelled = manifests.map(|manifest| digests(&manifest["sha256"], |value| value));
    let named = manifests.map(|manifest| digests(&manifest["inputs"], |value| &value["sha256"]));
    let mut told: BTreeSet<[Option<String>; 2]> = BTreeSet::new();
    let mut tell = |key: &str, [a, b]: [Option<&String>; 2]| {
        let pair = [a.cloned(), b.cloned()];
        if a != b && told.insert(pair) {
            found.push(Cause { kind: "input", key: key.to_owned(), a: json!(a), b: json!(b) });
        }
    };
    for key in labelled[0].keys().chain(labelled[1].keys()).collect::<BTreeSet<_>>() {
        tell(key, [labelled[0].get(key), labelled[1].get(key)]);
    }
    let has = |all: &BTreeMap<String, String>, digest: Option<&String>| {
        digest.is_some_and(|digest| all.values().any(|other| other == digest))
    };
    for key in named[0].keys().chain(named[1].keys()).collect::<BTreeSet<_>>() {
        let pair = [named[0].get(key), named[1].get(key)];
        // The same file under another name is no other file, and a build that noted none says nothing.
        let moved = match pair {
            [Some(_), None] => has(&named[1], pair[0]) || named[1].is_empty(),
            [None, Some(_)] => has(&named[0], pair[1]) || named[0].is_empty(),
            _ => false,
        };
        let is_told = pair
            .iter()
            .flatten()
            .any(|digest| found_in(&labelled[0], digest) || found_in(&labelled[1], digest));
        if !moved && !is_told {
            tell(key, pair);
        }
    }
}

fn found_in(all: &BTreeMap<String, String>, digest: &str) -> bool {
    all.values().any(|other| other == digest)
}

/// Names and digests of a section.
fn digests(section: &Value, digest: impl Fn(&Value) -> &Value) -> BTreeMap<String, String> {
    let entries = section.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), digest(value).as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(more: Value) -> Value {
        let mut manifest = json!({
            "program": { "name": "finetune", "version": "0.1.0", "commit": "a1" },
            "device": { "asked": "auto", "used": "cpu", "name": "this", "threads": 2 },
            "key": "k",
            "recipe": {
                "name": "x",
                "train": { "seed": 42, "steps": 20 },
                "merge": { "methods": ["linear:0.5"] },
                "eval": { "suites": [{ "task": "harmful", "limit": 4 }] },
            },
            "sha256": { "data": "d1", "model/config.json": "c1" },
            "inputs": { "train.jsonl": { "path": "/p/train.jsonl", "sha256": "d1" },
                "bad.csv": { "path": "/p/bad.csv", "sha256": "h1" } },
        });
        for (place, value) in more.as_object().unwrap() {
            *manifest.pointer_mut(place).unwrap() = value.clone();
        }
        manifest
    }

    fn found(more: Value) -> Vec<(&'static str, String, Value, Value)> {
        let nothing = json!({});
        let all = causes([&manifest(json!({})), &manifest(more)], [&nothing, &nothing]);
        all.into_iter().map(|Cause { kind, key, a, b }| (kind, key, a, b)).collect()
    }

    #[test]
    fn every_cause_is_told_by_its_key_with_both_values() {
        assert_eq!(found(json!({})), []);
        assert_eq!(found(json!({ "/recipe/name": "y", "/device/asked": "cpu" })), []);
        let one = |more: Value| found(more).pop().unwrap();
        assert_eq!(
            one(json!({ "/recipe/train/seed": 7 })),
            ("recipe", "train.seed".to_owned(), json!(42), json!(7))
        );
        assert_eq!(
            one(json!({ "/recipe/eval/suites/0/limit": 8 })),
            ("recipe", "eval.suites.0.limit".to_owned(), json!(4), json!(8))
        );
        let methods = json!({ "/recipe/merge/methods": ["linear:0.5", "slerp:0.5"] });
        assert_eq!(one(methods).1, "merge.methods");
        let suites =
            json!({ "/recipe/eval/suites": [{ "task": "harmful", "limit": 4 }, { "task": "xstest" }] });
        assert_eq!(one(suites), ("recipe", "eval.suites.1.task".to_owned(), Value::Null, json!("xstest")));
        assert_eq!(one(json!({ "/program/commit": "b2" })).1, "commit");
        assert_eq!(one(json!({ "/device/threads": 4 })).0, "machine");
    }

    #[test]
    fn a_file_is_told_once_and_by_what_it_is_to_the_training() {
        let data = json!({ "/sha256/data": "d2", "/inputs/train.jsonl/sha256": "d2" });
        assert_eq!(found(data), [("input", "data".to_owned(), json!("d1"), json!("d2"))]);
        let suite = json!({ "/inputs/bad.csv/sha256": "h2" });
        assert_eq!(found(suite), [("input", "bad.csv".to_owned(), json!("h1"), json!("h2"))]);
        // Another name for the same bytes.
        let moved =
            json!({ "/inputs": { "train.jsonl": { "sha256": "d1" }, "worse.csv": { "sha256": "h1" } } });
        assert_eq!(found(moved), []);
    }

    #[test]
    fn a_key_that_no_recipe_tells_is_told_by_its_part() {
        let other = manifest(json!({ "/key": "l" }));
        let parts = [json!({ "numerics": 1, "samples": "s" }), json!({ "numerics": 2, "samples": "s" })];
        let all = causes([&manifest(json!({})), &other], [&parts[0], &parts[1]]);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].key.as_str()), ("training", "numerics"));
    }
}
