//! What makes new weights of gradients, and what it has to remember for it.
//!
//! AdamW with PyTorch's arithmetic, in f32: Loshchilov and Hutter, "Decoupled Weight Decay
//! Regularization", 2017, arXiv 1711.05101. Only this file knows what is remembered and by which
//! names: a checkpoint keeps whatever [`Optimizer::state`] gives and hands it back.
//!
//! With `train.lora_plus` an adapter's B learns at a multiple of A's rate: Hayou, Ghosh and Yu, "LoRA+: Efficient Low
//! Rank Adaptation of Large Models", 2024, arXiv 2402.12354. `train.optimizer` says in what the means are kept: see
//! [`super::eight_bit`].

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::eight_bit::{self, Means, Step};
use super::remembered::{self, Remembered};
use crate::device::kernels::dynamic::UNSIGNED;
use crate::model::Param;
use crate::recipe::{OptimizerKind, Train};
use crate::snapshot::{SnapshotError, Weight, WeightFiles, WeightInfo, Weights};

/// Bytes that are remembered of a weight of `n` numbers that is trained.
pub fn bytes(kind: OptimizerKind, n: usize) -> u64 {
    if is_short(kind, n) { eight_bit::bytes(n) } else { 2 * (n * size_of::<f32>()) as u64 }
}

/// Whether the means of a weight of `n` numbers are kept in 8 bits.
fn is_short(kind: OptimizerKind, n: usize) -> bool {
    kind == OptimizerKind::Adamw8bit && eight_bit::fits(n)
}

/// The running means of one weight's gradient and of its square.
#[derive(Debug, Clone)]
enum Moments {
    /// `[rows, columns]` each.
    Exact {
        first: Tensor<2>,
        second: Tensor<2>,
    },
    Short(Means),
}

