//! Mutations of what every reader reads: an error or a result, in a bounded time and memory, never a panic.
//!
//! Each reader tries some hundred; `FINETUNE_FUZZ=100000` tries as many. `tests/fuzz/run` looks for more by coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use finetune::seed::rng;
use rand::Rng;

use crate::fixture::Fixture;

#[path = "../fuzz/readers.rs"]
mod readers;

use readers::{Ground, READERS};

/// The most kilobytes of address space: the largest input here has some hundred thousand bytes.
const MOST_KB: u64 = 3_000_000;
/// A template may take its fuel's worth of time; nothing else takes a hundredth of it.
const MOST_TIME: Duration = Duration::from_secs(20);
/// The reader that a child of this test is to try, and the finished run that it may read.
const READER: &str = "FINETUNE_FUZZ_READER";
const RUN: &str = "FINETUNE_FUZZ_RUN";

/// Signs that mean something to a parser are likelier to find a weak spot than noise.
const SIGNS: &[u8] = b"{}[]()\"'=:,.%#\\/0129-eE \n\xff\0";

/// `original` with one to eight bytes changed, added, taken out or doubled; sometimes cut off.
fn mutate(original: &[u8], name: &str, i: usize) -> Vec<u8> {
    let mut stream = rng(1, &format!("{name} {i}"));
    let mut bytes = original.to_vec();
    for _ in 0..=stream.next_u32() % 8 {
        if bytes.is_empty() {
            break;
        }
        let at = stream.next_u32() as usize % bytes.len();
        let sign = SIGNS[stream.next_u32() as usize % SIGNS.len()];
        match stream.next_u32() % 7 {
            0 => bytes[at] = sign,
            1 => bytes.insert(at, sign),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = stream.next_u32() as u8,
            4 => {
                let end = (at + 1 + stream.next_u32() as usize % 40).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            // A number that nobody thought of.
            5 => {
                let numbers = [
                    &b"-1"[..],
                    b"0",
                    b"1e308",
                    b"18446744073709551615",
                    b"4294967296",
                    b"null",
                    b"[]",
                    b"{}",
                ];
                let number = numbers[stream.next_u32() as usize % numbers.len()];
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(at..at + digits, number.iter().copied());
            }
            _ if stream.next_u32().is_multiple_of(8) => bytes.truncate(at),
            _ => bytes[at] ^= 1 << (stream.next_u32() % 8),
        }
    }
    bytes
}

/// Tries a reader in a process of its own, whose memory is bounded.
fn hold(name: &str) {
    let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
    let fixture = Fixture::new();
    if reader.of_a_run {
        fixture.study("run", &["--set", "train.steps=1"]);
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {MOST_KB} && exec \"$0\" --exact fuzz::inside --nocapture 2>&1")])
        .arg(std::env::current_exe().unwrap())
        .current_dir(fixture.path())
        .env(READER, name);
    if reader.of_a_run {
        command.env(RUN, fixture.file("run"));
    }
    let output = command.output().unwrap();
    let (said, last) = (String::from_utf8_lossy(&output.stdout), fixture.file("last"));
    if !output.status.success() {
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::copy(last, &kept).unwrap();
        panic!("reader `{name}` does not hold: `{}` is what it was given\n{said}", kept.display());
    }
}

/// The child of [`hold`]; alone it does nothing.
#[test]
fn inside() {
    let Ok(name) = std::env::var(READER) else { return };
    let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
    let ground = Ground::new(std::env::var_os(RUN).map(PathBuf::from).as_deref());
    let seeds = (reader.seeds)(&ground);
    assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()), "there is something to mutate");
    let asked = std::env::var("FINETUNE_FUZZ").ok().and_then(|n| n.parse().ok());
    for i in 0..asked.unwrap_or(400).max(seeds.len()) {
        // Each as it is first.
        let seed = &seeds[i % seeds.len()];
        let bytes = if i < seeds.len() { seed.clone() } else { mutate(seed, &name, i) };
        std::fs::write("last", &bytes).unwrap();
        let started = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| (reader.read)(&ground, &bytes)));
        assert!(read.is_ok() && started.elapsed() < MOST_TIME, "mutation {i}: {:?}", started.elapsed());
    }
}

/// A test for each reader, and one that none is forgotten.
macro_rules! readers {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[test] fn $test() { hold($name); })*

        #[test]
        fn every_reader_is_tried() {
            assert_eq!(READERS.iter().map(|reader| reader.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

readers! {
    recipe = "recipe",
    mergekit = "mergekit",
    config = "config",
    header = "header",
    index = "index",
    tokenizer = "tokenizer",
    tokenizer_config = "tokenizer-config",
    adapter_config = "adapter-config",
    adapter = "adapter",
    template = "template",
    lines = "lines",
    list = "list",
    table = "table",
    packed = "packed",
    parquet = "parquet",
    suite = "suite",
    listing = "listing",
    reply = "reply",
    run_index = "run-index",
    answers = "answers",
    report = "report",
}
