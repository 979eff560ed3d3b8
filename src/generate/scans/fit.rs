//! Directions, reference and layers from anchors.

use serde::Serialize;

use super::read::States;
use super::{cosine, dot};

/// Means over anchors, one after the other.
#[derive(Debug, Default)]
pub struct Anchors {
    /// By layer the sums of states at the prompts' ends, and of the changes to the suffix.
    end: Vec<Vec<f64>>,
    change: Vec<Vec<f64>>,
    n: usize,
}

impl Anchors {
    /// Adds the states of one.
    pub fn add(&mut self, states: &States) {
        let zeros = || states.end.iter().map(|state| vec![0.0; state.len()]).collect::<Vec<_>>();
        if self.n == 0 {
            (self.end, self.change) = (zeros(), zeros());
        }
        self.n += 1;
        for (layer, (end, last)) in states.end.iter().zip(&states.last).enumerate() {
            for (i, (end, last)) in end.iter().zip(last).enumerate() {
                self.end[layer][i] += f64::from(*end);
                self.change[layer][i] += f64::from(end - last);
            }
        }
    }

    fn mean(&self, sums: &[Vec<f64>]) -> Vec<Vec<f64>> {
        sums.iter().map(|sum| sum.iter().map(|x| x / self.n as f64).collect()).collect()
    }

    /// The mean change from a prompt's last token to the suffix, by layer: of harmful anchors the reference of unsafe
    /// prompts.
    pub fn reference(&self) -> Vec<Vec<f32>> {
        self.mean(&self.change).iter().map(|mean| narrowed(mean)).collect()
    }

    /// The direction from the mean state of `harmless` anchors to that of these, of length 1, by layer; nothing where they
    /// do not differ.
    pub fn directions(&self, harmless: &Self) -> Vec<Vec<f32>> {
        let (own, other) = (self.mean(&self.end), harmless.mean(&harmless.end));
        let layers = own.iter().zip(&other).map(|(own, other)| {
            let difference: Vec<f64> = own.iter().zip(other).map(|(a, b)| a - b).collect();
            let length = difference.iter().map(|x| x * x).sum::<f64>().sqrt();
            let unit = difference.iter().map(|x| if length > 0.0 { x / length } else { 0.0 });
            narrowed(&unit.collect::<Vec<_>>())
        });
        layers.collect()
    }
}

fn narrowed(values: &[f64]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}

/// The lower, the middle and the upper third of so many layers, both ends included; none where one would be empty.
pub fn thirds(n_layers: usize) -> Option<[[usize; 2]; 3]> {
    (n_layers >= 3).then(|| [0, 1, 2].map(|third| [n_layers * third / 3, n_layers * (third + 1) / 3 - 1]))
}

/// The first principal component of vectors, about the origin, of length 1; it points to the side on which they lie.
///
/// # Panics
///
/// There are no vectors.
pub fn principal(vectors: &[Vec<f32>]) -> Vec<f32> {
    // It is a sum of the vectors; the weights are the first eigenvector of their products.
    let products: Vec<Vec<f64>> =
        vectors.iter().map(|a| vectors.iter().map(|b| dot(a, b)).collect()).collect();
    // Not all alike, or vectors that cancel out would have none.
    let mut weights: Vec<f64> = (0..vectors.len()).map(|i| 1.0 + i as f64 / 1e3).collect();
    for _ in 0..STEPS {
        let next: Vec<f64> =
            products.iter().map(|row| row.iter().zip(&weights).map(|(a, b)| a * b).sum()).collect();
        let length = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            break;
        }
        weights = next.iter().map(|x| x / length).collect();
    }
    let m = vectors[0].len();
    let sum = |weights: &[f64]| -> Vec<f32> {
        let at = |i: usize| vectors.iter().zip(weights).map(|(v, w)| w * f64::from(v[i])).sum::<f64>() as f32;
        (0..m).map(at).collect()
    };
    let (component, middle) = (sum(&weights), sum(&vec![1.0; vectors.len()]));
    let length = dot(&component, &component).sqrt();
    let side = if cosine(&component, &middle) < 0.0 { -1.0 } else { 1.0 };
    component
        .iter()
        .map(|x| if length > 0.0 { (side * f64::from(*x) / length) as f32 } else { 0.0 })
        .collect()
}

