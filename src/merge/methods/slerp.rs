//! Spherical linear interpolation between two models.
//!
//! Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985.
//! Each weight is one vector: all its elements, flattened. As in the tools of the field the end
//! points keep their norms: the unnormalised weights are combined.

use serde::Deserialize;

use crate::merge::between::Between;
use crate::merge::given::{fraction, read};
use crate::merge::sphere::{arc, cosine};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const SLERP: Method = Method {
    name: "slerp",
    summary: "walk the arc from the base to the tuned model",
    source: "Shoemake 1985",
    example: "slerp:0.5",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let Arc { lambda, collinear } = read(parameters)?;
        fraction("λ", lambda)?;
        if !(0.0..1.0).contains(&collinear) {
            return Err(format!("collinear is {collinear}, expected a cosine from 0 to below 1"));
        }
        Ok(Box::new(Slerp { t: lambda, collinear }))
    },
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=1)?;
        let All { t } = settings.all()?;
        Ok(Box::new(Slerp { t, collinear: collinear() }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arc {
    /// How far along the arc, from 0 (base) to 1 (tuned).
    lambda: f64,
    #[serde(default = "collinear")]
    collinear: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    t: f64,
}

struct Slerp {
    t: f64,
    /// Above this |cos| the arc is too short to divide by its sine, and a line serves as well.
    collinear: f64,
}

fn collinear() -> f64 {
    0.9995 // 1.8 degrees: two models that training barely moved apart.
}

impl Merge for Slerp {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        match self.t {
            0.0 => base,
            1.0 => base.map(|base| 1 - base),
            _ => None,
        }
    }

    fn remark(&self) -> Option<String> {
        let outside = !(0.0..=1.0).contains(&self.t);
        outside.then(|| format!("`t` is {}: past the ends of the arc", self.t))
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let products = whole.products(false);
        let cos = cosine(products[0][0], products[1][1], products[0][1]);
        let fell_back = cos.abs() > self.collinear;
        let scales = if fell_back { [1.0 - self.t, self.t] } else { arc(cos.acos(), self.t) };
        Box::new(Between::base_and_other(scales, whole.base, fell_back))
    }
}

#[cfg(test)]
mod tests {
    use super::Slerp;
    use crate::merge::tests::merged;

    fn halfway(base: &[f32], tuned: &[f32]) -> (Vec<f32>, bool) {
        merged(&Slerp { t: 0.5, collinear: 0.9995 }, base.len(), base, tuned)
    }

    #[test]
    fn halfway_between_orthogonal_vectors_keeps_the_norm() {
        let (values, fell_back) = halfway(&[1.0, 0.0], &[0.0, 1.0]);
        let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6 && !fell_back);
    }

    #[test]
    fn models_that_barely_parted_take_the_line_and_say_so() {
        assert_eq!(halfway(&[1.0, 0.0], &[1.0, 0.01]), (vec![1.0, 0.005], true));
    }
}
