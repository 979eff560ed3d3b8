//! How much memory this machine has and how much this process has used.

use std::fs;

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
