//! Gives the reader that `FINETUNE_READER` names whatever libFuzzer thinks of next.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

mod readers;

use readers::{Ground, READERS, Reader};

static GIVEN: LazyLock<(Ground, &'static Reader)> = LazyLock::new(|| {
    let name = std::env::var("FINETUNE_READER").expect("FINETUNE_READER names a reader");
    let run = std::env::var_os("FINETUNE_RUN").map(PathBuf::from);
    let reader = READERS.iter().find(|reader| reader.name == name).expect("it is one of readers.rs");
    (Ground::new(run.as_deref()), reader)
});

fuzz_target!(
    init: {
        // Some libraries panic on what is malformed, and their readers catch that; libFuzzer's hook would abort.
        drop(std::panic::take_hook());
        std::panic::set_hook(Box::new(|_| {}));
        // What is well-formed is where libFuzzer begins.
        let (ground, reader) = &*GIVEN;
        if let Some(folder) = std::env::var_os("FINETUNE_SEEDS") {
            for (nth, seed) in (reader.seeds)(ground).iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("seed-{nth}")), seed).expect("a folder to write to");
            }
        }
    },
    |bytes: &[u8]| {
        let (ground, reader) = &*GIVEN;
        if let Err(panic) = std::panic::catch_unwind(|| (reader.read)(ground, bytes)) {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            eprintln!("panicked: {}", said.unwrap_or_default());
            std::process::abort();
        }
    }
);
