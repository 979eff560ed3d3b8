//! `finetune`: parse, run, print the failure, exit with its code.

use std::io::Write;
use std::process::ExitCode;

use finetune::cli;
use finetune::cli::screen::plain;
use finetune::device::Memory;
use finetune::doing;
use finetune::run::failure::Broken;

/// As much as a main thread usually has.
const STACK_BYTES: usize = 8 << 20;

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
    join_workers();
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

/// Makes the main thread one of those that compute: what is too small to be shared is then computed where it is asked for,
/// without handing it to another thread and waiting, and what it asks for comes from memory that stays with the process
/// ([`finetune::device::keep_freed_memory`]), which the C library has for this thread alone.
fn join_workers() {
    let workers =
        rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES).thread_name(|i| format!("worker {i}"));
    // Only a system without threads refuses; then everything is computed here.
    let _ = workers.use_current_thread().build_global();
}
