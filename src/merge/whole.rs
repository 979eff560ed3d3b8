//! One weight of every input, as a whole: what a method may look at before it merges a piece.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::Given;
use crate::recipe::Helper;
use crate::snapshot::{Dtype, Near, Numbers, SharedWeights};

/// Numbers of a piece: few enough for the processor's nearest memory. A longer row is one piece.
const PIECE: usize = 1 << 13;
/// Numbers that are fetched from a file at once, in whole pieces: few enough for its second nearest.
const WINDOW: usize = 1 << 17;
/// Numbers of a block, which one thread works on at a time; a sum is made block by block.
const BLOCK: usize = 1 << 18;
/// Numbers of sums that are kept until they are added up, in the order of their blocks.
const WAITING: usize = 1 << 20;

/// Room for a piece of every input, used again from one to the next.
#[derive(Default)]
pub struct Room {
    windows: Vec<Vec<u8>>,
    pieces: Vec<Vec<f32>>,
}

/// One weight of every input, read piece by piece.
pub struct Whole<'a> {
    /// The weight's name in the result; it keys random choices.
    pub name: &'a str,
    /// Numbers per row: the weight's last dimension.
    pub columns: usize,
    /// How many numbers the weight has.
    pub len: usize,
    /// Each input's numbers, all equally many.
    pub inputs: &'a [Numbers<'a>],
    /// For a method that goes by it, how much each number of each input matters.
    pub importance: &'a [Numbers<'a>],
    /// Which input is the base.
    pub base: Option<usize>,
    /// Whether it has two dimensions.
    pub is_matrix: bool,
    /// Of a method that chooses matrices, whether this is one that it changes; absent of other weights.
    pub chosen: Option<bool>,
    /// What is kept where chance would decide.
    pub masks: Option<&'a Masks>,
}

/// Masks by what they are for, under the names of weights: 1 is kept, 0 is not.
pub type Masks = BTreeMap<Helper, SharedWeights>;

impl<'a> Whole<'a> {
    /// A matrix of these inputs without a base.
    pub fn new(name: &'a str, columns: usize, len: usize, inputs: &'a [Numbers<'a>]) -> Self {
        let (importance, masks) = (&[], None);
        Self { name, columns, len, inputs, importance, base: None, is_matrix: true, chosen: None, masks }
    }

    /// What a mask says of an array of this name, if it is given and has it.
    pub fn mask(&self, mask: Helper, name: &str) -> Option<Numbers<'a>> {
        self.masks?.get(&mask)?.numbers(name).ok()
    }
}

