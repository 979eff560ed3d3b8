//! `finetune`: parse, run, print the failure, exit with its code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use finetune::cli::screen::plain;
use finetune::cli::{self, Cli};

fn main() -> ExitCode {
    #[expect(
        unsafe_code,
        reason = "sets environment variables, and only here is it known that nobody reads them"
    )]
    // SAFETY: the first thing that this program does, on its only thread.
    unsafe {
        finetune::device::pin_default();
    }
    finetune::device::keep_freed_memory();
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            let report = miette::Report::new(failure);
            let _ = writeln!(std::io::stderr(), "{}", plain(&format!("{report:?}")));
            ExitCode::from(code)
        }
    }
}
