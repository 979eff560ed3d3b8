//! What the program is at, in words, for the message that stands where nothing else can: a library panicked, or
//! memory could not be had.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

static DOING: Mutex<Doings> = Mutex::new(Doings { next: 0, all: Vec::new() });
/// What the last panic said, and where.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// What is being done on any thread, the latest last.
#[derive(Debug, Default)]
struct Doings {
    next: u64,
    all: Vec<(u64, String)>,
}

impl Doings {
    fn begin(&mut self, what: String) -> u64 {
        self.next += 1;
        self.all.push((self.next, what));
        self.next
    }

    fn end(&mut self, number: u64) {
        self.all.retain(|(other, _)| *other != number);
    }

    fn latest(&self) -> &str {
        self.all.last().map_or("starting", |(_, what)| what)
    }
}

fn held<T>(lock: &'static Mutex<T>) -> MutexGuard<'static, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said to be done until this is dropped.
#[derive(Debug)]
pub struct Doing(u64);

/// Says what is being done from here on: `reading x.json`.
#[must_use]
pub fn now(what: impl Into<String>) -> Doing {
    Doing(held(&DOING).begin(what.into()))
}

impl Drop for Doing {
    fn drop(&mut self) {
        // While a panic unwinds, what was being done is still to be said.
        if !std::thread::panicking() {
            held(&DOING).end(self.0);
        }
    }
}

/// Hands on what is being done; nobody else is waited for.
pub fn told(say: impl FnOnce(&str)) {
    match DOING.try_lock() {
        Ok(doings) => say(doings.latest()),
        Err(_) => say("working"),
    }
}

/// Runs `work`; where something in it panics, gives what it said, where, and what was being done.
///
/// # Errors
///
/// It panicked.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let shown = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if shown {
            usual(info);
        }
        *held(&PANIC) = info.to_string();
    }));
    let done = catch_unwind(AssertUnwindSafe(work));
    // The one that Rust begins with.
    drop(std::panic::take_hook());
    done.map_err(|_| {
        let what = held(&DOING).latest().to_owned();
        let said = std::mem::take(&mut *held(&PANIC));
        format!("something broke while {what}: {said}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_what_is_not_over_is_told() {
        let mut doings = Doings::default();
        assert_eq!(doings.latest(), "starting");
        let outer = doings.begin("reading a".to_owned());
        let inner = doings.begin("reading b".to_owned());
        assert_eq!(doings.latest(), "reading b");
        doings.end(outer);
        assert_eq!(doings.latest(), "reading b");
        doings.end(inner);
        assert_eq!(doings.latest(), "starting");
    }

    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(guarded(|| 3), Ok(3));
        let said = guarded(|| -> () { panic!("a library gave up") }).unwrap_err();
        assert!(said.starts_with("something broke while "), "{said}");
        assert!(said.contains("a library gave up") && said.contains("src/doing.rs:"), "{said}");
    }
}
