//! Spherical interpolation without a threshold: over whole weights, rows or columns, of models or
//! of their updates.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

use crate::merge::between::Between;
use crate::merge::given::{Given, Share, fraction, read, yes};
use crate::merge::products::dot;
use crate::merge::sphere::{Combination, arc};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const NUSLERP: Method = Method {
    name: "nuslerp",
    summary: "walk the arc from the base to the tuned model, row by row if asked",
    source: "mergekit; Shoemake 1985",
    example: "nuslerp:0.5,over=rows",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let Arc { lambda, over } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(NuSlerp { t: lambda, over, of_updates: false, idle: false }))
    },
    of_models: &["weight"],
    from_settings: |settings| {
        let All { row_wise, flatten } = settings.all()?;
        let weights: Vec<Share> = match settings.base {
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
        let (of_updates, idle) = (settings.base.is_some(), flatten && row_wise);
        Ok(Box::new(NuSlerp { t, over, of_updates, idle }))
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
    /// Columns were asked for, and that has no effect on whole weights.
    idle: bool,
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

    fn remark(&self) -> Option<String> {
        let remark = "`nuslerp_row_wise` has no effect while `nuslerp_flatten` is true";
        self.idle.then(|| remark.to_owned())
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        // A vector has one row, and as a column it would be no different.
        let over = if whole.len == whole.columns { Over::All } else { self.over };
        let groups = match over {
            Over::All => {
                let products = whole.products(self.of_updates);
                let (scales, fell_back) = self.scales(products[0][0], products[1][1], products[0][1]);
                return match whole.base.filter(|_| self.of_updates) {
                    Some(base) => Box::new(Combination::of_updates(scales.to_vec(), base, fell_back)),
                    None => Box::new(Between::base_and_other(scales, whole.base, fell_back)),
                };
            }
            Over::Rows => Groups::Rows,
            Over::Columns => {
                let sums = whole.sums(3 * whole.columns, |given, sums| {
                    self.with_ends(given, |a, b| add_products(a, b, sums));
                });
                let scales = sums.chunks(3).map(|sum| self.scales(sum[0], sum[1], sum[2]));
                Groups::Columns(scales.collect())
            }
        };
        Box::new(Grouped { of: self, groups, fell_back: AtomicBool::new(false) })
    }
}

impl NuSlerp {
    /// What the two ends are multiplied with, by their inner products; and whether it is a line.
    fn scales(&self, aa: f64, bb: f64, ab: f64) -> ([f64; 2], bool) {
        let cos = (ab / (aa.sqrt().max(SHORTEST) * bb.sqrt().max(SHORTEST))).clamp(-1.0, 1.0);
        match 1.0 - cos * cos <= PARALLEL {
            true => ([1.0 - self.t, self.t], true),
            false => (arc(cos.acos(), self.t), false),
        }
    }

    /// Shows the two ends of the arc.
    fn with_ends<R>(&self, given: &Given<'_>, show: impl FnOnce(&[f32], &[f32]) -> R) -> R {
        if self.of_updates {
            let updates = given.updates();
            return show(&updates[0], &updates[1]);
        }
        let first = given.base.unwrap_or(0);
        show(given.inputs[first], given.inputs[1 - first])
    }
}

/// Adds the inner products `aa`, `bb`, `ab` of each column to its sums.
fn add_products(a: &[f32], b: &[f32], sums: &mut [f64]) {
    let n = sums.len();
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b, at) = (f64::from(*a), f64::from(*b), 3 * i % n);
        sums[at] += a * a;
        sums[at + 1] += b * b;
        sums[at + 2] += a * b;
    }
}

/// One arc for each row or column.
struct Grouped<'a> {
    of: &'a NuSlerp,
    groups: Groups,
    fell_back: AtomicBool,
}

enum Groups {
    /// Every row is whole in its piece: its arc is found there.
    Rows,
    Columns(Vec<([f64; 2], bool)>),
}

impl Rule for Grouped<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let columns = given.columns;
        self.of.with_ends(given, |a, b| {
            for ((a, b), out) in a.chunks(columns).zip(b.chunks(columns)).zip(out.chunks_mut(columns)) {
                let of_row = match &self.groups {
                    Groups::Rows => Some(self.of.scales(dot(a, a), dot(b, b), dot(a, b))),
                    Groups::Columns(_) => None,
                };
                for (i, out) in out.iter_mut().enumerate() {
                    let (scales, fell_back) = match (&self.groups, of_row) {
                        (Groups::Columns(scales), _) => scales[i],
                        (Groups::Rows, row) => row.expect("a row has its scales"),
                    };
                    if fell_back {
                        self.fell_back.store(true, Ordering::Relaxed);
                    }
                    *out = scales[0] as f32 * a[i] + scales[1] as f32 * b[i];
                }
            }
        });
        if self.of.of_updates {
            out.iter_mut().zip(given.base()).for_each(|(out, base)| *out += base);
        }
    }

    fn fell_back(&self) -> bool {
        self.fell_back.load(Ordering::Relaxed)
    }
}