/// Multiplications by the products; the second eigenvalue of a few vectors is well below the first.
const STEPS: usize = 500;

/// What a direction says through the model's head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spoken {
    /// The layers that it is of, both ends included.
    pub layers: [usize; 2],
    /// The tokens that it raises most.
    pub tokens: Vec<u32>,
    /// How far it raises the words of refusals, in standard deviations of the vocabulary.
    pub refusal: f64,
}

/// What logits that a direction gives say: the likeliest tokens, and how far those of `words` stand above the mean.
///
/// # Panics
///
/// There are no words, or one is outside of the vocabulary.
pub fn spoken(layers: [usize; 2], logits: &[f32], words: &[u32], most: usize) -> Spoken {
    let n = logits.len() as f64;
    let mean = logits.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (logits.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let of_words: f64 = words.iter().map(|word| f64::from(logits[*word as usize]) - mean).sum();
    let refusal = of_words / words.len() as f64 / deviation.max(f64::MIN_POSITIVE);
    let mut tokens: Vec<u32> = (0..u32::try_from(logits.len()).expect("a vocabulary is small")).collect();
    tokens.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    tokens.truncate(most);
    Spoken { layers, tokens, refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(end: [f32; 2], last: [f32; 2]) -> States {
        States { end: vec![end.to_vec(); 2], last: vec![last.to_vec(); 2] }
    }

    #[test]
    fn directions_have_length_one_and_point_from_harmless_to_harmful() {
        let (mut harmful, mut harmless) = (Anchors::default(), Anchors::default());
        harmful.add(&states([4.0, 1.0], [1.0, 1.0]));
        harmful.add(&states([2.0, 3.0], [1.0, 1.0]));
        harmless.add(&states([0.0, -2.0], [9.0, 9.0]));
        let close = |a: &[f32], b: [f32; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        for direction in harmful.directions(&harmless) {
            assert!(close(&direction, [0.6, 0.8]), "{direction:?}");
        }
        assert!(close(&harmful.reference()[1], [2.0, 1.0]));
        assert_eq!(harmless.directions(&harmless), vec![vec![0.0; 2]; 2]);
    }

    #[test]
    fn layers_are_cut_into_thirds() {
        assert_eq!(thirds(32), Some([[0, 9], [10, 20], [21, 31]]));
        assert_eq!(thirds(4), Some([[0, 0], [1, 1], [2, 3]]));
        assert_eq!(thirds(2), None);
    }

    #[test]
    fn the_principal_component_lies_where_most_of_the_vectors_lie() {
        let component = principal(&[vec![1.0, 0.1, 0.0], vec![1.0, -0.1, 0.0], vec![0.9, 0.0, 0.1]]);
        assert!(component[0] > 0.99, "{component:?}");
        let opposite = principal(&[vec![-1.0, 0.0], vec![-0.9, 0.1], vec![0.1, 0.0]]);
        assert!(opposite[0] < -0.99 && (dot(&opposite, &opposite) - 1.0).abs() < 1e-6, "{opposite:?}");
        assert_eq!(principal(&[vec![0.0, 2.0]]), [0.0, 1.0]);
        assert_eq!(principal(&[vec![0.0, 0.0]]), [0.0, 0.0]);
    }

    #[test]
    fn words_are_measured_against_the_whole_vocabulary() {
        let said = spoken([1, 2], &[0.0, 3.0, 1.0, 0.0], &[1], 2);
        assert_eq!((said.layers, said.tokens), ([1, 2], vec![1, 2]));
        // Mean 1, variance (1 + 4 + 0 + 1) / 4.
        assert!((said.refusal - 2.0 / 1.5f64.sqrt()).abs() < 1e-9);
        assert!(spoken([0, 0], &[0.0, 3.0, 1.0, 0.0], &[0, 3], 1).refusal < 0.0);
    }
}
