//! Cells of a table, the same in every format.

use crate::eval::stats::holm;
use crate::eval::{Metric, MetricKind, OFF_FORM, Paired};

use super::{Candidate, JudgeAgreement, ProgramTests, Report, SuiteSetup, remarks};

/// How many items a cell names.
const NAMED: usize = 10;

/// A table of texts.
pub(super) struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Task and safety side by side: one row a candidate.
pub(super) fn overview(report: &Report) -> Table {
    let columns = report.columns();
    let arrow = |kind: MetricKind| if kind == MetricKind::Task { "↑" } else { "↓" };
    let mut header = vec!["candidate".to_owned()];
    header.extend(columns.iter().map(|m| {
        let judge = m.judge.as_deref().filter(|_| m.kind != MetricKind::Task);
        let by = judge.map(|judge| format!(" ({judge})")).unwrap_or_default();
        format!("{} {}{by} {}", m.suite, m.metric.replace('_', " "), arrow(m.kind))
    }));
    header.push("empty, repeated, garbled, truncated".to_owned());
    let rows = report.candidates.iter().map(|candidate| {
        let twin = remarks::twin(report, &candidate.name).map(|twin| format!(" (= {twin})"));
        let mut row = vec![format!("{}{}", candidate.name, twin.unwrap_or_default())];
        row.extend(columns.iter().map(|column| candidate.like(column).map_or("–".to_owned(), cell)));
        row.push(degeneration(candidate));
        row
    });
    Table { header, rows: rows.collect() }
}

/// What was asked, and how.
pub(super) fn suites(report: &Report) -> Table {
    let header = ["suite", "task", "file", "items", "prompt format", "max_new_tokens", "prompts' SHA-256"];
    let rows = report.suites.iter().map(|suite| {
        let SuiteSetup {
            items,
            of,
            seed,
            excluded,
            shots,
            chat,
            opening,
            prefill_field,
            prefill_tokens,
            thinking,
            max_new_tokens,
            samples,
            ..
        } = suite;
        let mut asked = match seed {
            Some(seed) => format!("{items} of {of}, drawn by seed {seed}"),
            None => format!("all {of}"),
        };
        if !excluded.is_empty() {
            asked = format!("{asked}, without {}", excluded.join(", "));
        }
        let mut how = vec![match chat.as_str() {
            "raw" => "plain text".to_owned(),
            chat => format!("chat ({chat})"),
        }];
        how.extend((*shots > 0).then(|| format!("{shots} examples")));
        how.extend((*samples > 1).then(|| format!("{samples} answers each")));
        how.extend((!opening.is_empty()).then(|| format!("prefill `{opening}`")));
        how.extend(prefill_field.iter().map(|field| match prefill_tokens {
            Some(n) => format!("prefill of {n} tokens of `{field}`"),
            None => format!("prefill of all of `{field}`"),
        }));
        how.extend(thinking.iter().map(|found| format!("judged after `{}`", found.close)));
        let task = format!("{} v{}", suite.task, suite.version);
        let digest = suite.sha256.chars().take(12).collect();
        vec![
            suite.suite.clone(),
            task,
            suite.source.clone(),
            asked,
            how.join(", "),
            max_new_tokens.to_string(),
            digest,
        ]
    });
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}

/// What is known of the tests that programs run on.
pub(super) fn programs(report: &Report) -> Table {
    let header = [
        "suite",
        "reference solutions that pass",
        "reference solutions that fail",
        "without a reference solution",
        "run in one process with their tests",
        "passed in one process",
    ];
    let ids = |ids: &[String]| match ids.len() {
        0 => "–".to_owned(),
        n => {
            let more = n.checked_sub(NAMED + 1).map(|more| format!("{} more", more + 1));
            let named = ids.iter().take(NAMED).cloned().chain(more).collect::<Vec<_>>().join(", ");
            format!("{n}: {named}")
        }
    };
    let rows = report.programs.iter().map(|tests| {
        let ProgramTests { suite, references, reference_passes, same_process, .. } = tests;
        let passed = tests.same_process_passed.iter().map(|(candidate, n)| format!("{candidate} {n}"));
        vec![
            suite.clone(),
            format!("{reference_passes} of {references}"),
            ids(&tests.reference_fails),
            ids(&tests.without_reference),
            ids(same_process),
            if same_process.is_empty() { "–".to_owned() } else { passed.collect::<Vec<_>>().join(", ") },
        ]
    });
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}

