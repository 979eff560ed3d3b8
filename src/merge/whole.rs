//! One weight of every input, as a whole: what a method may look at before it merges a piece.

use rayon::prelude::*;

use super::Given;
use crate::simd::vectorised;
use crate::snapshot::Numbers;

/// Numbers of a piece: few enough for the processor's nearest memory. A longer row is one piece.
const PIECE: usize = 1 << 13;
/// Numbers of a block, which one thread works on at a time; a sum is made block by block.
const BLOCK: usize = 1 << 18;
/// Numbers of sums that are kept until they are added up, in the order of their blocks.
const WAITING: usize = 1 << 20;

/// Room for a piece of every input, used again from one to the next.
#[derive(Default)]
pub struct Room(Vec<Vec<f32>>);

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
        let (piece, from) = (self.piece_len(), block * self.block_len());
        let to = (from + self.block_len()).min(self.len);
        for start in (from..to).step_by(piece) {
            self.show(start, piece.min(to - start), room, &mut look)?;
        }
        Ok(())
    }

    /// Shows `n` numbers of every input.
    fn show<E>(
        &self,
        start: usize,
        n: usize,
        room: &mut Room,
        look: &mut impl FnMut(&Given<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut broken = None;
        room.0.resize(self.inputs.len() + self.importance.len(), Vec::new());
        for (nth, numbers) in self.inputs.iter().chain(self.importance).enumerate() {
            let buffer = &mut room.0[nth];
            buffer.resize(n, 0.0);
            if numbers.read(start, buffer) > f32::MAX.to_bits() {
                broken = broken.or(Some(nth));
            }
        }
        let read: Vec<&[f32]> = room.0.iter().map(Vec::as_slice).collect();
        let (inputs, importance) = read.split_at(self.inputs.len());
        let Self { name, columns, base, .. } = *self;
        look(&Given { name, columns, start, inputs, importance, base, broken })
    }

    /// Looks at some runs of numbers, spread evenly: at about `n` numbers, or at all.
    pub fn sample(&self, n: usize, run: usize, mut look: impl FnMut(&Given<'_>)) {
        let (run, n_runs) = (run.min(self.len), self.len.div_ceil(run));
        let n_looked = (n / run).clamp(1, n_runs);
        let mut room = Room::default();
        for nth in 0..n_looked {
            let start = nth * n_runs / n_looked * run;
            let _: Result<(), ()> = self.show(start, run.min(self.len - start), &mut room, &mut |given| {
                look(given);
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
        let mut total = vec![0.0; n];
        let blocks: Vec<usize> = (0..self.n_blocks()).collect();
        let waiting = (WAITING / n.max(1)).min(64).max(rayon::current_num_threads());
        for some in blocks.chunks(waiting) {
            let block = |room: &mut Room, block: &usize| {
                let mut sums = vec![0.0; n];
                let _: Result<(), ()> = self.pieces(*block, room, |given| {
                    add(given, &mut sums);
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

    /// The inner products of all inputs with each other, row by row of a symmetric matrix; of the
    /// updates if `of_updates`, the base left out.
    pub fn products(&self, of_updates: bool) -> Vec<Vec<f64>> {
        let k = self.inputs.len() - usize::from(of_updates);
        let sums = self.sums(k * k, |given, sums| {
            let updates = if of_updates { given.updates() } else { Vec::new() };
            let vectors: Vec<&[f32]> = match of_updates {
                true => updates.iter().map(Vec::as_slice).collect(),
                false => given.inputs.to_vec(),
            };
            for (i, a) in vectors.iter().enumerate() {
                for (j, b) in vectors.iter().enumerate().skip(i) {
                    sums[i * k + j] += dot(a, b);
                }
            }
        });
        (0..k).map(|i| (0..k).map(|j| sums[i.min(j) * k + i.max(j)]).collect()).collect()
    }
}

vectorised! {
    /// The inner product, summed in f64 in a fixed order.
    pub fn dot<'a>(a: &'a [f32], b: &'a [f32]) -> f64 {
        // Independent running sums that the processor can overlap, always the same ones.
        let mut sums = [0.0f64; 16];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..16 {
                sums[i] = f64::from(a[i]).mul_add(f64::from(b[i]), sums[i]);
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        sums.iter().sum::<f64>() + rest
    }

    /// The sum of magnitudes, in f64 in a fixed order.
    pub fn l1<'a>(x: &'a [f32]) -> f64 {
        let mut sums = [0.0f64; 16];
        let (x, rest) = x.as_chunks::<16>();
        for x in x {
            for i in 0..16 {
                sums[i] += f64::from(x[i].abs());
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|x| f64::from(x.abs())).sum::<f64>()
    }
}
