//! How long, how slowly and how much a hub may answer: a server that means no good costs minutes and megabytes.
//!
//! A download has no limit in time: a large file over a slow network may take days. It must keep a pace.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::Timeout;

use super::broken::{Broken, broken};

/// Redirects of one question.
pub const MOST_HOPS: usize = 5;
/// Bytes of the headers of one answer.
pub const MOST_HEADERS: usize = 1 << 16;
/// Characters of a digest or another `ETag`, which names a file in the cache.
pub const MOST_ETAG: usize = 128;

/// What a test makes small.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Until a connection is there: long enough for a slow network, short enough for a person at a terminal.
    pub connect: Duration,
    /// From then until the headers of an answer are whole, each redirect anew.
    pub headers: Duration,
    /// Until all of an answer is there that is no file: a list of many files over a slow network.
    pub answer: Duration,
    /// A body that brings less than [`Self::least_bytes`] in such a time is given up, and so is silence.
    pub window: Duration,
    /// A kilobyte a second over a minute, slower than any network that models were ever fetched over. A download
    /// that breaks off before so many bytes has not moved on.
    pub least_bytes: u64,
    /// Bytes of an answer that is no file: 60 bytes for each of a million files.
    pub most_bytes: u64,
    /// Files that one command fetches. A repository should not have more, says Hugging Face.
    pub most_files: usize,
    /// Failures in a row, each without moving on, behind which a download gives up.
    pub retries: u32,
    /// Before the first further try; twice as long before each other.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_mins(1),
            answer: Duration::from_mins(5),
            window: Duration::from_mins(1),
            least_bytes: 60 << 10,
            most_bytes: 60_000_000,
            most_files: 100_000,
            retries: 5,
            pause: Duration::from_millis(250),
        }
    }
}

impl Limits {
    /// What was not there in time.
    pub fn slow(&self, which: Timeout) -> String {
        match which {
            Timeout::PerRead | Timeout::PerWrite => format!("nothing came for {}", seconds(self.window)),
            Timeout::RecvResponse => {
                format!("its headers were not whole within {}", seconds(self.headers))
            }
            _ => format!("it was not whole within {}", seconds(self.answer)),
        }
    }

    /// An error of a body, in words.
    pub fn in_words(&self, error: io::Error) -> io::Error {
        match broken(error.into()) {
            Broken::Lost(error) | Broken::Cut(error) => error,
            Broken::Slow(which) => io::Error::new(io::ErrorKind::TimedOut, self.slow(which)),
            Broken::TooMuch(why) | Broken::Wrong(why) => io::Error::other(why),
        }
    }

    /// A body that must keep the pace.
    pub fn paced<R: Read>(&self, body: R) -> Paced<R> {
        Paced { body, window: self.window, least: self.least_bytes, waited: Duration::ZERO, came: 0 }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f32())
}

/// A body that must keep a pace. Only waiting for it counts: a slow disk is no fault of a hub's.
pub struct Paced<R> {
    body: R,
    window: Duration,
    least: u64,
    waited: Duration,
    came: u64,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        let n = self.body.read(buffer)?;
        self.waited += started.elapsed();
        self.came += n as u64;
        if self.waited >= self.window && n > 0 {
            if self.came < self.least {
                let Self { came, least, waited, .. } = self;
                let (waited, window) = (seconds(*waited), seconds(self.window));
                let text = format!("{came} bytes came in {waited}, and {least} in {window} are the least");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives some bytes at a time, each time later.
    struct Slow(usize, Duration);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(self.1);
            buffer[..self.0].fill(b'x');
            Ok(self.0)
        }
    }

    #[test]
    fn a_body_is_given_up_where_it_is_slow_and_not_where_it_is_long() {
        let window = Duration::from_millis(40);
        let limits = Limits { window, least_bytes: 20, ..Limits::default() };
        let read = |n: usize, total: u64| {
            let body = Slow(n, Duration::from_millis(10));
            io::copy(&mut limits.paced(body).take(total), &mut io::sink())
        };
        let error = read(1, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("and 20 in 0.04 s are the least"), "{error}");
        // Ten windows, each with enough.
        assert_eq!(read(10, 400).unwrap(), 400);
    }

    #[test]
    fn a_slow_disk_is_no_slow_hub() {
        let limits = Limits { window: Duration::from_millis(20), least_bytes: 1 << 20, ..Limits::default() };
        let mut body = limits.paced(Slow(1, Duration::ZERO));
        for _ in 0..4 {
            body.read_exact(&mut [0; 4]).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
