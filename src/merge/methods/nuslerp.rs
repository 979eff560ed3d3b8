//! Spherical interpolation without a threshold: over whole weights, rows or columns, of models or
//! of their updates.

use serde::Deserialize;

use crate::merge::deltas::fraction;
use crate::merge::given::{Given, read};
use crate::merge::sphere::arc;
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const NUSLERP: Method = Method {
    name: "nuslerp",
    summary: "walk the arc from the base to the tuned model, row by row if asked",
    source: "mergekit; Shoemake 1985",
    example: "nuslerp:0.5,over=rows",
    from_spec: |parameters| {
        let Arc { lambda, over } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(NuSlerp { t: lambda, over, of_updates: false }))
    },
    from_settings: |settings| {
        let All { row_wise, flatten } = settings.all()?;
        let weights: Vec<One> = match settings.base {
            Some(_) => {
                settings.with_base(2..=2)?;
                settings.others()?
            }
            None => {
                settings.inputs(2..=2)?;
                settings.each()?
            }
        };
        let sum = weights[0].weight + weights[1].weight;
        let t = if sum.abs() < 1e-6 { 0.5 } else { weights[1].weight / sum };
        // mergekit's `row_wise` measures along the first axis: a column of the stored matrix.
        let over = match (flatten, row_wise) {
            (true, _) => Over::All,
            (false, false) => Over::Rows,
            (false, true) => Over::Columns,
        };
        Ok(Box::new(NuSlerp { t, over, of_updates: settings.base.is_some() }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arc {
    lambda: f64,
    #[serde(default)]
    over: Over,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default, rename = "nuslerp_row_wise")]
    row_wise: bool,
    #[serde(default = "yes", rename = "nuslerp_flatten")]
    flatten: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    weight: f64,
}

/// What one angle is taken of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Over {
    #[default]
    All,
    Rows,
    Columns,
}

struct NuSlerp {
    t: f64,
    over: Over,
    of_updates: bool,
}

/// A shorter vector counts as having this length.
const SHORTEST: f64 = 1e-7;
/// Below this sine squared two vectors are parallel, and the arc is a line. Sums are f64: what is
/// left of a right angle's cosine there is far smaller.
const PARALLEL: f64 = 1e-12;

impl Merge for NuSlerp {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        match self.t {
            0.0 if !self.of_updates => Some(base.unwrap_or(0)),
            1.0 if !self.of_updates => Some(1 - base.unwrap_or(0)),
            _ => None,
        }
    }

    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        if self.of_updates {
            let updates = given.updates();
            let mut merged = self.interpolate(&updates[0], &updates[1], given.columns);
            merged.values.iter_mut().zip(given.base()).for_each(|(value, base)| *value += base);
            return merged;
        }
        let first = given.base.unwrap_or(0);
        self.interpolate(given.inputs[first], given.inputs[1 - first], given.columns)
    }
}

impl NuSlerp {
    fn interpolate(&self, a: &[f32], b: &[f32], columns: usize) -> MergedWeight {
        // A vector has one row, and as a column it would be no different.
        let over = if a.len() == columns { Over::All } else { self.over };
        let n_groups = match over {
            Over::All => 1,
            Over::Rows => a.len() / columns.max(1),
            Over::Columns => columns,
        };
        let group = |i: usize| match over {
            Over::All => 0,
            Over::Rows => i / columns,
            Over::Columns => i % columns,
        };
        let mut sums = vec![[0.0f64; 3]; n_groups];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (f64::from(*a), f64::from(*b));
            let [aa, bb, ab] = &mut sums[group(i)];
            (*aa, *bb, *ab) = (*aa + a * a, *bb + b * b, *ab + a * b);
        }
        let mut fell_back = false;
        let scales = sums.into_iter().map(|[aa, bb, ab]| {
            let cos = (ab / (aa.sqrt().max(SHORTEST) * bb.sqrt().max(SHORTEST))).clamp(-1.0, 1.0);
            if 1.0 - cos * cos <= PARALLEL {
                fell_back = true;
                return [(1.0 - self.t) as f32, self.t as f32];
            }
            arc(cos.acos(), self.t).map(|scale| scale as f32)
        });
        let scales: Vec<[f32; 2]> = scales.collect();
        let number = |(i, (a, b)): (usize, (&f32, &f32))| {
            let [of_a, of_b] = scales[group(i)];
            of_a * a + of_b * b
        };
        MergedWeight { values: a.iter().zip(b).enumerate().map(number).collect(), fell_back }
    }
}