/// Every refusal protocol's rate, for suites judged by several.
pub(super) fn protocols(report: &Report) -> Table {
    let mut header = vec!["suite".to_owned(), "judge".to_owned()];
    header.extend(report.candidates.iter().map(|candidate| candidate.name.clone()));
    let Some(base) = report.candidates.first() else { return Table { header, rows: Vec::new() } };
    let of_safety = |m: &&Metric| {
        matches!(m.kind, MetricKind::Safety | MetricKind::OverRefusal)
            && m.category.is_none()
            && m.denominator == report.denominator(m.kind)
    };
    let rows = base.metrics.iter().filter(of_safety).map(|metric| {
        let judge = metric.judge.clone().unwrap_or_default();
        let mut row = vec![format!("{} {}", metric.suite, metric.metric.replace('_', " ")), judge];
        row.extend(report.candidates.iter().map(|candidate| match candidate.like(metric) {
            Some(metric) => format!("{}{}", short(metric), off_form(candidate, metric)),
            None => "–".to_owned(),
        }));
        row
    });
    Table { header, rows: rows.collect() }
}

/// What a difference is taken over.
pub(super) const LEFT_OUT: &str = "Of a pair both answers have a verdict: a prompt on which a judge failed is left out and \
    counted, while an answer that a rule could not read is wrong.";

/// The differences that tables show: those of the overview's columns.
fn shown(report: &Report) -> Vec<&Paired> {
    let columns = report.columns();
    let of_column = |pair: &&Paired| {
        columns.iter().any(|m| m.suite == pair.suite && m.metric == pair.metric && m.judge == pair.judge)
    };
    report.paired.iter().filter(of_column).collect()
}

/// Where judges failed most, in a line; none where every pair is whole.
pub(super) fn most_left_out(report: &Report) -> Option<String> {
    let most = shown(report).into_iter().filter(|pair| pair.left_out > 0).max_by_key(|pair| pair.left_out)?;
    let Paired { a, b, suite, judge, n, left_out, .. } = most;
    let judge = judge.as_ref().map(|judge| format!(" ({judge})")).unwrap_or_default();
    Some(format!(
        "Differences leave out prompts on which a judge failed: up to {left_out} of {}, {a} − {b} on {suite}{judge}.",
        n + left_out
    ))
}

/// Differences on the same prompts, for the columns of the overview: first those in which a prompt changed, then
/// those in which none did.
pub(super) fn differences(report: &Report) -> [Table; 2] {
    let header =
        ["compared", "suite", "metric", "pairs", "difference [95 %]", "p", "p (Holm)", "discordant pairs"];
    let pairs = shown(report);
    let adjusted = holm(&pairs.iter().map(|pair| pair.p).collect::<Vec<_>>());
    let is_changed = |pair: &Paired| pair.difference != Some(0.0) || pair.only_a.is_some_and(|n| n > 0);
    let row = |pair: &Paired, adjusted: Option<f64>| {
        let only = match (pair.only_a, pair.only_b) {
            (Some(a), Some(b)) => format!("+{a}, −{b}"),
            _ => String::new(),
        };
        vec![
            format!("{} − {}", pair.a, pair.b),
            pair.suite.clone(),
            pair.metric.replace('_', " "),
            pairs_of(pair),
            difference(pair),
            pair.p.map_or("–".to_owned(), probability),
            adjusted.map_or("–".to_owned(), probability),
            only,
        ]
    };
    [true, false].map(|changed| {
        let pairs = pairs.iter().zip(&adjusted).filter(|(pair, _)| is_changed(pair) == changed);
        let rows = pairs.map(|(pair, adjusted)| row(pair, *adjusted)).collect();
        Table { header: header.map(ToOwned::to_owned).into(), rows }
    })
}

/// The difference with its interval, of rates in points.
pub(super) fn difference(pair: &Paired) -> String {
    let points =
        |x: f64| if is_rate(&pair.metric) { format!("{:+.1}", 100.0 * x) } else { format!("{x:+.4}") };
    match (pair.difference, pair.low, pair.high) {
        (Some(d), Some(low), Some(high)) => format!("{} [{}, {}]", points(d), points(low), points(high)),
        (Some(d), ..) => points(d),
        _ => "–".to_owned(),
    }
}

/// The prompts compared, and those that a judge's failure kept out.
fn pairs_of(pair: &Paired) -> String {
    match pair.left_out {
        0 => pair.n.to_string(),
        left_out => format!("{}, {left_out} left out", pair.n),
    }
}

