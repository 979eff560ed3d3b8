//! The device that computes: the only file that names a backend.
//!
//! A device is a value chosen at run time. Asking for one that is not there is an error with the
//! cure, never a panic and never a quiet fall back to another.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::{DType, Device, Tensor};
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;

use crate::catalog::did_you_mean;

mod driver;
pub mod kernels;
mod memory;
pub use driver::driver;
pub use memory::{Memory, available_memory, held_memory, keep_freed_memory, peak_memory};

/// A kind of device this program knows, compiled in or not.
#[derive(Debug)]
pub struct DeviceKind {
    /// The word for `--device`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    /// The cargo feature that compiles it in; empty for what is always there.
    pub feature: &'static str,
    enumerate: Option<fn() -> Vec<Device>>,
}

impl DeviceKind {
    /// Whether this program was built with it.
    pub fn compiled_in(&self) -> bool {
        self.enumerate.is_some()
    }

    /// The devices of this kind on this machine. A driver that fails counts as no device.
    fn devices(&self) -> Vec<Device> {
        self.enumerate.map_or_else(Vec::new, |list| quietly(list).unwrap_or_default())
    }
}

/// Every kind, the preferred first.
pub const KINDS: &[DeviceKind] = &[
    DeviceKind { name: "cuda", summary: "NVIDIA GPUs", feature: "cuda", enumerate: CUDA },
    DeviceKind {
        name: "webgpu",
        summary: "any GPU through Vulkan, Metal or DirectX 12 (WGSL kernels)",
        feature: "wgpu",
        enumerate: WEBGPU,
    },
    DeviceKind { name: "cpu", summary: "this machine's processor", feature: "", enumerate: Some(cpus) },
];

/// The cargo features of kinds that this program was built with.
pub fn features() -> Vec<&'static str> {
    KINDS
        .iter()
        .filter(|kind| kind.compiled_in())
        .map(|kind| kind.feature)
        .filter(|it| !it.is_empty())
        .collect()
}

type Enumerate = Option<fn() -> Vec<Device>>;
#[cfg(feature = "cuda")]
const CUDA: Enumerate = Some(|| Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().collect());
#[cfg(not(feature = "cuda"))]
const CUDA: Enumerate = None;
#[cfg(feature = "wgpu")]
const WEBGPU: Enumerate = Some(|| Device::enumerate(burn::tensor::DeviceType::Wgpu).into_iter().collect());
#[cfg(not(feature = "wgpu"))]
const WEBGPU: Enumerate = None;

fn cpus() -> Vec<Device> {
    vec![Device::flex()]
}

/// The processor: always there, and the reference that other devices are compared with.
pub fn cpu() -> Device {
    Device::flex()
}

/// Whether a tensor on this device lies in this machine's own memory.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().without_autodiff() == cpu()
}

