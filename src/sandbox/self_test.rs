//! Programs whose verdict is known, before a rate is believed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Program, Sandbox, SandboxError, Verdict};

const TEST: &str =
    "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate([1, 'a']) == [1, 'a'] * 2\n";

/// What the program does and whether it must pass.
const KNOWN: &[(&str, bool)] = &[
    ("def double(x): return 2 * x", true),
    ("def double(x): print('hi'); return x + x", true),
    ("def double(x): return x", false),
    ("def double(x): return 2 *", false),
    ("def double(x): raise SystemExit(0)", false),
    ("import os\ndef double(x): os._exit(0)", false),
    ("class Yes:\n  def __eq__(self, other): return True\ndef double(x): return Yes()", false),
    ("import socket\ndef double(x):\n  socket.create_connection(('127.0.0.1', 1), 1)\n  return 2 * x", false),
];

pub(super) fn run(sandbox: &Sandbox, right: &[Program]) -> Result<usize, SandboxError> {
    let timeout = Duration::from_secs(10);
    let known = KNOWN.iter().map(|(source, passes)| {
        (Program { source, prelude: "", test: TEST, entry_point: "double", timeout }, *passes)
    });
    let programs: Vec<_> = known.chain(right.iter().map(|program| (*program, true))).collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(None);
    let n_workers = std::thread::available_parallelism().map_or(1, usize::from).min(programs.len());
    let work = || {
        while let Some((program, passes)) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = sandbox.run(program).and_then(|outcome| match outcome.verdict {
                Verdict::Passed if *passes => Ok(()),
                Verdict::Failed { .. } if !*passes => Ok(()),
                verdict => Err(SandboxError::SelfTest { what: format!("{verdict}:\n{}", program.source) }),
            });
            if let Err(error) = found {
                // Nobody else has to begin another.
                next.store(programs.len(), Ordering::Relaxed);
                wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..n_workers {
            scope.spawn(work);
        }
    });
    match wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(programs.len()),
    }
}
