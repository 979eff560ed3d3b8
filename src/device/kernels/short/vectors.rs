//! The small kernel on vectors: AVX-512 BF16.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};
use std::mem::{MaybeUninit, transmute};

use super::panels::{COLUMNS, LINE, lines};

/// Rows of a panel of the left side: with [`COLUMNS`], as many sums as registers hold.
pub(super) const ROWS: usize = 12;
/// Words of a panel that are multiplied at once: a panel of rows takes half of the nearest cache.
pub(super) const DEPTH: usize = 512;

/// Some rows of the left side: `[depth, ROWS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(x: &[f32], k: usize, panel: &mut [MaybeUninit<u32>]) {
    lines(x, k, ROWS, |r, i, [line]| {
        for (word, place) in line.iter().zip(panel[i * LINE * ROWS + r..].iter_mut().step_by(ROWS)) {
            place.write(*word);
        }
    });
}

/// The sums of a panel of rows with one of columns: `[ROWS, COLUMNS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn multiply(rows: &[u32], columns: &[u32], out: &mut [f32]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (rows, _) = rows.as_chunks::<ROWS>();
    let (columns, _) = columns.as_chunks::<COLUMNS>();
    for (rows, columns) in rows.iter().zip(columns) {
        #[expect(unsafe_code, reason = "vectors of words, seen as pairs")]
        // SAFETY: the array holds two vectors and begins with a cache line, as its panel does; words and pairs are
        // 512 bits of anything.
        unsafe {
            let at = columns.as_ptr();
            let first = transmute::<__m512i, __m512bh>(_mm512_load_si512(at.cast()));
            let second = transmute::<__m512i, __m512bh>(_mm512_load_si512(at.add(LINE).cast()));
            // Counted, so that the sums stay in registers.
            for r in 0..ROWS {
                let row = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(rows[r].cast_signed()));
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], row, first);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], row, second);
            }
        }
    }
    for (out, sum) in out.chunks_exact_mut(LINE).zip(sums.into_iter().flatten()) {
        #[expect(unsafe_code, reason = "a vector of sums")]
        // SAFETY: the slice is as long as a vector.
        unsafe {
            _mm512_storeu_ps(out.as_mut_ptr(), sum);
        }
    }
}
