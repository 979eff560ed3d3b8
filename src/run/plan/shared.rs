//! What the plans of a study have in common: every model, file of data, suite and judge is looked at once, and a suite's
//! questions are written once for each model.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::judges::{Judges, RubricPlan};
use super::model::{Base, Model};
use super::questions::{self, Questions};
use super::remarks;
use super::sources::{Sources, Traces};
use super::training::Read;
use super::writing;
use crate::eval::presets::Preset;
use crate::recipe::{self, Data, Eval, Init, Recipe};
use crate::run::failure::Failure;

/// What was found for earlier plans; empty for a plan that stands alone.
#[derive(Default)]
pub struct Shared {
    models: Known<Arc<Model>>,
    bases: Known<Arc<Base>>,
    data: Known<Read>,
    /// Suites by their files, as they were drawn.
    drawn: Known<Questions>,
    /// Suites by file and model, as they are asked.
    suites: Known<Questions>,
    asked: Known<Arc<Asked>>,
    rubrics: Known<RubricPlan>,
    overlaps: Known<Vec<String>>,
}

/// By all that it depends on, what was found and what that left behind.
type Known<T> = HashMap<String, (T, Traces)>;

/// All that one model is asked.
pub struct Asked {
    pub suites: Vec<Questions>,
    /// What a user should know of it.
    pub said: Vec<String>,
}

