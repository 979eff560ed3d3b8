//! Products with weights in bf16, with sums in f32, on processors with AVX-512 BF16, and faster with AMX.
//!
//! Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008: both sides are copied into panels
//! that a small kernel reads one after the other, the left one's panel from the nearest cache. A word of a panel is a
//! pair of neighbours of one line, which the processor multiplies at once.
//!
//! What is multiplied with the weight is rounded to bf16, or it stays what it is: a number in f32 is the sum of three in
//! bf16, eight of its 24 bits each, and each one's product with the weight is exact in f32 (Henry, Tang and Heinecke,
//! "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019, arXiv
//! 1904.06376). On tiles three products take less time than one of f32 on vectors.

use half::bf16;

use super::product::{Inputs, Side};

#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod panels;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vectors;

/// Whether this processor has instructions that make such products faster than those of f32.
pub(super) fn is_native(inputs: Inputs) -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && (inputs == Inputs::Bf16 || tiles::are_native());
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `x Wᵀ` or `x W`, `x` rounded to what `inputs` says: to nearest, ties to even.
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
pub(super) fn product(x: &[f32], weight: &[bf16], inputs: Inputs, side: Side, sizes: [usize; 3]) -> Vec<f32> {
    assert!(
        is_native(inputs),
        "a processor with AVX-512 BF16, and with AMX for numbers that are not rounded"
    );
    #[cfg(target_arch = "x86_64")]
    return blocks::product(x, weight, inputs, side, sizes);
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!()
}
