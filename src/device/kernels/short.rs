//! Products of numbers in bf16 with sums in f32, on processors with AVX-512 BF16.
//!
//! Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008: both sides are copied into panels
//! that a small kernel reads one after the other, the left one's panel from the nearest cache. A word of a panel is a
//! pair of neighbours of one line, which the processor multiplies at once.

use half::bf16;

use super::product::Side;

/// Whether this processor multiplies pairs of bf16.
pub(super) fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `x Wᵀ` or `x W`, `x` rounded to bf16: to nearest, ties to even.
///
/// # Shapes
///
/// - `x`: `[m, k]`, `weight`: `[n, k]` turned, else `[k, n]`
/// - result: `[m, n]`
///
/// # Panics
///
/// This processor cannot, or the sizes are not those of the slices.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "other processors have no such kernel")
)]
pub(super) fn product(x: &[f32], weight: &[bf16], side: Side, sizes: [usize; 3]) -> Vec<f32> {
    assert!(is_native(), "a processor with AVX-512 BF16");
    #[cfg(target_arch = "x86_64")]
    return native::product(x, weight, side, sizes);
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!()
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, __mmask16, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps,
        _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4,
        _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
        _mm512_unpacklo_epi64,
    };
    use std::mem::transmute;

    use half::bf16;
    use rayon::prelude::*;

    use super::Side;

    /// Rows of a tile of the result: with `COLUMNS`, as many sums as registers hold.
    const ROWS: usize = 12;
    const COLUMNS: usize = 32;
    /// Words of a panel that are multiplied at once: a panel of rows takes half of the nearest cache.
    const DEPTH: usize = 512;
    /// Columns whose panels a core keeps in its own cache.
    const WIDTH: usize = 384;
    /// Words of a cache line, and numbers of a vector.
    const LINE: usize = 16;

    /// Words that begin with a cache line.
    struct Words {
        all: Vec<u32>,
        first: usize,
    }

    impl Words {
        fn zeros(n: usize) -> Self {
            let all = vec![0; n + LINE];
            let first = all.as_ptr().align_offset(LINE * size_of::<u32>());
            Self { all, first }
        }

        fn get(&self) -> &[u32] {
            &self.all[self.first..]
        }

        fn get_mut(&mut self) -> &mut [u32] {
            &mut self.all[self.first..]
        }
    }

    /// The result, of which every task writes columns of its own.
    #[derive(Clone, Copy)]
    struct Result(*mut f32);

    #[expect(unsafe_code, reason = "tasks write to different numbers")]
    // SAFETY: what is written through the pointer lies in the columns of the task.
    unsafe impl Send for Result {}
    #[expect(unsafe_code, reason = "tasks write to different numbers")]
    // SAFETY: as above.
    unsafe impl Sync for Result {}

    pub(super) fn product(x: &[f32], weight: &[bf16], side: Side, [m, k, n]: [usize; 3]) -> Vec<f32> {
        assert_eq!((x.len(), weight.len()), (m * k, k * n), "numbers of a product");
        let mut y = vec![0.0; m * n];
        if m * k * n == 0 {
            return y;
        }
        let depth = k.div_ceil(2);
        let mut rows = Words::zeros(m.div_ceil(ROWS) * depth * ROWS);
        let panels = rows.get_mut().par_chunks_exact_mut(depth * ROWS).zip(x.par_chunks(ROWS * k));
        panels.for_each(|(panel, x)| {
            #[expect(unsafe_code, reason = "instructions that were looked for")]
            // SAFETY: whoever asks for a product has looked for these instructions.
            unsafe {
                pack_rows(x, k, panel);
            }
        });
        let result = Result(y.as_mut_ptr());
        let threads = rayon::current_num_threads();
        let n_tasks = n.div_ceil(WIDTH).next_multiple_of(threads).min(n.div_ceil(COLUMNS));
        let width = n.div_ceil(n_tasks).next_multiple_of(COLUMNS);
        (0..n.div_ceil(width)).into_par_iter().for_each(|i| {
            let task = Task { rows: rows.get(), weight, side, sizes: [m, k, n], result };
            #[expect(unsafe_code, reason = "instructions that were looked for")]
            // SAFETY: as above; the tasks' columns are apart.
            unsafe {
                task.columns(i * width, ((i + 1) * width).min(n));
            }
        });
        y
    }

    /// Some rows of the left side, as pairs: `[depth, ROWS]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack_rows(x: &[f32], k: usize, panel: &mut [u32]) {
        for (r, row) in x.chunks_exact(k).enumerate() {
            let mut pairs = row.chunks_exact(2 * LINE);
            let mut at = 0;
            for pairs in pairs.by_ref() {
                let mut words = [0u32; LINE];
                #[expect(unsafe_code, reason = "a vector of numbers, and one of words")]
                // SAFETY: the slices hold as many.
                unsafe {
                    let (low, high) =
                        (_mm512_loadu_ps(pairs.as_ptr()), _mm512_loadu_ps(pairs[LINE..].as_ptr()));
                    let short = _mm512_cvtne2ps_pbh(high, low);
                    _mm512_storeu_si512(words.as_mut_ptr().cast(), transmute::<__m512bh, __m512i>(short));
                }
                for (i, word) in words.into_iter().enumerate() {
                    panel[(at + i) * ROWS + r] = word;
                }
                at += LINE;
            }
            let rest = pairs.remainder().chunks(2);
            for (i, pair) in rest.enumerate() {
                let bits = |i: usize| u32::from(pair.get(i).map_or(0, |x| bf16::from_f32(*x).to_bits()));
                panel[(at + i) * ROWS + r] = bits(0) | bits(1) << 16;
            }
        }
    }

    struct Task<'a> {
        /// Panels of the left side.
        rows: &'a [u32],
        weight: &'a [bf16],
        side: Side,
        /// `m`, `k` and `n`.
        sizes: [usize; 3],
        result: Result,
    }

    impl Task<'_> {
        /// Writes some columns of the result.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn columns(&self, from: usize, to: usize) {
            let [m, k, n] = self.sizes;
            let all = k.div_ceil(2);
            // Parts of one size: a short one would write the result again for little.
            let most = all.div_ceil(all.div_ceil(DEPTH)).next_multiple_of(LINE);
            let mut packed = Words::zeros(most * (to - from).next_multiple_of(COLUMNS));
            for start in (0..all).step_by(most) {
                let depth = most.min(all - start);
                let packed = packed.get_mut();
                let panels = packed.chunks_exact_mut(depth * COLUMNS);
                for (panel, first) in panels.zip((from..to).step_by(COLUMNS)) {
                    self.pack_columns(first, COLUMNS.min(to - first), start, panel);
                }
                for (i, first_row) in (0..m).step_by(ROWS).enumerate() {
                    let rows = &self.rows[(i * all + start) * ROWS..][..depth * ROWS];
                    let panels = packed.chunks_exact(depth * COLUMNS);
                    for (columns, first) in panels.zip((from..to).step_by(COLUMNS)) {
                        let sums = tile(rows, columns);
                        let wide = COLUMNS.min(to - first);
                        let masks = [lanes(wide), lanes(wide.saturating_sub(LINE))];
                        for (r, sums) in sums.iter().enumerate().take(m - first_row) {
                            let at = self.result.0.wrapping_add((first_row + r) * n + first);
                            for (half, (sum, mask)) in sums.iter().zip(masks).enumerate() {
                                let at = at.wrapping_add(half * LINE);
                                #[expect(unsafe_code, reason = "only this task's numbers are touched")]
                                // SAFETY: the mask holds what lies in the row before column `to`.
                                unsafe {
                                    let mut sum = *sum;
                                    // Memory that was only asked for is not read first: it would be mapped twice.
                                    if start > 0 {
                                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                                    }
                                    _mm512_mask_storeu_ps(at, mask, sum);
                                }
                            }
                        }
                    }
                }
            }
        }

        /// Some columns of the right side, as pairs: `[depth, COLUMNS]`; columns that are not there stay as they are.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn pack_columns(&self, first: usize, width: usize, start: usize, panel: &mut [u32]) {
            let [_, k, n] = self.sizes;
            let words = panel.chunks_exact_mut(COLUMNS);
            let word = |low: bf16, high: bf16| u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
            match self.side {
                Side::AsItLies => {
                    for (words, i) in words.zip(start..) {
                        let low = &self.weight[2 * i * n + first..][..width];
                        if 2 * i + 1 < k {
                            let high = &self.weight[(2 * i + 1) * n + first..][..width];
                            for ((out, low), high) in words.iter_mut().zip(low).zip(high) {
                                *out = word(*low, *high);
                            }
                        } else {
                            words.iter_mut().zip(low).for_each(|(out, low)| *out = word(*low, bf16::ZERO));
                        }
                    }
                }
                Side::Turned => {
                    // Squares of words first, then the columns and pairs that make none.
                    let depth = (panel.len() / COLUMNS).min(k / 2 - start) / LINE * LINE;
                    for column in (0..width / LINE * LINE).step_by(LINE) {
                        let lines = &self.weight[(first + column) * k + 2 * start..];
                        for i in (0..depth).step_by(LINE) {
                            turn_square(&lines[2 * i..], k, &mut panel[i * COLUMNS + column..]);
                        }
                    }
                    for column in 0..width {
                        let begun = if column < width / LINE * LINE { depth } else { 0 };
                        let line = &self.weight[(first + column) * k..][2 * (start + begun)..k];
                        let pairs = line.chunks_exact(2);
                        let rest = pairs.remainder();
                        let n_pairs = begun + pairs.len();
                        let places = panel.iter_mut().skip(begun * COLUMNS + column).step_by(COLUMNS);
                        for (out, pair) in places.zip(pairs) {
                            *out = word(pair[0], pair[1]);
                        }
                        if let ([last], Some(out)) = (rest, panel.get_mut(n_pairs * COLUMNS + column)) {
                            *out = word(*last, bf16::ZERO);
                        }
                    }
                }
            }
        }
    }

    /// Of the quarters of two vectors the first and third, and the second and fourth.
    const OUTER: i32 = 0x88;
    const INNER: i32 = 0xdd;

    /// Lines of words, `step` numbers apart, to columns of a panel: a square of [`LINE`] by as many.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn turn_square(lines: &[bf16], step: usize, panel: &mut [u32]) {
        assert!((LINE - 1) * step + 2 * LINE <= lines.len() && (LINE - 1) * COLUMNS + LINE <= panel.len());
        let mut a = [_mm512_setzero_si512(); LINE];
        for (i, a) in a.iter_mut().enumerate() {
            #[expect(unsafe_code, reason = "a vector of words")]
            // SAFETY: the last line ends within the slice.
            let line = unsafe { _mm512_loadu_si512(lines.as_ptr().add(i * step).cast()) };
            *a = line;
        }
        let mut b = a;
        for i in 0..8 {
            let two = (a[2 * i], a[2 * i + 1]);
            [b[2 * i], b[2 * i + 1]] =
                [_mm512_unpacklo_epi32(two.0, two.1), _mm512_unpackhi_epi32(two.0, two.1)];
        }
        for i in [0, 4, 8, 12] {
            for j in 0..2 {
                let two = (b[i + j], b[i + j + 2]);
                [a[i + 2 * j], a[i + 2 * j + 1]] =
                    [_mm512_unpacklo_epi64(two.0, two.1), _mm512_unpackhi_epi64(two.0, two.1)];
            }
        }
        for i in 0..4 {
            let [low, high] = [(a[i], a[i + 4]), (a[i + 8], a[i + 12])];
            let outer =
                (_mm512_shuffle_i32x4::<OUTER>(low.0, low.1), _mm512_shuffle_i32x4::<OUTER>(high.0, high.1));
            let inner =
                (_mm512_shuffle_i32x4::<INNER>(low.0, low.1), _mm512_shuffle_i32x4::<INNER>(high.0, high.1));
            b[i] = _mm512_shuffle_i32x4::<OUTER>(outer.0, outer.1);
            b[i + 4] = _mm512_shuffle_i32x4::<OUTER>(inner.0, inner.1);
            b[i + 8] = _mm512_shuffle_i32x4::<INNER>(outer.0, outer.1);
            b[i + 12] = _mm512_shuffle_i32x4::<INNER>(inner.0, inner.1);
        }
        for (i, b) in b.into_iter().enumerate() {
            #[expect(unsafe_code, reason = "a vector of words")]
            // SAFETY: the last row ends within the panel.
            unsafe {
                _mm512_storeu_si512(panel.as_mut_ptr().add(i * COLUMNS).cast(), b);
            }
        }
    }

    /// The first `n` lanes, at most all.
    fn lanes(n: usize) -> __mmask16 {
        if n >= LINE { !0 } else { (1 << n) - 1 }
    }

    /// The sums of a panel of rows with one of columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn tile(rows: &[u32], columns: &[u32]) -> [[__m512; 2]; ROWS] {
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
        sums
    }
}