impl Shared {
    /// As [`Model::open`].
    pub fn model(
        &mut self,
        asked: &recipe::Model,
        data: &Data,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<Model>, Failure> {
        known(&mut self.models, model_key(asked, data), sources, |sources| {
            Model::open(asked, data, sources).map(Arc::new)
        })
    }

    /// As [`Base::open`].
    pub fn base(
        &mut self,
        asked: &recipe::Model,
        (data, seed): (&Data, u64),
        model: &Model,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<Base>, Failure> {
        // Only what is drawn depends on the seed.
        let drawn_by = (asked.init == Init::Random).then_some(seed);
        known(&mut self.bases, json!([model_key(asked, data), drawn_by]).to_string(), sources, |sources| {
            Base::open(model, asked.init, seed, sources).map(Arc::new)
        })
    }

    /// As [`Read::new`].
    pub(super) fn data(&mut self, recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Read, Failure> {
        let key = json!([recipe.data, recipe.objective.kind, recipe.train.seed]).to_string();
        known(&mut self.data, key, sources, |sources| Read::new(recipe, sources))
    }

    /// What `[eval]` asks of a model; the suites that choose have nothing in common with those that are reported.
    pub fn asked(
        &mut self,
        eval: &Eval,
        (asked, data): (&recipe::Model, &Data),
        model: &Model,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<Asked>, Failure> {
        let of_model = model_key(asked, data);
        let settings = json!([data.date, data.chat_template_kwargs]);
        let Self { drawn, suites, asked, .. } = self;
        known(asked, json!([eval, of_model]).to_string(), sources, |sources| {
            let mut one = |nth: usize| {
                let alone = Eval { suites: vec![eval.suites[nth].clone()], ..eval.clone() };
                let key = json!(alone).to_string();
                let items =
                    known(drawn, key.clone(), sources, |sources| questions::draw_one(eval, nth, sources))?;
                known(suites, json!([key, of_model]).to_string(), sources, |_| {
                    let mut questions = items.blank();
                    writing::outline(&mut questions, eval, model, &settings)?;
                    Ok(questions)
                })
            };
            let suites = (0..eval.suites.len()).map(&mut one).collect::<Result<Vec<_>, Failure>>()?;
            remarks::apart(&suites)?;
            let said = remarks::asked(&suites, model);
            Ok(Arc::new(Asked { suites, said }))
        })
    }

    /// As [`remarks::overlap`].
    pub(super) fn overlap(
        &mut self,
        read: &Read,
        suites: &[Questions],
        sources: &mut Sources<'_>,
    ) -> Result<Vec<String>, Failure> {
        let name = |asked: &Questions| json!([asked.posed.suite.name, asked.drawn()]);
        let key = json!([read.key(), suites.iter().map(name).collect::<Vec<Value>>()]).to_string();
        known(&mut self.overlaps, key, sources, |_| remarks::overlap(read, suites))
    }

    /// As [`Judges::new`].
    pub fn judges(
        &mut self,
        eval: &Eval,
        preset: Option<&'static Preset>,
        sources: &mut Sources<'_>,
    ) -> Result<Judges, Failure> {
        let rubrics = &mut self.rubrics;
        Judges::found(eval, preset, sources, &mut |rubric, asked, sources| {
            let key = json!(asked).to_string();
            known(rubrics, key, sources, |sources| RubricPlan::of(rubric, asked, sources))
        })
    }
}

/// What of a recipe decides its model and its template.
fn model_key(asked: &recipe::Model, data: &Data) -> String {
    json!([asked, data.template, data.date, data.chat_template_kwargs, data.is_of_guard()]).to_string()
}

/// What is known by this key, or found now.
fn known<T: Clone>(
    all: &mut Known<T>,
    key: String,
    sources: &mut Sources<'_>,
    find: impl FnOnce(&mut Sources<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some((found, traces)) = all.get(&key) {
        sources.replay(traces);
        return Ok(found.clone());
    }
    let (found, traces) = sources.traced(find)?;
    all.insert(key, (found.clone(), traces));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::recipe::{Cell, cells};
    use crate::run::plan::outline::Outline;
    use crate::run::plan::{Options, Plan};

    /// Three tasks, four seeds, 44 merges of each model; two suites are every task's.
    fn study() -> (String, Vec<Cell>) {
        let data = format!("{}/data/tiny", env!("CARGO_MANIFEST_DIR"));
        let task = |name: &str, train: &str, question: &str| {
            format!(
                "[[grid.variant]]\nname = \"{name}\"\naxis = \"task\"\n[grid.variant.set]\n\"data.source\" = \"{data}/{train}\"\n\
                 \"eval.suites\" = [\n{{ task = \"gsm8k_chat\", name = \"{name}\", source = \"{data}/math-test.jsonl\", limit = {question} }},\n\
                 {{ task = \"harmful\", source = \"{data}/harmful-test.csv\", field = \"goal\" }},\n\
                 {{ task = \"benign\", source = \"{data}/benign-test.csv\", field = \"prompt\" }},\n]\n"
            )
        };
        let merges = ["linear", "slerp", "task_arithmetic", "nuslerp"]
            .map(|method| format!("\"{method}:0.02..0.22/0.02\""));
        let text = format!(
            "schema = 1\nname = \"study\"\n[model]\nsource = \"{data}/model\"\n[data]\nsource = \"x\"\n\
             fields = {{ prompt = \"question\", completion = \"answer\" }}\nlimit = 30\n[train]\nsteps = 2\n\
             [merge]\nmethods = [{}]\n[grid]\n\"train.seed\" = [1, 2, 3, 4]\n{}",
            merges.join(", "),
            [
                task("a", "math-train.jsonl", "20"),
                task("b", "sums.jsonl", "21"),
                task("c", "math-valid.jsonl", "22")
            ]
            .concat()
        );
        let cells = cells(&text, "study.toml", &[]).unwrap().unwrap();
        (text, cells)
    }

    fn plan(cell: &Cell, text: &str, shared: &mut Shared) -> Plan {
        let (recipe, options) = (cell.recipe.clone(), Options::on("cpu".parse().unwrap()));
        Plan::new(recipe, text.to_owned(), "study.toml".to_owned(), options, shared, &mut |_| ()).unwrap()
    }

    #[test]
    fn twelve_trainings_look_at_every_suite_once() {
        let (text, cells) = study();
        assert_eq!(cells.len(), 12);
        let (mut shared, mut known) = (Shared::default(), BTreeMap::<String, Arc<Outline>>::new());
        for cell in &cells {
            let plan = plan(cell, &text, &mut shared);
            assert_eq!(plan.merging.merges.len(), 44);
            for asked in &plan.evaluation.suites {
                let first = known.entry(asked.posed.suite.name.clone()).or_insert(asked.outline.clone());
                assert!(Arc::ptr_eq(first, &asked.outline), "{} in {}", asked.posed.suite.name, cell.name);
            }
        }
        let Shared { models, bases, data, drawn, suites, asked, overlaps, .. } = &shared;
        assert_eq!((models.len(), bases.len(), data.len(), overlaps.len()), (1, 1, 12, 12));
        assert_eq!((drawn.len(), suites.len(), asked.len()), (5, 5, 3));
    }

    #[test]
    fn questions_that_were_counted_before_are_written_as_they_were_counted() {
        let (text, cells) = study();
        // The second plan goes by what the first kept.
        plan(&cells[0], &text, &mut Shared::default());
        let counted = plan(&cells[0], &text, &mut Shared::default());
        counted.write_questions().unwrap();
        let (eval, reader) = (&counted.recipe.eval, counted.model.reader());
        let mut quiet = |_: crate::hub::Transfer<'_>| ();
        let mut sources = Sources::new("study.toml", None, &mut quiet);
        let mut whole = questions::draw(eval, &mut sources).unwrap();
        writing::render(&mut whole, eval, reader).unwrap();
        for (asked, whole) in counted.evaluation.suites.iter().zip(&whole) {
            assert_eq!(asked.tokens().prompts, whole.tokens().prompts);
            assert_eq!(Outline { path: None, ..(*asked.outline).clone() }, *whole.outline);
            assert_eq!(json!(asked.posed.asked), json!(whole.posed.asked));
            assert_eq!(asked.decoding, whole.decoding);
        }
        // What another program counted is no reason to ask something else.
        let mut other = whole[0].clone().blank();
        other.count(Outline { sha256: "other".to_owned(), ..(*whole[0].outline).clone() });
        let error = writing::write(&[other], eval, reader).unwrap_err();
        assert!(error.to_string().contains("no longer what was counted before"), "{error}");
    }
}
