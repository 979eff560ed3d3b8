//! Back towards the base only in some places: where the update lies off what alignment used, or in the layers that bring
//! refusals back.
//!
//! The merge of Farn et al., arXiv 2412.19512, matrix by matrix, with the rule of SafeMERGE (Djuhera et al. 2025, arXiv
//! 2503.17239) for which: no data of refusals are needed, only the unaligned model. Or layer by layer, with about fifty
//! harmful requests that say which: each layer alone is put back to the base in the tuned model, and refusals are counted.

use serde::Deserialize;

use crate::merge::choice::Choice;
use crate::merge::given::{Given, fraction, read, whole};
use crate::merge::needs::{ONE_BASE, ONE_TUNED, one};
use crate::merge::{Merge, Method, Needs, Restoring, Rule, Whole};
use crate::recipe::Helper;

pub(super) const SELECT: Method = Method {
    name: "select",
    summary: "between base and tuned model where the update lies off the alignment direction, else tuned",
    source: "ours, after arXiv 2412.19512 and 2503.17239",
    example: "select,relative=1.0,weight=0.5",
    needs: Needs::of(&[ONE_BASE, ONE_TUNED, one(Helper::Unaligned)]),
    from_spec: |mut parameters| {
        let choice = Choice::take(&mut parameters, None, false)?;
        let Parameters { lambda, weight } = read(parameters)?;
        fraction("λ", lambda)?;
        fraction("weight", weight)?;
        Ok(Box::new(Select { lambda, weight, choice }))
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

pub(super) const RESTORE: Method = Method {
    name: "restore",
    summary: "between base and tuned model in the layers that bring refusals back, else tuned",
    source: "ours, after arXiv 2412.19512 and 2408.17003",
    example: "restore,layers=1,weight=0.5",
    needs: Needs::PAIR.with_probe(),
    from_spec: |parameters| {
        let restore: Restore = read(parameters)?;
        fraction("weight", restore.weight)?;
        if restore.layers == 0 {
            return Err("layers is at least 1".to_owned());
        }
        Ok(Box::new(restore))
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; a run asks which layers".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    #[serde(default = "alone")]
    layers: usize,
    weight: f64,
}

fn alone() -> usize {
    1
}

impl Merge for Restore {
    fn restoring(&self) -> Option<Restoring> {
        Some(Restoring { layers: self.layers, weight: self.weight })
    }

    /// In a weight of a layer that is put back.
    fn prepare<'w>(&'w self, _whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        Box::new(Scaled { share: self.weight as f32 })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default = "whole")]
    lambda: f64,
    /// Of the tuned model in the matrices that are chosen; the base has the rest.
    weight: f64,
}

struct Select {
    lambda: f64,
    weight: f64,
    choice: Choice,
}

impl Merge for Select {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.lambda == 0.0)
    }

    fn choice(&self) -> Option<&Choice> {
        Some(&self.choice)
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        let share = if whole.chosen == Some(true) { self.weight } else { 1.0 };
        Box::new(Scaled { share: (self.lambda * share) as f32 })
    }
}

/// The update times a number; at both ends a model bit for bit.
struct Scaled {
    share: f32,
}

impl Rule for Scaled {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        if self.share == 0.0 {
            return out.copy_from_slice(given.base());
        }
        if self.share == 1.0 {
            return out.copy_from_slice(given.other());
        }
        given.update(0, out);
        for (out, base) in out.iter_mut().zip(given.base()) {
            *out = base + self.share * *out;
        }
    }
}
