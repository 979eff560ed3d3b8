//! A file of known length that several threads fill in any order.
//!
//! Every two megabytes are gathered, hashed and written past the page cache where the system allows: for
//! a model's weights the copy into the cache costs as much as the arithmetic that made them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root};
use memmap2::MmapMut;

use super::Fill;

/// Bytes that are gathered before they are written: a subtree of the hash.
const SEGMENT: usize = 1 << 21;
/// What a disk without page cache wants addresses and lengths to be a multiple of.
const PAGE: usize = 1 << 12;

/// The file while it is filled.
pub struct Segments {
    file: File,
    length: usize,
    /// Past the page cache.
    direct: AtomicBool,
    /// Through the cache the system lets no more than one write into a file, and those that wait for
    /// it there burn their processor.
    turn: Mutex<()>,
    /// Segments of which something is missing, by number.
    open: Mutex<BTreeMap<usize, Arc<Mutex<Segment>>>>,
    /// Segments that were written, to be used again.
    free: Mutex<Vec<Arc<Mutex<Segment>>>>,
    /// The hash of each segment, if the file's is wanted.
    subtrees: Option<Mutex<Vec<ChainingValue>>>,
}

struct Segment {
    /// In a map of its own, which begins where a disk takes bytes from.
    bytes: MmapMut,
    n_filled: usize,
}

