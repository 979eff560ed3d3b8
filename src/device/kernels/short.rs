//! Products of numbers in bf16 with sums in f32, on processors with AVX-512 BF16, and faster with AMX.
//!
//! Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008: both sides are copied into panels
//! that a small kernel reads one after the other, the left one's panel from the nearest cache. A word of a panel is a
//! pair of neighbours of one line, which the processor multiplies at once.

use half::bf16;

use super::product::Side;

#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod panels;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vectors;

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
    return blocks::product(x, weight, side, sizes);
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!()
}
