//! λ by what the merges score on the validation suites alone: for each task, and one for each model.

use super::series::Series;
use crate::eval::MetricKind;
use crate::eval::choice::{Point, Rule, by_budget, by_knee, by_score};
use crate::recipe::{EMA, Of, Spec};
use crate::report::study::Choice;

/// The choices of every rule that has what it needs.
pub(super) fn choices(all: &[Series<'_>]) -> Vec<Choice> {
    let curves: Vec<Curve<'_>> = groups(all).into_iter().flat_map(|group| curves(group, all)).collect();
    let mut found: Vec<Choice> = curves.iter().flat_map(|curve| of_curve(curve, Some(curve.group))).collect();
    let mut whole: Vec<(&str, &str)> = Vec::new();
    for curve in &curves {
        if !whole.contains(&(curve.model, &curve.family)) {
            whole.push((curve.model, &curve.family));
        }
    }
    for (model, family) in whole {
        let tasks: Vec<&Curve<'_>> =
            curves.iter().filter(|curve| curve.model == model && curve.family == family).collect();
        if let Some(joint) = Curve::joint(&tasks) {
            found.extend(of_curve(&joint, None));
        }
    }
    found
}

/// The merges of one family along λ, with the ends that they lie between.
#[derive(Clone)]
struct Curve<'a> {
    group: &'a str,
    model: &'a str,
    /// A method with its parameters but λ.
    family: String,
    candidates: Vec<&'a str>,
    points: Vec<Point>,
    base: Option<Point>,
    tuned: Option<Point>,
    budget: Option<f64>,
}

impl<'a> Curve<'a> {
    /// The mean of several tasks' curves, where these have the same λ; none of one alone.
    fn joint(tasks: &[&Curve<'a>]) -> Option<Self> {
        let [first, rest @ ..] = tasks else { return None };
        if rest.is_empty() || rest.iter().any(|other| other.candidates != first.candidates) {
            return None;
        }
        let n = tasks.len() as f64;
        let mean = |of: &dyn Fn(&Curve<'a>) -> Option<Point>| {
            let all: Option<Vec<Point>> = tasks.iter().map(|task| of(task)).collect();
            let all = all?;
            let harms: Option<Vec<f64>> = all.iter().map(|point| point.harm).collect();
            Some(Point {
                lambda: all[0].lambda,
                score: all.iter().map(|point| point.score).sum::<f64>() / n,
                harm: harms.map(|harms| harms.iter().sum::<f64>() / n),
            })
        };
        let points = (0..first.points.len()).map(|nth| mean(&|task| task.points.get(nth).copied()));
        Some(Curve {
            points: points.collect::<Option<_>>()?,
            base: mean(&|task| task.base),
            tuned: mean(&|task| task.tuned),
            ..(*first).clone()
        })
    }
}

fn groups<'a>(all: &[Series<'a>]) -> Vec<&'a str> {
    let mut groups: Vec<&str> = Vec::new();
    for one in all.iter().filter(|one| one.validation) {
        if !groups.contains(&one.group) {
            groups.push(one.group);
        }
    }
    groups
}

