//! How an exchange over the network comes to nothing: what the library's errors mean to who asked.

use std::io::{self, ErrorKind};

use ureq::{Error, Timeout};

/// How it came to nothing.
pub enum Broken {
    /// There is no connection.
    Lost(io::Error),
    /// The connection ended before the answer did.
    Cut(io::Error),
    /// A limit in time.
    Slow(Timeout),
    /// A limit in size.
    TooMuch(String),
    /// What came is not HTTP.
    Wrong(String),
}

/// What an error of an exchange means.
pub fn broken(error: Error) -> Broken {
    match error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Broken::Lost(io::Error::new(ErrorKind::TimedOut, "nobody answered in time"))
        }
        Error::Timeout(which) => Broken::Slow(which),
        Error::BodyExceedsLimit(most) if most < 1_000_000 => Broken::TooMuch(format!("{most} bytes")),
        Error::BodyExceedsLimit(most) => Broken::TooMuch(format!("{} MB", most / 1_000_000)),
        Error::LargeResponseHeader(_, most) => Broken::TooMuch(format!("{most} bytes of headers")),
        Error::Protocol(_) | Error::Http(_) | Error::BadUri(_) => Broken::Wrong(error.to_string()),
        other => {
            let error = other.into_io();
            let is_cut = matches!(
                error.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
            );
            if is_cut { Broken::Cut(error) } else { Broken::Lost(error) }
        }
    }
}
