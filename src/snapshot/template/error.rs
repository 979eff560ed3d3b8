//! Every way a chat template can be wrong.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// The longest published templates have about 30,000 bytes.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// Instructions, or blocks of 64 bytes, that one rendering may use: 64 MB, or a thousand turns.
pub(super) const FUEL: u64 = 1_000_000;

/// What the template engine said.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(pub(super) String);

/// Why a chat template cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum TemplateError {
    #[error("there is no chat template in `{}`", folder.display())]
    #[diagnostic(
        code(template::missing),
        help(
            "a base model without one: write `template = \"none\"` under `[data]`, or `template = \"FILE.jinja\"` to bring your own"
        )
    )]
    Missing { folder: PathBuf },
    #[error("cannot read chat template `{}`", path.display())]
    #[diagnostic(code(template::unreadable), help("check that the file is there, may be read and is UTF-8"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not valid JSON", path.display())]
    #[diagnostic(code(template::bad_json), help("fetch the file again; it may have been cut off"))]
    BadJson { path: PathBuf, source: serde_json::Error },
    #[error("`chat_template` in `{}` is {found}, expected a string or a list with an entry named `default`", path.display())]
    #[diagnostic(code(template::bad_value), help("put the template for chats into `chat_template.jinja`"))]
    BadValue { path: PathBuf, found: String },
    #[error("chat template `{name}` has {found} bytes, expected at most {MAX_BYTES}")]
    #[diagnostic(code(template::too_large), help("is `{name}` a template?"))]
    TooLarge { name: String, found: usize },
    #[error("chat template `{name}` is wrong in line {line} at `{construct}`")]
    #[diagnostic(
        code(template::syntax),
        help("correct the line, or bring another file with `template = \"FILE.jinja\"` under `[data]`")
    )]
    Syntax { name: String, line: usize, construct: String, source: Cause },
    #[error("chat template `{name}` fails in line {line} at `{construct}`")]
    #[diagnostic(
        code(template::render),
        help("correct the line, or bring another file with `template = \"FILE.jinja\"` under `[data]`")
    )]
    Render { name: String, line: usize, construct: String, source: Cause },
    #[error("chat template `{name}` refuses these messages in line {line}: {message}")]
    #[diagnostic(
        code(template::raised),
        help("change the conversation: the model was aligned without such ones")
    )]
    Raised { name: String, line: usize, message: String },
    #[error("chat template `{name}` uses more than {FUEL} units of work in line {line} at `{construct}`")]
    #[diagnostic(
        code(template::out_of_fuel),
        help(
            "a template that never ends? Bring another file with `template = \"FILE.jinja\"` under `[data]`"
        )
    )]
    OutOfFuel { name: String, line: usize, construct: String },
    #[error("chat template `{name}` asks for today's date in line {line}, but none is pinned")]
    #[diagnostic(
        code(template::no_date),
        help("write `date = \"YYYY-MM-DD\"` under `[data]`, or every run would see another prompt")
    )]
    NoDate { name: String, line: usize },
    #[error("cannot start a thread to render chat template `{name}`")]
    #[diagnostic(
        code(template::no_thread),
        help("free some memory, or raise the limits of `ulimit -u` and `ulimit -v`")
    )]
    NoThread { name: String, source: std::io::Error },
    #[error("`date` is `{found}`, expected a day such as `2024-07-26`")]
    #[diagnostic(code(template::bad_date), help("write the day as YYYY-MM-DD"))]
    BadDate { found: String },
}
