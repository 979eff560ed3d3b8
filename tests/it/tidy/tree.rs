//! Which file uses which, through all re-exports, and the circles in that.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// A module's path from the crate's root, which is empty.
pub type Module = Vec<String>;

/// One file uses another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub by: Module,
    /// Where the thing is that is used, not who else shows it.
    pub of: Module,
    /// What is written there.
    pub text: String,
}

/// Every use of one file of the crate by another; files are given by their modules, tests are left out.
pub fn uses(files: &BTreeMap<Module, Source>) -> BTreeSet<Use> {
    let is_test = |module: &Module| {
        (1..=module.len()).any(|n| {
            files.get(&module[..n - 1]).is_some_and(|above| above.test_files.contains(&module[n - 1]))
        })
    };
    let files: BTreeMap<&Module, &Source> = files.iter().filter(|(module, _)| !is_test(module)).collect();
    let is_module = |path: &[String]| files.contains_key(&path.to_vec());
    let paths: Vec<_> = files
        .iter()
        .flat_map(|(module, source)| {
            source.paths(module, is_module).into_iter().map(move |path| (*module, path))
        })
        .collect();
    let known: BTreeMap<Module, &Module> = paths
        .iter()
        .filter_map(|(_, path)| {
            let name = path.known_as.clone()?;
            Some(([&path.within[..], &[name]].concat(), &path.parts))
        })
        .collect();
    let resolved = |path: &Module| -> Module {
        let mut path = path.clone();
        // Each step is one import; more than these would be imports of each other.
        for _ in 0..16 {
            let n = (0..=path.len()).rev().find(|n| is_module(&path[..*n])).unwrap_or(0);
            let next = (n < path.len()).then(|| known.get(&path[..=n])).flatten();
            let Some(next) = next.filter(|next| next[..] != path[..=n]) else {
                return path[..n].to_vec();
            };
            path = [&next[..], &path[n + 1..]].concat();
        }
        path
    };
    paths
        .iter()
        .map(|(by, path)| Use { by: (*by).clone(), of: resolved(&path.parts), text: path.parts.join("::") })
        .filter(|found| found.by != found.of)
        .collect()
}

/// The circles of every folder, each a sentence: files and folders of one folder that use each other, whoever of them
/// begins. What a folder's `mod.rs` uses of the folder, and what its files use of it, is no part of one.
pub fn circles(uses: &BTreeSet<Use>) -> Vec<String> {
    let mut folders: BTreeMap<&[String], BTreeMap<(&str, &str), &Use>> = BTreeMap::new();
    for found in uses {
        let n = found.by.iter().zip(&found.of).take_while(|(a, b)| a == b).count();
        if let (Some(by), Some(of)) = (found.by.get(n), found.of.get(n)) {
            folders.entry(&found.by[..n]).or_default().entry((by, of)).or_insert(found);
        }
    }
    let mut circles = Vec::new();
    for (folder, edges) in folders {
        let all: BTreeSet<&str> = edges.keys().map(|(by, _)| *by).collect();
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            all.into_iter().map(|by| (by, reached(&edges, by))).collect();
        let mutual = |a: &str, b: &str| {
            reached.get(a).is_some_and(|of| of.contains(b)) && reached.get(b).is_some_and(|of| of.contains(a))
        };
        let mut told = BTreeSet::new();
        for one in reached.keys().filter(|one| mutual(one, one)) {
            let circle: Vec<&str> = reached.keys().copied().filter(|other| mutual(one, other)).collect();
            if told.insert(circle.clone()) {
                let inside = edges.iter().filter(|((by, of), _)| circle.contains(by) && circle.contains(of));
                let inside = inside.map(|((by, of), found)| format!("  {by} → {of}: {}", found.text));
                let place = folder.iter().map(|part| format!("/{part}")).collect::<String>();
                let inside = inside.collect::<Vec<_>>().join("\n");
                circles.push(format!("src{place}: {}\n{inside}", circle.join(", ")));
            }
        }
    }
    circles
}

/// Whatever `from` uses, and what that uses, and so on.
fn reached<'u>(edges: &BTreeMap<(&'u str, &'u str), &'u Use>, from: &'u str) -> BTreeSet<&'u str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(by) = open.pop() {
        let next = edges.keys().filter(|(b, _)| *b == by).map(|(_, of)| *of);
        open.extend(next.filter(|of| reached.insert(*of)));
    }
    reached
}
