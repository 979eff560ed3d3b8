//! How much a program may use: `setrlimit`, per process.
//!
//! Memory is an address space, so that a hog meets `MemoryError` instead of the machine's out-of-memory killer. The
//! count of processes is the kernel's count for a whole user: what runs already is added.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::Options;

/// Every limit, ready to be set without another thought.
pub(super) struct Limits([(Resource, u64); 10]);

impl Limits {
    /// For a program that may run `timeout`; `uid` is whose processes count.
    pub fn new(options: &Options, timeout: Duration, uid: u32) -> Self {
        // Two seconds on top: starting Python costs processor time as well, and the wall clock is to be the first.
        let cpu = options.cpu.unwrap_or(timeout + Duration::from_secs(2));
        let cpu_s = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
        Self([
            (Resource::As, options.memory_bytes),
            (Resource::Cpu, cpu_s.max(1)),
            (Resource::Fsize, options.file_bytes),
            (Resource::Nproc, running_tasks(uid) + options.processes),
            (Resource::Nofile, 64),
            (Resource::Core, 0),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
            (Resource::Sigpending, 64),
            (Resource::Rtprio, 0),
        ])
    }

    pub fn cpu(&self) -> Duration {
        let cpu_s = self.0.iter().find(|(resource, _)| *resource == Resource::Cpu).map_or(0, |limit| limit.1);
        Duration::from_secs(cpu_s)
    }

    /// Called between `clone` and `execve`: allocates nothing.
    pub fn set(&self) -> rustix::io::Result<()> {
        for (resource, most) in &self.0 {
            // What is lower already stays.
            let held = rustix::process::getrlimit(*resource).maximum.unwrap_or(u64::MAX);
            let most = held.min(*most);
            // Processor time: the first signal can be ignored, the second, a second later, cannot.
            let last = if *resource == Resource::Cpu { held.min(most + 1) } else { most };
            setrlimit(*resource, Rlimit { current: Some(most), maximum: Some(last) })?;
        }
        Ok(())
    }
}

/// How many threads of all processes run under this user.
fn running_tasks(uid: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let statuses = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok());
    statuses.filter_map(|status| tasks_of(&status, uid)).sum()
}

fn tasks_of(status: &str, uid: u32) -> Option<u64> {
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next();
    (field("Uid:")?.parse() == Ok(uid)).then(|| field("Threads:")?.parse().ok())?
}
