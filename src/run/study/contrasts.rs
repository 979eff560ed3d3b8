//! The questions of `[[grid.contrast]]`: found among what the cells measure, answered, their probabilities corrected
//! together.

use super::candidates::names;
use super::series::Series;
use crate::eval::repeated::{Repeated, slope_weights};
use crate::eval::stats::holm;
use crate::recipe::{ALL_SEEDS, Cell, Contrast, Grid, SEED, Spec, VARIANT};
use crate::report::study::Answer;
use crate::run::failure::{Failure, StudyError};

/// That every question is about cells, suites and candidates that the study has.
///
/// # Errors
///
/// One is not.
pub(super) fn check(grid: &Grid, cells: &[Cell]) -> Result<(), Failure> {
    for contrast in &grid.contrasts {
        let wrong = |why: String| StudyError::BadContrast { name: contrast.name.clone(), why };
        let mine: Vec<&Cell> = cells.iter().filter(|cell| is_about(contrast, &cell.at)).collect();
        if mine.is_empty() {
            let variant = contrast.variant.as_deref().unwrap_or_default();
            let known: Vec<&str> = grid.variants.iter().map(|variant| variant.name.as_str()).collect();
            return Err(wrong(format!(
                "no cell has the variant `{variant}`; there are {}",
                known.join(", ")
            ))
            .into());
        }
        let has_suite =
            |cell: &&&Cell| cell.recipe.eval.suites.iter().any(|suite| suite.name() == contrast.suite);
        let asked: Vec<&&Cell> = mine.iter().filter(has_suite).collect();
        if asked.is_empty() {
            return Err(wrong(format!("no suite is called `{}`", contrast.suite)).into());
        }
        let specs = |cell: &Cell| cell.recipe.merge.specs().unwrap_or_default();
        if let Some(method) = &contrast.slope {
            let lambdas = |cell: &Cell| {
                specs(cell)
                    .iter()
                    .filter(|spec| is_of(spec, method) && spec.single_lambda().is_some())
                    .count()
            };
            if !asked.iter().any(|cell| lambdas(cell) > 1) {
                return Err(wrong(format!("no cell merges by `{method}` with two values of λ")).into());
            }
        }
        for side in [&contrast.of, &contrast.less].into_iter().flatten() {
            let (variant, candidate) = sided(side);
            let of_side = |cell: &&Cell| variant.is_none_or(|variant| has(&cell.at, variant));
            let stands = |cell: &Cell| names(&cell.recipe).iter().any(|name| name == candidate);
            if !cells.iter().filter(of_side).any(stands) {
                return Err(wrong(format!("no cell has a candidate `{side}`")).into());
            }
        }
    }
    Ok(())
}

/// Whether a merge is by this method, or by this method with these parameters: `ties`, `ties,density=0.2`.
fn is_of(spec: &Spec, method: &str) -> bool {
    spec.method == method || Spec { lambda: None, ..spec.clone() }.to_string() == method
}

/// A side of a contrast: `slerp:0.5`, or `weight decay 0.3 / tuned` with the variant that it is of.
fn sided(side: &str) -> (Option<&str>, &str) {
    side.split_once(" / ").map_or((None, side), |(variant, candidate)| (Some(variant), candidate))
}

/// Where a cell stands: by axis, what is set.
type At = [(String, String)];

fn has(at: &At, variant: &str) -> bool {
    at.iter().any(|(axis, value)| !axis.contains('.') && value == variant)
}

/// Whether a contrast looks at the cells that stand here.
fn is_about(contrast: &Contrast, at: &At) -> bool {
    if at.iter().any(|(axis, value)| axis == SEED && value == ALL_SEEDS) {
        return false;
    }
    match &contrast.variant {
        Some(variant) => has(at, variant),
        // The recipe as it is: of the axis of variants the nameless point.
        None => at.iter().all(|(axis, value)| axis != VARIANT || value.is_empty()),
    }
}

/// Whether `other` stands where `at` does but for its seed and for `variant`, which it has.
fn is_beside(at: &At, other: &At, variant: &str) -> bool {
    let same = |((axis, value), (_, theirs)): (&(String, String), &(String, String))| {
        axis == SEED || value == theirs || (!axis.contains('.') && theirs == variant)
    };
    has(other, variant) && at.iter().zip(other).all(same)
}

