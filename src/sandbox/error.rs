//! Why there is no sandbox, or none that may be used.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// What stops a sandbox from being opened or used. What a program does wrong is a [`Verdict`](super::Verdict) instead.
#[derive(Debug, Error, Diagnostic)]
pub enum SandboxError {
    #[error("this system cannot confine a program: {found}")]
    #[diagnostic(
        code(sandbox::unprotected),
        help(
            "run on Linux where user namespaces or seccomp are allowed; or, if this machine holds nothing of worth, \
             `--set eval.unprotected_programs=true`"
        )
    )]
    Unprotected { found: String },
    #[error("running programs is not supported on {system}, expected Linux")]
    #[diagnostic(
        code(sandbox::unsupported),
        help("leave out the suites that execute code, or run them on Linux")
    )]
    Unsupported { system: &'static str },
    #[error("there is no Python interpreter `{}`", name.display())]
    #[diagnostic(code(sandbox::no_python), help("install Python 3.8 or later, or name an interpreter"))]
    NoPython { name: PathBuf },
    #[error("`{}` does not run as Python 3.8 or later: {found}", path.display())]
    #[diagnostic(
        code(sandbox::bad_python),
        help("name an interpreter that starts with an empty environment")
    )]
    BadPython { path: PathBuf, found: String },
    #[error("the sandbox fails its own test: {what}")]
    #[diagnostic(
        code(sandbox::self_test),
        help("do not trust pass rates from this machine until this is solved")
    )]
    SelfTest { what: String },
    #[error("the sandbox no longer runs programs: {what}")]
    #[diagnostic(
        code(sandbox::broken),
        help(
            "is Python still whole, and the machine not out of memory? The same command tries the programs again"
        )
    )]
    Broken { what: String },
    #[error("cannot {what}")]
    #[diagnostic(code(sandbox::system), help("is the machine out of processes, files or temporary space?"))]
    System { what: &'static str, source: std::io::Error },
}

impl SandboxError {
    /// For `map_err`: the deed that failed, the cause as source.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn system<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