impl Segments {
    /// Makes the file, all its space taken: a disk that is too full says so before any work.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn create(path: &Path, length: usize, digest: bool) -> io::Result<Self> {
        let (file, direct) = place::open(path)?;
        place::reserve(&file, length as u64)?;
        let n_segments = length.div_ceil(SEGMENT);
        Ok(Self {
            file,
            length,
            direct: AtomicBool::new(direct),
            turn: Mutex::default(),
            open: Mutex::default(),
            free: Mutex::default(),
            subtrees: digest.then(|| Mutex::new(vec![ChainingValue::default(); n_segments])),
        })
    }

    /// Takes the bytes in `range`; every byte of the file must come once.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn put(&self, range: Range<usize>, fill: Fill<'_>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (nth, from) = (at / SEGMENT, at % SEGMENT);
            let n = (range.end - at).min(SEGMENT - from);
            let shared = self.opened(nth)?;
            let mut segment = lock(&shared);
            fill(at - range.start, &mut segment.bytes[from..from + n]);
            segment.n_filled += n;
            if segment.n_filled == SEGMENT.min(self.length - nth * SEGMENT) {
                lock(&self.open).remove(&nth);
                self.write(nth, &mut segment)?;
                segment.n_filled = 0;
                drop(segment);
                lock(&self.free).push(shared);
            }
            at += n;
        }
        Ok(())
    }

    /// Ends the file, and gives its BLAKE3 if that was wanted.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn finish(self) -> io::Result<Option<blake3::Hash>> {
        if self.direct.into_inner() {
            self.file.set_len(self.length as u64)?;
        }
        let subtrees =
            self.subtrees.map(|subtrees| subtrees.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(subtrees.map(|subtrees| match subtrees.as_slice() {
            [] => blake3::hash(&[]),
            [whole] => blake3::Hash::from_bytes(*whole),
            subtrees => {
                let (left, right) = halves(subtrees, self.length);
                blake3::hazmat::merge_subtrees_root(&left, &right, Mode::Hash)
            }
        }))
    }

    fn opened(&self, nth: usize) -> io::Result<Arc<Mutex<Segment>>> {
        let mut open = lock(&self.open);
        if let Some(segment) = open.get(&nth) {
            return Ok(segment.clone());
        }
        let free = lock(&self.free).pop();
        let segment = match free {
            Some(segment) => segment,
            None => Arc::new(Mutex::new(Segment { bytes: place::buffer(SEGMENT)?, n_filled: 0 })),
        };
        open.insert(nth, segment.clone());
        Ok(segment)
    }

    /// Writes a full segment.
    fn write(&self, nth: usize, segment: &mut Segment) -> io::Result<()> {
        let (at, n) = (nth * SEGMENT, segment.n_filled);
        let bytes = &mut segment.bytes;
        if let Some(subtrees) = &self.subtrees {
            let hash = match self.length <= SEGMENT {
                true => *blake3::hash(&bytes[..n]).as_bytes(),
                false => {
                    let mut hasher = blake3::Hasher::new();
                    hasher.set_input_offset(at as u64).update(&bytes[..n]).finalize_non_root()
                }
            };
            lock(subtrees)[nth] = hash;
        }
        // What lies behind the end is cut off when the file is finished.
        let padded = n.next_multiple_of(PAGE);
        bytes[n..padded].fill(0);
        if self.direct.load(Ordering::Relaxed) {
            match place::write_at(&self.file, &bytes[..padded], at as u64) {
                // This disk wants other multiples.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    place::through_the_cache(&self.file)?;
                    self.direct.store(false, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        let _turn = lock(&self.turn);
        place::write_at(&self.file, &bytes[..n], at as u64)
    }
}

/// The hashes of the left and the right part of `length` bytes.
fn halves(subtrees: &[ChainingValue], length: usize) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(length as u64) as usize;
    let (a, b) = subtrees.split_at(left / SEGMENT);
    (of_part(a, left), of_part(b, length - left))
}

fn of_part(subtrees: &[ChainingValue], length: usize) -> ChainingValue {
    match subtrees {
        [one] => *one,
        _ => {
            let (left, right) = halves(subtrees, length);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What systems do in their own way.
#[cfg(unix)]
mod place {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use memmap2::MmapMut;
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    /// The file, empty, and whether it is written past the page cache.
    #[cfg(target_os = "linux")]
    pub fn open(path: &Path) -> io::Result<(File, bool)> {
        use std::os::unix::fs::OpenOptionsExt;

        let mut options = new();
        options.custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed());
        match options.open(path) {
            Ok(file) => Ok((file, true)),
            Err(_) => Ok((new().open(path)?, false)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    pub fn open(path: &Path) -> io::Result<(File, bool)> {
        Ok((new().open(path)?, false))
    }

    fn new() -> OpenOptions {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        options
    }

    pub fn through_the_cache(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fcntl_setfl(file, rustix::fs::OFlags::empty())?)
    }

    pub fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Memory of its own, in one large page where there are such: a disk is told of it with one word.
    pub fn buffer(length: usize) -> io::Result<MmapMut> {
        let map = MmapMut::map_anon(length)?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // Small pages serve as well.
        Ok(map)
    }

    pub fn reserve(file: &File, length: u64) -> io::Result<()> {
        match fallocate(file, FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(length),
            done => Ok(done?),
        }
    }
}
#[cfg(windows)]
mod place {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt;
    use std::path::Path;

    use memmap2::MmapMut;

    pub fn open(path: &Path) -> io::Result<(File, bool)> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok((file, false))
    }

    pub fn through_the_cache(_file: &File) -> io::Result<()> {
        Ok(())
    }

    pub fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = file.seek_write(bytes, at)?;
            (bytes, at) = (&bytes[n..], at + n as u64);
        }
        Ok(())
    }

    pub fn buffer(length: usize) -> io::Result<MmapMut> {
        MmapMut::map_anon(length)
    }

    pub fn reserve(file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::super::copy_of;
    use super::{SEGMENT, Segments};

    #[test]
    fn pieces_in_any_order_make_the_file_and_its_digest() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, 5000, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT + 77, 5 * SEGMENT - 1] {
            let expected: Vec<u8> = (0..length).map(|i| (i * i / 251) as u8).collect();
            let segments = Segments::create(&path, length, true).unwrap();
            let pieces: Vec<(usize, &[u8])> = expected.chunks(300_007).enumerate().rev().collect();
            pieces.par_iter().for_each(|(nth, bytes)| {
                let at = nth * 300_007;
                segments.put(at..at + bytes.len(), &mut copy_of(bytes)).unwrap();
            });
            let digest = segments.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), expected, "{length}");
            assert_eq!(digest, Some(blake3::hash(&expected)), "{length}");
        }
    }
}
