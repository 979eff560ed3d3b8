//! The base with the strongest directions of its alignment drawn out further, before it is tuned.
//!
//! Perin et al., "LoX: Low-Rank Extrapolation Robustifies LLM Safety Against Fine-tuning", 2025, arXiv 2506.15606:
//! W₀ + c · Vₖ, the best approximation of rank k of V = W₀ − Wᵤ, for every matrix, embedding and head too.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::needs::{ONE_BASE, one};
use crate::merge::subspace::Subspace;
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::recipe::Helper;

pub(super) const LOX: Method = Method {
    name: "lox",
    summary: "draw the base's own alignment out further, to harden it before tuning",
    source: "Perin et al. 2025, arXiv 2506.15606",
    example: "lox,rank=6,strength=0.5",
    needs: Needs::of(&[ONE_BASE, one(Helper::Unaligned)]),
    from_spec: |parameters| {
        let lox: Lox = read(parameters)?;
        match lox.strength.is_finite() && lox.rank <= 4096 {
            true => Ok(Box::new(lox)),
            false => Err("rank is 0 (all) to 4096, and strength a number".to_owned()),
        }
    },
    of_models: &[],
    from_settings: |_| {
        Err("mergekit has no such method; it merges `--pre` with `--model unaligned=`".to_owned())
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lox {
    /// k: how many directions of each matrix; 0 stands for all.
    rank: usize,
    /// c: how much of them is added.
    strength: f64,
}

impl Merge for Lox {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.strength == 0.0)
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        // The input besides the base is the unaligned model, and the update to it is −V.
        let strength = if whole.is_matrix { -self.strength as f32 } else { 0.0 };
        let n_rows = whole.len / whole.columns.max(1);
        let is_low = whole.is_matrix && (1..n_rows.min(whole.columns)).contains(&self.rank);
        Box::new(Drawn { strength, kept: is_low.then(|| Subspace::of_update(whole, self.rank, 1e-12)) })
    }
}

struct Drawn {
    strength: f32,
    /// Everything where there is none.
    kept: Option<Subspace>,
}

impl Rule for Drawn {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        if self.strength == 0.0 {
            return out.copy_from_slice(given.base());
        }
        given.update(0, out);
        if let Some(kept) = &self.kept {
            out.chunks_mut(given.columns).for_each(|row| kept.project(row));
        }
        for (out, base) in out.iter_mut().zip(given.base()) {
            *out = base + self.strength * *out;
        }
    }
}
