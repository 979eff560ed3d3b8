//! The mean of several models tuned from one base, a uniform soup.
//!
//! Wortsman et al., "Model soups", 2022, arXiv 2203.05482.

use std::collections::BTreeMap;

use crate::snapshot::{Dtype, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// Models of the same weights, as the mean of them in f32, summed in their order.
pub struct Mean {
    models: Vec<SharedWeights>,
    infos: BTreeMap<String, WeightInfo>,
}

impl Mean {
    /// The mean of `models`, of which there is at least one: all tuned from one base, so that they have the same names and
    /// shapes.
    pub fn of(models: Vec<SharedWeights>) -> Self {
        let mut infos = models[0].infos().clone();
        for info in infos.values_mut() {
            info.dtype = Dtype::F32;
        }
        Self { models, infos }
    }
}

impl Weights for Mean {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let first = self.models[0].weight(name)?;
        let mut sum = first.to_f32();
        for model in &self.models[1..] {
            sum.iter_mut().zip(model.weight(name)?.to_f32()).for_each(|(sum, x)| *sum += x);
        }
        let n = self.models.len() as f32;
        for x in &mut sum {
            *x /= n;
        }
        Ok(Weight::from_f32(first.info.shape, &sum))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct One(BTreeMap<String, WeightInfo>, Vec<f32>);

    impl Weights for One {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }

        fn weight(&self, _: &str) -> Result<Weight<'_>, SnapshotError> {
            Ok(Weight::from_f32(vec![2], &self.1))
        }
    }

    #[test]
    fn the_mean_of_models_is_that_of_their_numbers() {
        let info = WeightInfo { shape: vec![2], dtype: Dtype::Bf16 };
        let model = |values: [f32; 2]| -> SharedWeights {
            Arc::new(One(BTreeMap::from([("w".to_owned(), info.clone())]), values.to_vec()))
        };
        let mean = Mean::of(vec![model([1.0, 0.0]), model([2.0, 0.0]), model([6.0, -3.0])]);
        assert_eq!(mean.weight("w").unwrap().to_f32(), [3.0, -1.0]);
        assert_eq!(mean.infos()["w"].dtype, Dtype::F32);
    }
}
