//! How much memory this machine has and how much this process has used.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Write;

use crate::doing;

/// The exit code of a process that could not have memory: the world's.
const NO_MEMORY: i32 = 3;

/// The system's memory; where it has none left, the process ends with a message of what it was at.
///
/// Rust's own end is an abort that names nobody. Memory that is asked for on trial ends the process too: whoever
/// asks so would go on with less than was asked.
pub struct Memory;

#[expect(unsafe_code, reason = "an allocator hands out memory")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        had(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        had(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        had(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The pointer, unless it is none.
#[inline]
fn had(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        none_left(bytes);
    }
    pointer
}

/// Says so, in pieces that need no memory, and ends.
#[cold]
fn none_left(bytes: usize) -> ! {
    doing::told(|what| {
        let mut message = [0_u8; 1024];
        let mut rest = &mut message[..];
        // A message that is cut off is still one.
        let _ = write!(
            rest,
            "\n  × {bytes} bytes of memory could not be had while {what}\n  help: every finished file is whole, and \
             the same command goes on from there; give it more memory, or less to do at once\n        (a smaller model, \
             shorter texts, `--micro-tokens`, `--eval-rows`)\n"
        );
        let n = 1024 - rest.len();
        let _ = std::io::stderr().write_all(&message[..n]);
    });
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "the process ends at once: nothing that would ask for memory is run")]
    // SAFETY: it does not come back.
    unsafe {
        libc::_exit(NO_MEMORY)
    }
    #[cfg(not(unix))]
    std::process::exit(NO_MEMORY)
}

/// Lets freed memory stay with this process. The C library gives large pieces back to the system at once, which then
/// clears every page when the next tensor asks for it: a seventh of the time of generation. Where it refuses, that
/// time is all that is lost.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Some versions refuse what is above half of an arena, 32 MiB.
        let large_stays = [1 << 30, 1 << 25].into_iter().any(|bytes| option(libc::M_MMAP_THRESHOLD, bytes));
        // Alone, the second would only stop the library from raising the first by itself (mallopt(3)).
        if large_stays {
            option(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}

/// Sets an option of the C library's allocator; false where it refuses.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other door to these settings")]
fn option(name: i32, value: i32) -> bool {
    // SAFETY: only changes how later calls of the allocator choose where memory comes from.
    unsafe { libc::mallopt(name, value) == 1 }
}

/// Bytes of main memory that can still be had without swapping, where the system tells.
pub fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// The most bytes of main memory this process has held so far, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// Bytes of main memory this process holds now, where the system tells.
pub fn held_memory() -> Option<u64> {
    kibibytes("/proc/self/status", "VmRSS:")
}

/// What the processor calls itself.
pub(super) fn processor_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {threads} threads", model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()))
}

fn kibibytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
