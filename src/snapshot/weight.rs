//! One named array of a model: its shape, its number format, its bytes.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;

use super::{Put, SnapshotError, copy_of};
use crate::dtype::{Dtype, largest};

/// What is known of a weight before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightInfo {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
}

impl WeightInfo {
    /// How many numbers the weight holds.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that the weight takes as stored.
    pub fn bytes(&self) -> usize {
        self.n_elements() * self.dtype.size()
    }
}

/// A weight's numbers, borrowed from a memory map or computed.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    pub info: WeightInfo,
    /// Little-endian elements in row-major order.
    pub bytes: Cow<'a, [u8]>,
}

/// A weight's numbers, read part by part: nothing but the part that is asked for need be in memory.
pub enum Numbers<'a> {
    /// They lie in memory.
    Stored(Weight<'a>),
    /// They lie in a file.
    InFile(InFile<'a>),
    /// They are computed: as many as the slice takes, from the given place on.
    Made(Make<'a>),
    /// The same, of a matrix with a product of two factors added.
    Updated(Make<'a>, Factors<'a>),
}

/// What is added to a matrix as the product of two factors: `scale · B A`.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// `[r, in]`.
    pub a: &'a [f32],
    /// `[out, r]`.
    pub b: &'a [f32],
    pub rank: usize,
    pub scale: f64,
}

/// A weight in a file, mapped too.
pub struct InFile<'a> {
    pub weight: Weight<'a>,
    pub file: &'a File,
    /// Where the weight begins in the file, in bytes.
    pub at: u64,
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers of a matrix of this width, computed within its rows.
fn rows<'a>(width: usize, make: impl Fn(usize, usize, &mut [f32]) + Sync + 'a) -> Make<'a> {
    Box::new(move |start, out| {
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let column = at % width;
            let (here, after) = rest.split_at_mut((width - column).min(rest.len()));
            make(at / width, column, here);
            at += here.len();
            rest = after;
        }
    })
}

/// Some of a weight's numbers, brought near to be read in smaller parts.
pub enum Near<'a> {
    /// As they are stored.
    Bytes(Dtype, &'a [u8]),
    /// Computed, from a place on.
    Made(&'a Make<'a>, usize),
}

/// Computes numbers from a place on.
type Make<'a> = Box<dyn Fn(usize, &mut [f32]) + Sync + 'a>;

impl<'a> Numbers<'a> {
    /// Numbers of a matrix of this width that are computed within its rows: `make` is told the row,
    /// the column it begins at, and fills the slice.
    pub fn by_rows(width: usize, make: impl Fn(usize, usize, &mut [f32]) + Sync + 'a) -> Self {
        Self::Made(rows(width, make))
    }

    /// The same where what is computed is a base with the product of these factors added.
    pub fn updated(
        width: usize,
        make: impl Fn(usize, usize, &mut [f32]) + Sync + 'a,
        factors: Factors<'a>,
    ) -> Self {
        Self::Updated(rows(width, make), factors)
    }

    /// Reads as many numbers as `out` takes, from the `start`th on; exact for every stored format.
    /// Returns the largest magnitude as [`Dtype::decode`] does.
    ///
    /// # Panics
    ///
    /// The weight has fewer numbers.
    pub fn read(&self, start: usize, out: &mut [f32]) -> u32 {
        self.mapped(start, out.len()).read(0, out)
    }

    /// Brings `n` numbers near, from the `start`th on: those of a file into `buffer`. Whoever reads much of a
    /// file is quicker with its parts copied than with its map, whose every page must be found.
    ///
    /// # Panics
    ///
    /// The weight has fewer numbers.
    pub fn near<'s>(&'s self, start: usize, n: usize, buffer: &'s mut Vec<u8>) -> Near<'s> {
        if let Self::InFile(InFile { weight, file, at }) = self {
            let dtype = weight.info.dtype;
            let (at, len) = (at + (start * dtype.size()) as u64, n * dtype.size());
            if buffer.len() < len + 2 * LINE {
                buffer.resize(len + 2 * LINE, 0);
            }
            // It lies in its cache line as in the file: a copy that shifts it by less than a line takes up to
            // 3.5 times as long (AMD EPYC, Zen 4).
            let first = buffer.as_ptr().align_offset(LINE) + at as usize % LINE;
            let bytes = &mut buffer[first..first + len];
            // What the system does not read is read from the map.
            if read_at(file, bytes, at).is_ok() {
                return Near::Bytes(dtype, bytes);
            }
        }
        self.mapped(start, n)
    }

