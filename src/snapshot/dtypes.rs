//! The dtype of every weight that is written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::{Config, Dtype, Numbers, SnapshotError, Weights};

/// One dtype for all weights, or that of a base weight by weight: norms in f32 beside matrices in bf16 stay so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dtypes {
    /// That of most weights.
    most: Dtype,
    /// Those of the others, by name.
    others: BTreeMap<String, Dtype>,
}

impl Dtypes {
    /// The same for all.
    pub fn all(dtype: Dtype) -> Self {
        Self { most: dtype, others: BTreeMap::new() }
    }

    /// As the weights of a base are stored.
    pub fn of(base: &dyn Weights) -> Self {
        let bytes = |dtype: Dtype| -> usize {
            base.infos().values().filter(|info| info.dtype == dtype).map(super::WeightInfo::bytes).sum()
        };
        let most = [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().max_by_key(|dtype| bytes(*dtype));
        let most = most.unwrap_or(Dtype::F32);
        let others = base.infos().iter().filter(|(_, info)| info.dtype != most);
        Self { most, others: others.map(|(name, info)| (name.clone(), info.dtype)).collect() }
    }

    /// That of the weight called `name`.
    pub fn get(&self, name: &str) -> Dtype {
        self.others.get(name).copied().unwrap_or(self.most)
    }

    /// The dtype, if all weights have the same.
    pub fn single(&self) -> Option<Dtype> {
        self.others.is_empty().then_some(self.most)
    }

    /// What a configuration is to say of weights of these dtypes: what was asked for, or what is true; nothing, and so
    /// what the base's says, where the base says another than its weights have.
    pub fn named(&self, asked: Option<Dtype>, base: &Config) -> Option<Dtype> {
        self.single().filter(|dtype| asked.is_some() || base.dtype().is_none_or(|own| own == *dtype))
    }

    /// What writing `base` so does to it, in a sentence; none if it stays as it is stored.
    pub fn rounding(&self, base: &dyn Weights) -> Option<String> {
        let infos = base.infos();
        let other: Vec<Dtype> = infos
            .iter()
            .filter(|(name, info)| info.dtype != self.get(name))
            .map(|(_, info)| info.dtype)
            .collect();
        let (first, n) = (other.first()?, other.len());
        Some(format!(
            "{n} of {} tensors of the base are stored in another dtype, the first as {first}: written as {self}, as was asked, λ = 0 is the \
             base in that dtype and not its bytes",
            infos.len()
        ))
    }

    /// Looks for numbers of `base` that its new dtypes cannot hold.
    ///
    /// # Errors
    ///
    /// There is one, or a weight cannot be read.
    pub fn check(&self, base: &dyn Weights, option: &'static str) -> Result<(), SnapshotError> {
        const BLOCK: usize = 1 << 16;
        let narrower = |(name, info): &(&String, &super::WeightInfo)| {
            self.get(name) == Dtype::F16 && info.dtype != Dtype::F16
        };
        let mut block = vec![0.0; BLOCK];
        for (name, info) in base.infos().iter().filter(narrower) {
            let numbers: Numbers<'_> = base.numbers(name)?;
            for start in (0..info.n_elements()).step_by(BLOCK) {
                let n = BLOCK.min(info.n_elements() - start);
                numbers.read(start, &mut block[..n]);
                let most = Dtype::F16.largest();
                if block[..n].iter().any(|x| x.is_finite() && x.abs() > most) {
                    return Err(SnapshotError::TooLarge { name: name.clone(), dtype: Dtype::F16, option });
                }
            }
        }
        Ok(())
    }
}

/// `bf16`, or `bf16 (9 tensors f32)`.
impl fmt::Display for Dtypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.most)?;
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let n = self.others.values().filter(|other| **other == dtype).count();
            if n > 0 {
                write!(f, " ({n} tensors {dtype})")?;
            }
        }
        Ok(())
    }
}

/// The dtype alone, where all weights have the same.
impl Serialize for Dtypes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(dtype) => dtype.serialize(serializer),
            None => (self.most, &self.others).serialize(serializer),
        }
    }
}
