//! A file as a stream of valid UTF-8 that cannot outgrow its limits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::error::TableError;
use super::record::{Limits, Place};
use crate::folders;

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

/// A file and how much of it is read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub limits: Limits,
}

impl Source<'_> {
    pub fn place(self, unit: &'static str, number: usize) -> Place {
        Place { path: self.path.to_owned(), unit, number }
    }

    /// What a stopped or broken stream means for the record at `place`.
    pub fn stopped_at(self, error: io::Error, place: Place) -> TableError {
        if let Some(Stop::Record) = Stop::of(&error) {
            return TableError::RecordTooLarge { place, limit: self.limits.record_bytes };
        }
        self.stopped(error)
    }

    /// What a stopped or broken stream means for the file.
    pub fn stopped(self, error: io::Error) -> TableError {
        let path = self.path.to_owned();
        match Stop::of(&error) {
            Some(Stop::TooLarge) => TableError::TooLarge { path, limit: self.limits.file_bytes },
            Some(Stop::Bomb) => TableError::Bomb { path, ratio: self.limits.pack_ratio },
            Some(Stop::NotUtf8 { offset, line }) => TableError::NotUtf8 { path, offset, line },
            Some(Stop::Record) | None => TableError::unreadable(self.path, error),
        }
    }
}

/// A buffered, guarded stream and the counter that a reader resets at the start of each record.
pub(super) struct Stream<'a> {
    pub source: Source<'a>,
    pub reader: BufReader<Guard>,
    pub record_bytes: Rc<Cell<u64>>,
    /// What the file is packed with.
    pub packing: Option<&'static str>,
}

/// What is done with each line and its place.
type EachLine<'a, E> = &'a mut dyn FnMut(&[u8], Place) -> Result<(), E>;

impl<'a> Stream<'a> {
    /// Opens a file, unpacks it if its first bytes say gzip or zstd, and skips a byte order mark.
    pub fn open(path: &'a Path, limits: Limits) -> Result<Self, TableError> {
        let failed = |source| TableError::unreadable(path, source);
        let file = folders::open(path).map_err(failed)?;
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
        let reader = BufReader::with_capacity(BUFFER_BYTES, guard);
        let mut stream = Self { source: Source { path, limits }, reader, record_bytes, packing };
        if stream.start()?.starts_with("\u{feff}".as_bytes()) {
            stream.reader.consume(3);
        }
        Ok(stream)
    }

    /// What the next buffer holds.
    pub fn start(&mut self) -> Result<&[u8], TableError> {
        let source = self.source;
        self.reader.fill_buf().map_err(|error| source.stopped(error))
    }

    /// Hands on each line that is not blank, without its end, and its place.
    pub fn lines<E: From<TableError>>(mut self, each: EachLine<'_, E>) -> Result<(), E> {
        let source = self.source;
        let mut buffer = Vec::new();
        for line in 1.. {
            buffer.clear();
            self.record_bytes.set(0);
            let place = source.place("line", line);
            let read = self.reader.read_until(b'\n', &mut buffer).and_then(|n| {
                let is_long = buffer.len() as u64 > source.limits.record_bytes;
                if is_long { Err(io::Error::other(Stop::Record)) } else { Ok(n) }
            });
            match read {
                Ok(0) => break,
                Ok(_) if buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => each(buffer.trim_ascii_end(), place)?,
                Err(error) => return Err(source.stopped_at(error, place).into()),
            }
        }
        Ok(())
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
