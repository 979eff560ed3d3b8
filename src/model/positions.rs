//! Where the tokens of a batch sit and which of them each may see.

use burn::tensor::{Device, Tensor, TensorData};

/// What a key that must not be seen adds to its score: enough to vanish, finite in every format.
const UNSEEN: f32 = -1e30;

/// The rows of a batch: padding, then tokens seen before, then new ones.
#[derive(Debug, Clone)]
pub struct Positions {
    /// Padding tokens at the start of each row, or one number for all rows.
    padding: Vec<usize>,
    /// Slots filled before these tokens.
    seen: usize,
    /// New tokens of each row.
    t: usize,
}

impl Positions {
    /// Right-padded rows from position 0: every token sees itself and what lies before it.
    /// Padding comes after every real token, so no padding mask is needed.
    pub fn causal(t: usize) -> Self {
        Self { padding: vec![0], seen: 0, t }
    }

    /// Left-padded rows of a batch that generates: `t` new tokens after `seen` old ones.
    ///
    /// `padding[row]` is the number of padding tokens at the row's start.
    pub fn left_padded(padding: &[usize], seen: usize, t: usize) -> Self {
        Self { padding: padding.to_vec(), seen, t }
    }

    /// `[b or 1, t]`: the position of every token; padding is at 0.
    pub(super) fn of_tokens(&self) -> Vec<Vec<usize>> {
        let slots = self.seen..self.seen + self.t;
        self.padding.iter().map(|pad| slots.clone().map(|slot| slot.saturating_sub(*pad)).collect()).collect()
    }

    /// What is added to the scores, `[b or 1, 1, t, s]`: 0 where a key may be seen and very negative
    /// elsewhere. A token sees itself and what came before it, in a `window` only the last so many.
    ///
    /// `None` if every token sees everything.
    pub(super) fn mask(&self, window: Option<usize>, device: &Device) -> Option<Tensor<4>> {
        let (t, s) = (self.t, self.seen + self.t);
        let reach = window.unwrap_or(s);
        if t == 1 && s <= reach && self.padding.iter().all(|pad| *pad == 0) {
            return None;
        }
        let b = self.padding.len();
        let mut mask = vec![UNSEEN; b * t * s];
        for (nth, line) in mask.chunks_mut(s).enumerate() {
            let (pad, slot) = (self.padding[nth / t], self.seen + nth % t);
            // A padding token sees itself, or its row of shares would be of nothing at all.
            let first = pad.max((slot + 1).saturating_sub(reach)).min(slot);
            line[first..=slot].fill(0.0);
        }
        Some(Tensor::from_data(TensorData::new(mask, [b, 1, t, s]), device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which slots each new token sees, row by row.
    fn seen(positions: &Positions, window: Option<usize>) -> Vec<String> {
        let mask = positions.mask(window, &Device::flex()).expect("something is hidden");
        let s = mask.dims()[3];
        let values = mask.try_into_vec_as::<f32>().unwrap();
        values
            .chunks(s)
            .map(|line| line.iter().map(|x| if *x == 0.0 { '#' } else { '.' }).collect())
            .collect()
    }

    #[test]
    fn a_token_sees_itself_and_what_its_window_reaches() {
        assert_eq!(seen(&Positions::causal(3), None), ["#..", "##.", "###"]);
        assert_eq!(seen(&Positions::causal(4), Some(2)), ["#...", "##..", ".##.", "..##"]);
        assert_eq!(seen(&Positions::left_padded(&[0, 2], 3, 1), None), ["####", "..##"]);
        assert_eq!(seen(&Positions::left_padded(&[0, 3], 2, 2), Some(2)), [".##.", "..##", "..#.", "...#"]);
    }

    #[test]
    fn a_single_token_that_sees_everything_needs_no_mask() {
        let device = Device::flex();
        assert!(Positions::left_padded(&[0, 0], 5, 1).mask(Some(6), &device).is_none());
        assert!(Positions::left_padded(&[0, 0], 5, 1).mask(Some(5), &device).is_some());
        assert_eq!(Positions::left_padded(&[0, 2], 3, 2).of_tokens(), [[3, 4], [1, 2]]);
    }
}
