//! Two patches of the base, each where it matters and the other does not.
//!
//! Zhao et al., "Towards Comprehensive Post Safety Alignment of Large Language Models via Safety Patching", 2024, arXiv
//! 2405.13820, its merge: of each weight the numbers with the highest scores of the one patch that are not among those of
//! the other. The paper leaves open whether they are ranked among those that its random mask kept or among all: `rank`.

use serde::Deserialize;

use crate::merge::given::{Given, fraction, read, whole};
use crate::merge::keep::Keep;
use crate::merge::needs::{ONE_BASE, one, perhaps};
use crate::merge::select::{Kept, Key};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::recipe::Helper;

pub(super) const SAFEPATCH: Method = Method {
    name: "safepatch",
    summary: "add two patches of the base, each where its scores are highest and the other's are not",
    source: "Zhao et al. 2024, arXiv 2405.13820",
    example: "safepatch,safety_rate=0.3,helpful_rate=0.2",
    needs: Needs::of(&[
        ONE_BASE,
        one(Helper::PatchSafety),
        one(Helper::PatchHelpful),
        one(Helper::ScoreSafety),
        one(Helper::ScoreHelpful),
        perhaps(Helper::MaskSafety),
        perhaps(Helper::MaskHelpful),
    ])
    .with_chance(),
    from_spec: |parameters| {
        let patch: SafePatch = read(parameters)?;
        for (name, share) in
            [("safety_rate", patch.safety_rate), ("helpful_rate", patch.helpful_rate), ("keep", patch.keep)]
        {
            fraction(name, share)?;
        }
        match patch.safety_strength.is_finite() && patch.helpful_strength.is_finite() {
            true => Ok(Box::new(patch)),
            false => Err("strengths are numbers".to_owned()),
        }
    },
    of_models: &[],
    from_settings: |_| {
        Err("mergekit has no such method; it merges `--pre` with `--model`s by role".to_owned())
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SafePatch {
    /// The share of each weight's numbers that a patch may change.
    safety_rate: f64,
    helpful_rate: f64,
    /// What the patches are multiplied with.
    #[serde(default = "whole")]
    safety_strength: f64,
    #[serde(default = "whole")]
    helpful_strength: f64,
    /// The share of a patch's numbers that its random mask keeps.
    #[serde(default = "whole")]
    keep: f64,
    #[serde(default)]
    rank: Rank,
    #[serde(default)]
    seed: u64,
}

/// Among which numbers the highest scores are sought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rank {
    #[default]
    Kept,
    All,
}

/// The inputs behind the base: two patches, two scores.
const PATCHES: [usize; 2] = [1, 2];
const SCORES: [usize; 2] = [3, 4];

impl Merge for SafePatch {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.safety_strength == 0.0 && self.helpful_strength == 0.0)
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        let sides = [
            (Helper::MaskSafety, SCORES[0], self.safety_rate),
            (Helper::MaskHelpful, SCORES[1], self.helpful_rate),
        ];
        let picked = sides.map(|(mask, input, rate)| {
            let keep = Keep::new(whole, mask, whole.name.to_owned(), (self.keep, self.seed));
            let ranked = |given: &Given<'_>, keys: &mut [f32]| self.keys(&keep, input, given, keys);
            let n = whole.len;
            let first = n - ((rate * n as f64).floor() as usize).min(n);
            let kept = Kept::new(whole, Key { compute: &ranked, by_rows: false }, first..n);
            Picked { keep, kept, input }
        });
        let strengths = [self.safety_strength as f32, self.helpful_strength as f32];
        Box::new(Patched { of: self, piece_len: whole.piece_len(), picked, strengths })
    }
}

impl SafePatch {
    /// What is ranked: scores, those of numbers that are not kept below all others.
    fn keys(&self, keep: &Keep<'_>, input: usize, given: &Given<'_>, keys: &mut [f32]) {
        keys.copy_from_slice(given.inputs[input]);
        if self.rank == Rank::All {
            return;
        }
        for (key, kept) in keys.iter_mut().zip(keep.kept(given.start, given.len())) {
            // The next number up keeps the order and leaves zero to what is not kept.
            *key = if kept { f32::from_bits(key.abs().to_bits() + 1) } else { 0.0 };
        }
    }
}

struct Picked<'w> {
    keep: Keep<'w>,
    kept: Kept,
    input: usize,
}

struct Patched<'w> {
    of: &'w SafePatch,
    piece_len: usize,
    picked: [Picked<'w>; 2],
    strengths: [f32; 2],
}

impl Rule for Patched<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let [safety, helpful] = self.picked.each_ref().map(|Picked { keep, kept, input }| {
            let mut keys = vec![0.0; given.len()];
            self.of.keys(keep, *input, given, &mut keys);
            let mut is_high = kept.among(given.start / self.piece_len);
            let high: Vec<bool> = keys.into_iter().map(&mut is_high).collect();
            high.into_iter().zip(keep.kept(given.start, given.len())).map(|(a, b)| a && b).collect::<Vec<_>>()
        });
        out.copy_from_slice(given.base());
        for (i, out) in out.iter_mut().enumerate() {
            let side = match (safety[i], helpful[i]) {
                (true, false) => 0,
                (false, true) => 1,
                _ => continue,
            };
            let base = *out;
            *out = base + self.strengths[side] * (given.inputs[PATCHES[side]][i] - base);
        }
    }
}
