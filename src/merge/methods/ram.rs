//! Numbers that one tuned model alone has changed are kept whole, shared ones averaged.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

const SOURCE: &str = "arXiv 2601.13572";

pub(super) const RAM: Method = Method {
    name: "ram",
    summary: "of several tuned models, lone changes kept whole and shared ones averaged",
    source: SOURCE,
    example: "ram",
    needs: Needs::SEVERAL,
    from_spec: |parameters| Ok(Box::new(Ram::from(read::<All>(parameters)?))),
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=usize::MAX)?;
        Ok(Box::new(Ram::from(settings.all::<All>()?)))
    },
};

pub(super) const RAMPLUS_TL: Method = Method {
    name: "ramplus_tl",
    summary: "as ram, lone changes the stronger the more a model shares",
    source: SOURCE,
    example: "ramplus_tl",
    needs: Needs::SEVERAL,
    from_spec: |parameters| Ok(Box::new(Ram::from(read::<Plus>(parameters)?))),
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=usize::MAX)?;
        Ok(Box::new(Ram::from(settings.all::<Plus>()?)))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default = "tiny")]
    epsilon: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plus {
    #[serde(default = "tiny")]
    epsilon: f64,
    #[serde(default = "tenth")]
    r: f64,
    #[serde(default = "fifth")]
    alpha: f64,
}

fn tiny() -> f64 {
    1e-5
}
fn tenth() -> f64 {
    0.1
}
fn fifth() -> f64 {
    0.2
}

struct Ram {
    /// A smaller change is none.
    epsilon: f64,
    /// r and α of the plus form.
    more: Option<(f64, f64)>,
}

impl From<All> for Ram {
    fn from(All { epsilon }: All) -> Self {
        Self { epsilon, more: None }
    }
}

impl From<Plus> for Ram {
    fn from(Plus { epsilon, r, alpha }: Plus) -> Self {
        Self { epsilon, more: Some((r, alpha)) }
    }
}

impl Merge for Ram {
    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let n = whole.inputs.len() - 1;
        let Some((r, alpha)) = self.more else {
            return Box::new(Scaled { of: self, scales: vec![1.0; n] });
        };
        // For each update the numbers that it shares with another, then those that are its own.
        let counts = whole.counts(2 * n, |given, counts| {
            let updates = given.updates();
            for i in 0..given.len() {
                let changed = self.changed(&updates, i);
                for (nth, update) in updates.iter().enumerate() {
                    counts[2 * nth + usize::from(changed == 1)] += u64::from(self.is_change(update[i]));
                }
            }
        });
        let scale = |counts: &[u64]| {
            let (shared, lone) = (counts[0] as f64, counts[1] as f64);
            (1.0 + r * (shared / lone.max(self.epsilon)).clamp(0.0, alpha)) as f32
        };
        Box::new(Scaled { of: self, scales: counts.chunks(2).map(scale).collect() })
    }
}

impl Ram {
    fn is_change(&self, x: f32) -> bool {
        x.abs() > self.epsilon as f32
    }

    /// How many of the updates change this number.
    fn changed(&self, updates: &[Vec<f32>], i: usize) -> usize {
        updates.iter().filter(|update| self.is_change(update[i])).count()
    }
}

/// With what lone changes of each update are multiplied.
struct Scaled<'a> {
    of: &'a Ram,
    scales: Vec<f32>,
}

impl Rule for Scaled<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let updates = given.updates();
        for (i, (out, base)) in out.iter_mut().zip(given.base()).enumerate() {
            let (n, mut sum) = (self.of.changed(&updates, i), 0.0f32);
            for (update, scale) in updates.iter().zip(&self.scales).filter(|(u, _)| self.of.is_change(u[i])) {
                sum += if n == 1 { update[i] * scale } else { update[i] / n as f32 };
            }
            *out = base + sum;
        }
    }
}
