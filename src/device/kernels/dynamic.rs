//! Numbers in 8 bits: a scale for every block of 256, and of each number the code of a table's nearest.
//!
//! Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization", 2022, arXiv 2110.02861:
//! blocks are its section 2.1, the dynamic map its section 2.2. Table, rounding and the smallest scale are those of
//! torchao 0.18, bit for bit.

use std::sync::LazyLock;

use rayon::prelude::*;

/// Numbers that share a scale.
pub const BLOCK: usize = 256;

/// What the codes stand for, rising, of which the last is 1.
pub type Table = [f32; 256];

/// The table of numbers of both signs.
pub static SIGNED: LazyLock<Table> = LazyLock::new(|| table(true));
/// The table of numbers that are never negative: twice as fine.
pub static UNSIGNED: LazyLock<Table> = LazyLock::new(|| table(false));

/// Where every number of a block is smaller, the scale is this.
pub const SMALLEST_SCALE: f32 = 1e-12;

/// The dynamic map: seven powers of ten, the larger of them with the more steps between, 0 and 1.
fn table(signed: bool) -> Table {
    let mut values = vec![0.0, 1.0];
    for nth in 0..7 {
        let power = 10f64.powi(nth - 6) as f32;
        let n = 1 << if signed { nth } else { nth + 1 };
        // The edges of n equal parts of 0.1 to 1, from the nearer end as PyTorch's `linspace` has them.
        let step = (1.0 - 0.1f32) / n as f32;
        let edge = |at: i32| match at < (n + 1) / 2 {
            true => step.mul_add(at as f32, 0.1),
            false => (-step).mul_add((n - at) as f32, 1.0),
        };
        for at in 0..n {
            let value = power * f32::midpoint(edge(at), edge(at + 1));
            values.push(value);
            values.extend(signed.then_some(-value));
        }
    }
    values.sort_by(f32::total_cmp);
    values.try_into().expect("there are 254 steps, 0 and 1")
}

/// Numbers in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// One for each number.
    pub codes: Vec<u8>,
    /// One for each block.
    pub scales: Vec<f32>,
}

impl Codes {
    /// So many zeros, a multiple of [`BLOCK`].
    pub fn zeros(n: usize) -> Self {
        Self { codes: vec![0; n], scales: vec![0.0; n / BLOCK] }
    }

    /// The blocks, each with its scale.
    pub fn blocks_mut(&mut self) -> impl IndexedParallelIterator<Item = (&mut [u8], &mut f32)> {
        self.codes.par_chunks_mut(BLOCK).zip(self.scales.par_iter_mut())
    }

    /// The numbers that they stand for.
    pub fn numbers(&self, table: &Table) -> Vec<f32> {
        let blocks = self.codes.par_chunks(BLOCK).zip(&self.scales);
        blocks
            .flat_map_iter(|(codes, scale)| codes.iter().map(|code| table[usize::from(*code)] * *scale))
            .collect()
    }
}

/// Writes the codes of a block's numbers; returns its scale.
pub fn encode(numbers: &[f32], table: &Table, codes: &mut [u8]) -> f32 {
    let scale = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs())).max(SMALLEST_SCALE);
    for (code, x) in codes.iter_mut().zip(numbers) {
        *code = nearest(x / scale, table);
    }
    scale
}

/// The code of the table's number nearest to `x`; of two as near the higher.
fn nearest(x: f32, table: &Table) -> u8 {
    let mut low = 0;
    for bit in [128, 64, 32, 16, 8, 4, 2, 1] {
        low += if x >= table[low + bit] { bit } else { 0 };
    }
    let high = (low + 1).min(255);
    let is_high = x - table[low] >= (table[high] - table[low]) * 0.5;
    (if is_high { high } else { low }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_rises_from_its_smallest_to_1_and_has_0() {
        for (table, smallest) in [(&*SIGNED, -0.992_968_74), (&*UNSIGNED, 0.0)] {
            assert!(table.is_sorted() && table.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!((table[0], table[255]), (smallest, 1.0));
            assert!(table.contains(&0.0));
        }
    }

    #[test]
    fn what_a_code_stands_for_has_that_code() {
        for table in [&*SIGNED, &*UNSIGNED] {
            for (code, value) in table.iter().enumerate() {
                assert_eq!(usize::from(nearest(*value, table)), code);
            }
        }
    }

    #[test]
    fn a_number_comes_back_as_the_nearest_that_the_table_has() {
        for (table, sign) in [(&*SIGNED, -1.0), (&*UNSIGNED, 1.0)] {
            let numbers: Vec<f32> = (0..512)
                .map(|i| {
                    let size = 10f32.powi(-(i % 9)) * if i < BLOCK as i32 { 1.0 } else { 1e-5 };
                    (1.0 + (i as f32).sin()) * size * if i % 2 == 0 { 1.0 } else { sign }
                })
                .collect();
            let mut found = Codes::zeros(512);
            found.blocks_mut().zip(numbers.par_chunks(BLOCK)).for_each(|((codes, scale), numbers)| {
                *scale = encode(numbers, table, codes);
            });
            for (nth, (found, x)) in found.numbers(table).iter().zip(&numbers).enumerate() {
                let scale =
                    numbers[nth / BLOCK * BLOCK..][..BLOCK].iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let off = |y: f32| (y * scale - x).abs();
                let best = table.iter().map(|y| off(*y)).fold(f32::MAX, f32::min);
                // Two may be as near but for the last bit.
                assert!((found - x).abs() <= best * 1.000_01 + scale * 1e-7, "{nth}: {found} {x}");
            }
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let mut codes = [7; BLOCK];
        let scale = encode(&[0.0; BLOCK], &SIGNED, &mut codes);
        let zeros = Codes { codes: codes.to_vec(), scales: vec![scale] };
        assert_eq!(zeros.numbers(&SIGNED), [0.0; BLOCK]);
    }
}
