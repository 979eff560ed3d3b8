//! `finetune`: parse, run, print the failure, exit with its code.

use std::io::Write;
use std::process::ExitCode;

use finetune::cli;
use finetune::cli::screen::plain;
use finetune::device::Memory;
use finetune::doing;
use finetune::run::failure::Broken;

#[global_allocator]
static MEMORY: Memory = Memory;

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
    let cli = cli::parse();
    let failure = match doing::guarded(|| cli::run(cli)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        Err(why) => Broken(why).into(),
    };
    let code = failure.exit_code();
    let report = miette::Report::new(failure);
    let _ = writeln!(std::io::stderr(), "{}", plain(&format!("{report:?}")));
    ExitCode::from(code)
}
