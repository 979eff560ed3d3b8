//! Encoders: models that read a whole text at once and give each token a vector, for measures such as `BERTScore`.
//!
//! Devlin et al., "BERT", 2018, arXiv 1810.04805; Liu et al., "RoBERTa", 2019, arXiv 1907.11692; He et al., "DeBERTa",
//! 2020, arXiv 2006.03654. [`EncoderShape`] says what is computed, [`Encoder::load`] reads only the weights below the
//! wanted layer. Texts are never padded, so that nothing is masked: those of one length go through together.

mod attention;
mod block;
mod norm;
mod shape;

pub use shape::{EncoderShape, Positions, Relative};

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, module};

use self::attention::Distances;
use self::block::Block;
use self::norm::LayerNorm;
use super::kept::{Kept, param};
use super::{Matrix, Param, Projection};
use crate::device::is_cpu;
use crate::snapshot::{SnapshotError, Weights};

/// An encoder up to one layer, on a device, in f32.
#[derive(Debug, Clone)]
pub struct Encoder {
    pub shape: EncoderShape,
    device: Device,
    word_embeddings: Matrix,
    position_embeddings: Option<Param>,
    token_type_embeddings: Option<Param>,
    layer_norm: LayerNorm,
    rel_embeddings: Option<Param>,
    layers: Vec<Block>,
}

/// Reads weights by their names behind the model's prefix, each checked against its shape.
struct Reader<'a> {
    weights: &'a dyn Weights,
    prefix: String,
    place: &'a str,
    device: &'a Device,
}

impl<'a> Reader<'a> {
    /// A bare encoder's weights have no prefix, those below a head have the family's name.
    fn new(shape: &EncoderShape, weights: &'a dyn Weights, place: &'a str, device: &'a Device) -> Self {
        let bare = weights.infos().contains_key("embeddings.word_embeddings.weight");
        let prefix = if bare { String::new() } else { format!("{}.", shape.family) };
        Self { weights, prefix, place, device }
    }

    /// A weight that is read number by number.
    fn take(&self, name: &str, expected: &[usize]) -> Result<Param, SnapshotError> {
        self.kept(name, expected, Kept::All(DType::F32))
    }

    fn matrix(&self, name: &str, expected: [usize; 2]) -> Result<Matrix, SnapshotError> {
        let kept = if is_cpu(self.device) { Kept::Stored } else { Kept::All(DType::F32) };
        Ok(Matrix::new(self.kept(name, &expected, kept)?))
    }

    fn kept(&self, name: &str, expected: &[usize], kept: Kept) -> Result<Param, SnapshotError> {
        let name = format!("{}{name}", self.prefix);
        let param = param(&name, self.weights, self.device, kept)?;
        if param.shape == expected {
            return Ok(param);
        }
        let (place, found) = (self.place.to_owned(), param.shape);
        Err(SnapshotError::BadShape { name, place, found, expected: expected.to_vec() })
    }

    fn linear(&self, name: &str, [n_out, n_in]: [usize; 2], bias: bool) -> Result<Projection, SnapshotError> {
        let weight = self.matrix(&format!("{name}.weight"), [n_out, n_in])?;
        let bias = bias.then(|| self.take(&format!("{name}.bias"), &[n_out])).transpose()?;
        Ok(Projection { weight, bias, adapter: None })
    }

    fn norm(&self, name: &str, shape: &EncoderShape) -> Result<LayerNorm, SnapshotError> {
        Ok(LayerNorm {
            weight: self.take(&format!("{name}.weight"), &[shape.hidden_size])?,
            bias: self.take(&format!("{name}.bias"), &[shape.hidden_size])?,
            epsilon: shape.norm_epsilon,
        })
    }
}

impl Encoder {
    /// Puts the weights below the output of `layer` on a device; layer 0 is the embeddings.
    ///
    /// # Errors
    ///
    /// A weight is missing, has another shape or cannot be read.
    pub fn load(
        shape: &EncoderShape,
        weights: &dyn Weights,
        place: &str,
        layer: usize,
        device: &Device,
    ) -> Result<Self, SnapshotError> {
        let reader = Reader::new(shape, weights, place, device);
        let m = shape.hidden_size;
        let table = |name: &str, rows: usize| reader.take(&format!("{name}.weight"), &[rows, m]);
        let positions = (shape.positions != Positions::None)
            .then(|| table("embeddings.position_embeddings", shape.max_positions));
        let types = (shape.type_vocab_size > 0)
            .then(|| table("embeddings.token_type_embeddings", shape.type_vocab_size));
        let relative = shape.relative.map(|relative| table("encoder.rel_embeddings", 2 * relative.span));
        Ok(Self {
            word_embeddings: reader.matrix("embeddings.word_embeddings.weight", [shape.vocab_size, m])?,
            position_embeddings: positions.transpose()?,
            token_type_embeddings: types.transpose()?,
            layer_norm: reader.norm("embeddings.LayerNorm", shape)?,
            rel_embeddings: relative.transpose()?,
            layers: (0..layer.min(shape.n_layers))
                .map(|layer| Block::load(shape, layer, &reader))
                .collect::<Result<_, _>>()?,
            shape: shape.clone(),
            device: device.clone(),
        })
    }

    /// The hidden states of texts of one length.
    ///
    /// # Shapes
    ///
    /// - `texts`: `b` times `t` ids
    /// - result: `[b, t, m]`
    fn hidden(&self, texts: &[&[u32]]) -> Tensor<3> {
        let (b, t) = (texts.len(), texts[0].len());
        let int = |ids: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), &self.device);
        let ids = texts.iter().flat_map(|text| text.iter().map(|id| i64::from(*id))).collect();
        let mut x = self.word_embeddings.rows(int(ids)); // [b, t, m]
        if let Some(table) = &self.position_embeddings {
            let places = texts.iter().flat_map(|text| self.shape.places(text)).collect();
            x = x + module::embedding(table.value.clone(), int(places));
        }
        if let Some(table) = &self.token_type_embeddings {
            // A text alone is of the first type.
            x = x + table.value.clone().narrow(0, 0, 1).unsqueeze::<3>();
        }
        x = self.layer_norm.forward(x);
        let distances = self.rel_embeddings.as_ref().map(|table| Distances::new(&table.value, t));
        for layer in &self.layers {
            x = layer.forward(x, distances.as_ref());
        }
        x
    }

    /// The vectors of every text's tokens, in the order of the texts; about `micro_tokens` tokens go together.
    pub fn vectors(&self, texts: &[&[u32]], micro_tokens: usize) -> Vec<Vec<Vec<f64>>> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, text) in texts.iter().enumerate() {
            by_length.entry(text.len()).or_default().push(i);
        }
        let mut found = vec![Vec::new(); texts.len()];
        for (t, places) in by_length.into_iter().filter(|(t, _)| *t > 0) {
            for places in places.chunks((micro_tokens / t).max(1)) {
                let part: Vec<&[u32]> = places.iter().map(|i| texts[*i]).collect();
                let values = self.hidden(&part).into_data().convert::<f32>();
                let values = values.as_slice::<f32>().expect("the states were just made f32");
                let rows = values.chunks(self.shape.hidden_size);
                let mut rows = rows.map(|row| row.iter().map(|x| f64::from(*x)).collect());
                for i in places {
                    found[*i] = rows.by_ref().take(t).collect();
                }
            }
        }
        found
    }
}