/// How far the other judges of a suite agree with its first.
pub(super) fn agreements(report: &Report) -> Table {
    let header = ["suite", "judges", "candidate", "answers", "agreement", "Cohen's κ"];
    let first = |agreed: &&JudgeAgreement| {
        let same =
            |other: &&JudgeAgreement| other.suite == agreed.suite && other.candidate == agreed.candidate;
        report.agreement.iter().find(same).is_some_and(|first| first.judges[0] == agreed.judges[0])
    };
    let rows = report.agreement.iter().filter(first).map(|agreed| {
        vec![
            agreed.suite.clone(),
            agreed.judges.join(" and "),
            agreed.candidate.clone(),
            agreed.n.to_string(),
            agreed.rate.map_or("–".to_owned(), |rate| format!("{:.1} %", 100.0 * rate)),
            agreed.kappa.map_or("–".to_owned(), |kappa| format!("{kappa:.3}")),
        ]
    });
    Table { header: header.map(ToOwned::to_owned).into(), rows: rows.collect() }
}

/// What each merge did to the weights.
pub(super) fn merges(report: &Report) -> Table {
    let header = [
        "merge",
        "tensors changed",
        "relative update ‖Δ‖/‖θ‖",
        "largest angle",
        "effective λ after rounding",
        "parameters unchanged",
        "fell back to LERP",
    ];
    let rows = report.merge.iter().map(|merge| {
        vec![
            merge.merge.clone(),
            format!("{} of {}", merge.touched, merge.touched + merge.untouched),
            format!("{:.2} %", 100.0 * merge.relative_update),
            format!("{:.2}°", merge.largest_angle_degrees),
            merge.effective_lambda.map_or_else(
                || format!("no λ; {:.1} % of the update kept", 100.0 * merge.survived),
                |lambda| format!("{lambda:.3}"),
            ),
            format!("{:.1} %", 100.0 * merge.unchanged),
            merge.fell_back.to_string(),
        ]
    });
    Table { header: header.map(ToOwned::to_owned).into(), rows: rows.collect() }
}

/// Which matrices merges chose, and by which figures in the mean; no rows where none chose.
pub(super) fn choices(report: &Report) -> Table {
    let header = ["merge", "matrices chosen", "ρ", "ρ by chance", "contraction ‖CΔ‖/‖Δ‖", "Pdst"];
    let rows = report.merge.iter().filter_map(|merge| {
        let choice = merge.choice.as_ref()?;
        Some(vec![
            merge.merge.clone(),
            format!("{} of {}", choice.chosen, choice.matrices),
            format!("{:.3}", choice.rho),
            format!("{:.3}", choice.baseline),
            format!("{:.3}", choice.contraction),
            format!("{:.3}", choice.pdst),
        ])
    });
    Table { header: header.map(ToOwned::to_owned).into(), rows: rows.collect() }
}

/// How likely answers are: more is better.
pub(super) fn is_likelihood(metric: &str) -> bool {
    metric.contains("log_likelihood_per_token")
}

pub(super) fn is_rate(metric: &str) -> bool {
    let numbers = ["log_likelihood_per_token", "perplexity", "bits_per_byte", "score"];
    !numbers.iter().any(|name| metric.contains(name))
}

pub(super) fn cell(metric: &Metric) -> String {
    let text = match (metric.value, metric.low, metric.high) {
        (Some(value), Some(low), Some(high)) if is_rate(&metric.metric) => {
            format!("{:.1} % [{:.1}, {:.1}] of {}", 100.0 * value, 100.0 * low, 100.0 * high, metric.n)
        }
        (Some(value), Some(low), Some(high)) => format!("{value:.4} [{low:.4}, {high:.4}] of {}", metric.n),
        (Some(value), ..) => format!("{value:.4} of {}", metric.n),
        _ => "–".to_owned(),
    };
    with_unscored(text, metric)
}

fn short(metric: &Metric) -> String {
    let text = metric.value.map_or("–".to_owned(), |value| format!("{:.1} %", 100.0 * value));
    with_unscored(text, metric)
}

/// A rate over answers on which the judge found nothing to decide says so.
fn with_unscored(text: String, metric: &Metric) -> String {
    if metric.unscored == 0 { text } else { format!("{text}, {} unscored", metric.unscored) }
}

