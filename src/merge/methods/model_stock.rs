//! The point nearest to where many tunings would meet, told from the angle between a few of them.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::products::dot;
use crate::merge::sphere::Combination;
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const MODEL_STOCK: Method = Method {
    name: "model_stock",
    summary: "of several tuned models, as near to the base as the angle between their updates says",
    source: "Jang et al. 2024, arXiv 2403.19522",
    example: "model_stock",
    needs: Needs::SEVERAL,
    from_spec: |parameters| {
        let All { filter_wise } = read(parameters)?;
        Ok(Box::new(ModelStock { filter_wise }))
    },
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(2..=usize::MAX)?;
        let All { filter_wise } = settings.all()?;
        Ok(Box::new(ModelStock { filter_wise }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    /// One ratio for each row instead of one for the weight.
    #[serde(default)]
    filter_wise: bool,
}

struct ModelStock {
    filter_wise: bool,
}

impl Merge for ModelStock {
    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        match whole.base.filter(|_| !self.filter_wise) {
            Some(base) => {
                let products = whole.products(true);
                let n = products.len();
                let t = ratio(&products);
                Box::new(Combination::of_updates(vec![t / n as f64; n], base, false))
            }
            None => Box::new(Rows),
        }
    }
}

/// One ratio for each row.
struct Rows;

impl Rule for Rows {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let (updates, columns) = (given.updates(), given.columns.max(1));
        for (row, out) in out.chunks_mut(columns).enumerate() {
            let at = row * columns..row * columns + out.len();
            let rows: Vec<&[f32]> = updates.iter().map(|update| &update[at.clone()]).collect();
            let products = |a: &&[f32]| rows.iter().map(|b| dot(a, b)).collect();
            let t = ratio(&rows.iter().map(products).collect::<Vec<_>>());
            for (i, out) in at.zip(out) {
                let mean = given.others().map(|other| f64::from(other[i])).sum::<f64>() / rows.len() as f64;
                *out = (t * mean + (1.0 - t) * f64::from(given.base()[i])) as f32;
            }
        }
    }
}

/// `k cos / (1 + (k - 1) cos)` with the mean cosine between pairs of updates, told from their inner
/// products (the paper, equation 5 for two models and its extension to k).
fn ratio(products: &[Vec<f64>]) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, of_a) in products.iter().enumerate() {
        for (j, ab) in of_a.iter().enumerate().skip(i + 1) {
            let norms = (of_a[i].sqrt() * products[j][j].sqrt()).max(1e-6);
            sum += (ab / norms).clamp(-1.0, 1.0);
            pairs += 1.0;
        }
    }
    let (cos, k) = (sum / pairs, products.len() as f64);
    let divisor = 1.0 + (k - 1.0) * cos;
    // Updates that oppose each other meet nowhere: the base stays.
    if divisor.abs() < 1e-6 { 0.0 } else { k * cos / divisor }
}
