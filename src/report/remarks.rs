//! What a reader must know before the numbers: merges that rounding undid, merges that are one model, answers
//! that were cut off, rules that miss what a reader sees.

use super::Report;
use crate::eval::judges::is_reader;
use crate::eval::{Denominator, Metric, MetricKind};
use crate::merge::MergeReport;

/// Above this share of answers cut off a suite is remarked: a skill's answer stands at its end, a refusal at its beginning.
const CUT_OFF_TASK: f64 = 0.1;
const CUT_OFF: f64 = 0.5;

/// The remarks, a sentence or two each.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let broken = report.gates.iter().filter(|gate| !gate.holds);
    let broken = broken.map(|gate| format!("A bound of the recipe is not kept: {}.", gate.in_words()));
    broken.chain(rounded(report)).chain(cut_off(report)).chain(misread(report)).collect()
}

/// An earlier candidate that is the same model as `name`, bit for bit.
pub(super) fn twin<'r>(report: &'r Report, name: &str) -> Option<&'r str> {
    let digest = |merge: &MergeReport| merge.blake3.clone();
    let own = report.merge.iter().find(|merge| merge.merge == name).and_then(digest)?;
    let first = report.merge.iter().find(|merge| merge.blake3.as_ref() == Some(&own))?;
    (first.merge != name).then_some(first.merge.as_str())
}

/// Merges that rounding brought back to the base.
fn rounded(report: &Report) -> Option<String> {
    let lost = |merge: &&MergeReport| merge.is_mostly_lost();
    let named = |merge: &MergeReport| match merge.effective_lambda {
        Some(lambda) => format!("{} (effective λ {lambda:.2})", merge.merge),
        None => format!("{} ({:.0} % of its update kept)", merge.merge, 100.0 * merge.survived),
    };
    let all: Vec<String> = report.merge.iter().filter(lost).map(named).collect();
    let dtype = &report.run.dtype;
    (!all.is_empty()).then(|| {
        format!(
            "Nearly the base in {dtype}, for rounding undid most of the update: {}. With --set model.dtype=f32 the same \
             command compares all of them in f32, without another training.",
            all.join(", ")
        )
    })
}

/// Suites most of whose answers have no end.
fn cut_off(report: &Report) -> Vec<String> {
    let remark = |suite: &super::SuiteSetup| {
        let of_suite = |m: &&Metric| m.suite == suite.suite && m.category.is_none();
        let rate_of = |candidate: &super::Candidate| {
            let found = candidate.metrics.iter().filter(of_suite).find(|m| m.metric == "truncated_rate");
            found.and_then(|metric| metric.value)
        };
        let is_task = report.candidates.iter().flat_map(|candidate| &candidate.metrics).filter(of_suite);
        let is_task = is_task.clone().any(|metric| metric.kind == MetricKind::Task);
        let allowed = if is_task { CUT_OFF_TASK } else { CUT_OFF };
        let rates = report.candidates.iter().filter_map(|one| Some((one.name.as_str(), rate_of(one)?)));
        let mut above: Vec<(&str, f64)> = rates.filter(|(_, rate)| *rate > allowed).collect();
        above.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (name, rate) = *above.first()?;
        let others = match above.len() - 1 {
            0 => String::new(),
            1 => format!(" (and of one more candidate above {:.0} %)", 100.0 * allowed),
            n => format!(" (and of {n} more candidates above {:.0} %)", 100.0 * allowed),
        };
        Some(format!(
            "{:.0} % of the answers of {name} to {} end at max_new_tokens = {}{others}: what would have come after was not \
             judged. A larger max_new_tokens of the suite lets them end.",
            100.0 * rate,
            suite.suite,
            suite.max_new_tokens
        ))
    };
    report.suites.iter().filter_map(remark).collect()
}

/// Suites whose leading rule and the reader's rule lie further apart than chance would put them.
fn misread(report: &Report) -> Vec<String> {
    let remark = |suite: &super::SuiteSetup| {
        let pairs = report.candidates.iter().filter_map(|one| Some((one, rules(one, &suite.suite)?)));
        let mut apart: Vec<_> = pairs.filter_map(|(one, rules)| Some((one, rules, gap(rules)?))).collect();
        apart.sort_by(|a, b| b.2.total_cmp(&a.2));
        let (candidate, [lead, reader], _) = *apart.first()?;
        let others = match apart.len() - 1 {
            0 => String::new(),
            1 => " (and one more candidate)".to_owned(),
            n => format!(" (and {n} more candidates)"),
        };
        let finds = |metric: &Metric| {
            let percent = 100.0 * metric.value.unwrap_or_default();
            format!("{percent:.0} % by {}", metric.judge.as_deref().unwrap_or_default())
        };
        Some(format!(
            "The rule of {} that is published reads the answers of {}{others} otherwise than a person would: {} is {}, and {}. \
             finetune report RUN --answers shows them.",
            suite.suite,
            candidate.name,
            lead.metric.replace('_', " "),
            finds(lead),
            finds(reader)
        ))
    };
    report.suites.iter().filter_map(remark).collect()
}

/// The rates of a suite by the rule that leads and by the reader's, where it has both.
fn rules<'r>(candidate: &'r super::Candidate, suite: &str) -> Option<[&'r Metric; 2]> {
    let rates = candidate.metrics.iter().filter(|metric| {
        metric.suite == suite
            && metric.category.is_none()
            && metric.denominator == Denominator::All
            && metric.kind != MetricKind::Degeneration
            && metric.k.is_some()
    });
    let reads = |metric: &&&Metric| metric.judge.as_deref().is_some_and(is_reader);
    let rates: Vec<&Metric> = rates.collect();
    let lead = rates.iter().find(|metric| metric.judge.is_some() && !reads(metric))?;
    let reader = rates.iter().find(reads)?;
    Some([lead, reader])
}

/// How far apart two rates are, if each lies outside the other's interval.
fn gap([lead, reader]: [&Metric; 2]) -> Option<f64> {
    let outside = |metric: &Metric, value: f64| Some(value < metric.low? || value > metric.high?);
    let (a, b) = (lead.value?, reader.value?);
    (outside(lead, b)? && outside(reader, a)?).then(|| (a - b).abs())
}
