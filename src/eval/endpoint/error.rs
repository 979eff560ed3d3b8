//! Every way that an endpoint can fail us.

use miette::Diagnostic;
use thiserror::Error;

/// Why an endpoint cannot be asked, or gives no answer.
#[derive(Debug, Error, Diagnostic)]
pub enum EndpointError {
    #[error("`{url}` is no address of an endpoint")]
    #[diagnostic(
        code(endpoint::bad_url),
        help("write the part before `/chat/completions`, such as `http://localhost:8000/v1`")
    )]
    BadUrl { url: String },
    #[error("the variable `{variable}` holds no key for `{url}`")]
    #[diagnostic(
        code(endpoint::no_key),
        help("set `{variable}` to the key, or name no variable if the endpoint wants none")
    )]
    NoKey { url: String, variable: String },
    #[error("the key in `{variable}` would go to `{url}` for everybody on the way to read")]
    #[diagnostic(
        code(endpoint::open_key),
        help("use `https://`; keys go over plain http to this very machine only")
    )]
    OpenKey { url: String, variable: String },
    #[error("cannot reach `{url}`")]
    #[diagnostic(
        code(endpoint::unreachable),
        help("is the server up? `HTTPS_PROXY` names a proxy; answers that came are kept")
    )]
    Unreachable { url: String, source: std::io::Error },
    #[error("the connection ends before `{url}` has answered, again and again")]
    #[diagnostic(
        code(endpoint::broke_off),
        help("its log may say why; does a proxy stand in between? answers that came are kept")
    )]
    BrokeOff { url: String, source: std::io::Error },
    #[error("`{url}` gives no whole answer within {seconds} s, {tries} times")]
    #[diagnostic(
        code(endpoint::slow),
        help(
            "is it overloaded, or does its model think for so long? a smaller `max_new_tokens` of the rubric ends its \
             thinking sooner; answers that came are kept"
        )
    )]
    Slow { url: String, seconds: f32, tries: u32 },
    #[error("`{url}` answers with more than {most}")]
    #[diagnostic(
        code(endpoint::too_much),
        help(
            "no reply of a judge is as long: is it an OpenAI-compatible address? answers that came are kept"
        )
    )]
    TooMuch { url: String, most: String },
    #[error("`{url}` redirects to `{to}` with {status}, and questions are not sent on")]
    #[diagnostic(
        code(endpoint::moved),
        help("if that is the endpoint, give its address, up to `/chat/completions`")
    )]
    Moved { url: String, status: u16, to: String },
    #[error("`{url}` answers {status} {whom}: {said}")]
    #[diagnostic(code(endpoint::unauthorized), help("{help}"))]
    Unauthorized { url: String, status: u16, whom: String, said: String, help: String },
    #[error("`{url}` answers 404 for model `{model}`: {said}")]
    #[diagnostic(
        code(endpoint::not_found),
        help(
            "is the model's name as the endpoint lists it, and does the address end before `/chat/completions`?"
        )
    )]
    NotFound { url: String, model: String, said: String },
    #[error("`{url}` still answers {status} after {tries} tries: {said}")]
    #[diagnostic(
        code(endpoint::busy),
        help("try again later, or ask fewer at once; answers that came are kept")
    )]
    Busy { url: String, status: u16, tries: u32, said: String },
    #[error("`{url}` refuses to answer with {status}: {said}")]
    #[diagnostic(
        code(endpoint::refused),
        help(
            "the endpoint's own words say why: its quota, or a setting that this model does not take; of a rubric, \
             `reasoning` and `max_new_tokens` can be set"
        )
    )]
    Refused { url: String, status: u16, said: String },
    #[error("`{url}` gives an answer that is not a chat endpoint's: {why}")]
    #[diagnostic(
        code(endpoint::bad_answer),
        help("is it an OpenAI-compatible address, and does a proxy or a log-in page stand in between?")
    )]
    BadAnswer { url: String, why: String },
}
