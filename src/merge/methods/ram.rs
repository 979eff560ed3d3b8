//! Numbers that one tuned model alone has changed are kept whole, shared ones averaged.

use serde::Deserialize;

use crate::merge::given::Given;
use crate::merge::{Merge, MergedWeight, Method};

const SOURCE: &str = "arXiv 2601.13572";
const ONE_MODEL: &str = "it compares tuned models with each other, and there is one";

pub(super) const RAM: Method = Method {
    name: "ram",
    summary: "of several tuned models, lone changes kept whole and shared ones averaged",
    source: SOURCE,
    example: "",
    from_spec: |_| Err(ONE_MODEL.to_owned()),
    from_settings: |settings| {
        settings.none_of_each()?;
        settings.with_base(1..=usize::MAX)?;
        let All { epsilon } = settings.all()?;
        Ok(Box::new(Ram { epsilon, more: None }))
    },
};

pub(super) const RAMPLUS_TL: Method = Method {
    name: "ramplus_tl",
    summary: "as ram, lone changes the stronger the more a model shares",
    source: SOURCE,
    example: "",
    from_spec: |_| Err(ONE_MODEL.to_owned()),
    from_settings: |settings| {
        settings.none_of_each()?;
        settings.with_base(1..=usize::MAX)?;
        let Plus { epsilon, r, alpha } = settings.all()?;
        Ok(Box::new(Ram { epsilon, more: Some((r, alpha)) }))
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

impl Merge for Ram {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let updates = given.updates();
        let changed = |x: f32| x.abs() > self.epsilon as f32;
        let count = |i: usize| updates.iter().filter(|update| changed(update[i])).count();
        let counts: Vec<usize> = (0..given.len()).map(count).collect();
        let scale = |update: &Vec<f32>| {
            let Some((r, alpha)) = self.more else { return 1.0 };
            let of = |wanted: fn(usize) -> bool| {
                let both = update.iter().zip(&counts);
                both.filter(|(x, count)| changed(**x) && wanted(**count)).count() as f64
            };
            let (shared, lone) = (of(|count| count > 1), of(|count| count == 1));
            (1.0 + r * (shared / lone.max(self.epsilon)).clamp(0.0, alpha)) as f32
        };
        let scales: Vec<f32> = updates.iter().map(scale).collect();
        let number = |((i, base), count): ((usize, &f32), &usize)| {
            let mut sum = 0.0f32;
            for (update, scale) in updates.iter().zip(&scales).filter(|(update, _)| changed(update[i])) {
                sum += if *count == 1 { update[i] * scale } else { update[i] / *count as f32 };
            }
            base + sum
        };
        given.base().iter().enumerate().zip(&counts).map(number).collect::<Vec<_>>().into()
    }
}
