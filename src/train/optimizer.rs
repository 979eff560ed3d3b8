//! What makes new weights of gradients, and what it has to remember for it.
//!
//! AdamW with PyTorch's arithmetic, in f32: Loshchilov and Hutter, "Decoupled Weight Decay
//! Regularization", 2017, arXiv 1711.05101. Only this file knows what is remembered and by which
//! names: a checkpoint keeps whatever [`Optimizer::state`] gives and hands it back.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::model::Param;
use crate::recipe::Train;
use crate::snapshot::{SnapshotError, Weight, WeightFiles, WeightInfo, Weights};

/// Bytes that are remembered of each number that is trained.
pub const BYTES: u64 = 8;

/// The running means of one weight's gradient and of its square, `[rows, columns]` each.
#[derive(Debug, Clone)]
struct Moments {
    first: Tensor<2>,
    second: Tensor<2>,
}

/// The optimizer and its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    /// Updates made so far.
    step: usize,
    /// By weight name.
    moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// The one that the recipe asks for, before its first update.
    pub fn new(train: &Train) -> Self {
        let Train { betas, epsilon, weight_decay, .. } = *train;
        Self { betas, epsilon, weight_decay, step: 0, moments: BTreeMap::new() }
    }

    /// Counts the update that [`Optimizer::update`] is about to make to every weight.
    pub fn advance(&mut self) {
        self.step += 1;
    }

    /// One weight's new value.
    ///
    /// The order of operations is PyTorch's: decay, moments, bias corrections, step.
    pub fn update(&mut self, param: &Param, gradient: Tensor<2>, learning_rate: f64) -> Tensor<2> {
        let [beta1, beta2] = self.betas;
        let (first, second) = match self.moments.remove(&param.name) {
            Some(Moments { first, second }) => (
                first * beta1 + gradient.clone() * (1.0 - beta1),
                second * beta2 + gradient.square() * (1.0 - beta2),
            ),
            None => (gradient.clone() * (1.0 - beta1), gradient.square() * (1.0 - beta2)),
        };
        let step = i32::try_from(self.step).expect("fewer than 2^31 steps");
        let (correction1, correction2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
        let denominator = second.clone().sqrt() * correction2.sqrt().recip() + self.epsilon;
        let decayed = param.frozen() * (1.0 - learning_rate * self.weight_decay);
        let value = decayed - first.clone() / denominator * (learning_rate / correction1);
        self.moments.insert(param.name.clone(), Moments { first, second });
        value
    }

    /// All that is remembered but the number of updates, each tensor by a name of its own.
    pub fn state(&self) -> impl Iterator<Item = (String, Tensor<2>)> {
        self.moments.iter().flat_map(|(weight, Moments { first, second })| {
            let [name, other] = names(weight);
            [(name, first.clone()), (other, second.clone())]
        })
    }

    /// Goes on after `step` updates to `params` that left this `state`.
    ///
    /// # Errors
    ///
    /// What `state` has of a weight does not fit it.
    pub fn restore(
        &mut self,
        step: usize,
        params: &[&mut Param],
        mut state: BTreeMap<String, Tensor<2>>,
    ) -> Result<(), String> {
        self.step = step;
        self.moments.clear();
        for param in params {
            let fits = |moment: &Tensor<2>| moment.dims() == param.value.dims();
            match names(&param.name).map(|name| state.remove(&name)) {
                // Of a weight that got no gradient nothing is remembered.
                [None, None] => {}
                [Some(first), Some(second)] if fits(&first) && fits(&second) => {
                    self.moments.insert(param.name.clone(), Moments { first, second });
                }
                _ => return Err(format!("what the optimizer remembers of `{}` does not fit it", param.name)),
            }
        }
        Ok(())
    }
}

/// By which names the two moments of a weight are stored.
fn names(weight: &str) -> [String; 2] {
    [format!("{weight}.first"), format!("{weight}.second")]
}

/// The running mean of each number's squared gradient, under the names of the weights, of a `state` that was
/// stored; `infos` are those of the weights that it is of. Of a weight that got no gradient it is 0.
pub fn squared_gradients(state: WeightFiles, infos: &BTreeMap<String, WeightInfo>) -> impl Weights + use<> {
    // The state is stored as matrices; the weights have the shapes.
    SquaredGradients { state, infos: infos.clone() }
}

struct SquaredGradients {
    state: WeightFiles,
    infos: BTreeMap<String, WeightInfo>,
}

impl Weights for SquaredGradients {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let [_, second] = names(name);
        let info = self.infos.get(name);
        if let Some(info) = info.filter(|_| !self.state.infos().contains_key(&second)) {
            return Ok(Weight::from_f32(info.shape.clone(), &vec![0.0; info.n_elements()]));
        }
        let weight = self.state.weight(&second)?;
        let shape = info.map_or_else(|| weight.info.shape.clone(), |info| info.shape.clone());
        Ok(Weight { info: WeightInfo { shape, ..weight.info }, ..weight })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::Optimizer;
    use crate::device::cpu;
    use crate::model::Param;
    use crate::recipe::Train;

    fn matrix(salt: f32) -> Tensor<2> {
        let values = (0..6).map(|i| (salt + i as f32).sin()).collect();
        Tensor::from_data(TensorData::new(values, [2, 3]), &cpu())
    }

    fn param() -> Param {
        Param { name: "a.weight".to_owned(), shape: vec![2, 3], value: matrix(1.0) }
    }

    /// Makes the updates `steps`, each with a gradient of its own.
    fn updates(optimizer: &mut Optimizer, param: &mut Param, steps: std::ops::Range<u8>) {
        for step in steps {
            optimizer.advance();
            param.value = optimizer.update(param, matrix(f32::from(step) * 7.0), 0.1);
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_by_bit() {
        let (mut whole, mut param) = (Optimizer::new(&Train::default()), param());
        updates(&mut whole, &mut param, 0..3);
        let state = whole.state().collect();
        let mut other = Optimizer::new(&Train::default());
        let mut copy = param.clone();
        other.restore(3, &[&mut copy], state).unwrap();
        updates(&mut whole, &mut param, 3..6);
        updates(&mut other, &mut copy, 3..6);
        param.value.into_data().assert_eq(&copy.value.into_data(), true);
    }

    #[test]
    fn a_state_that_lacks_a_part_or_has_another_size_is_refused() {
        let (mut optimizer, mut param) = (Optimizer::new(&Train::default()), param());
        updates(&mut optimizer, &mut param, 0..1);
        let state: std::collections::BTreeMap<_, _> = optimizer.state().collect();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["a.weight.first", "a.weight.second"]);
        let mut short = state.clone();
        short.remove("a.weight.second");
        let mut wide = state;
        wide.insert("a.weight.first".to_owned(), matrix(0.0).reshape([3, 2]));
        for state in [short, wide] {
            let said = optimizer.restore(1, &[&mut param], state).unwrap_err();
            assert_eq!(said, "what the optimizer remembers of `a.weight` does not fit it");
        }
    }
}
