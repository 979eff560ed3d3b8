//! The shape of the tree: one direction of data, files of one idea, one file that names a backend.

use std::path::{Path, PathBuf};

/// The modules in the order in which they may use each other.
const ORDER: &[&str] = &[
    "catalog", "seed", "folders", "dtype", "device", "event", "sandbox", "recipe", "snapshot", "hub", "data",
    "model", "train", "merge", "generate", "eval", "report", "run", "cli",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file's lines before its tests.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).map(ToOwned::to_owned).collect()
}

fn module(path: &Path) -> Option<usize> {
    let first = path.strip_prefix(root()).unwrap().components().next().unwrap();
    let name = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
    ORDER.iter().position(|module| *module == name)
}

#[test]
fn a_module_uses_itself_and_those_before_it() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let Some(own) = module(&path) else { continue };
        for line in code(&path) {
            for rest in line.split("crate::").skip(1) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if ORDER.iter().position(|module| *module == name).is_some_and(|used| used > own) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_holds_one_idea() {
    // Forty lines above the rule: a file is not split for a handful.
    let long = sources(&root()).into_iter().map(|path| (code(&path).len(), path)).filter(|(n, _)| *n > 440);
    let long: Vec<String> = long.map(|(n, path)| format!("{n} {}", path.display())).collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn only_the_device_names_a_backend() {
    let names = [
        "Device::flex",
        "Device::cuda",
        "Device::wgpu",
        "Device::vulkan",
        "burn_wgpu",
        "burn_cuda",
        "burn_flex",
    ];
    let device = |path: &Path| path.starts_with(root().join("device")) || path == root().join("device.rs");
    for path in sources(&root()).into_iter().filter(|path| !device(path)) {
        for line in code(&path) {
            assert!(!names.iter().any(|name| line.contains(name)), "{}: {line}", path.display());
        }
    }
}
