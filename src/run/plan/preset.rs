//! What a preset settles in `[eval]`.

use crate::eval::presets::{self, Preset};
use crate::eval::{EvalError, MetricKind};
use crate::recipe::{Eval, RubricJudge};

/// Judges that are guards, named among rules as `guard:FOLDER`, are rubrics like others.
fn spell_out(eval: &mut Eval) {
    let guards = eval.judges.iter().filter_map(|name| RubricJudge::of_guard(name));
    let guards: Vec<RubricJudge> = guards.collect();
    eval.judges.retain(|name| RubricJudge::of_guard(name).is_none());
    eval.rubrics.extend(guards);
}

/// Fills in what the preset settles.
pub fn settle(eval: &mut Eval) -> Result<Option<&'static Preset>, EvalError> {
    spell_out(eval);
    if eval.preset.is_empty() {
        return Ok(None);
    }
    let preset = presets::find(&eval.preset)?;
    let given = Eval::default();
    let clash = |key, settled: String| EvalError::PresetAndKey { preset: preset.name, key, settled };
    let number = |mine: &mut f64, default: f64, settled: f64, key| {
        if *mine != default && *mine != settled {
            return Err(clash(key, settled.to_string()));
        }
        *mine = settled;
        Ok(())
    };
    let penalty = (given.repetition_penalty, preset.repetition_penalty);
    number(&mut eval.repetition_penalty, penalty.0, penalty.1, "repetition_penalty")?;
    number(&mut eval.temperature, given.temperature, preset.temperature, "temperature")?;
    number(&mut eval.top_p, given.top_p, preset.top_p, "top_p")?;
    if !eval.system.is_empty() && eval.system != preset.system {
        return Err(clash("system", format!("`{}`", preset.system)));
    }
    preset.system.clone_into(&mut eval.system);
    if !preset.judges.is_empty() {
        if !eval.judges.is_empty() && eval.judges != preset.judges {
            return Err(clash("judges", preset.judges.join(", ")));
        }
        eval.judges = preset.judges.iter().map(ToString::to_string).collect();
    }
    if let Some(rubric) = preset.rubric.filter(|name| eval.rubrics.iter().all(|judge| judge.rubric != *name))
    {
        return Err(EvalError::PresetWithoutRubric { preset: preset.name, rubric });
    }
    if ![0, preset.max_new_tokens].contains(&eval.max_new_tokens) {
        return Err(clash("max_new_tokens", preset.max_new_tokens.to_string()));
    }
    for suite in &mut eval.suites {
        let is_safety = crate::eval::tasks::find(&suite.task)?.kind != MetricKind::Task;
        if is_safety && suite.max_new_tokens.is_none() {
            suite.max_new_tokens = Some(preset.max_new_tokens);
        }
    }
    Ok(Some(preset))
}
