//! Each number by how much it matters to the model that it comes from.
//!
//! Matena and Raffel, "Merging Models with Fisher-Weighted Averaging", 2021, arXiv 2111.09832: the
//! diagonal of the Fisher information says how much. Where we differ: each model's diagonal is
//! divided by its mean over the weight, so that λ is what it is in `linear`, whether the diagonal is
//! a mean over examples or an optimizer's running mean over batches.

use serde::Deserialize;

use crate::merge::given::{Given, fraction, read};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::simd::vectorised;

pub(super) const FISHER: Method = Method {
    name: "fisher",
    summary: "between base and tuned model, each number nearer to the model that it matters more to",
    source: "Matena and Raffel 2021, arXiv 2111.09832",
    example: "fisher:0.5",
    needs: Needs::PAIR.with_importance(),
    from_spec: |parameters| {
        let fisher: Fisher = read(parameters)?;
        fraction("λ", fisher.lambda)?;
        match fisher.floor as f32 > 0.0 {
            true => Ok(Box::new(fisher)),
            false => Err(format!("floor is {}, expected a number above 0", fisher.floor)),
        }
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fisher {
    /// The weight of the tuned model where both matter alike, from 0 (base) to 1 (tuned).
    lambda: f64,
    /// What every number matters at least, as a share of the mean.
    #[serde(default = "floor")]
    floor: f64,
}

fn floor() -> f64 {
    1e-6 // As the authors' code and MergeLM have it.
}

impl Merge for Fisher {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        match self.lambda {
            0.0 => base,
            1.0 => base.map(|base| 1 - base),
            _ => None,
        }
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let sums = whole.sums(2, |given, sums| {
            for (sum, importance) in sums.iter_mut().zip(given.importance) {
                *sum += importance.iter().map(|x| f64::from(x.max(0.0))).sum::<f64>();
            }
        });
        // Where nothing matters to a model, everything matters alike.
        let scale = |sum: f64| if sum > 0.0 { whole.len as f64 / sum } else { 0.0 };
        let of =
            |share: f64, sum: f64| [share * scale(sum), share * if sum > 0.0 { self.floor } else { 1.0 }];
        Box::new(Weighing {
            base: of(1.0 - self.lambda, sums[0]).map(|x| x as f32),
            tuned: of(self.lambda, sums[1]).map(|x| x as f32),
        })
    }
}

/// What importance is multiplied with, and what is added to it.
struct Weighing {
    base: [f32; 2],
    tuned: [f32; 2],
}

impl Rule for Weighing {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let [of_base, of_tuned] = [given.importance[0], given.importance[1]];
        weigh((given.base(), of_base, self.base), (given.other(), of_tuned, self.tuned), out);
    }
}

vectorised! {
    fn weigh<'a>(a: (&'a [f32], &'a [f32], [f32; 2]), b: (&'a [f32], &'a [f32], [f32; 2]), out: &'a mut [f32]) {
        let ((a, of_a, [scale_a, floor_a]), (b, of_b, [scale_b, floor_b])) = (a, b);
        for ((((out, a), b), of_a), of_b) in out.iter_mut().zip(a).zip(b).zip(of_a).zip(of_b) {
            let of_a = of_a.max(0.0) * scale_a + floor_a;
            let of_b = of_b.max(0.0) * scale_b + floor_b;
            *out = a + (b - a) * (of_b / (of_a + of_b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FISHER;
    use crate::merge::Whole;
    use crate::merge::whole::Room;
    use crate::snapshot::{Numbers, Weight};

    #[test]
    fn a_number_goes_to_the_model_that_it_matters_to() {
        let numbers = |x: [f32; 4]| Numbers::Stored(Weight::from_f32(vec![4], &x));
        let inputs = [numbers([0.0; 4]), numbers([1.0; 4])];
        // The base needs the first alone; the scale of either diagonal plays no part.
        let importance = [numbers([4.0, 0.0, 0.0, 0.0]), numbers([7.0; 4])];
        let whole = Whole { importance: &importance, base: Some(0), ..Whole::new("w", 4, 4, &inputs) };
        let merge = (FISHER.from_spec)("lambda = 0.5".parse().unwrap()).unwrap();
        let mut out = [0.0; 4];
        let _: Result<(), ()> = whole.pieces(0, &mut Room::default(), |given| {
            merge.prepare(&whole).merge(given, &mut out);
            Ok(())
        });
        let expected = [1.0 / 5.0, 1.0, 1.0, 1.0];
        assert!(out.iter().zip(expected).all(|(out, expected)| (out - expected).abs() < 1e-5), "{out:?}");
    }
}
