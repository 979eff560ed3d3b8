//! Where the tokens of a batch sit and which of them each may see.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::device::kernels::Spans;

/// What a key that must not be seen adds to its score: enough to vanish, finite in every format.
const UNSEEN: f32 = -1e30;

/// Where new tokens stand behind those seen before.
#[derive(Debug, Clone)]
pub struct Positions(Layout);

#[derive(Debug, Clone)]
enum Layout {
    /// Every row: a prefix that all rows have, padding, tokens seen before, then `t` new ones.
    Rows {
        prefix: usize,
        /// Padding tokens of each row, or one number for all rows.
        padding: Vec<usize>,
        /// Slots filled before these tokens, prefix and padding included.
        seen: usize,
        t: usize,
    },
    /// Rows of `t` tokens: documents of these lengths one behind the other, then padding.
    Documents { t: usize, rows: Vec<Vec<usize>> },
    /// Rows that split: new tokens behind `seen` old ones, each on a branch; padding at the end.
    Branches { seen: usize, t: usize, rows: Vec<Vec<Branched>> },
}

/// A token of a row that splits into branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branched {
    pub position: usize,
    /// 0 is the trunk, which every branch sees; no branch sees another.
    pub branch: usize,
}

impl Positions {
    /// Right-padded rows from position 0: every token sees itself and what lies before it.
    /// Padding comes after every real token, so no padding mask is needed.
    pub fn causal(t: usize) -> Self {
        Self::left_padded(0, &[0], 0, t)
    }

    /// Rows of a batch that generates: `t` new tokens after `seen` filled slots, the first `prefix` of
    /// which hold the same tokens in every row.
    ///
    /// `padding[row]` is the number of padding tokens between the prefix and the row's own tokens.
    pub fn left_padded(prefix: usize, padding: &[usize], seen: usize, t: usize) -> Self {
        Self(Layout::Rows { prefix, padding: padding.to_vec(), seen, t })
    }

    /// Rows of `t` tokens that hold documents of these lengths one behind the other: each begins at position 0 and sees
    /// itself only. What is left of a row is padding.
    pub fn documents(t: usize, rows: Vec<Vec<usize>>) -> Self {
        Self(Layout::Documents { t, rows })
    }

    /// Rows of at most `t` new tokens after `seen` old ones that all rows have; `rows` says where each
    /// token stands, and shorter rows are padded at their end.
    pub fn branched(seen: usize, t: usize, rows: Vec<Vec<Branched>>) -> Self {
        Self(Layout::Branches { seen, t, rows })
    }

    /// `[b or 1, t]`: the position of every token, text after text in each row; padding is anywhere.
    pub(super) fn of_tokens(&self) -> Vec<Vec<Vec<usize>>> {
        let rows: Vec<Vec<usize>> = match &self.0 {
            Layout::Documents { t, rows } => {
                let lens =
                    |row: &Vec<usize>| row.iter().copied().chain([t - row.iter().sum::<usize>()]).collect();
                let texts = |row: &Vec<usize>| {
                    let lens: Vec<usize> = lens(row);
                    lens.into_iter().map(|len| (0..len).collect()).collect()
                };
                return rows.iter().map(texts).collect();
            }
            Layout::Rows { padding, seen, t, .. } => {
                let slots = *seen..seen + t;
                padding
                    .iter()
                    .map(|pad| slots.clone().map(|slot| slot.saturating_sub(*pad)).collect())
                    .collect()
            }
            Layout::Branches { t, rows, .. } => {
                let row = |row: &Vec<Branched>| {
                    let tokens = row.iter().map(|token| token.position);
                    tokens.chain(std::iter::repeat(0)).take(*t).collect()
                };
                rows.iter().map(row).collect()
            }
        };
        rows.into_iter().map(|row| vec![row]).collect()
    }

    /// The first key that each token sees, if it sees all from there to itself and nothing was seen before.
    pub(super) fn spans(&self, window: Option<usize>) -> Option<Spans> {
        let reach = window.unwrap_or(usize::MAX);
        // A padding token sees itself.
        let first = |start: usize, slot: usize| start.max((slot + 1).saturating_sub(reach)).min(slot) as u32;
        let first: Vec<u32> = match &self.0 {
            Layout::Rows { prefix: 0, padding, seen: 0, t } => {
                padding.iter().flat_map(|pad| (0..*t).map(|slot| first(*pad, slot))).collect()
            }
            Layout::Documents { t, rows } => {
                let of_row = |row: &Vec<usize>| {
                    let starts = starts(row, *t).into_iter().enumerate();
                    starts.map(|(slot, start)| first(start, slot)).collect::<Vec<u32>>()
                };
                rows.iter().flat_map(of_row).collect()
            }
            Layout::Rows { .. } | Layout::Branches { .. } => return None,
        };
        Some(Spans { first: Arc::new(first) })
    }

