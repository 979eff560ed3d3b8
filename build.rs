//! Which commit and which burn a build is of, for `finetune doctor` and the manifests of runs.

use std::path::Path;
use std::process::Command;

/// What is compiled; a change elsewhere makes no other program.
const COMPILED: [&str; 5] = ["src", "data", "recipes", "Cargo.toml", "Cargo.lock"];

fn main() {
    for path in COMPILED.iter().chain(&["build.rs"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = of_git().or_else(of_package).unwrap_or_default();
    println!("cargo::rustc-env=FINETUNE_COMMIT={commit}");
    println!("cargo::rustc-env=FINETUNE_BURN={}", burn().unwrap_or_default());
}

/// The commit that is checked out, `-modified` where what is compiled differs from it.
fn of_git() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // A package that was unpacked inside another repository is none of that repository's.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != Path::new(".").canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"][..], &COMPILED[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-modified") })
}

/// The commit that a package of a registry was made of.
fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// The version of burn in the lock.
fn burn() -> Option<String> {
    let lock = std::fs::read_to_string("Cargo.lock").ok()?;
    let (_, rest) = lock.split_once("name = \"burn\"\nversion = \"")?;
    rest.split('"').next().map(str::to_owned)
}
