//! What drives a device, as far as the system tells.

use super::{Opened, is_cpu};
use crate::folders::{SETTINGS_BYTES, read_text};

/// Where NVIDIA's kernel module says its version.
const NVIDIA: &str = "/proc/driver/nvidia/version";

/// The version of a GPU's driver, or else what its kernels are compiled for; none of the processor.
pub fn driver(opened: &Opened) -> Option<String> {
    if is_cpu(&opened.device) {
        return None;
    }
    let of_nvidia = || version(&read_text(NVIDIA.as_ref(), SETTINGS_BYTES).ok()?);
    let is_nvidia = opened.name.contains("NVIDIA");
    is_nvidia.then(of_nvidia).flatten().or_else(|| compiled_for(opened))
}

/// The version in NVIDIA's line: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 …`.
fn version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("NVRM version"))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version).map(|version| format!("NVIDIA {version}"))
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn compiled_for(opened: &Opened) -> Option<String> {
    opened.device.identity().map(|identity| identity.fingerprint)
}
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn compiled_for(_opened: &Opened) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn nvidia_s_module_says_its_version() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\n\
                    GCC version:  gcc version 12.3.0\n";
        assert_eq!(version(text).as_deref(), Some("NVIDIA 570.133.20"));
        assert_eq!(version("GCC version: 12.3.0"), None);
    }
}