fn curves<'a>(group: &'a str, all: &[Series<'a>]) -> Vec<Curve<'a>> {
    let own: Vec<&Series<'a>> =
        all.iter().filter(|one| one.group == group && one.validation && one.lead).collect();
    let point = |candidate: &str, lambda: f64| {
        let mean = |kind: MetricKind| {
            let found = own.iter().filter(|one| one.candidate == candidate && one.kind == kind);
            let means: Option<Vec<f64>> = found.map(|one| Some(one.values.mean()?.mean)).collect();
            let means = means.filter(|means| !means.is_empty())?;
            Some(means.iter().sum::<f64>() / means.len() as f64)
        };
        Some(Point { lambda, score: mean(MetricKind::Task)?, harm: mean(MetricKind::Safety) })
    };
    let mut curves: Vec<Curve<'a>> = Vec::new();
    for one in &own {
        let (Some(family), Some(lambda)) = (one.family(), one.lambda) else { continue };
        let place = curves.iter().position(|curve| curve.family == family).unwrap_or_else(|| {
            // The end at 1 is the model that its merges are of.
            let of = one.candidate.parse::<Spec>().map(|spec| spec.of).unwrap_or_default();
            curves.push(Curve {
                group,
                model: one.model,
                family,
                candidates: Vec::new(),
                points: Vec::new(),
                base: point("base", 0.0),
                tuned: point(if of == Of::Ema { EMA } else { "tuned" }, 1.0),
                budget: one.budget,
            });
            curves.len() - 1
        });
        if let (false, Some(found)) =
            (curves[place].candidates.contains(&one.candidate), point(one.candidate, lambda))
        {
            curves[place].candidates.push(one.candidate);
            curves[place].points.push(found);
        }
    }
    curves
}

fn of_curve(curve: &Curve<'_>, group: Option<&str>) -> Vec<Choice> {
    let Curve { points, base, tuned, budget, .. } = curve;
    let safe = || by_budget(points, (*base)?.harm?, (*budget)?);
    let knee = || by_knee(points, (*base)?, (*tuned)?);
    let all = [(Rule::Score, by_score(points)), (Rule::Budget, safe()), (Rule::Knee, knee())];
    let choice = |(rule, nth): (Rule, Option<usize>)| {
        let nth = nth?;
        Some(Choice {
            rule,
            group: group.map(str::to_owned),
            model: curve.model.to_owned(),
            family: curve.family.clone(),
            candidate: curve.candidates[nth].to_owned(),
            lambda: points[nth].lambda,
            score: points[nth].score,
            attack_success: points[nth].harm,
        })
    };
    all.into_iter().filter_map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::repeated::Repeated;

    /// A suite's rates by candidate, on four prompts.
    fn suite<'a>(
        name: &'a str,
        kind: MetricKind,
        validation: bool,
        rates: &[(&'a str, f64, u8)],
    ) -> Vec<Series<'a>> {
        let one = |(candidate, lambda, hits): &(&'a str, f64, u8)| {
            let values = (0..4).map(|nth| Some(f64::from(u8::from(nth < *hits)))).collect();
            Series::of_test(
                (name, *candidate, *lambda),
                (kind, validation),
                Repeated::new(vec![values], true),
            )
        };
        rates.iter().map(one).collect()
    }

    fn chosen(all: &[Series<'_>]) -> Vec<(Rule, String)> {
        choices(all).into_iter().map(|choice| (choice.rule, choice.candidate)).collect()
    }

    #[test]
    fn the_merges_of_an_average_lie_between_the_base_and_the_average() {
        let names = [
            ("base", f64::NAN),
            ("tuned", f64::NAN),
            ("ema", f64::NAN),
            ("linear:0.2,of=ema", 0.2),
            ("linear:0.6,of=ema", 0.6),
        ];
        let curve = |hits: [u8; 5]| {
            names.iter().zip(hits).map(|((name, lambda), hits)| (*name, *lambda, hits)).collect::<Vec<_>>()
        };
        let knee = |tuned: u8, ema: u8| {
            let mut all = suite("valid", MetricKind::Task, true, &curve([0, 4, 4, 2, 3]));
            all.extend(suite("requests", MetricKind::Safety, true, &curve([0, tuned, ema, 0, 3])));
            choices(&all).into_iter().find(|choice| choice.rule == Rule::Knee)
        };
        let found = knee(0, 4).unwrap();
        let expected = ("linear,of=ema", "linear:0.2,of=ema");
        assert_eq!((found.family.as_str(), found.candidate.as_str()), expected);
        // Where the average complies with nothing more than the base, the curve has no ends to lie between.
        assert!(knee(4, 0).is_none());
    }

    #[test]
    fn what_is_reported_takes_no_part_in_the_choice() {
        let curve = |hits: [u8; 4]| {
            let names = [("base", f64::NAN), ("linear:0.2", 0.2), ("linear:0.6", 0.6), ("tuned", f64::NAN)];
            names.iter().zip(hits).map(|((name, lambda), hits)| (*name, *lambda, hits)).collect::<Vec<_>>()
        };
        let with_test = |test: [u8; 4], harm: [u8; 4]| {
            let mut all = suite("test", MetricKind::Task, false, &curve(test));
            all.extend(suite("harmful", MetricKind::Safety, false, &curve(harm)));
            all.extend(suite("valid", MetricKind::Task, true, &curve([0, 2, 3, 4])));
            all.extend(suite("requests", MetricKind::Safety, true, &curve([0, 0, 3, 4])));
            chosen(&all)
        };
        let expected = [
            (Rule::Score, "linear:0.6".to_owned()),
            (Rule::Budget, "linear:0.2".to_owned()),
            (Rule::Knee, "linear:0.2".to_owned()),
        ];
        assert_eq!(with_test([0, 4, 0, 4], [0, 4, 0, 4]), expected);
        assert_eq!(with_test([4, 0, 4, 0], [4, 0, 4, 0]), expected);
        // Without suites for it nothing is chosen.
        assert!(chosen(&suite("test", MetricKind::Task, false, &curve([0, 2, 3, 4]))).is_empty());
    }
}
