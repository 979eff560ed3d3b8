//! How much of a model is trained, and how much is frozen.

use std::collections::BTreeMap;

use super::init::targets;
use super::{TrainError, frozen};
use crate::model::DecoderShape;
use crate::recipe::{Method, MethodKind, Train, Variant};

/// How much a training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Numbers that are trained: of the model, or of the adapter.
    pub trained: usize,
    /// Numbers of the model that `train.freeze` keeps as they are; of LoRA those of the maps that it keeps adapters from.
    pub frozen: usize,
}

impl Extent {
    /// That of a training by `method`.
    ///
    /// # Errors
    ///
    /// As [`frozen::weights`] and [`targets`].
    pub fn of(shape: &DecoderShape, method: &Method, train: &Train) -> Result<Self, TrainError> {
        let n_of_maps =
            |maps: &BTreeMap<String, [usize; 2]>| maps.values().map(|[n_out, n_in]| n_out * n_in).sum();
        match method.kind {
            MethodKind::Full => {
                let (all, frozen) = (shape.weights(), frozen::weights(shape, train)?);
                let frozen = frozen.iter().map(|name| all[name].iter().product::<usize>()).sum();
                Ok(Self { trained: shape.n_parameters() - frozen, frozen })
            }
            MethodKind::Lora => {
                let adapted = targets(shape, method, train)?;
                let all: usize = n_of_maps(&targets(shape, method, &Train::default())?);
                let lengths = usize::from(method.variant == Variant::Dora);
                let pair = |[n_out, n_in]: &[usize; 2]| method.rank * (n_out + n_in) + lengths * n_out;
                Ok(Self { trained: adapted.values().map(pair).sum(), frozen: all - n_of_maps(&adapted) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Extent;
    use crate::model::{DecoderShape, Sizes};
    use crate::recipe::{Method, MethodKind, Train, Variant};

    #[test]
    fn what_is_trained_and_what_is_frozen_are_counted() {
        // In a layer q and o are [8, 8], k and v [4, 8], gate, up and down 96 each, and the two norms 8.
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 12,
            n_layers: 3,
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 4,
        };
        let shape = DecoderShape::plain("small", sizes);
        let of = |method: &Method, freeze: &[&str]| {
            let freeze = freeze.iter().map(|place| (*place).to_owned()).collect();
            let train = Train { freeze, ..Train::default() };
            let Extent { trained, frozen } = Extent::of(&shape, method, &train).unwrap();
            (trained, frozen)
        };
        let full = Method { kind: MethodKind::Full, ..Method::default() };
        assert_eq!(of(&full, &[]), (3 * 496 + 168, 0));
        assert_eq!(of(&full, &["layers.1", "embed"]), (2 * 496 + 88, 496 + 80));
        let lora = Method { rank: 2, ..Method::default() };
        // Of a layer 2 · (16 + 16 + 12 + 12 + 20 + 20 + 20).
        assert_eq!((of(&lora, &[]), of(&lora, &["layers.1"])), ((3 * 232, 0), (2 * 232, 480)));
        let dora = Method { variant: Variant::Dora, ..lora };
        assert_eq!(of(&dora, &["layers.0-1"]), (232 + 8 + 4 + 4 + 8 + 12 + 12 + 8, 960));
    }
}
