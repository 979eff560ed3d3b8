//! Directions in the space of a model's weights, and the model along them.
//!
//! Peng et al., "Navigating the Safety Landscape: Measuring Risks in Finetuning Large Language Models", 2024, arXiv
//! 2405.17374, after Li et al., "Visualizing the Loss Landscape of Neural Nets", 2017, arXiv 1712.09913. As in the authors'
//! program each tensor of a random direction has the Frobenius norm of the model's, tensors with `norm` in their names stay
//! where they are, embedding and head move, and a second direction is not made orthogonal to the first. Where we differ: a
//! point is computed from the model at once and not step by step, so that α = 0 is the model bit for bit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::methods::weighted_by;
use super::{Besides, Merge, Merged, Part, Whole};
use crate::seed::rng;
use crate::snapshot::{Dtype, Dtypes, Numbers, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// Standard normal numbers in the shapes of a model's weights.
///
/// Each is a function of the seed, the direction's number, the weight's name and its place in the weight: threads and
/// portions in which it is read change nothing.
pub struct Noise {
    infos: BTreeMap<String, WeightInfo>,
    seed: u64,
    nth: usize,
}

impl Noise {
    /// The `nth` noise of a seed, in the shapes of `like`.
    pub fn new(like: &dyn Weights, seed: u64, nth: usize) -> Self {
        Self { infos: in_f32(like, |_| true), seed, nth }
    }
}

impl Weights for Noise {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        read_whole(self, name)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let stream = rng(self.seed, &format!("direction {} {name}", self.nth));
        Ok(Numbers::Made(Box::new(move |start, out| normals(stream.clone(), start, out))))
    }
}

/// Words of the stream that two normal numbers are made of: two numbers of 64 bits.
const WORDS: u128 = 4;

/// Normal numbers from the `start`th on. Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
fn normals(mut stream: ChaCha8Rng, start: usize, out: &mut [f32]) {
    stream.set_word_pos((start / 2) as u128 * WORDS);
    // Between 0 and 1, 53 bits.
    let mut uniform = || (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut pair = || {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform()).sin_cos();
        [(radius * cosine) as f32, (radius * sine) as f32]
    };
    let mut rest = out;
    // The second of a pair whose first was asked for before.
    if start % 2 == 1 && !rest.is_empty() {
        rest[0] = pair()[1];
        rest = &mut rest[1..];
    }
    for two in rest.chunks_mut(2) {
        two.copy_from_slice(&pair()[..two.len()]);
    }
}

/// A direction around a model: noise, tensor by tensor of the model's Frobenius norm. It has no weight that it does not move.
pub struct Direction {
    noise: SharedWeights,
    around: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
    /// ‖W‖ / ‖noise‖ of the weights that were asked for.
    scales: Mutex<BTreeMap<String, f32>>,
}

impl Direction {
    /// The direction of `noise`, which has the weights of `around`.
    pub fn new(noise: SharedWeights, around: SharedWeights) -> Self {
        let infos = in_f32(&around, |name| !name.to_lowercase().contains("norm"));
        Self { noise, around, infos, scales: Mutex::default() }
    }

    fn scale(&self, name: &str, noise: &Numbers<'_>) -> Result<f32, SnapshotError> {
        if let Some(scale) = self.scales.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(*scale);
        }
        let len = self.infos.get(name).map_or(0, WeightInfo::n_elements);
        let squares = |numbers: &Numbers<'_>| squares(name, len, numbers);
        let (of_model, of_noise) = (squares(&self.around.numbers(name)?), squares(noise));
        let scale = if of_noise > 0.0 { (of_model / of_noise).sqrt() as f32 } else { 0.0 };
        self.scales.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), scale);
        Ok(scale)
    }
}

impl Weights for Direction {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        read_whole(self, name)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let noise = self.noise.numbers(name)?;
        let scale = self.scale(name, &noise)?;
        Ok(Numbers::Made(Box::new(move |start, out| {
            noise.read(start, out);
            for x in out {
                *x *= scale;
            }
        })))
    }
}