    fn mapped(&self, start: usize, n: usize) -> Near<'_> {
        match self {
            Self::Stored(weight) | Self::InFile(InFile { weight, .. }) => {
                let Weight { info, bytes } = weight;
                let size = info.dtype.size();
                Near::Bytes(info.dtype, &bytes[start * size..(start + n) * size])
            }
            Self::Made(make) | Self::Updated(make, _) => Near::Made(make, start),
        }
    }

    fn stored(&self) -> Option<&Weight<'a>> {
        match self {
            Self::Stored(weight) | Self::InFile(InFile { weight, .. }) => Some(weight),
            Self::Made(_) | Self::Updated(..) => None,
        }
    }

    /// The factors of what was added to the matrix of a base, if that is all that distinguishes the two.
    pub fn factors(&self) -> Option<Factors<'_>> {
        match self {
            Self::Updated(_, factors) => Some(*factors),
            _ => None,
        }
    }

    /// Whether the first `len` numbers are those of `other`, bit for bit.
    pub fn equal(&self, other: &Self, len: usize) -> bool {
        const PART: usize = 1 << 16;
        match (self.stored(), other.stored()) {
            (Some(a), Some(b)) if a.info == b.info => a.bytes == b.bytes,
            _ => (0..len).step_by(PART).all(|start| {
                let read = |of: &Self| {
                    let mut values = vec![0.0; PART.min(len - start)];
                    of.read(start, &mut values);
                    values
                };
                read(self).iter().zip(read(other)).all(|(a, b)| a.to_bits() == b.to_bits())
            }),
        }
    }
}

