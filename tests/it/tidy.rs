//! The shape of the tree: one direction of data, no circle, files of one idea, few places that name a backend or turn
//! the compiler's checks off.

mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use self::source::Source;
use self::tree::{Module, Use};

/// The modules in the order in which they may use each other.
const ORDER: &[&str] = &[
    "catalog", "guide", "seed", "simd", "folders", "doing", "dtype", "device", "event", "sandbox", "recipe",
    "snapshot", "hub", "data", "model", "generate", "train", "merge", "eval", "report", "run", "cli",
];

/// The most lines of a file, its tests not counted.
const MOST_LINES: usize = 400;

/// Where `unsafe` may stand, and in `main.rs`, which alone knows that no thread runs yet.
const UNSAFE: &[&str] = &["main.rs", "device.rs", "device/", "snapshot/files.rs", "sandbox/linux/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files below a folder, as paths from there.
fn files(folder: &Path) -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(&path, files),
                false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
                false => {}
            }
        }
    }
    let mut paths = Vec::new();
    walk(folder, &mut paths);
    paths.sort();
    let name = |path: &Path| {
        let parts = path.strip_prefix(folder).unwrap().components();
        parts.map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("/")
    };
    assert!(!paths.is_empty(), "no files in {}", folder.display());
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The module that a file holds; none for the program, which is another crate.
fn module(name: &str) -> Option<Module> {
    let name = name.strip_suffix(".rs").filter(|name| *name != "main")?;
    let name = name.strip_suffix("/mod").unwrap_or(name);
    Some(if name == "lib" { Vec::new() } else { name.split('/').map(str::to_owned).collect() })
}

fn modules<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<Module, Source> {
    files.into_iter().filter_map(|(name, text)| Some((module(name)?, Source::of(text)))).collect()
}

static FILES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| files(&root()));

static LIBRARY: LazyLock<BTreeMap<Module, Source>> =
    LazyLock::new(|| modules(FILES.iter().map(|(name, text)| (name.as_str(), text.as_str()))));

static USES: LazyLock<BTreeSet<Use>> = LazyLock::new(|| tree::uses(&LIBRARY));

fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_module_uses_itself_and_those_before_it() {
    let place = |module: &Module| {
        module.first().map(|name| {
            let place = ORDER.iter().position(|known| known == name);
            place.unwrap_or_else(|| panic!("`{name}` has no place in the order"))
        })
    };
    LIBRARY.keys().for_each(|module| _ = place(module));
    let wrong = USES.iter().filter(|found| !found.by.is_empty() && place(&found.of) > place(&found.by));
    complain(&wrong.map(|found| format!("{}: {}", found.by.join("/"), found.text)).collect::<Vec<_>>());
}

#[test]
fn no_files_use_each_other() {
    complain(&tree::circles(&USES));
}

#[test]
fn what_is_imported_is_named() {
    // Behind a star the tests above see nothing.
    let is_module = |path: &[String]| LIBRARY.contains_key(path);
    let mut wrong = Vec::new();
    for (module, source) in LIBRARY.iter() {
        let is_test = |n: usize| LIBRARY[&module[..n]].test_files.contains(&module[n]);
        let stars = source
            .paths(module, is_module)
            .into_iter()
            .filter(|path| path.parts.ends_with(&["*".to_owned()]));
        if !(0..module.len()).any(is_test) {
            wrong.extend(stars.map(|path| format!("{}: {}", module.join("/"), path.parts.join("::"))));
        }
    }
    complain(&wrong);
}

#[test]
fn a_file_holds_one_idea() {
    let lines = FILES.iter().map(|(name, text)| (Source::of(text).n_lines, name));
    let long = lines.filter(|(n, _)| *n > MOST_LINES);
    complain(&long.map(|(n, name)| format!("{n} {name}")).collect::<Vec<_>>());
}

#[test]
fn only_the_device_names_a_backend() {
    let names = ["flex", "cuda", "wgpu", "vulkan"];
    let crates = ["burn_wgpu", "burn_cuda", "burn_flex"];
    let is_device = |name: &str| name == "device.rs" || name.starts_with("device/");
    let mut wrong = Vec::new();
    for (name, text) in FILES.iter().filter(|(name, _)| !is_device(name)) {
        let source = Source::of(text);
        let texts: Vec<&str> = source.tokens.iter().map(|token| token.text.as_str()).collect();
        let names_one = texts.windows(3).any(|t| t[..2] == ["Device", "::"] && names.contains(&t[2]));
        if names_one || texts.iter().any(|text| crates.contains(text)) {
            wrong.push(name.clone());
        }
    }
    complain(&wrong);
}