/// The way from one model to another, as a direction: `to − from`.
pub struct Toward {
    from: SharedWeights,
    to: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Toward {
    /// The way over the weights that both have.
    pub fn new(from: SharedWeights, to: SharedWeights) -> Self {
        let infos = in_f32(&from, |name| to.infos().contains_key(name));
        Self { from, to, infos }
    }
}

impl Weights for Toward {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        read_whole(self, name)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let (from, to) = (self.from.numbers(name)?, self.to.numbers(name)?);
        Ok(Numbers::Made(Box::new(move |start, out| {
            let mut before = vec![0.0; out.len()];
            from.read(start, &mut before);
            to.read(start, out);
            out.iter_mut().zip(before).for_each(|(x, before)| *x -= before);
        })))
    }
}

/// The model at a point: the weights of `from` and so much of each direction, in f32, each rounded once to its dtype. A
/// weight that no direction moves is that of `from` bit for bit, and so is all of it at the origin.
///
/// # Errors
///
/// A direction has a weight in another shape.
pub fn moved(
    name: String,
    from: SharedWeights,
    steps: &[(SharedWeights, f64)],
    dtypes: &Dtypes,
) -> Result<Merged, SnapshotError> {
    let steps: Vec<&(SharedWeights, f64)> = steps.iter().filter(|(_, step)| *step != 0.0).collect();
    let mut models = vec![(from.clone(), "the model".to_owned())];
    models.extend(steps.iter().map(|(direction, _)| (direction.clone(), "a direction".to_owned())));
    let mut methods: BTreeMap<Vec<usize>, Arc<dyn Merge>> = BTreeMap::new();
    let part = |name: &String| {
        let moving = (0..steps.len()).filter(|nth| steps[*nth].0.infos().contains_key(name));
        let moving: Vec<usize> = moving.collect();
        let method = methods.entry(moving.clone()).or_insert_with(|| {
            let weights = moving.iter().map(|nth| steps[*nth].1);
            Arc::from(weighted_by([1.0].into_iter().chain(weights).collect()))
        });
        let others = moving.iter().map(|nth| (nth + 1, name.clone()));
        let inputs = [(0, name.clone())].into_iter().chain(others).collect();
        (
            name.clone(),
            Part {
                inputs,
                base: Some(0),
                importance: Vec::new(),
                method: method.clone(),
                besides: Besides::default(),
            },
        )
    };
    let parts = from.infos().keys().map(part).collect();
    Ok(Merged::of_parts(name, models, parts, None)?.in_dtypes(dtypes, "model.dtype").tracked(None))
}

/// What is known of some of a model's weights, in f32.
fn in_f32(model: &dyn Weights, is_one: impl Fn(&str) -> bool) -> BTreeMap<String, WeightInfo> {
    let of = |info: &WeightInfo| WeightInfo { shape: info.shape.clone(), dtype: Dtype::F32 };
    let some = model.infos().iter().filter(|(name, _)| is_one(name));
    some.map(|(name, info)| (name.clone(), of(info))).collect()
}

fn read_whole<'w>(weights: &'w dyn Weights, name: &str) -> Result<Weight<'w>, SnapshotError> {
    let numbers = weights.numbers(name)?;
    let shape = weights.infos().get(name).map(|info| info.shape.clone()).unwrap_or_default();
    let mut values = vec![0.0; shape.iter().product()];
    numbers.read(0, &mut values);
    Ok(Weight::from_f32(shape, &values))
}

