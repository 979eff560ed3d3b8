//! How much of a model is trained, and how much is frozen.

use std::collections::BTreeMap;

use super::init::targets;
use super::{TrainError, frozen, optimizer};
use crate::model::DecoderShape;
use crate::recipe::{Method, MethodKind, Train, Variant};

/// How much a training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Numbers that are trained: of the model, or of the adapter.
    pub trained: usize,
    /// Numbers of the model that `train.freeze` keeps as they are; of LoRA those of the maps that it keeps adapters from.
    pub frozen: usize,
    /// Bytes that the optimizer remembers of what is trained.
    pub remembered: u64,
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
                let of = |name: &String| all[name].iter().product::<usize>();
                let trained = all.keys().filter(|name| !frozen.contains(*name)).map(of);
                let remembered = trained.map(|n| optimizer::bytes(train.optimizer, n)).sum();
                let frozen = frozen.iter().map(of).sum();
                Ok(Self { trained: shape.n_parameters() - frozen, frozen, remembered })
            }
            MethodKind::Lora => {
                let adapted = targets(shape, method, train)?;
                let all: usize = n_of_maps(&targets(shape, method, &Train::default())?);
                let lengths = usize::from(method.variant == Variant::Dora);
                let pair =
                    |[n_out, n_in]: &[usize; 2]| [method.rank * n_in, method.rank * n_out, lengths * n_out];
                let trained: Vec<usize> = adapted.values().flat_map(pair).collect();
                Ok(Self {
                    trained: trained.iter().sum(),
                    frozen: all - n_of_maps(&adapted),
                    remembered: trained.iter().map(|n| optimizer::bytes(train.optimizer, *n)).sum(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Extent;
    use crate::model::{DecoderShape, Sizes};
    use crate::recipe::{Method, MethodKind, OptimizerKind, Targets, Train, Variant};

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
            let Extent { trained, frozen, remembered } = Extent::of(&shape, method, &train).unwrap();
            assert_eq!(remembered, 8 * trained as u64);
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

    #[test]
    fn large_weights_are_remembered_in_8_bits_where_that_is_asked_for() {
        // q and o have 64 · 64 numbers, k and v half of it, gate, up and down 64 · 100, embedding and head 64 · 512.
        let sizes = Sizes {
            vocab_size: 512,
            hidden_size: 64,
            intermediate_size: 100,
            n_layers: 1,
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 32,
        };
        let shape = DecoderShape::plain("small", sizes);
        let train = Train { optimizer: OptimizerKind::Adamw8bit, ..Train::default() };
        let of = |method: &Method| Extent::of(&shape, method, &train).unwrap().remembered;
        let short = |n: u64| 2 * n + n / 256 * 8;
        let full = Method { kind: MethodKind::Full, ..Method::default() };
        let norms = 3 * 64;
        let large = 2 * short(4096) + 3 * short(6400) + 2 * short(64 * 512);
        assert_eq!(of(&full), large + 8 * (2 * 2048 + norms));
        // Factors of q of rank 64 are as large as q; of rank 8 they, and the row lengths, are small.
        let lora = Method { rank: 64, targets: Targets::One("q_proj".to_owned()), ..Method::default() };
        assert_eq!(of(&lora), 2 * short(4096));
        assert_eq!(of(&Method { rank: 8, variant: Variant::Dora, ..lora }), 8 * (2 * 512 + 64));
    }
}
