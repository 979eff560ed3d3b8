//! Which numbers are kept where chance decides, or a mask that says it instead.

use super::Whole;
use super::select::keep_by_chance;
use crate::recipe::Helper;
use crate::snapshot::Numbers;

/// What of one array is kept.
pub struct Keep<'w> {
    mask: Option<Numbers<'w>>,
    /// The chance of each number, and what draws it.
    density: f32,
    seed: u64,
    name: String,
}

impl<'w> Keep<'w> {
    /// Of the array `name` that belongs to a weight: what the mask has of that name if it is given, else each number
    /// with the chance `density`.
    pub fn new(whole: &Whole<'w>, mask: Helper, name: String, (density, seed): (f64, u64)) -> Self {
        let given = whole.mask(mask, &name);
        Self { mask: given, density: density as f32, seed, name: format!("{mask} {name}") }
    }

    /// Whether all is kept.
    pub fn is_all(&self) -> bool {
        self.mask.is_none() && self.density >= 1.0
    }

    /// Sets to zero what is not kept of numbers that begin at `start`, and multiplies the rest with `scale`.
    pub fn apply(&self, start: usize, scale: f32, x: &mut [f32]) {
        match &self.mask {
            _ if self.is_all() => x.iter_mut().for_each(|x| *x *= scale),
            Some(mask) => {
                let mut kept = vec![0.0; x.len()];
                mask.read(start, &mut kept);
                x.iter_mut().zip(kept).for_each(|(x, kept)| *x *= if kept == 0.0 { 0.0 } else { scale });
            }
            None => keep_by_chance(x, (self.seed, &self.name, start), |_, x| (self.density, x * scale)),
        }
    }

    /// Of which of some numbers that begin at `start` it is kept.
    pub fn kept(&self, start: usize, n: usize) -> Vec<bool> {
        let mut kept = vec![1.0; n];
        self.apply(start, 1.0, &mut kept);
        kept.into_iter().map(|kept| kept != 0.0).collect()
    }
}
