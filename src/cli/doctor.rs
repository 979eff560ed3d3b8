//! `finetune doctor`: this program, what this machine has, and whether a device computes right.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::list::{self, What};
use super::print;
use crate::device;
use crate::run::proof::selftest;
use crate::run::{self, Failure, manifest};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Compare the device with the processor and, if DIR is given, with the golden cases in it
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "absent, given without a folder, given with one")]
    selftest: Option<Option<PathBuf>>,
    /// The device to test
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what there is, or compares a device with the processor.
///
/// # Errors
///
/// The device is not there, or computes otherwise than the processor.
pub fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    if args.selftest.is_none() {
        there(args.json);
        return Ok(());
    }
    let opened = device::open(&args.device.parse()?)?;
    let name = opened.spec.to_string();
    let on_cpu = device::is_cpu(&opened.device);
    let mut tests = Vec::new();
    if let Some(Some(folder)) = &args.selftest {
        let models = folder.join("models");
        let folder = if models.is_dir() { &models } else { folder };
        let tolerance = if on_cpu { selftest::EXACT } else { selftest::GPU };
        tests.push(selftest::golden(folder, &opened.device, tolerance)?);
    }
    let compared = selftest::compare_with_processor(&name, &opened.device, None);
    tests.extend(compared.as_ref().ok().cloned());
    print(&list::selftests(&name, &opened.name, &tests, args.json));
    compared?;
    let figures: Vec<String> = tests
        .iter()
        .flat_map(selftest::Selftest::failures)
        .map(|check| {
            format!("{} {} {:.2e} (allowed {:.0e})", check.case, check.part, check.measured, check.allowed)
        })
        .collect();
    match figures.is_empty() {
        true => Ok(()),
        false => {
            Err(run::failure::SelftestError::WrongDevice { device: name, figures: figures.join("; ") }.into())
        }
    }
}

/// Prints the program's version and commit, devices and memory.
fn there(as_json: bool) {
    let (header, rows) = list::rows(What::Devices);
    let memory = device::available_memory();
    let program = manifest::program();
    if as_json {
        let devices: Value =
            serde_json::from_str(&list::json_of(&header, &rows)).expect("it was just printed");
        let version = env!("CARGO_PKG_VERSION");
        let report = json!({
            "version": version, "program": program, "available_memory_bytes": memory, "devices": devices,
        });
        print(&serde_json::to_string_pretty(&report).expect("plain data prints"));
        return;
    }
    let free = memory.map_or("unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
    let features = device::features();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    print(&format!(
        "finetune {}, commit {}, burn {}, features: {features}\nmemory available: {free}\n{}\n`finetune doctor --selftest` proves a device right.",
        env!("CARGO_PKG_VERSION"),
        manifest::commit().unwrap_or("unknown"),
        program["burn"].as_str().unwrap_or_default(),
        list::draw(&header, rows)
    ));
}
