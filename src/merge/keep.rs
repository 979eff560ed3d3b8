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
    /// Of the array `name` that belongs to a weight: what a given mask keeps of it, which is all if it does not have the
    /// name; without a mask each number with the chance `density`.
    pub fn new(whole: &Whole<'w>, mask: Helper, name: String, (density, seed): (f64, u64)) -> Self {
        let is_given = whole.masks.is_some_and(|masks| masks.contains_key(&mask));
        let density = if is_given { 1.0 } else { density as f32 };
        Self { mask: whole.mask(mask, &name), density, seed, name: format!("{mask} {name}") }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Keep;
    use crate::merge::Whole;
    use crate::merge::whole::Masks;
    use crate::recipe::Helper;
    use crate::snapshot::{Numbers, Weight, WeightFiles};

    #[test]
    fn what_a_given_mask_does_not_name_is_kept_whatever_the_density() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.safetensors");
        let mask: Vec<u8> = [1.0f32, 0.0, 1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &mask).unwrap();
        safetensors::serialize_to_file([("w", view)], None, &path).unwrap();
        let masks = Masks::from([(Helper::Mask, Arc::new(WeightFiles::open_file(&path).unwrap()) as _)]);
        let inputs = [Numbers::Stored(Weight::from_f32(vec![2, 2], &[0.0; 4]))];
        let whole = Whole { masks: Some(&masks), ..Whole::new("w", 2, 4, &inputs) };
        let kept = |name: &str| Keep::new(&whole, Helper::Mask, name.to_owned(), (0.001, 3)).kept(0, 4);
        assert_eq!(kept("w"), [true, false, true, false]);
        assert_eq!(kept("another"), [true; 4]);
        let drawn = Whole { masks: None, ..Whole::new("w", 2, 4, &inputs) };
        assert_eq!(Keep::new(&drawn, Helper::Mask, "w".to_owned(), (0.001, 3)).kept(0, 4), [false; 4]);
    }
}