/// Bytes of the device's memory that this process can still take, where the system tells: of a GPU what its driver
/// allows in all, less what tensors hold.
pub fn free_memory(device: &Device) -> Option<u64> {
    if is_cpu(device) {
        return available_memory();
    }
    let in_use = device.memory_pool_usage().map_or(0, |usage| usage.bytes_in_use);
    Some(graphics_memory(device)?.saturating_sub(in_use))
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn graphics_memory(device: &Device) -> Option<u64> {
    match device.clone().without_autodiff().as_dispatch() {
        burn_dispatch::DispatchDevice::Cube(device) => device.client().properties().memory.max_memory(),
        _ => None,
    }
}
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn graphics_memory(_device: &Device) -> Option<u64> {
    None
}

/// Keeps every part of burn that asks for a default device on the processor.
///
/// burn picks its default by compiled feature, not by what is there, and would panic where CUDA is
/// compiled in and no driver is installed. Tests get the same from `.cargo/config.toml`.
///
/// # Safety
///
/// No other thread runs: one that reads the environment meanwhile reads freed memory.
#[expect(unsafe_code, reason = "burn's default is reached by an environment variable only")]
pub unsafe fn pin_default() {
    let unset = |name: &str| std::env::var_os(name).is_none();
    // SAFETY: the caller says that no other thread runs.
    unsafe {
        if unset("BURN_DEVICE") {
            std::env::set_var("BURN_DEVICE", "flex");
        }
        if unset("XDG_RUNTIME_DIR") && unset("WAYLAND_DISPLAY") {
            // No window is ever opened; without this, Vulkan drivers complain that none could be.
            std::env::set_var("WAYLAND_DISPLAY", "/nonexistent");
        }
    }
}

/// What `--device` asks for: a kind and, for a machine with several, which one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum DeviceSpec {
    /// The first hardware GPU in the order of [`KINDS`], else the processor.
    Auto,
    /// The device at this position among those of its kind.
    Kind(&'static str, usize),
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (name, index) = text.split_once(':').map_or((text, Some(0)), |(name, i)| (name, i.parse().ok()));
        let kind = KINDS.iter().find(|kind| kind.name == name);
        match (kind, index) {
            (Some(kind), Some(index)) => Ok(Self::Kind(kind.name, index)),
            (Some(_), None) => Err(DeviceError::Unknown {
                text: text.to_owned(),
                help: format!("write `{name}` or `{name}:0`, `{name}:1`, …"),
            }),
            (None, _) => {
                let names = KINDS.iter().map(|kind| kind.name).chain(["auto"]);
                Err(DeviceError::Unknown { text: text.to_owned(), help: did_you_mean(name, names) })
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Kind(name, 0) => f.write_str(name),
            Self::Kind(name, index) => write!(f, "{name}:{index}"),
        }
    }
}

impl From<DeviceSpec> for String {
    fn from(spec: DeviceSpec) -> Self {
        spec.to_string()
    }
}

/// Why a device cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum DeviceError {
    #[error("`{text}` is not a device")]
    #[diagnostic(code(device::unknown), help("{help}"))]
    Unknown { text: String, help: String },
    #[error("this program was built without `{name}`")]
    #[diagnostic(
        code(device::not_compiled_in),
        help("build with `cargo build --release --features {feature}`, or choose `--device cpu`")
    )]
    NotCompiledIn { name: &'static str, feature: &'static str },
    #[error("device `{spec}` is not there: {found} `{name}` device(s) found")]
    #[diagnostic(code(device::absent), help("`finetune list devices` shows what is there; {cure}"))]
    Absent { spec: String, name: &'static str, found: usize, cure: &'static str },
    #[error("device `{spec}` was found but does not work: {why}")]
    #[diagnostic(code(device::broken), help("`finetune doctor` says more; is its driver up to date?"))]
    Broken { spec: String, why: String },
}

/// A device that was opened and answered.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The name under which `--device` finds it again.
    pub spec: DeviceSpec,
    /// The part as it names itself.
    pub name: String,
    /// The handle that tensors are made on, without autodiff.
    pub device: Device,
    /// A program that plays a GPU on the processor.
    pub software: bool,
}

/// Opens the device that `spec` asks for and multiplies one small matrix on it.
///
/// # Errors
///
/// The kind is not compiled in, no such device is on this machine, or it does not compute.
pub fn open(spec: &DeviceSpec) -> Result<Opened, DeviceError> {
    match spec {
        DeviceSpec::Auto => {
            let gpus = KINDS.iter().filter(|kind| kind.name != "cpu").flat_map(|kind| {
                kind.devices()
                    .into_iter()
                    .enumerate()
                    .map(|(i, device)| (DeviceSpec::Kind(kind.name, i), device))
            });
            // Asking a software driver to compute takes it seconds; its name is enough to pass it by.
            let mut hardware =
                gpus.filter(|(_, device)| quietly(|| describe(device)).is_ok_and(|(_, soft)| !soft));
            let opened = hardware.find_map(|(spec, device)| probe(&spec, device).ok());
            opened.map_or_else(|| open(&DeviceSpec::Kind("cpu", 0)), Ok)
        }
        DeviceSpec::Kind(name, index) => {
            let kind = KINDS.iter().find(|kind| kind.name == *name).expect("a spec names a kind of the list");
            if !kind.compiled_in() {
                return Err(DeviceError::NotCompiledIn { name: kind.name, feature: kind.feature });
            }
            let mut found = kind.devices();
            if *index >= found.len() {
                let cure = match *name {
                    "cuda" => "is the NVIDIA driver installed?",
                    "webgpu" => "is a Vulkan driver installed (Debian: `mesa-vulkan-drivers`)?",
                    _ => "count from 0",
                };
                return Err(DeviceError::Absent {
                    spec: spec.to_string(),
                    name: kind.name,
                    found: found.len(),
                    cure,
                });
            }
            probe(spec, found.swap_remove(*index))
        }
    }
}

