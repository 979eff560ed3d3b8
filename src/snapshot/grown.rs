//! A model with more rows in embedding and head than its files have, for tokens that are put beside its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// Weights of which some rows of embedding and head begin anew, at the mean of all the others.
///
/// Hewitt, "Initializing new word embeddings for pretrained language models", 2021: from the mean of the old rows no new
/// token takes more than a share of what the model says, whereas zeros or noise can. Rows that the files have for these
/// tokens, such as padding to a round number, count as new.
pub struct Grown {
    base: SharedWeights,
    /// The new rows.
    rows: BTreeSet<usize>,
    /// The tables by row: embedding and head, where there is one.
    names: BTreeSet<String>,
    infos: BTreeMap<String, WeightInfo>,
}

impl Grown {
    /// `base` with `n_rows` rows in those of the weights `names` that it has, of which `rows` are new.
    pub fn new(base: SharedWeights, names: &[&str], rows: &[u32], n_rows: usize) -> Self {
        let mut infos = base.infos().clone();
        let mut known = BTreeSet::new();
        for name in names {
            if let Some(info) = infos.get_mut(*name).filter(|info| info.shape.len() == 2) {
                info.shape[0] = n_rows;
                known.insert((*name).to_owned());
            }
        }
        Self { base, rows: rows.iter().map(|row| *row as usize).collect(), names: known, infos }
    }
}

impl Weights for Grown {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.base.weight(name)?;
        if !self.names.contains(name) {
            return Ok(weight);
        }
        let (shape, dtype) = (self.infos[name].shape.clone(), weight.info.dtype);
        let mut values = weight.to_f32();
        let width = shape[1];
        let (mut sums, mut n) = (vec![0.0f64; width], 0.0f64);
        for (_, row) in values.chunks(width).enumerate().filter(|(nth, _)| !self.rows.contains(nth)) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            n += 1.0;
        }
        let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / n.max(1.0)) as f32).collect();
        let n_known = values.len() / width;
        values.resize(shape[0] * width, 0.0);
        for row in (0..shape[0]).filter(|row| *row >= n_known || self.rows.contains(row)) {
            values[row * width..(row + 1) * width].copy_from_slice(&mean);
        }
        Ok(Weight::rounded(shape, &values, dtype))
    }
}

/// Weights of which some rows of embedding and head are moved: what an adapter is to linear maps.
pub struct Moved {
    base: SharedWeights,
    rows: Vec<u32>,
    /// By weight, what is added to each of the rows, one after the other.
    updates: BTreeMap<String, Vec<f32>>,
    infos: BTreeMap<String, WeightInfo>,
}

impl Moved {
    /// `base` with each update added to these rows; what is changed is in f32.
    ///
    /// # Errors
    ///
    /// An update is for a weight that the base lacks, or has another size than so many rows of it.
    pub fn new(
        base: SharedWeights,
        rows: Vec<u32>,
        updates: BTreeMap<String, Vec<f32>>,
    ) -> Result<Self, SnapshotError> {
        let mut infos = base.infos().clone();
        for (name, update) in &updates {
            let info = infos.get_mut(name).ok_or_else(|| SnapshotError::MissingWeight {
                name: name.clone(),
                place: "the base".to_owned(),
                help: "the rows were trained on another model".to_owned(),
            })?;
            let width = info.shape.last().copied().unwrap_or(0);
            if update.len() != rows.len() * width {
                let expected = vec![rows.len(), width];
                let found = vec![update.len()];
                return Err(SnapshotError::AdapterShape { name: name.clone(), found, expected });
            }
            info.dtype = super::Dtype::F32;
        }
        Ok(Self { base, rows, updates, infos })
    }
}

impl Weights for Moved {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.base.weight(name)?;
        let Some(update) = self.updates.get(name) else { return Ok(weight) };
        let (shape, mut values) = (weight.info.shape.clone(), weight.to_f32());
        let width = shape[1];
        for (row, update) in self.rows.iter().zip(update.chunks(width)) {
            let start = *row as usize * width;
            values[start..start + width].iter_mut().zip(update).for_each(|(x, more)| *x += more);
        }
        Ok(Weight::from_f32(shape, &values))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Grown, Moved};
    use crate::snapshot::{SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

    /// Weights that are there.
    struct There(BTreeMap<String, WeightInfo>, BTreeMap<String, Vec<f32>>);

    impl There {
        fn of(all: &[(&str, Vec<usize>, &[f32])]) -> SharedWeights {
            let info =
                |shape: &Vec<usize>| Weight::from_f32(shape.clone(), &vec![0.0; shape.iter().product()]).info;
            let infos = all.iter().map(|(name, shape, _)| ((*name).to_owned(), info(shape))).collect();
            let values = all.iter().map(|(name, _, values)| ((*name).to_owned(), values.to_vec())).collect();
            Arc::new(Self(infos, values))
        }
    }

    impl Weights for There {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }
        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            Ok(Weight::from_f32(self.0[name].shape.clone(), &self.1[name]))
        }
    }

    #[test]
    fn new_rows_are_the_mean_of_the_others_and_nothing_else_changes() {
        let table = [1.0, 2.0, 3.0, 6.0, 90.0, 90.0];
        let base = There::of(&[("e", vec![3, 2], &table), ("w", vec![1, 2], &[5.0, 7.0])]);
        // Row 2 was padding, row 3 is not there.
        let grown = Grown::new(base, &["e", "h"], &[2, 3], 4);
        let found = grown.weight("e").unwrap();
        assert_eq!(found.info.shape, [4, 2]);
        assert_eq!(found.to_f32(), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 2.0, 4.0]);
        assert_eq!(grown.weight("w").unwrap().to_f32(), [5.0, 7.0]);
        assert!(!grown.infos().contains_key("h"));
    }

    #[test]
    fn only_the_rows_of_an_update_move() {
        let base = There::of(&[("e", vec![3, 2], &[1.0, 2.0, 3.0, 6.0, 0.5, 0.5])]);
        let update = BTreeMap::from([("e".to_owned(), vec![1.0, -1.0, 10.0, 20.0])]);
        let moved = Moved::new(base.clone(), vec![2, 0], update).unwrap();
        assert_eq!(moved.weight("e").unwrap().to_f32(), [11.0, 22.0, 3.0, 6.0, 1.5, -0.5]);
        let short = BTreeMap::from([("e".to_owned(), vec![1.0])]);
        assert!(Moved::new(base.clone(), vec![2, 0], short).is_err());
        assert!(Moved::new(base, vec![0], BTreeMap::from([("h".to_owned(), vec![1.0, 1.0])])).is_err());
    }
}
