//! Both sides of a product as the kernels read them: pairs of bf16 in words, lines of words one after the other.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _CMP_LT_OQ, _MM_HINT_T0, _mm_prefetch, _mm512_abs_ps,
    _mm512_cmp_ps_mask, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_cvtpbh_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_ps, _mm512_maskz_sub_ps, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::mem::{MaybeUninit, transmute};
use std::ops::Range;

use half::bf16;

use super::super::product::Side;

/// Words of a cache line, and numbers of a vector.
pub(super) const LINE: usize = 16;
/// Columns of a panel of the right side.
pub(super) const COLUMNS: usize = 32;

/// Pairs of lines that are asked for before they are read.
const SOON: usize = 4;

/// Words that begin with a cache line; clearing them would take a tenth of a step.
pub(super) struct Words {
    all: Vec<MaybeUninit<u32>>,
    first: usize,
}

impl Words {
    pub(super) fn new(n: usize) -> Self {
        let mut all = Vec::with_capacity(n + LINE);
        all.resize_with(n + LINE, MaybeUninit::uninit);
        let first = all.as_ptr().align_offset(LINE * size_of::<u32>());
        Self { all, first }
    }

    pub(super) fn get_mut(&mut self) -> &mut [MaybeUninit<u32>] {
        &mut self.all[self.first..]
    }
}

/// Asks for a cache line that will be read soon. Weights come from far, a few lines at each place: the processor does
/// not see by itself what is next.
fn ask_for(line: Option<&bf16>) {
    let line = line.map_or(std::ptr::null(), std::ptr::from_ref);
    #[expect(unsafe_code, reason = "an instruction that reads no memory")]
    // SAFETY: any address may be asked for.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

/// The first `n` lanes, at most all.
pub(super) fn lanes(n: usize) -> __mmask16 {
    if n >= LINE { !0 } else { (1 << n) - 1 }
}

/// Rows of the left side, `k` numbers each, as `PARTS` numbers in bf16 of which each is what the ones before it leave,
/// rounded: `put` gets a row's number, the number of a line in it, and the line of each part. Rows up to `n_rows` that
/// are not there are zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn lines<const PARTS: usize>(
    x: &[f32],
    k: usize,
    n_rows: usize,
    mut put: impl FnMut(usize, usize, &[[u32; LINE]; PARTS]),
) {
    let mut rows = x.chunks_exact(k);
    for r in 0..n_rows {
        let row = rows.next().unwrap_or_default();
        for i in 0..k.div_ceil(2 * LINE) {
            let mut parts = [[0u32; LINE]; PARTS];
            let numbers = row.get(2 * LINE * i..).unwrap_or_default();
            let (low, high) = numbers.split_at(LINE.min(numbers.len()));
            #[expect(unsafe_code, reason = "vectors of numbers, and one of words")]
            // SAFETY: the masks hold what the slices hold, and the line is as long as a vector.
            unsafe {
                let mut low = _mm512_maskz_loadu_ps(lanes(low.len()), low.as_ptr());
                let mut high = _mm512_maskz_loadu_ps(lanes(high.len()), high.as_ptr());
                for part in &mut parts {
                    let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                    _mm512_storeu_si512(part.as_mut_ptr().cast(), pairs);
                    if PARTS > 1 {
                        (low, high) = (left(low), left(high));
                    }
                }
            }
            put(r, i, &parts);
        }
    }
}

/// What rounding to bf16 leaves of numbers: nothing of those that are infinite or become so.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn left(x: __m512) -> __m512 {
    let rounded = _mm512_cvtpbh_ps(_mm512_cvtneps_pbh(x));
    let finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(rounded), _mm512_set1_ps(f32::INFINITY));
    _mm512_maskz_sub_ps(finite, x, rounded)
}

/// The right side of a product.
pub(super) struct Right<'a> {
    pub(super) weight: &'a [bf16],
    pub(super) side: Side,
    /// Numbers that are summed.
    pub(super) k: usize,
    /// Columns of the result.
    pub(super) n: usize,
}

