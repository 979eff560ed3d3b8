//! How long and how much an endpoint may answer, and what an exchange that came to nothing is told as.
//!
//! There is no pace to keep: a model may think for minutes, and some servers send blanks meanwhile. What counts is the
//! time of one request, [`super::Settings::timeout`].

use std::time::Duration;

use super::EndpointError;
use crate::hub::{Broken, broken};

/// Until a connection is there: long enough for a slow network.
pub const CONNECT: Duration = Duration::from_secs(10);
/// An answer beyond this is none.
pub const MOST_BYTES: u64 = 16_000_000;
/// Bytes of the headers of one answer.
pub const MOST_HEADERS: usize = 1 << 16;
/// Bytes of a reply that are read for a verdict, and stored: twice what the 25,000 tokens that a judge may think take.
/// The rest is left out as if the limit of tokens had come.
pub const MOST_REPLY: usize = 1 << 18;
/// A whole answer that is no answer is asked for once more: a proxy's page passes, a wrong address stays.
pub const GARBAGE_TRIES: u32 = 2;
/// Each of these costs all the time that a request has.
pub const SLOW_TRIES: u32 = 3;

/// What a request to `url` that had `timeout` came to at its try number `nth`, and how often to try at most.
pub fn failure(error: ureq::Error, url: &str, timeout: Duration, nth: u32) -> (EndpointError, u32) {
    let url = url.to_owned();
    match broken(error) {
        Broken::Lost(source) => (EndpointError::Unreachable { url, source }, u32::MAX),
        Broken::Cut(source) => (EndpointError::BrokeOff { url, source }, u32::MAX),
        Broken::Slow(_) => {
            (EndpointError::Slow { url, seconds: timeout.as_secs_f32(), tries: nth }, SLOW_TRIES)
        }
        Broken::TooMuch(most) => (EndpointError::TooMuch { url, most }, GARBAGE_TRIES),
        Broken::Wrong(why) => (EndpointError::BadAnswer { url, why }, GARBAGE_TRIES),
    }
}

/// Cuts a reply that is longer than any verdict; whether it was.
pub fn cut(text: &mut String) -> bool {
    let is_long = text.len() > MOST_REPLY;
    text.truncate(text.floor_char_boundary(MOST_REPLY));
    // What was cut goes back at once: hundreds of replies are held.
    text.shrink_to_fit();
    is_long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_cut_between_two_characters() {
        for (text, n) in
            [("é".repeat(MOST_REPLY), MOST_REPLY), ("x".to_owned() + &"é".repeat(MOST_REPLY), MOST_REPLY - 1)]
        {
            let mut text = text;
            assert!(cut(&mut text));
            assert_eq!((text.len(), text.capacity()), (n, n));
        }
        let mut text = "x".repeat(MOST_REPLY);
        assert!(!cut(&mut text));
        assert_eq!(text.len(), MOST_REPLY);
    }
}
