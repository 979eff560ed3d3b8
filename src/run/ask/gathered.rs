//! What this call asked, together with what the folder has answers for from earlier calls: merges, suites and judges
//! that the recipe does not name now stay in the report.

use std::path::Path;
use std::sync::Arc;

use super::index::{self, Index, Listed};
use super::responses::{About, Gathered, Responses, Transcript};
use super::stores::{Keys, Stores, SuiteKeys};
use crate::run::failure::Failure;
use crate::run::plan::Evaluation;
use crate::run::plan::posed::Posed;
use crate::run::session::Session;
use crate::run::session::folder::eval_folder;

impl Gathered {
    /// Only what this call asked.
    pub(super) fn now(evaluation: &Evaluation, answered: Vec<Responses>) -> Self {
        let (suites, judges) = (evaluation.posed(), evaluation.judges.clone());
        Self { suites, judges, answered, apart: Vec::new() }
    }

    /// Adds what `before` lists and the run folder `run` has answers for.
    ///
    /// # Errors
    ///
    /// A task or a judge of before is none of this version's, or the disk refuses.
    pub(super) fn with(
        self,
        before: &Index,
        evaluation: &Evaluation,
        made_of: &str,
        session: &mut Session<'_>,
    ) -> Result<Self, Failure> {
        let Self { mut suites, judges, answered: now, mut apart } = self;
        let is_asked = |listed: &Listed| suites.iter().any(|posed| posed.suite.name == listed.asked.suite);
        let others = (0..before.suites.len()).filter(|nth| !is_asked(&before.suites[*nth]));
        let others: Vec<usize> = others.collect();
        for posed in &mut suites {
            with_judges(posed, before)?;
        }
        for nth in &others {
            suites.push(before.suites[*nth].posed()?);
        }
        let past = Past { before, others: &others, evaluation, run: session.folder().path().to_owned() };
        let (mut answered, mut now) = (Vec::new(), now.into_iter().map(Some).collect::<Vec<_>>());
        let (mut lacking, mut of_others) = (Vec::new(), Vec::new());
        for about in before.candidates.iter().chain(&before.apart) {
            let again = |found: &&mut Option<Responses>| {
                found.as_ref().is_some_and(|found| found.about.name == about.name)
            };
            if let Some(mut found) = now.iter_mut().find(again).and_then(Option::take) {
                past.add_others(&mut found, Some(about));
                answered.push(found);
            } else if about.made_of == made_of {
                let (found, n_missing) = past.responses(about);
                lacking.extend((n_missing > 0).then(|| format!("{} {n_missing}", about.name)));
                answered.extend(found);
            } else {
                if before.apart.iter().all(|other| other.name != about.name || other.made_of != about.made_of)
                {
                    of_others.push(about.name.clone());
                }
                apart.retain(|other: &About| other.name != about.name || other.made_of != about.made_of);
                apart.push(About { keys: Vec::new(), ..about.clone() });
            }
        }
        for mut found in now.into_iter().flatten() {
            past.add_others(&mut found, None);
            answered.push(found);
        }
        if !lacking.is_empty() {
            let all = lacking.join(", ");
            session.note(format!(
                "earlier merges lack answers to what is asked now and stand without: {all}; `--merge` asks them again"
            ))?;
        }
        if !of_others.is_empty() {
            let all = of_others.join(", ");
            session.note(format!(
                "left out of this report, for they were rounded or computed otherwise: {all}; `--merge` asks them as it is now"
            ))?;
        }
        let judges = judges.with(before.judges()?);
        Ok(Self { suites, judges, answered, apart })
    }
}

/// Adds the rules that judged a suite of this name before.
fn with_judges(posed: &mut Arc<Posed>, before: &Index) -> Result<(), Failure> {
    let (name, task) = (&posed.suite.name, posed.suite.task.name);
    let listed = before.suites.iter().find(|listed| listed.asked.suite == *name && listed.asked.task == task);
    let Some(listed) = listed else { return Ok(()) };
    let known = |judge: &&str| posed.suite.judges.iter().any(|row| row.name == *judge);
    let earlier = listed.posed()?.suite.judges.clone();
    let more: Vec<_> = earlier.into_iter().filter(|row| !known(&row.name)).collect();
    Arc::make_mut(posed).suite.judges.extend(more);
    Ok(())
}

/// What was asked before, beside what is asked now.
struct Past<'a> {
    before: &'a Index,
    /// The suites of before that are not asked now.
    others: &'a [usize],
    evaluation: &'a Evaluation,
    run: std::path::PathBuf,
}

impl Past<'_> {
    /// What a candidate of before said to everything of now and before, and how many answers to it are missing;
    /// none if it said nothing of that.
    fn responses(&self, about: &About) -> (Option<Responses>, usize) {
        let path = eval_folder(&self.run, &about.name);
        let (mut keys, mut suites, mut n_missing) = (Vec::new(), Vec::new(), 0);
        for suite in &self.evaluation.suites {
            let all = Keys { weights: &about.weights, suite }.all();
            let stores = Stores::peek(&path, &suite.posed.suite.name);
            let (said, missing) = index::said(&all, &stores, &suite.posed.asked, &suite.posed.items);
            n_missing += missing;
            keys.push((missing == 0).then_some(all));
            suites.push((missing == 0).then_some(said));
        }
        let mut found = Responses { about: About { keys, ..about.clone() }, path, suites };
        self.add_others(&mut found, Some(about));
        (found.suites.iter().any(Option::is_some).then_some(found), n_missing)
    }

    /// What was said to the suites that are asked no more.
    fn add_others(&self, found: &mut Responses, former: Option<&About>) {
        let former = former.filter(|former| former.weights == found.about.weights);
        for nth in self.others {
            let kept = former.and_then(|former| self.kept(former, *nth, &found.path));
            let (keys, said) = kept.unzip();
            found.about.keys.push(keys);
            found.suites.push(said);
        }
    }

    fn kept(&self, former: &About, nth: usize, folder: &Path) -> Option<(SuiteKeys, Transcript)> {
        let keys = former.keys.get(nth)?.as_ref()?;
        let (said, n_missing) = self.before.suites[nth].said(keys, folder);
        (n_missing == 0).then(|| (keys.clone(), said))
    }
}
