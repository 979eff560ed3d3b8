//! `[guard]`: a guard in front of candidates; and that a recipe which trains one asks for nothing else.
//!
//! "SLM as Guardian: Pioneering AI Safety with Small Language Models", 2024, arXiv 2405.19795: one small model labels a
//! request and, where it is harmful, writes the safe answer itself. Its loss, tokens and sizes are not public; what is
//! here is a reconstruction.

use serde::{Deserialize, Serialize};

use super::{Form, Labelling, LossOn, Recipe, RecipeError, bad};

/// A guard in front of candidates: each is asked a second time, as `guarded:NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The folder that `finetune guard train` exported.
    pub folder: String,
    /// The candidates it stands in front of, such as `["base", "tuned", "slerp:0.5"]`.
    pub candidates: Vec<String>,
    /// From which probability of harm on the guard answers; the guard's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The most tokens of its answers.
    #[serde(default = "some")]
    pub max_new_tokens: usize,
}

fn some() -> usize {
    64 // A refusal is a sentence or two.
}

/// That a recipe which trains a guard asks for nothing that a guard has not, and one in front of candidates is whole.
pub(super) fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    if let Some(Guard { threshold, candidates, max_new_tokens, .. }) = &recipe.guard {
        if let Some(threshold) = threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
            return Err(bad("guard.threshold", threshold, "a probability from 0 to 1"));
        }
        if candidates.is_empty() {
            return Err(bad("guard.candidates", "empty", "candidates such as `[\"tuned\"]`"));
        }
        let twice = (1..candidates.len()).find(|nth| candidates[..*nth].contains(&candidates[*nth]));
        if let Some(nth) = twice {
            return Err(bad("guard.candidates", format!("`{}` twice", candidates[nth]), "each once"));
        }
        if !(1..=1 << 20).contains(max_new_tokens) {
            return Err(bad("guard.max_new_tokens", max_new_tokens, "1 to 1048576"));
        }
    }
    let data = &recipe.data;
    if !data.is_of_guard() {
        return match &data.guard {
            Some(_) => Err(bad("data.guard", "set", "`data.format = \"guard\"` beside it")),
            None => Ok(()),
        };
    }
    let Labelling { label_weight, answer, .. } = data.guard.clone().unwrap_or_default();
    if !(label_weight.is_finite() && label_weight > 0.0) {
        return Err(bad("data.guard.label_weight", label_weight, "a number above 0"));
    }
    if answer.trim().is_empty() {
        return Err(bad("data.guard.answer", "empty", "what the guard says to harmful requests"));
    }
    let why = "nothing: a guard learns labelled requests in a form of its own";
    let other = data.mixture.iter().find(|part| part.format != Form::Guard);
    let mut transforms = data.transforms.iter().chain(data.mixture.iter().flat_map(|part| &part.transforms));
    let transform = transforms.find(|written| *written != "dedupe").cloned();
    let set = |is_set: bool| is_set.then(|| "set".to_owned());
    let of_data = [
        ("data.mixture", other.map(|part| format!("`{}` with records of another form", part.source))),
        ("data.template", set(data.template != "model")),
        ("data.chat_template_kwargs", set(!data.chat_template_kwargs.is_empty())),
        ("data.system", set(!data.system.is_empty())),
        ("data.loss_on", set(data.loss_on != LossOn::Completion)),
        ("data.transforms", transform.map(|written| format!("`{written}`"))),
        ("data.refusal_mix", set(data.refusal_mix.is_some())),
        ("objective", set(!recipe.objective.is_default())),
        ("harden.method", recipe.harden.as_ref().map(|harden| format!("`{}`", harden.method))),
        ("train.ema", set(recipe.train.ema.is_some())),
    ];
    if let Some((key, Some(found))) = of_data.into_iter().find(|(_, found)| found.is_some()) {
        return Err(bad(key, found, why));
    }
    let why = "nothing: a guard is measured by `finetune guard score`";
    let of_pipeline = [
        ("merge.methods", !recipe.merge.methods.is_empty()),
        ("eval.suites", !recipe.eval.suites.is_empty()),
        ("eval.candidates", !recipe.eval.candidates.is_empty()),
        ("model.tuned", recipe.model.tuned.is_some()),
        ("guard", recipe.guard.is_some()),
    ];
    if let Some((key, _)) = of_pipeline.into_iter().find(|(_, is_set)| *is_set) {
        return Err(bad(key, "set", why));
    }
    if data.validation == 0.0 && data.validation_source.is_none() {
        return Err(bad(
            "data.validation",
            0,
            "a share to fit the threshold on, or `data.validation_source`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use crate::recipe::FittedBy;

    fn parse(more: &str) -> Result<Recipe, String> {
        let text = format!("name = \"g\"\nmodel.source = \"m\"\ndata.source = \"l.jsonl\"\n{more}");
        Recipe::parse(&text, "g.toml", &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_guard_is_asked_for_by_its_form_and_by_nothing_that_it_has_not() {
        let recipe = parse("data.format = \"guard\"").unwrap();
        assert_eq!(recipe.data.labelling().unwrap().label_weight, 4.0);
        assert!(parse("").unwrap().data.labelling().is_none());
        for (more, expected) in [
            ("data.guard = { label_weight = 2 }", "`data.guard` is set"),
            ("data.format = \"guard\"\ndata.system = \"s\"", "`data.system` is set"),
            (
                "data.format = \"guard\"\ndata.transforms = [\"refuse:0.1\"]",
                "`data.transforms` is `refuse:0.1`",
            ),
            ("data.format = \"guard\"\ndata.validation = 0.0", "`data.validation` is 0"),
            ("data.format = \"guard\"\nmerge.methods = [\"slerp:0.5\"]", "`merge.methods` is set"),
            ("data.format = \"guard\"\ndata.guard = { label_weight = 0 }", "`data.guard.label_weight` is 0"),
            ("guard = { folder = \"g\", candidates = [] }", "`guard.candidates` is empty"),
            (
                "guard = { folder = \"g\", candidates = [\"base\", \"base\"] }",
                "`guard.candidates` is `base` twice",
            ),
            (
                "guard = { folder = \"g\", candidates = [\"base\"], threshold = 2.0 }",
                "`guard.threshold` is 2",
            ),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.starts_with(expected), "{more}: {error}");
        }
    }

    #[test]
    fn a_threshold_is_fitted_in_one_of_two_ways() {
        for (text, by) in [("f1", FittedBy::F1), ("recall:0.95", FittedBy::Recall(0.95))] {
            assert_eq!(FittedBy::try_from(text.to_owned()).unwrap(), by);
            assert_eq!(by.to_string(), text);
        }
        for text in ["f2", "recall", "recall:0", "recall:1.5", "precision:0.5"] {
            assert!(FittedBy::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