impl Whole<'_> {
    /// Numbers in each piece but the last: whole rows.
    pub fn piece_len(&self) -> usize {
        let columns = self.columns.max(1);
        columns * (PIECE / columns).max(1)
    }

    /// Numbers in each block but the last: whole pieces.
    pub fn block_len(&self) -> usize {
        let piece = self.piece_len();
        piece * (BLOCK / piece).max(1)
    }

    pub fn n_blocks(&self) -> usize {
        self.len.div_ceil(self.block_len())
    }

    /// Shows every piece of a block in order, read into `room`.
    ///
    /// # Errors
    ///
    /// The first that `look` returns.
    pub fn pieces<E>(
        &self,
        block: usize,
        room: &mut Room,
        mut look: impl FnMut(&Given<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.unread(block, room, |mut piece| piece.read(&mut look))
    }

    /// Shows every piece of a block in order, not yet read.
    ///
    /// # Errors
    ///
    /// The first that `look` returns.
    pub fn unread<E>(
        &self,
        block: usize,
        room: &mut Room,
        mut look: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (piece, from) = (self.piece_len(), block * self.block_len());
        let to = (from + self.block_len()).min(self.len);
        let window = piece * (WINDOW / piece).max(1);
        (from..to).step_by(window).try_for_each(|at| self.window(at, window.min(to - at), room, &mut look))
    }

    /// Brings `len` numbers of every input near and shows them piece by piece.
    fn window<E>(
        &self,
        start: usize,
        len: usize,
        room: &mut Room,
        look: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let all = || self.inputs.iter().chain(self.importance);
        let Room { windows, pieces } = room;
        windows.resize(all().count(), Vec::new());
        pieces.resize(all().count(), Vec::new());
        let near = all().zip(windows).map(|(numbers, window)| numbers.near(start, len, window));
        let near: Vec<Near> = near.collect();
        (0..len).step_by(self.piece_len()).try_for_each(|from| {
            let to = len.min(from + self.piece_len());
            look(Piece { whole: self, start: start + from, part: from..to, near: &near, room: pieces })
        })
    }

    /// Looks at some runs of numbers, spread evenly: at about `n` numbers, or at all.
    pub fn sample(&self, n: usize, run: usize, mut look: impl FnMut(&Given<'_>)) {
        let (run, n_runs) = (run.min(self.len), self.len.div_ceil(run));
        let n_looked = (n / run).clamp(1, n_runs);
        let mut room = Room::default();
        for nth in 0..n_looked {
            let start = nth * n_runs / n_looked * run;
            let n = run.min(self.len - start);
            let _: Result<(), ()> = self.window(start, n, &mut room, &mut |mut piece| {
                piece.read(&mut look);
                Ok(())
            });
        }
    }

    /// What `look` finds in every piece, in the order of the pieces.
    pub fn map<T: Send>(&self, look: impl Fn(&Given<'_>) -> T + Sync) -> Vec<T> {
        let block = |room: &mut Room, block: usize| {
            let mut found = Vec::new();
            let _: Result<(), ()> = self.pieces(block, room, |given| {
                found.push(look(given));
                Ok(())
            });
            found
        };
        (0..self.n_blocks()).into_par_iter().map_init(Room::default, block).flatten_iter().collect()
    }

    /// Sums over all pieces, added up in the order of the pieces whatever the number of threads.
    pub fn sums(&self, n: usize, add: impl Fn(&Given<'_>, &mut [f64]) + Sync) -> Vec<f64> {
        self.sums_of_unread(n, |piece, sums| piece.read(|given| add(given, sums)))
    }

    /// As [`Self::sums`], of pieces that are not yet read.
    pub fn sums_of_unread(&self, n: usize, add: impl Fn(&mut Piece<'_>, &mut [f64]) + Sync) -> Vec<f64> {
        let mut total = vec![0.0; n];
        let blocks: Vec<usize> = (0..self.n_blocks()).collect();
        let waiting = (WAITING / n.max(1)).min(64).max(rayon::current_num_threads());
        for some in blocks.chunks(waiting) {
            let block = |room: &mut Room, block: &usize| {
                let mut sums = vec![0.0; n];
                let _: Result<(), ()> = self.unread(*block, room, |mut piece| {
                    add(&mut piece, &mut sums);
                    Ok(())
                });
                sums
            };
            for sums in some.par_iter().map_init(Room::default, block).collect::<Vec<_>>() {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
        total
    }

    /// Counts over all pieces: whole numbers, for which order does not matter.
    pub fn counts(&self, n: usize, count: impl Fn(&Given<'_>, &mut [u64]) + Sync) -> Vec<u64> {
        let n_blocks = self.n_blocks();
        let n_lanes = rayon::current_num_threads().min(n_blocks).max(1);
        let lane = |lane: usize| {
            let (mut counts, mut room) = (vec![0; n], Room::default());
            for block in (n_blocks * lane / n_lanes)..(n_blocks * (lane + 1) / n_lanes) {
                let _: Result<(), ()> = self.pieces(block, &mut room, |given| {
                    count(given, &mut counts);
                    Ok(())
                });
            }
            counts
        };
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        (0..n_lanes).into_par_iter().map(lane).reduce(|| vec![0; n], add)
    }
}

/// A piece of one weight of every input, not yet read.
pub struct Piece<'p> {
    whole: &'p Whole<'p>,
    /// Where it begins in the weight, in numbers.
    pub start: usize,
    /// Which of the numbers that are near.
    part: Range<usize>,
    near: &'p [Near<'p>],
    room: &'p mut [Vec<f32>],
}

impl Piece<'_> {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Reads it, and shows it.
    pub fn read<R>(&mut self, look: impl FnOnce(&Given<'_>) -> R) -> R {
        let mut broken = None;
        for (nth, (near, read)) in self.near.iter().zip(&mut *self.room).enumerate() {
            read.resize(self.part.len(), 0.0);
            if near.read(self.part.start, read) > f32::MAX.to_bits() {
                broken = broken.or(Some(nth));
            }
        }
        let Whole { name, columns, base, .. } = *self.whole;
        let read: Vec<&[f32]> = self.room.iter().map(Vec::as_slice).collect();
        let (inputs, importance) = read.split_at(self.whole.inputs.len());
        look(&Given { name, columns, start: self.start, inputs, importance, base, broken })
    }

    /// The bytes of two inputs in one format, if that is what there is.
    pub fn pair(&self, dtype: Dtype) -> Option<[&[u8]; 2]> {
        let [a, b] = self.near else { return None };
        Some([a.bytes(dtype, &self.part)?, b.bytes(dtype, &self.part)?])
    }
}
