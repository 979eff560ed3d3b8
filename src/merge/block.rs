//! One block of a weight: merged, rounded, measured and handed on while it is near the processor.

use std::ops::Range;

use rand::Rng;

use super::between::{Rows, merge_and_show, merge_bf16};
use super::report::Sums;
use super::whole::{Piece, Room};
use super::{Given, Rule, Whole};
use crate::snapshot::{Dtype, Put, SnapshotError};
use crate::{dtype, seed};

/// How a merged number becomes one of the format it is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up or down by chance, so that the mean is right; the draw of a number depends on the seed,
    /// the weight's name and the number's place.
    Stochastic { seed: u64 },
}

/// What counts as the update that a merge takes a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Update {
    /// Of two inputs the way from the base to the other; of more, the merge's own way.
    #[default]
    BetweenTwo,
    /// The way to this input.
    To(usize),
    /// The merge's own way.
    Own,
}

/// What is noted of every weight: always the figures of its report.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    /// Digests of what is written, which tell equal merges.
    pub digests: bool,
}

/// Why a piece could not be merged.
pub(super) enum Failed {
    /// This input has numbers that are no numbers.
    NotFinite(usize),
    /// The result is larger than its format holds.
    TooLarge,
    Put(SnapshotError),
}

/// One weight, ready to be merged block by block.
pub(super) struct Ready<'a> {
    pub whole: &'a Whole<'a>,
    pub update: Update,
    pub dtype: Dtype,
    /// The method's rule; without one the result is an input.
    pub rule: Result<Box<dyn Rule + 'a>, usize>,
    pub rounding: Rounding,
    pub track: Option<Track>,
    pub lenient: bool,
}

/// Room for a piece, used again from one to the next.
#[derive(Default)]
pub(super) struct Space {
    inputs: Room,
    buffers: Buffers,
    rows: Rows,
}

/// For numbers before rounding and after.
#[derive(Default)]
struct Buffers {
    exact: Vec<f32>,
    written: Vec<f32>,
}

/// What is noted of a block.
struct Noted {
    sums: Sums,
    hasher: Option<blake3::Hasher>,
}

impl Ready<'_> {
    pub fn block(&self, block: usize, space: &mut Space, put: Put<'_>) -> Result<Sums, Failed> {
        let hasher = self.track.filter(|track| track.digests).map(|_| blake3::Hasher::new());
        let mut noted = Noted { sums: Sums::default(), hasher };
        let Space { inputs, buffers, rows } = space;
        self.whole.unread(block, inputs, |mut piece| match self.pair(&piece) {
            Some(pair) => match self.merge_pair(&piece, pair, rows, &mut noted, put)? {
                true => Ok(()),
                false => Err(piece.read(|given| given.broken.map_or(Failed::TooLarge, Failed::NotFinite))),
            },
            None => piece.read(|given| self.merge(given, buffers, &mut noted, put)),
        })?;
        noted.sums.digest = noted.hasher.map(|hasher| hasher.finalize());
        Ok(noted.sums)
    }

    /// Where a piece's bytes belong in the weight.
    fn place(&self, start: usize, len: usize) -> Range<usize> {
        let size = self.dtype.size();
        start * size..(start + len) * size
    }

    /// The bytes and the weights of two inputs, if their weighted sum in bf16 is what is asked for and
    /// numbers that are none end the merge.
    fn pair<'p>(&self, piece: &'p Piece<'_>) -> Option<([&'p [u8]; 2], [f32; 2])> {
        if (self.dtype, self.rounding, self.lenient) != (Dtype::Bf16, Rounding::Nearest, false) {
            return None;
        }
        Some((piece.pair(Dtype::Bf16)?, self.rule.as_ref().ok()?.weights()?))
    }

    /// Merges a piece from bf16 to bf16; whether all were numbers, and not too large.
    fn merge_pair(
        &self,
        piece: &Piece<'_>,
        (inputs, weights): ([&[u8]; 2], [f32; 2]),
        rows: &mut Rows,
        noted: &mut Noted,
        put: Put<'_>,
    ) -> Result<bool, Failed> {
        let mut largest = 0;
        put(self.place(piece.start, piece.len()), &mut |from, out| {
            let part = from..from + out.len();
            let [a, b] = inputs.map(|bytes| &bytes[part.clone()]);
            let found = match self.track {
                None => merge_bf16(a, b, weights, out),
                Some(_) => merge_and_show([a, b], weights, out, rows, |[a, b, exact, written]| {
                    let (base, tuned) = if self.whole.base == Some(1) { (b, a) } else { (a, b) };
                    noted.sums.add(base, tuned, exact, written);
                }),
            };
            largest = found.max(largest);
            if let Some(hasher) = &mut noted.hasher {
                hasher.update(out);
            }
        })
        .map_err(Failed::Put)?;
        Ok(largest <= self.dtype.largest().to_bits())
    }

    /// Merges a piece by the method's rule.
    fn merge(
        &self,
        given: &Given<'_>,
        Buffers { exact, written }: &mut Buffers,
        noted: &mut Noted,
        put: Put<'_>,
    ) -> Result<(), Failed> {
        if let Some(input) = given.broken {
            if !self.lenient {
                return Err(Failed::NotFinite(input));
            }
            noted.sums.not_finite += given.all().map(n_not_finite).sum::<u64>();
        }
        exact.resize(given.len(), 0.0);
        written.resize(given.len(), 0.0);
        match &self.rule {
            Ok(rule) => rule.merge(given, exact),
            Err(end) => exact.copy_from_slice(given.inputs[*end]),
        }
        let mut largest = 0;
        put(self.place(given.start, given.len()), &mut |from, out| {
            let part = from / self.dtype.size()..(from + out.len()) / self.dtype.size();
            largest = self.round(given, part.start, &exact[part.clone()], out).max(largest);
            if self.track.is_some() {
                self.dtype.decode(out, &mut written[part]);
            }
            if let Some(hasher) = &mut noted.hasher {
                hasher.update(out);
            }
        })
        .map_err(Failed::Put)?;
        if given.broken.is_none() && largest > self.dtype.largest().to_bits() {
            return Err(Failed::TooLarge);
        }
        if self.track.is_some() {
            let base = given.inputs[given.base.unwrap_or(0)];
            let tuned = match (self.update, given.inputs) {
                (Update::To(tuned), inputs) => inputs[tuned],
                (Update::BetweenTwo, [a, _]) if given.base == Some(1) => a,
                (Update::BetweenTwo, [_, b]) => b,
                _ => exact.as_slice(),
            };
            match given.broken {
                None => noted.sums.add(base, tuned, exact, written),
                Some(_) => noted.sums.add_finite(base, tuned, exact, written),
            }
        }
        Ok(())
    }

    /// Rounds some numbers of a piece, from the `from`th on; returns the largest magnitude as
    /// [`Dtype::encode`] does.
    fn round(&self, given: &Given<'_>, from: usize, exact: &[f32], out: &mut [u8]) -> u32 {
        match self.rounding {
            Rounding::Nearest => self.dtype.encode(exact, out),
            Rounding::Stochastic { seed } => {
                let mut rng = seed::rng(seed, &format!("rounding {}", given.name));
                rng.set_word_pos((given.start + from) as u128);
                self.dtype.encode_stochastic(exact, || rng.next_u32(), out);
                dtype::largest(exact)
            }
        }
    }
}

pub(super) fn n_not_finite(x: &[f32]) -> u64 {
    x.iter().filter(|x| !x.is_finite()).count() as u64
}
