//! Directions that are added to the stream behind blocks, token by token.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Positions;
use super::wanted::Wanted;

/// By layer, what is added to the stream behind its block where a row is pushed with the sign `+1`.
#[derive(Debug, Clone)]
pub struct Directions {
    /// `[1, 1, m]` each, in the compute format.
    by_layer: BTreeMap<usize, Tensor<3>>,
}

/// Which way a row is pushed, and from which of its positions on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// `1` or `-1`.
    pub sign: i8,
    /// The first position that is pushed, counted from the row's own first token.
    pub from: usize,
}

/// Directions with the tokens of a batch that get them.
pub struct Steering<'a> {
    directions: &'a Directions,
    /// `[b, t, 1]` in the compute format: 1, −1, or 0 where nothing is added.
    signs: Tensor<3>,
}

impl Directions {
    /// `alpha` times each vector, rounded once to the format `compute`. An `alpha` of 0 leaves no direction.
    pub fn new(vectors: &BTreeMap<usize, Vec<f32>>, alpha: f32, device: &Device, compute: DType) -> Self {
        let on_device = |(layer, vector): (&usize, &Vec<f32>)| {
            let values: Vec<f32> = vector.iter().map(|x| alpha * x).collect();
            let data = TensorData::new(values, [1, 1, vector.len()]);
            (*layer, Tensor::from_data(data, (device, compute)))
        };
        Self { by_layer: vectors.iter().filter(|_| alpha != 0.0).map(on_device).collect() }
    }
}

impl<'a> Steering<'a> {
    /// What directions do to a batch whose rows are pushed so; none where nothing would be added.
    pub fn new(
        directions: Option<&'a Directions>,
        positions: &Positions,
        rows: &[Option<Push>],
    ) -> Option<Self> {
        let directions = directions.filter(|_| rows.iter().any(Option::is_some))?;
        let (_, any) = directions.by_layer.first_key_value()?;
        let places: Vec<Vec<usize>> = positions.of_tokens().iter().map(|texts| texts.concat()).collect();
        let t = places[0].len();
        // Where all rows stand alike there is but one.
        let row = |(nth, push): (usize, &Option<Push>)| {
            let places = places.get(nth).unwrap_or(&places[0]).iter();
            let push = *push;
            places.map(move |place| {
                push.filter(|push| *place >= push.from).map_or(0.0, |push| f32::from(push.sign))
            })
        };
        let signs: Vec<f32> = rows.iter().enumerate().flat_map(row).collect();
        if signs.iter().all(|sign| *sign == 0.0) {
            return None;
        }
        let data = TensorData::new(signs, [rows.len(), t, 1]);
        Some(Self { directions, signs: Tensor::from_data(data, (&any.device(), any.dtype())) })
    }

    /// The stream behind a block with what is added there.
    ///
    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`, or `[b, w, m]` of the `wanted` tokens
    /// - result: as `x`
    pub(super) fn added(&self, layer: usize, x: Tensor<3>, wanted: Option<&Wanted>) -> Tensor<3> {
        let Some(direction) = self.directions.by_layer.get(&layer) else { return x };
        let signs = match wanted {
            Some(wanted) => wanted.of(self.signs.clone()), // [b, w, 1]
            None => self.signs.clone(),
        };
        x + signs * direction.clone()
    }
}