#[test]
fn unsafe_code_has_its_places() {
    let may = |name: &str| {
        UNSAFE.iter().any(|place| match place.ends_with('/') {
            true => name.starts_with(place),
            false => name == *place,
        })
    };
    let mut wrong = Vec::new();
    for (name, text) in FILES.iter().filter(|(name, _)| !may(name)) {
        let lines = source::unsafe_lines(text);
        wrong.extend(lines.into_iter().map(|line| format!("{name}:{line}")));
    }
    complain(&wrong);
}

mod itself {
    use std::collections::BTreeSet;

    use super::source::{self, Source};
    use super::tree::{self, Use};
    use super::{Module, modules};

    fn path(text: &str) -> Module {
        text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn uses(files: &[(&str, &str)]) -> BTreeSet<Use> {
        tree::uses(&modules(files.iter().copied()))
    }

    fn targets(files: &[(&str, &str)], by: &str) -> BTreeSet<String> {
        uses(files)
            .into_iter()
            .filter(|found| found.by == path(by))
            .map(|found| found.of.join("::"))
            .collect()
    }

    #[test]
    fn code_behind_a_test_item_is_seen() {
        let text = "
#[cfg(test)]
mod tiny;
#[cfg(test)]
use crate::b::{self, T};
struct S { #[cfg(test)] x: [u8; 3], y: u8 }
impl S {
    #[cfg(test)]
    #[must_use]
    const fn of() -> u8 { crate::b::f() }
    fn go(&self) { crate::c::g() }
}
#[cfg(test)]
const X: T = T { x: 1 };
use crate::d::h;

#[cfg(test)]
mod tests {
    use crate::b::f;
}
";
        let names = ["b", "c", "d", "a/tiny"].map(|name| format!("{name}.rs"));
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        files.push(("a.rs", text));
        assert_eq!(targets(&files, "a"), ["c", "d"].map(str::to_owned).into());
        assert_eq!(Source::of(text).test_files, ["tiny"]);
        // `tiny` is a test, whatever it uses.
        files.retain(|(name, _)| *name != "a/tiny.rs");
        files.push(("a/tiny.rs", "use crate::b::f;"));
        assert_eq!(targets(&files, "a::tiny"), BTreeSet::new());
        // Blank, `struct`, `impl` with its function and end, import, and the one blank line between.
        assert_eq!(Source::of(text).n_lines, 6);
    }

    #[test]
    fn grouped_and_nested_imports_and_paths_in_code_are_seen() {
        let text = r##"
//! use crate::a0;
/* crate::a0::x /* nested */ crate::a0::x */
use crate::{a1, a2::{self, b::{X, Y as _}}, a3::f as g};
use super::{super::a4::x, n};
pub(crate) use {h, std::fmt::{self, Write}};
fn f<'a>(c: &'a str) -> impl Fn() + use<'a> {
    let text = ("crate::a0::x", r#"" crate::a0::x"#, 'c', '"', '\'', b"\"", '\u{1F600}');
    let at = crate::a5::deep::x::<u8>(); // crate::a0::x
    mod inner { pub fn f() { super::super::m::f() } }
}
macro_rules! m { () => { $crate::a6::x!() } }
"##;
        let names = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "w", "w/m", "w/n", "w/o", "a2/b"];
        let names = names.map(|name| format!("{name}.rs"));
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        files.push(("w/z.rs", text));
        let expected = ["a1", "a2", "a2::b", "a3", "a4", "a5", "a6", "w::m", "w::n"];
        assert_eq!(targets(&files, "w::z"), expected.map(str::to_owned).into());
    }

    #[test]
    fn circles_are_seen_at_every_level_and_through_re_exports() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a/mod.rs",
                "mod x; mod y; mod z; pub use x::{X, F}; pub use self::y::{Y as Why}; pub struct Own;",
            ),
            ("a/x.rs", "use super::Why;"),
            ("a/y.rs", "use crate::a; fn f() -> super::X { super::super::a::F }"),
            ("a/z.rs", "use super::{X, Own};"),
            ("b.rs", "use crate::a::Why;"),
        ];
        let circles = tree::circles(&uses(&files));
        assert_eq!(circles, ["src/a: x, y\n  x → y: a::Why\n  y → x: a::F"]);
        let mut files = files.to_vec();
        files[3].1 = "use crate::b;";
        let circles = tree::circles(&uses(&files));
        assert_eq!(circles, ["src: a, b\n  a → b: b\n  b → a: a::Why"]);
    }

    #[test]
    fn unsafe_code_is_seen_and_unsafe_answers_are_not() {
        let text = "// unsafe {\nlet is_unsafe = \"unsafe {\";\n#[expect(unsafe_code)]\nunsafe {}\n#[cfg(test)]\nunsafe fn f() {}";
        assert_eq!(source::unsafe_lines(text), [3, 4, 6]);
    }
}
