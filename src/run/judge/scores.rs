//! Verdicts become rates, differences and agreements: what a report is made of.

use std::sync::Arc;

use super::{Case, Verdicts};
use crate::eval::measures::agreement::Agreement;
use crate::eval::{self, Form, Judgement, Scores, Verdict};
use crate::report::guarding::Answered;
use crate::report::outcomes::OutcomesFile;
use crate::report::{self, JudgeAgreement, ProgramTests, Report};
use crate::run::ask::{Gathered, Responses};
use crate::run::failure::Failure;
use crate::run::plan::posed::Posed;

/// The report of what was asked, answered and judged, and what each item gave.
///
/// # Errors
///
/// Answers and items do not belong together.
pub fn report(case: &Case, verdicts: &Verdicts) -> Result<(Report, OutcomesFile), Failure> {
    let Case { run, seed, asked: Gathered { suites, answered, .. }, .. } = case;
    let (mut candidates, mut merge, mut agreement) = (Vec::new(), Vec::new(), Vec::new());
    let guarded = answered.iter().flat_map(|candidate| by_guard(suites, candidate)).collect();
    let mut all_scores: Vec<(String, Vec<Vec<Scores>>)> = Vec::new();
    for (candidate, verdicts) in answered.iter().zip(verdicts) {
        let about = &candidate.about;
        merge.extend(about.figures.clone());
        for (posed, judged) in suites.iter().zip(verdicts) {
            agreement.extend(agreed(&about.name, &posed.suite.name, judged));
        }
        let scores = scores(suites, candidate, verdicts, *seed)?;
        candidates.push(report::Candidate {
            name: about.name.clone(),
            method: about.method.clone(),
            lambda: about.lambda,
            seed: about.seed,
            steered: about.steered.clone(),
            metrics: scores.iter().flatten().flat_map(|scores| scores.metrics.clone()).collect(),
        });
        all_scores.push((about.name.clone(), scores));
    }
    let programs = programs(case, verdicts);
    let suites = suites.iter().map(|posed| posed.asked.clone()).collect();
    let (run, paired) = (run.clone(), pairs(&all_scores)?);
    let report = Report {
        schema: report::SCHEMA,
        run,
        suites,
        candidates,
        paired,
        merge,
        agreement,
        programs,
        guarded,
        added: Vec::new(),
        gates: Vec::new(),
    };
    Ok((report, OutcomesFile::of(&all_scores)))
}

/// How often a guard answered for a candidate, by suite; nothing of one that has no guard.
fn by_guard(suites: &[Arc<Posed>], candidate: &Responses) -> Vec<Answered> {
    let each = suites.iter().zip(&candidate.suites).filter_map(|(posed, said)| {
        let all = said.as_ref()?.by_guard.concat();
        (!all.is_empty()).then(|| Answered {
            candidate: candidate.about.name.clone(),
            suite: posed.suite.name.clone(),
            by_guard: all.iter().filter(|is_by_guard| **is_by_guard).count(),
            n: all.len(),
        })
    });
    each.collect()
}

/// What the solutions of every suite of programs say about its tests.
fn programs(case: &Case, verdicts: &Verdicts) -> Vec<ProgramTests> {
    let suites = case.asked.suites.iter().enumerate().filter_map(|(nth, posed)| {
        let trials = case.asked.answered.iter().zip(verdicts).filter_map(|(candidate, judged)| {
            let trials = judged[nth].iter().find_map(|judged| judged.trials.as_ref())?;
            Some((candidate.about.name.clone(), trials))
        });
        // Every candidate's items have the same solutions.
        let (_, first) = trials.clone().next()?;
        Some(ProgramTests {
            suite: posed.suite.name.clone(),
            references: first.passes + first.fails.len(),
            reference_passes: first.passes,
            reference_fails: first.fails.clone(),
            without_reference: first.without.clone(),
            same_process: first.same_process.clone(),
            same_process_passed: trials.map(|(name, trials)| (name, trials.same_process_passed)).collect(),
        })
    });
    suites.collect()
}

/// One candidate's rates, by suite; none of what it was not asked.
pub fn scores(
    suites: &[Arc<Posed>],
    candidate: &Responses,
    verdicts: &[Vec<Judgement>],
    seed: u64,
) -> Result<Vec<Vec<Scores>>, Failure> {
    let mut all = Vec::new();
    for ((posed, said), judged) in suites.iter().zip(&candidate.suites).zip(verdicts) {
        let mut scores = Vec::new();
        let Some(said) = said else {
            all.push(scores);
            continue;
        };
        let (name, items) = (posed.suite.name.as_str(), posed.items.as_slice());
        match posed.suite.task.form {
            Form::Answer => {
                scores.push(eval::score(&posed.suite, items, &said.answers, judged, seed)?);
                if !said.texts.is_empty() {
                    scores.push(eval::likelihood(name, items, said.texts_per_token(), seed)?);
                }
            }
            Form::Expect => scores.push(eval::likelihood(name, items, said.texts_per_token(), seed)?),
            Form::Choose => scores.push(eval::chosen(name, items, &said.choices, seed)?),
            Form::Read => {
                let sums: Vec<f64> = said.texts.iter().map(|(sum, _)| *sum).collect();
                scores.push(eval::read(name, items, &sums, seed)?);
            }
        }
        all.push(scores);
    }
    Ok(all)
}

/// Every two judges that answer the same question.
fn agreed(candidate: &str, suite: &str, judged: &[Judgement]) -> Vec<JudgeAgreement> {
    let mut found = Vec::new();
    for (i, a) in judged.iter().enumerate() {
        for b in judged[i + 1..].iter().filter(|b| b.asks == a.asks) {
            let decided = |verdict: &Verdict| matches!(verdict, Verdict::Yes | Verdict::No);
            let pairs = a.verdicts.iter().flatten().zip(b.verdicts.iter().flatten());
            let pairs = pairs.filter(|(a, b)| decided(a) && decided(b)).map(|(a, b)| (*a, *b));
            let Agreement { n, rate, kappa } = Agreement::of(&pairs.collect::<Vec<_>>());
            let judges = [a.name.clone(), b.name.clone()];
            found.push(JudgeAgreement {
                candidate: candidate.to_owned(),
                suite: suite.to_owned(),
                judges,
                n,
                rate,
                kappa,
            });
        }
    }
    found
}

/// Everyone against the first, then every merge against the tuned model.
fn pairs(all: &[(String, Vec<Vec<Scores>>)]) -> Result<Vec<eval::Paired>, Failure> {
    let mut paired = Vec::new();
    for (against, from) in [(0, 1), (1, 2)] {
        let Some((b, scores_b)) = all.get(against) else { break };
        for (a, scores_a) in all.iter().skip(from) {
            let suites = scores_a.iter().zip(scores_b).flat_map(|(a, b)| a.iter().zip(b));
            for (scores_a, scores_b) in suites {
                paired.extend(eval::pair((a, scores_a), (b, scores_b))?);
            }
        }
    }
    Ok(paired)
}