/// One product whose answer is known: a driver that cannot do this is better found now.
fn probe(spec: &DeviceSpec, device: Device) -> Result<Opened, DeviceError> {
    let broken = |why: String| DeviceError::Broken { spec: spec.to_string(), why };
    let answer = quietly(|| {
        let a = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        a.clone().matmul(a).try_into_vec_as::<f32>().map_err(|error| error.to_string())
    });
    match answer {
        Ok(Ok(values)) if values == [7.0, 10.0, 15.0, 22.0] => {}
        Ok(Ok(values)) => return Err(broken(format!("a 2 × 2 product gave {values:?}"))),
        Ok(Err(why)) => return Err(broken(why)),
        Err(()) => return Err(broken("its driver failed".to_owned())),
    }
    let (name, software) = describe(&device);
    Ok(Opened { spec: spec.clone(), name, device, software })
}

/// The part's own name, and whether it is a program playing a GPU.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn describe(device: &Device) -> (String, bool) {
    match device.identity() {
        Some(identity) => (identity.name, identity.physical.is_none()),
        None => (memory::processor_name(), false),
    }
}
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn describe(_device: &Device) -> (String, bool) {
    (memory::processor_name(), false)
}

/// Runs `body` and swallows a panic with its message: drivers fail this way.
fn quietly<T>(body: impl FnOnce() -> T) -> Result<T, ()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(body)).map_err(drop);
    std::panic::set_hook(hook);
    result
}

/// The number formats a device computes in, by their recipe names.
pub fn formats(device: &Device) -> Vec<&'static str> {
    [("f32", DType::F32), ("bf16", DType::BF16), ("f16", DType::F16)]
        .into_iter()
        .filter(|(_, dtype)| device.supports_dtype(*dtype))
        .map(|(name, _)| name)
        .collect()
}

/// One line of `finetune list devices`.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    pub device: String,
    pub name: String,
    /// `ready`, or why not.
    pub state: String,
    pub formats: Vec<&'static str>,
}

/// Every device of every kind, and for a kind without one the reason.
pub fn list() -> Vec<Listed> {
    let mut rows = Vec::new();
    for kind in KINDS {
        let n = kind.devices().len().max(1);
        for index in 0..n {
            let spec = DeviceSpec::Kind(kind.name, index);
            rows.push(match open(&spec) {
                Ok(opened) => Listed {
                    device: spec.to_string(),
                    name: opened.name,
                    state: if opened.software { "ready (software)" } else { "ready" }.to_owned(),
                    formats: formats(&opened.device),
                },
                Err(error) => Listed {
                    device: spec.to_string(),
                    name: kind.summary.to_owned(),
                    state: error.to_string(),
                    formats: Vec::new(),
                },
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{DeviceError, DeviceSpec, open};

    #[test]
    fn a_spec_prints_as_it_was_read() {
        for text in ["auto", "cpu", "cuda", "cuda:3", "webgpu:1"] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        assert!(matches!("cudda".parse::<DeviceSpec>(), Err(DeviceError::Unknown { .. })));
        assert!(matches!("cuda:x".parse::<DeviceSpec>(), Err(DeviceError::Unknown { .. })));
    }

    #[test]
    fn the_processor_is_always_there() {
        let opened = open(&"cpu".parse().unwrap()).unwrap();
        assert!(!opened.software && !opened.name.is_empty());
        assert!(matches!(open(&"cpu:7".parse().unwrap()), Err(DeviceError::Absent { .. })));
    }
}