    /// What is added to the scores, `[b or 1, 1, t, s]`: 0 where a key may be seen and very negative
    /// elsewhere. A token sees itself and what came before it, in a `window` only the last so many.
    ///
    /// `None` if every token sees everything.
    pub(super) fn mask(&self, window: Option<usize>, device: &Device) -> Option<Tensor<4>> {
        let (b, t, seen) = match &self.0 {
            Layout::Rows { padding, seen, t, .. } => (padding.len(), *t, *seen),
            Layout::Documents { t, rows } => (rows.len(), *t, 0),
            Layout::Branches { seen, t, rows } => (rows.len(), *t, *seen),
        };
        let s = seen + t;
        let reach = window.unwrap_or(usize::MAX);
        let mut mask = vec![UNSEEN; b * t * s];
        match &self.0 {
            Layout::Rows { prefix, padding, .. } => {
                if t == 1 && s <= reach && padding.iter().all(|pad| *pad == 0) {
                    return None;
                }
                for (nth, line) in mask.chunks_mut(s).enumerate() {
                    let (pad, slot) = (padding[nth / t], seen + nth % t);
                    // A padding token sees itself, or its row of shares would be of nothing at all.
                    let first = (prefix + pad).max((slot + 1).saturating_sub(reach)).min(slot);
                    line[first..=slot].fill(0.0);
                    let first = (slot + 1).saturating_sub(reach.saturating_add(pad));
                    line[first.min(*prefix)..*prefix].fill(0.0);
                }
            }
            Layout::Documents { t, rows } => {
                for (mask, row) in mask.chunks_mut(t * s).zip(rows) {
                    for ((slot, line), start) in mask.chunks_mut(s).enumerate().zip(starts(row, *t)) {
                        line[start.max((slot + 1).saturating_sub(reach)).min(slot)..=slot].fill(0.0);
                    }
                }
            }
            Layout::Branches { rows, .. } => {
                for (nth, line) in mask.chunks_mut(s).enumerate() {
                    let (row, slot) = (&rows[nth / t], nth % t);
                    line[seen + slot] = 0.0;
                    let Some(token) = row.get(slot) else { continue };
                    let first = (token.position + 1).saturating_sub(reach);
                    line[first.min(seen)..seen].fill(0.0);
                    for (other, seen) in row[..slot].iter().zip(&mut line[seen..]) {
                        let visible = other.branch == 0 || other.branch == token.branch;
                        if visible && other.position >= first {
                            *seen = 0.0;
                        }
                    }
                }
            }
        }
        Some(Tensor::from_data(TensorData::new(mask, [b, 1, t, s]), device))
    }
}

/// Where the document of each of a row's `t` tokens begins; padding is one more document.
fn starts(row: &[usize], t: usize) -> Vec<usize> {
    let mut starts = Vec::with_capacity(t);
    for len in row.iter().copied().chain([t]) {
        let start = starts.len();
        starts.resize((start + len).min(t), start);
    }
    starts
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
        assert_eq!(seen(&Positions::left_padded(0, &[0, 2], 3, 1), None), ["####", "..##"]);
        let two = Positions::left_padded(0, &[0, 3], 2, 2);
        assert_eq!(seen(&two, Some(2)), [".##.", "..##", "..#.", "...#"]);
    }

    #[test]
    fn a_prefix_is_seen_across_the_padding_behind_it() {
        let positions = Positions::left_padded(2, &[0, 2], 4, 1);
        assert_eq!(seen(&positions, None), ["#####", "##..#"]);
        // Positions 2 and 4, a window of two: the row with padding still reaches the prefix.
        assert_eq!(seen(&positions, Some(2)), ["...##", ".#..#"]);
        assert_eq!(positions.of_tokens(), [[[4]], [[2]]]);
    }

    #[test]
    fn a_branch_sees_the_trunk_and_itself() {
        let at = |position, branch| Branched { position, branch };
        let row = vec![at(1, 0), at(2, 1), at(3, 1), at(2, 2)];
        let positions = Positions::branched(1, 5, vec![row]);
        assert_eq!(seen(&positions, None), ["##....", "###...", "####..", "##..#.", ".....#"]);
        assert_eq!(seen(&positions, Some(2)), ["##....", ".##...", "..##..", ".#..#.", ".....#"]);
    }

    #[test]
    fn a_single_token_that_sees_everything_needs_no_mask() {
        let device = Device::flex();
        assert!(Positions::left_padded(0, &[0, 0], 5, 1).mask(Some(6), &device).is_none());
        assert!(Positions::left_padded(0, &[0, 0], 5, 1).mask(Some(5), &device).is_some());
        assert_eq!(Positions::left_padded(0, &[0, 2], 3, 2).of_tokens(), [[[3, 4]], [[1, 2]]]);
    }

    #[test]
    fn documents_see_themselves_only_and_begin_anew() {
        let positions = Positions::documents(5, vec![vec![2, 3], vec![3]]);
        let full = ["#....", "##...", "..#..", "..##.", "..###"];
        let padded = ["#....", "##...", "###..", "...#.", "...##"];
        assert_eq!(seen(&positions, None), [full, padded].concat());
        assert_eq!(seen(&positions, Some(2))[4..], ["...##", "#....", "##...", ".##..", "...#.", "...##"]);
        assert_eq!(*positions.spans(Some(2)).unwrap().first, [0, 0, 2, 2, 3, 0, 0, 1, 3, 3]);
        let texts = positions.of_tokens();
        assert_eq!(texts[0], [vec![0, 1], vec![0, 1, 2], vec![]]);
        assert_eq!(texts[1], [vec![0, 1, 2], vec![0, 1]]);
    }
}