impl Right<'_> {
    /// Columns `from..to` from word `start` on, as panels `[depth, COLUMNS]`: zero where there is no column or pair.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) fn pack(
        &self,
        [from, to]: [usize; 2],
        start: usize,
        depth: usize,
        panels: &mut [MaybeUninit<u32>],
    ) {
        let there = depth.min(self.k.div_ceil(2) - start);
        for panel in panels.chunks_exact_mut(depth * COLUMNS) {
            panel[there * COLUMNS..].fill(MaybeUninit::new(0));
        }
        if !(to - from).is_multiple_of(COLUMNS)
            && let Some(last) = panels.chunks_exact_mut(depth * COLUMNS).next_back()
        {
            last.fill(MaybeUninit::new(0));
        }
        match self.side {
            Side::AsItLies => self.pack_lying([from, to], start..start + there, depth, panels),
            Side::Turned => {
                for (panel, first) in
                    panels.chunks_exact_mut(depth * COLUMNS).zip((from..to).step_by(COLUMNS))
                {
                    self.pack_turned(first, COLUMNS.min(to - first), start, &mut panel[..there * COLUMNS]);
                }
            }
        }
    }

    /// Line after line, so that memory is read as it lies.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack_lying(
        &self,
        [from, to]: [usize; 2],
        pairs: Range<usize>,
        depth: usize,
        panels: &mut [MaybeUninit<u32>],
    ) {
        let &Self { weight, k, n, .. } = self;
        for (i, pair) in pairs.enumerate() {
            let line = |i: usize| &weight[i * n + from..i * n + to];
            for soon in [2 * (pair + SOON), 2 * (pair + SOON) + 1] {
                (from..to).step_by(2 * LINE).for_each(|column| ask_for(weight.get(soon * n + column)));
            }
            let (low, high) = (line(2 * pair), (2 * pair + 1 < k).then(|| line(2 * pair + 1)));
            let panels = panels.chunks_exact_mut(depth * COLUMNS);
            for (j, (panel, low)) in panels.zip(low.chunks(COLUMNS)).enumerate() {
                let words = panel[i * COLUMNS..][..COLUMNS].iter_mut();
                match high {
                    Some(high) => {
                        let both = low.iter().zip(&high[j * COLUMNS..]);
                        words.zip(both).for_each(|(out, (low, high))| _ = out.write(word(*low, *high)));
                    }
                    None => words.zip(low).for_each(|(out, low)| _ = out.write(word(*low, bf16::ZERO))),
                }
            }
        }
    }

    /// Squares of words first, then the columns and pairs that make none.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack_turned(&self, first: usize, width: usize, start: usize, panel: &mut [MaybeUninit<u32>]) {
        let &Self { weight, k, .. } = self;
        let depth = (panel.len() / COLUMNS).min(k / 2 - start) / LINE * LINE;
        for column in (0..width / LINE * LINE).step_by(LINE) {
            let lines = &weight[(first + column) * k + 2 * start..];
            for i in (0..depth).step_by(LINE) {
                (0..LINE).for_each(|line| ask_for(lines.get(line * k + 2 * (i + 2 * LINE))));
                turn_square(&lines[2 * i..], k, &mut panel[i * COLUMNS + column..]);
            }
        }
        for column in 0..width {
            let begun = if column < width / LINE * LINE { depth } else { 0 };
            let line = &weight[(first + column) * k..][2 * (start + begun)..k];
            let pairs = line.chunks_exact(2);
            let rest = pairs.remainder();
            let n_pairs = begun + pairs.len();
            let places = panel.iter_mut().skip(begun * COLUMNS + column).step_by(COLUMNS);
            for (out, pair) in places.zip(pairs) {
                out.write(word(pair[0], pair[1]));
            }
            if let ([last], Some(out)) = (rest, panel.get_mut(n_pairs * COLUMNS + column)) {
                out.write(word(*last, bf16::ZERO));
            }
        }
    }
}

fn word(low: bf16, high: bf16) -> u32 {
    u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16
}

/// Of the quarters of two vectors the first and third, and the second and fourth.
const OUTER: i32 = 0x88;
const INNER: i32 = 0xdd;

/// Lines of words, `step` numbers apart, to columns of a panel: a square of [`LINE`] by as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn turn_square(lines: &[bf16], step: usize, panel: &mut [MaybeUninit<u32>]) {
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
        [b[2 * i], b[2 * i + 1]] = [_mm512_unpacklo_epi32(two.0, two.1), _mm512_unpackhi_epi32(two.0, two.1)];
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
