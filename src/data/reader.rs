//! A file as a stream of valid UTF-8 that cannot outgrow its limits.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::Value;
use thiserror::Error;

use super::error::DataError;

/// How much a file may ask for before reading stops.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole file, unpacked: data sets are held in memory.
    pub file_bytes: u64,
    /// Bytes of one record.
    pub record_bytes: u64,
    /// Unpacked bytes for each packed one, once there are more than a few megabytes. JSON text
    /// packs to a fifth, very repetitive text to a fiftieth; DEFLATE can reach 1,032, zstd more.
    pub pack_ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 4 << 30, record_bytes: 16 << 20, pack_ratio: 200 }
    }
}

impl Limits {
    /// Whether `total` bytes that came out of `packed` ones are more than text can be.
    pub(super) fn is_bomb(self, total: u64, packed: u64) -> bool {
        total > RATIO_FROM_BYTES && total / self.pack_ratio > packed
    }
}

/// Below this size a ratio says nothing.
const RATIO_FROM_BYTES: u64 = 8 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// Why a stream was stopped; travels inside an [`io::Error`].
#[derive(Debug, Clone, Copy, Error)]
pub(super) enum Stop {
    #[error("the file is too large")]
    TooLarge,
    #[error("the file unpacks suspiciously well")]
    Bomb,
    #[error("the record is too large")]
    Record,
    #[error("not UTF-8 at byte {offset}")]
    NotUtf8 { offset: u64, line: u64 },
}

impl Stop {
    /// The reason inside an error of this stream, if it is one of ours.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// A buffered, guarded stream and the counter that a caller resets at the start of each record.
pub(super) struct Stream {
    pub reader: BufReader<Guard>,
    pub record_bytes: Rc<Cell<u64>>,
    /// What the file is packed with.
    pub packing: Option<&'static str>,
}

/// Opens a file, unpacks it if its first bytes say gzip or zstd, and skips a byte order mark.
pub(super) fn open(path: &Path, limits: Limits) -> Result<Stream, DataError> {
    let failed = |source| DataError::unreadable(path, source);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let packed_bytes = Rc::new(Cell::new(0));
    let counted = Counted { inner: file, bytes: Rc::clone(&packed_bytes) };
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, counted);
    let (packing, inner): (_, Box<dyn Read>) = match raw.fill_buf().map_err(failed)? {
        [0x1f, 0x8b, ..] => (Some("gzip"), Box::new(MultiGzDecoder::new(raw))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            (Some("zstd"), Box::new(zstd::Decoder::with_buffer(raw).map_err(failed)?))
        }
        _ => (None, Box::new(raw)),
    };
    let record_bytes = Rc::new(Cell::new(0));
    let guard = Guard {
        inner,
        limits,
        packed_bytes: packing.map(|_| packed_bytes),
        record_bytes: Rc::clone(&record_bytes),
        total: 0,
        n_lines: 0,
        carry: Vec::new(),
        stop: None,
    };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, guard);
    if reader.fill_buf().map_err(|error| stopped(path, error, limits))?.starts_with("\u{feff}".as_bytes()) {
        reader.consume(3);
    }
    Ok(Stream { reader, record_bytes, packing })
}

/// What a stopped or broken stream means for the file. A record's place is for the caller to say.
pub(super) fn stopped(path: &Path, error: io::Error, limits: Limits) -> DataError {
    let path_buf = path.to_owned();
    match Stop::of(&error) {
        Some(Stop::TooLarge) => DataError::TooLarge { path: path_buf, limit: limits.file_bytes },
        Some(Stop::Bomb) => DataError::Bomb { path: path_buf, ratio: limits.pack_ratio },
        Some(Stop::NotUtf8 { offset, line }) => DataError::NotUtf8 { path: path_buf, offset, line },
        Some(Stop::Record) | None => DataError::unreadable(path, error),
    }
}

struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

/// Passes on only whole characters, and counts.
pub(super) struct Guard {
    inner: Box<dyn Read>,
    limits: Limits,
    packed_bytes: Option<Rc<Cell<u64>>>,
    record_bytes: Rc<Cell<u64>>,
    total: u64,
    n_lines: u64,
    /// The beginning of a character whose end is in the next chunk.
    carry: Vec<u8>,
    /// Said on the next call, after the good bytes before it were passed on.
    stop: Option<Stop>,
}

impl Guard {
    fn count(&mut self, passed: &[u8]) {
        self.total += passed.len() as u64;
        self.n_lines += passed.iter().map(|&byte| u64::from(byte == b'\n')).sum::<u64>();
        self.record_bytes.set(self.record_bytes.get() + passed.len() as u64);
    }

    fn limit(&self) -> Option<Stop> {
        let packed = self.packed_bytes.as_ref().map(|bytes| bytes.get());
        if self.total > self.limits.file_bytes {
            Some(Stop::TooLarge)
        } else if packed.is_some_and(|packed| self.limits.is_bomb(self.total, packed)) {
            Some(Stop::Bomb)
        } else if self.record_bytes.get() > self.limits.record_bytes + BUFFER_BYTES as u64 {
            Some(Stop::Record)
        } else {
            None
        }
    }
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(stop) = self.stop.or_else(|| self.limit()) {
            return Err(io::Error::other(stop));
        }
        debug_assert!(buffer.len() >= 8, "a buffered reader asks for more than one character");
        loop {
            let held = self.carry.len();
            buffer[..held].copy_from_slice(&self.carry);
            let n = self.inner.read(&mut buffer[held..])?;
            let filled = held + n;
            let (valid, is_cut) = match std::str::from_utf8(&buffer[..filled]) {
                Ok(_) => (filled, false),
                Err(error) => (error.valid_up_to(), error.error_len().is_none()),
            };
            self.carry.clear();
            if valid < filled && is_cut && n > 0 {
                self.carry.extend_from_slice(&buffer[valid..filled]);
            }
            self.count(&buffer[..valid]);
            if valid < filled && (!is_cut || n == 0) {
                let stop = Stop::NotUtf8 { offset: self.total, line: self.n_lines + 1 };
                self.stop = Some(stop);
                if valid == 0 {
                    return Err(io::Error::other(stop));
                }
            }
            if valid > 0 || n == 0 {
                return Ok(valid);
            }
        }
    }
}

/// Hands each element of an array on as soon as it is read, until one is refused.
pub(super) struct Elements<F>(pub F);

impl<'de, F: FnMut(Value) -> bool> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element()? {
            if !self.0(value) {
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