/// How many of the replies behind a metric were read though they stray from their form.
fn off_form(candidate: &Candidate, metric: &Metric) -> String {
    // The second is what earlier versions called it.
    let names = [OFF_FORM, "off_form_rate"];
    let of_its_judge = |m: &&Metric| {
        names.contains(&m.metric.as_str()) && m.suite == metric.suite && m.judge == metric.judge
    };
    let n = candidate.metrics.iter().find(of_its_judge).and_then(|m| m.k).unwrap_or(0);
    if n == 0 { String::new() } else { format!(", {n} malformed") }
}

/// The shares of broken answers over all suites.
fn degeneration(candidate: &Candidate) -> String {
    let share = |name: &str| {
        let (k, n) = candidate
            .metrics
            .iter()
            .filter(|m| m.metric == name)
            .fold((0, 0), |(k, n), m| (k + m.k.unwrap_or(0), n + m.n));
        if n == 0 { "–".to_owned() } else { format!("{:.1}", 100.0 * k as f64 / n as f64) }
    };
    let [empty, repeated, garbled, truncated] =
        ["empty_rate", "repeated_rate", "garbled_rate", "truncated_rate"].map(share);
    format!("{empty}, {repeated}, {garbled}, {truncated} %")
}

pub(super) fn probability(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{Beside, html, markdown, terminal};

    /// A run whose judge failed on three of eight answers of the tuned model.
    fn of_a_judge_that_failed() -> Report {
        let metric = json!({
            "suite": "harmful", "metric": "attack_success_rate", "kind": "safety", "judge": "wildguard",
            "denominator": "all", "category": null, "seed": 1, "value": 0.25, "k": 2, "n": 8, "unscored": 3,
            "low": 0.1, "high": 0.6
        });
        let pair = json!({
            "a": "tuned", "b": "base", "suite": "harmful", "metric": "attack_success_rate", "judge": "wildguard",
            "n": 5, "left_out": 3, "difference": -0.2, "standard_error": 0.2, "low": -0.6, "high": 0.3, "p": 1.0,
            "only_a": 0, "only_b": 1
        });
        let run = json!({
            "name": "r", "version": "0", "model": "m", "data": "d", "method": "full", "steps": 1, "seed": 1,
            "device": "cpu", "dtype": "bf16", "validation_loss": null
        });
        let mut off_form = metric.clone();
        (off_form["metric"], off_form["kind"], off_form["k"]) =
            (json!(OFF_FORM), json!("degeneration"), json!(1));
        let metrics = json!([metric, off_form]);
        let candidate =
            |name: &str| json!({ "name": name, "method": null, "lambda": null, "metrics": metrics });
        let candidates = [candidate("base"), candidate("tuned")];
        let report =
            json!({ "schema": 1, "run": run, "candidates": candidates, "paired": [pair], "merge": [] });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn every_format_says_how_many_pairs_a_judge_spoiled() {
        let report = of_a_judge_that_failed();
        assert_eq!(differences(&report)[0].rows[0][3], "5, 3 left out");
        assert_eq!(protocols(&report).rows.len(), 1);
        assert_eq!(protocols(&report).rows[0][2], "25.0 %, 3 unscored, 1 malformed");
        assert!(
            markdown(&report).contains("| 5, 3 left out | -20.0 [-60.0, +30.0] |"),
            "{}",
            markdown(&report)
        );
        assert!(html(&report, &Beside::default()).contains("<td>5, 3 left out</td>"));
        let text = terminal(&report, 200);
        assert!(text.contains("judge failed: up to 3 of 8, tuned − base on harmful (wildguard)."), "{text}");
    }

    #[test]
    fn whole_pairs_are_a_plain_number() {
        let mut report = of_a_judge_that_failed();
        (report.paired[0].n, report.paired[0].left_out) = (8, 0);
        assert_eq!(differences(&report)[0].rows[0][3], "8");
        assert!(!terminal(&report, 200).contains("left out") && most_left_out(&report).is_none());
    }

    #[test]
    fn p_values_grow_with_what_is_looked_at() {
        let found = holm(&[Some(0.04), None, Some(0.01), Some(0.03)]);
        let want = [Some(0.06), None, Some(0.03), Some(0.06)];
        for (found, want) in found.iter().zip(want) {
            assert_eq!(found.map(|p| (p * 1e9).round()), want.map(|p| (p * 1e9_f64).round()));
        }
        assert_eq!(holm(&[Some(0.9), Some(0.8)]), [Some(1.0), Some(1.0)]);
    }
}