/// The answers, by contrast and group.
pub(super) fn answers(grid: &Grid, all: &[Series<'_>], notes: &mut Vec<String>) -> Vec<Answer> {
    let mut found: Vec<Answer> = Vec::new();
    for contrast in &grid.contrasts {
        let mut groups: Vec<&str> = Vec::new();
        for one in all.iter().filter(|one| is_about(contrast, one.at)) {
            if !groups.contains(&one.group) {
                groups.push(one.group);
            }
        }
        let before = found.len();
        found.extend(groups.into_iter().filter_map(|group| answer(contrast, group, all, notes)));
        if found.len() == before {
            notes.push(format!("`{}` has no answer yet: its cells are missing", contrast.name));
        }
    }
    let p: Vec<Option<f64>> = found.iter().map(|answer| answer.estimate.p).collect();
    found.iter_mut().zip(holm(&p)).for_each(|(answer, p)| answer.p_holm = p.unwrap_or(1.0));
    found
}

fn answer(contrast: &Contrast, group: &str, all: &[Series<'_>], notes: &mut Vec<String>) -> Option<Answer> {
    let measured = |one: &&Series<'_>| {
        let metric = contrast.metric.as_deref().map_or(one.headline, |metric| metric == one.metric);
        one.suite == contrast.suite && metric
    };
    let first = all.iter().filter(|one| one.group == group).find(measured)?;
    let like = |one: &&Series<'_>| one.measure() == first.measure();
    let (what, values) = if let Some(method) = &contrast.slope {
        let is_family = |one: &Series<'_>| one.group == group && one.family().as_ref() == Some(method);
        // The merges of one model are a line of their own: `linear` is not `linear,of=ema`.
        let has_family = all.iter().any(is_family);
        let is_along = |one: &&Series<'_>| match has_family {
            true => is_family(one),
            false => one.group == group && one.method == Some(method.as_str()),
        };
        let merges: Vec<(f64, &Series<'_>)> =
            all.iter().filter(is_along).filter(like).filter_map(|one| Some((one.lambda?, one))).collect();
        let lambdas: Vec<f64> = merges.iter().map(|(lambda, _)| *lambda).collect();
        let weights = slope_weights(&lambdas)?;
        let parts: Vec<(f64, &Repeated)> =
            weights.into_iter().zip(&merges).map(|(weight, (_, one))| (weight, &one.values)).collect();
        (format!("slope of {method} over λ"), Repeated::combined(&parts)?)
    } else {
        let (of, less) = (contrast.of.as_deref()?, contrast.less.as_deref()?);
        let side = |side: &str| {
            let (variant, candidate) = sided(side);
            let mut found = all.iter().filter(like).filter(|one| one.candidate == candidate);
            found.find(|one| match variant {
                Some(variant) => is_beside(first.at, one.at, variant),
                None => one.group == group,
            })
        };
        let both = [side(of)?, side(less)?];
        let (common, name) = (both[0].common(both[1]).len(), &contrast.name);
        if both.iter().any(|one| one.seeds.len() > common) {
            notes.push(format!("`{name}` is over {common} of the seeds so far: those that both sides have"));
        }
        (format!("{of} − {less}"), both[0].less(both[1])?)
    };
    Some(Answer {
        name: contrast.name.clone(),
        group: group.to_owned(),
        suite: first.suite.to_owned(),
        metric: first.metric.to_owned(),
        judge: first.judge.map(str::to_owned),
        what,
        estimate: values.difference()?,
        p_holm: 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::MetricKind;

    #[test]
    fn the_merges_of_an_average_are_a_line_of_their_own() {
        // On four prompts: along λ the tuned model complies with one and three, the average with one and one.
        let one = |(candidate, lambda, hits): (&'static str, f64, u8)| {
            let values = (0..4).map(|nth| Some(f64::from(u8::from(nth < hits)))).collect();
            Series::of_test(
                ("harmful", candidate, lambda),
                (MetricKind::Safety, false),
                Repeated::new(vec![values], true),
            )
        };
        let all = [
            ("linear:0.2", 0.2, 1),
            ("linear:0.6", 0.6, 3),
            ("linear:0.2,of=ema", 0.2, 1),
            ("linear:0.6,of=ema", 0.6, 1),
        ]
        .map(one);
        let slope = |method: &str| {
            let text = format!("name = \"c\"\nsuite = \"harmful\"\nslope = \"{method}\"");
            let contrast: Contrast = toml::from_str(&text).unwrap();
            answer(&contrast, "", &all, &mut Vec::new()).unwrap().estimate.mean
        };
        assert!((slope("linear") - 1.25).abs() < 1e-9, "{}", slope("linear"));
        assert!(slope("linear,of=ema").abs() < 1e-9);
        // Without merges under this very name the method's all count.
        let all = ["ties:0.2,density=0.5", "ties:0.6,density=0.5"];
        let all: Vec<_> =
            all.into_iter().zip([(0.2, 1), (0.6, 3)]).map(|(name, (l, n))| one((name, l, n))).collect();
        let text = "name = \"c\"\nsuite = \"harmful\"\nslope = \"ties\"";
        let found = answer(&toml::from_str(text).unwrap(), "", &all, &mut Vec::new()).unwrap();
        assert!((found.estimate.mean - 1.25).abs() < 1e-9);
        let spec: Spec = "ties:0.3,density=0.5".parse().unwrap();
        assert!(
            is_of(&spec, "ties") && is_of(&spec, "ties,density=0.5") && !is_of(&spec, "ties,density=0.2")
        );
    }
    #[test]
    fn sides_are_compared_over_the_seeds_that_both_have() {
        // A study that is not finished: one side has the seeds 1 and 2, the other one 2 and 3.
        let one = |candidate: &'static str, seeds: [u64; 2], hits: [u8; 2]| {
            let of_seed = |hits: u8| (0..4).map(|nth| Some(f64::from(u8::from(nth < hits)))).collect();
            let values = Repeated::new(hits.map(of_seed).into(), true);
            let mut series =
                Series::of_test(("harmful", candidate, f64::NAN), (MetricKind::Safety, false), values);
            series.seeds = seeds.into();
            series
        };
        let text = "name = \"c\"\nsuite = \"harmful\"\nof = \"a\"\nless = \"b\"";
        let contrast: Contrast = toml::from_str(text).unwrap();
        let ask = |other: [u64; 2], notes: &mut Vec<String>| {
            answer(&contrast, "", &[one("a", [1, 2], [4, 3]), one("b", other, [1, 0])], notes)
        };
        let mut notes = Vec::new();
        let found = ask([2, 3], &mut notes).unwrap();
        assert!((found.estimate.mean - 0.5).abs() < 1e-9, "{}", found.estimate.mean);
        assert_eq!(notes, ["`c` is over 1 of the seeds so far: those that both sides have"]);
        assert!(ask([3, 4], &mut notes).is_none());
        let mut notes = Vec::new();
        let found = ask([2, 1], &mut notes).unwrap();
        assert!((found.estimate.mean - 0.75).abs() < 1e-9 && notes.is_empty(), "{}", found.estimate.mean);
    }
}