/// The optimizer and its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kind: OptimizerKind,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    /// How many times A's rate B learns at; 0: the same.
    lora_plus: f64,
    /// Updates made so far.
    step: usize,
    /// By weight name.
    moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// The one that the recipe asks for, before its first update.
    pub fn new(train: &Train) -> Self {
        let Train { optimizer: kind, betas, epsilon, weight_decay, lora_plus, .. } = *train;
        Self { kind, betas, epsilon, weight_decay, lora_plus, step: 0, moments: BTreeMap::new() }
    }

    /// Counts the update that [`Optimizer::update`] is about to make to every weight.
    pub fn advance(&mut self) {
        self.step += 1;
    }

    /// The rate of one weight, where `learning_rate` is that of A: decay goes by it too.
    ///
    /// The groups are those of PEFT 0.21's `create_loraplus_optimizer`: B and all that has one dimension, which is
    /// DoRA's row lengths, learn faster; A and whatever else is trained do not.
    fn rate(&self, param: &Param, learning_rate: f64) -> f64 {
        let is_faster = param.name.ends_with(".lora_B.weight") || param.shape.len() == 1;
        // The η_B = λ·η_A of the paper.
        if self.lora_plus > 0.0 && is_faster { self.lora_plus * learning_rate } else { learning_rate }
    }

    /// One weight's new value.
    ///
    /// The order of operations is PyTorch's: decay, moments, bias corrections, step.
    pub fn update(&mut self, param: &Param, gradient: Tensor<2>, learning_rate: f64) -> Tensor<2> {
        let learning_rate = self.rate(param, learning_rate);
        let [beta1, beta2] = self.betas;
        let (first, second) = match self.moments.remove(&param.name) {
            Some(Moments::Exact { first, second }) => (
                first * beta1 + gradient.clone() * (1.0 - beta1),
                second * beta2 + gradient.square() * (1.0 - beta2),
            ),
            Some(Moments::Short(means)) => return self.update_short(means, param, gradient, learning_rate),
            None if is_short(self.kind, n_of(param)) => {
                let means = Means::zeros(n_of(param), &gradient.device());
                return self.update_short(means, param, gradient, learning_rate);
            }
            None => (gradient.clone() * (1.0 - beta1), gradient.square() * (1.0 - beta2)),
        };
        let step = i32::try_from(self.step).expect("fewer than 2^31 steps");
        let (correction1, correction2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
        let denominator = second.clone().sqrt() * correction2.sqrt().recip() + self.epsilon;
        let decayed = param.frozen() * (1.0 - learning_rate * self.weight_decay);
        let value = decayed - first.clone() / denominator * (learning_rate / correction1);
        self.moments.insert(param.name.clone(), Moments::Exact { first, second });
        value
    }

    /// All that is remembered but the number of updates, each tensor by a name of its own.
    pub fn state(&self) -> impl Iterator<Item = (String, Remembered)> {
        self.moments.iter().flat_map(|(weight, moments)| {
            let means = match moments {
                Moments::Exact { first, second } => {
                    [first, second].map(|mean| Remembered::Numbers(mean.clone()))
                }
                Moments::Short(means) => means.codes().map(Remembered::Codes),
            };
            let ([name, other], [first, second]) = (names(weight), means);
            [(name, first), (other, second)]
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
        mut state: BTreeMap<String, Remembered>,
    ) -> Result<(), String> {
        self.step = step;
        self.moments.clear();
        for param in params {
            let (n, device) = (n_of(param), param.value.device().without_autodiff());
            let is_short = is_short(self.kind, n);
            let fits = |mean: &Tensor<2>| !is_short && mean.dims() == param.value.dims();
            let moments = match names(&param.name).map(|name| state.remove(&name)) {
                // Of a weight that got no gradient nothing is remembered.
                [None, None] => continue,
                [Some(Remembered::Numbers(first)), Some(Remembered::Numbers(second))]
                    if fits(&first) && fits(&second) =>
                {
                    Moments::Exact { first, second }
                }
                [Some(Remembered::Codes(first)), Some(Remembered::Codes(second))]
                    if is_short && [&first, &second].iter().all(|mean| mean.codes.len() == n) =>
                {
                    Moments::Short(Means::of([first, second], &device))
                }
                _ => return Err(format!("what the optimizer remembers of `{}` does not fit it", param.name)),
            };
            self.moments.insert(param.name.clone(), moments);
        }
        Ok(())
    }

    /// One weight's new value, and new means in 8 bits.
    fn update_short(
        &mut self,
        mut means: Means,
        param: &Param,
        gradient: Tensor<2>,
        learning_rate: f64,
    ) -> Tensor<2> {
        let step = Step::new(self.step, learning_rate, self.weight_decay, self.betas, self.epsilon);
        let value = means.update(param.frozen(), gradient, &step);
        self.moments.insert(param.name.clone(), Moments::Short(means));
        value
    }
}

/// How many numbers a weight has.
fn n_of(param: &Param) -> usize {
    param.value.dims().iter().product()
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
        if let (Some(info), Some(codes)) = (info, remembered::codes(&self.state, &second)?) {
            return Ok(Weight::from_f32(info.shape.clone(), &codes.numbers(&UNSIGNED)));
        }
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

    use super::{Optimizer, Remembered};
    use crate::device::cpu;
    use crate::device::kernels::dynamic::Codes;
    use crate::model::Param;
    use crate::recipe::{OptimizerKind, Train};

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
        wide.insert("a.weight.first".to_owned(), Remembered::Numbers(matrix(0.0).reshape([3, 2])));
        // A small weight has nothing in 8 bits.
        let codes = || Remembered::Codes(Codes { codes: vec![0; 6], scales: Vec::new() });
        let eight = ["a.weight.first", "a.weight.second"].map(|name| (name.to_owned(), codes())).into();
        for state in [short, wide, eight] {
            let said = optimizer.restore(1, &[&mut param], state).unwrap_err();
            assert_eq!(said, "what the optimizer remembers of `a.weight` does not fit it");
        }
    }

    #[test]
    fn what_is_in_8_bits_for_one_optimizer_is_not_for_the_other() {
        let kinds = [OptimizerKind::Adamw, OptimizerKind::Adamw8bit];
        let [exact, short] = kinds.map(|optimizer| Optimizer::new(&Train { optimizer, ..Train::default() }));
        let zeros = || Tensor::<2>::zeros([64, 64], &cpu());
        let mut param = Param { name: "a.weight".to_owned(), shape: vec![64, 64], value: zeros() };
        for (mut one, mut other) in [(exact.clone(), short.clone()), (short, exact)] {
            one.advance();
            param.value = one.update(&param, zeros() + 1.0, 0.1);
            let state: std::collections::BTreeMap<_, _> = one.state().collect();
            assert!(other.restore(1, &[&mut param], state.clone()).is_err());
            let mut again = Optimizer { step: 0, ..one.clone() };
            again.restore(1, &[&mut param], state).unwrap();
            let [a, b] = [one, again].map(|mut optimizer| {
                optimizer.advance();
                optimizer.update(&param, zeros() - 0.3, 0.1).into_data()
            });
            a.assert_eq(&b, true);
        }
    }
}