impl Near<'_> {
    /// Reads as many numbers as `out` takes, from the `start`th of these on, as [`Numbers::read`] does.
    ///
    /// # Panics
    ///
    /// There are fewer.
    pub fn read(&self, start: usize, out: &mut [f32]) -> u32 {
        match self {
            Self::Bytes(dtype, bytes) => {
                let size = dtype.size();
                dtype.decode(&bytes[start * size..(start + out.len()) * size], out)
            }
            Self::Made(make, first) => {
                make(first + start, out);
                largest(out)
            }
        }
    }

    /// The bytes of some of these numbers, if they are stored in this format.
    pub fn bytes(&self, dtype: Dtype, range: &Range<usize>) -> Option<&[u8]> {
        match self {
            Self::Bytes(stored, bytes) if *stored == dtype => {
                Some(&bytes[range.start * dtype.size()..range.end * dtype.size()])
            }
            _ => None,
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}
#[cfg(not(unix))]
fn read_at(_file: &File, _bytes: &mut [u8], _at: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl<'a> Weight<'a> {
    /// A weight of f32 numbers as they are.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Weight<'static> {
        Weight::rounded(shape, values, Dtype::F32)
    }

    /// The numbers rounded to `dtype`: to nearest, ties to even.
    pub fn rounded(shape: Vec<usize>, values: &[f32], dtype: Dtype) -> Weight<'static> {
        let mut bytes = vec![0; values.len() * dtype.size()];
        dtype.encode(values, &mut bytes);
        Weight { info: WeightInfo { shape, dtype }, bytes: Cow::Owned(bytes) }
    }

    /// The numbers as f32; exact for every stored format.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.bytes.len() / self.info.dtype.size()];
        self.info.dtype.decode(&self.bytes, &mut values);
        values
    }

    /// Hands the bytes as `dtype` to `put`, part by part.
    ///
    /// # Errors
    ///
    /// What `put` returns.
    pub fn write_to(&self, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        const PART: usize = 1 << 18;
        let size = self.info.dtype.size();
        let (mut numbers, mut bytes) = (Vec::new(), Vec::new());
        for (nth, part) in self.bytes.chunks(PART * size).enumerate() {
            let at = nth * PART * dtype.size();
            if dtype == self.info.dtype {
                put(at..at + part.len(), &mut copy_of(part))?;
                continue;
            }
            numbers.resize(part.len() / size, 0.0);
            self.info.dtype.decode(part, &mut numbers);
            bytes.resize(numbers.len() * dtype.size(), 0);
            dtype.encode(&numbers, &mut bytes);
            put(at..at + bytes.len(), &mut copy_of(&bytes))?;
        }
        Ok(())
    }

    /// The same numbers in another format, untouched when it is the same.
    pub fn cast(self, dtype: Dtype) -> Weight<'a> {
        if self.info.dtype == dtype {
            return self;
        }
        Weight::rounded(self.info.shape.clone(), &self.to_f32(), dtype)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fs::File;
    use std::io::Write;

    use super::{Dtype, InFile, Near, Numbers, Weight, WeightInfo};

    #[test]
    fn numbers_of_a_file_are_copied_where_it_can_be_read_and_mapped_where_not() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        let stored: Vec<u8> = (0..40_000).map(|i| (i * 7 % 251) as u8).collect();
        let mut writable = File::create(&path).unwrap();
        writable.write_all(&[&[0; 74], stored.as_slice()].concat()).unwrap();
        let readable = File::open(&path).unwrap();
        // What is mapped here differs from the file, so that it shows which was taken.
        let mapped = vec![0; stored.len()];
        for (file, expected) in [(&readable, &stored), (&writable, &mapped)] {
            let info = WeightInfo { shape: vec![20_000], dtype: Dtype::Bf16 };
            let weight = Weight { info, bytes: Cow::Borrowed(&mapped) };
            let numbers = Numbers::InFile(InFile { weight, file, at: 74 });
            let mut buffer = Vec::new();
            for (start, n) in [(0, 20_000), (1, 37), (19_999, 1), (313, 5000)] {
                let Near::Bytes(_, found) = numbers.near(start, n, &mut buffer) else {
                    panic!("they are stored")
                };
                assert_eq!(found, &expected[2 * start..2 * (start + n)], "{start} {n}");
            }
        }
    }

    #[test]
    fn rounding_to_bf16_goes_to_the_nearest_and_ties_to_even() {
        // bf16 keeps 8 bits: 1 + 2^-8 lies half-way between 1 and 1 + 2^-7.
        let values = [1.0, 1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), -0.0];
        let back = Weight::rounded(vec![4], &values, Dtype::Bf16).to_f32();
        assert_eq!(back, [1.0, 1.0, 1.0 + 2f32.powi(-6), -0.0]);
    }

    #[test]
    fn every_bf16_and_f16_survives_reading_and_writing() {
        for dtype in [Dtype::Bf16, Dtype::F16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut numbers = vec![0.0; 1 << 16];
            dtype.decode(&bytes, &mut numbers);
            let mut back = vec![0; bytes.len()];
            dtype.encode(&numbers, &mut back);
            let same = bytes.chunks(2).zip(back.chunks(2)).zip(&numbers);
            assert!(same.clone().all(|((a, b), x)| x.is_nan() || a == b), "{dtype}");
            let reference = |x: &f32| match dtype {
                Dtype::F16 => f64::from(half::f16::from_f32(*x)),
                _ => f64::from(half::bf16::from_f32(*x)),
            };
            let between: Vec<f32> = numbers.iter().map(|x| x * 1.003).collect();
            let rounded = Weight::rounded(vec![between.len()], &between, dtype).to_f32();
            for (x, rounded) in between.iter().zip(rounded) {
                let expected = reference(x);
                assert!(
                    f64::from(rounded) == expected || expected.is_nan() && rounded.is_nan(),
                    "{dtype} {x}"
                );
            }
        }
    }

    #[test]
    fn rounding_by_chance_keeps_the_mean() {
        let mut rng = crate::seed::rng(1, "test");
        // Between two neighbours of bf16, of f16, and of f16's smallest numbers.
        for (dtype, x, low, high) in [
            (Dtype::Bf16, 1.002_f32, 1.0, 1.007_812_5),
            (Dtype::F16, -3.0003, -3.001_953_1, -3.0),
            (Dtype::F16, 1e-7, 5.960_464_5e-8, 1.192_092_9e-7),
        ] {
            let mut bytes = vec![0; 20_000 * dtype.size()];
            dtype.encode_stochastic(&vec![x; 20_000], || rand::Rng::next_u32(&mut rng), &mut bytes);
            let mut rounded = vec![0.0; 20_000];
            dtype.decode(&bytes, &mut rounded);
            assert!(rounded.iter().all(|y| *y == low || *y == high), "{dtype}");
            let mean = rounded.iter().map(|y| f64::from(*y)).sum::<f64>() / 20_000.0;
            assert!((mean - f64::from(x)).abs() < 0.02 * f64::from(high - low), "{dtype}: {mean}");
        }
        let exact = [0.0, -1.5, 0.25];
        let mut bytes = vec![0; 6];
        Dtype::Bf16.encode_stochastic(&exact, || u32::MAX, &mut bytes);
        assert_eq!(bytes, *Weight::rounded(vec![3], &exact, Dtype::Bf16).bytes);
    }

    #[test]
    fn a_cast_to_the_same_format_keeps_every_bit() {
        let weight = Weight::rounded(vec![2], &[0.1, f32::NAN], Dtype::Bf16);
        let bytes = weight.bytes.to_vec();
        assert_eq!(weight.cast(Dtype::Bf16).bytes.to_vec(), bytes);
    }
}