/// The sum of squares in f64, the same for any number of threads.
fn squares(name: &str, len: usize, numbers: &Numbers<'_>) -> f64 {
    let inputs = std::slice::from_ref(numbers);
    let whole = Whole::new(name, 1, len, inputs);
    let sums = whole.sums(1, |given, sums| {
        sums[0] += given.inputs[0].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    });
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matrices, a norm and a zero with a sign.
    struct Model(BTreeMap<String, WeightInfo>);

    impl Model {
        fn shared() -> SharedWeights {
            let info = |shape: &[usize]| WeightInfo { shape: shape.to_vec(), dtype: Dtype::Bf16 };
            let infos = [("embed", info(&[100, 41])), ("a.norm.weight", info(&[41])), ("b", info(&[3]))];
            Arc::new(Self(infos.map(|(name, info)| (name.to_owned(), info)).into()))
        }
    }

    impl Weights for Model {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }

        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            let info = &self.0[name];
            let value = |i: usize| if i == 1 { -0.0 } else { (i * 37 % 101) as f32 / 64.0 - 0.7 };
            let values: Vec<f32> = (0..info.n_elements()).map(value).collect();
            Ok(Weight::rounded(info.shape.clone(), &values, info.dtype))
        }
    }

    fn direction(seed: u64, nth: usize) -> SharedWeights {
        let model = Model::shared();
        Arc::new(Direction::new(Arc::new(Noise::new(&model, seed, nth)), model))
    }

    fn at(steps: &[(SharedWeights, f64)]) -> Merged {
        moved("p".to_owned(), Model::shared(), steps, &Dtypes::all(Dtype::Bf16)).unwrap()
    }

    fn bytes(weights: &dyn Weights) -> Vec<Vec<u8>> {
        weights.infos().keys().map(|name| weights.weight(name).unwrap().bytes.into_owned()).collect()
    }

    fn norm(weights: &dyn Weights, name: &str) -> f64 {
        weights.weight(name).unwrap().to_f32().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn a_direction_is_as_long_as_the_model_and_leaves_norms_alone() {
        let (model, direction) = (Model::shared(), direction(1, 0));
        for name in ["embed", "b"] {
            let (found, expected) = (norm(&direction, name), norm(&model, name));
            assert!((found / expected - 1.0).abs() < 1e-6, "{name}: {found} is not {expected}");
        }
        assert!(!direction.infos().contains_key("a.norm.weight"));
    }

    #[test]
    fn the_origin_is_the_model_bit_for_bit() {
        let (a, b) = (direction(1, 0), direction(1, 1));
        assert_eq!(bytes(&at(&[(a.clone(), 0.0), (b.clone(), 0.0)])), bytes(&Model::shared()));
        let there = at(&[(a.clone(), 0.5), (b.clone(), 0.0)]);
        let same =
            |name: &str| there.weight(name).unwrap().bytes == Model::shared().weight(name).unwrap().bytes;
        assert_eq!([same("embed"), same("a.norm.weight"), same("b")], [false, true, false]);
        assert_eq!(bytes(&there), bytes(&at(&[(a.clone(), 0.5)])));
        // Half of the direction was added, up to rounding.
        let numbers = |weights: &dyn Weights| weights.weight("embed").unwrap().to_f32();
        let (model, moved, way) = (numbers(&Model::shared()), numbers(&there), numbers(&a));
        for ((model, moved), way) in model.iter().zip(moved).zip(way) {
            assert!((model + 0.5 * way - moved).abs() <= moved.abs() / 256.0 + 1e-6);
        }
    }

    #[test]
    fn noise_is_normal_and_knows_no_portions_and_no_threads() {
        let noise = Noise::new(&Model::shared(), 3, 0);
        let whole = noise.weight("embed").unwrap().to_f32();
        let numbers = noise.numbers("embed").unwrap();
        for (start, n) in [(0, 1), (1, 1), (1, 2), (7, 100), (8, 99), (4099, 1), (4000, 100)] {
            let mut part = vec![0.0; n];
            numbers.read(start, &mut part);
            assert_eq!(part, whole[start..start + n], "{start} {n}");
        }
        let of = |power: i32| whole.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 4100.0;
        // Four standard errors: 4 / √4100, and √2, √15, √96 times that.
        assert!(of(1).abs() < 0.063 && (of(2) - 1.0).abs() < 0.089, "{} {}", of(1), of(2));
        assert!(of(3).abs() < 0.25 && (of(4) - 3.0).abs() < 0.62, "{} {}", of(3), of(4));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let there = || bytes(&at(&[(direction(3, 0), 0.3)]));
        assert_eq!(one.install(there), there());
        let others = [(3, 1), (4, 0)].map(|(seed, nth)| Noise::new(&Model::shared(), seed, nth));
        assert!(others.iter().all(|other| other.weight("embed").unwrap().to_f32() != whole));
        assert_ne!(noise.weight("b").unwrap().to_f32(), whole[..3]);
    }

    #[test]
    fn the_way_to_another_model_ends_there() {
        let other: SharedWeights = Arc::new(Noise::new(&Model::shared(), 9, 0));
        let toward: SharedWeights = Arc::new(Toward::new(Model::shared(), other.clone()));
        let there =
            moved("p".to_owned(), Model::shared(), &[(toward, 1.0)], &Dtypes::all(Dtype::F32)).unwrap();
        for name in other.infos().keys() {
            let (found, expected) =
                (there.weight(name).unwrap().to_f32(), other.weight(name).unwrap().to_f32());
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
        }
    }
}
