//! Whether answers follow verifiable instructions, by the prompt and by the instruction.
//!
//! Zhou et al., "Instruction-Following Evaluation for Large Language Models", 2023, arXiv 2311.07911, as lm-eval 0.4.13
//! counts: at the level of prompts all instructions of a prompt must be followed; at the level of instructions those
//! of all prompts are pooled.

use serde_json::Value;

use super::{Criterion, Judge, JudgeRow};
use crate::eval::ifeval::{Instruction, loose, strict};
use crate::eval::item::{Completion, Item, Verdict};

const SOURCE: &str = "lm-eval 0.4.13 ifeval; Zhou et al. 2023";

pub(super) const STRICT: JudgeRow = JudgeRow {
    name: "ifeval_strict",
    summary: "the answer as it stands follows all its instructions",
    source: SOURCE,
    asks: Criterion::Correct { metric: "prompt_level_strict_acc" },
    build: || Box::new(Prompts(strict)),
};

pub(super) const LOOSE: JudgeRow = JudgeRow {
    name: "ifeval_loose",
    summary: "the same, an opening line, a last line and asterisks forgiven",
    source: SOURCE,
    asks: Criterion::Correct { metric: "prompt_level_loose_acc" },
    build: || Box::new(Prompts(loose)),
};

pub(super) const INSTRUCTIONS_STRICT: JudgeRow = JudgeRow {
    name: "ifeval_instructions_strict",
    summary: "the share of instructions that the answer as it stands follows; pooled: inst_level_strict_acc",
    source: SOURCE,
    asks: Criterion::Good { metric: "followed_strict" },
    build: || Box::new(Instructions { rule: strict, pooled: "inst_level_strict_acc" }),
};

pub(super) const INSTRUCTIONS_LOOSE: JudgeRow = JudgeRow {
    name: "ifeval_instructions_loose",
    summary: "the same, an opening line, a last line and asterisks forgiven; pooled: inst_level_loose_acc",
    source: SOURCE,
    asks: Criterion::Good { metric: "followed_loose" },
    build: || Box::new(Instructions { rule: loose, pooled: "inst_level_loose_acc" }),
};

/// Which instructions a response to a prompt follows.
type Rule = fn(&[Instruction], &str, &str) -> Vec<bool>;

/// Which of the item's instructions are followed; none if it has none or one that cannot be verified.
fn followed(rule: Rule, item: &Item, completion: &Completion) -> Option<Vec<bool>> {
    let ids = item.details["instruction_id_list"].as_array().filter(|ids| !ids.is_empty())?;
    let instruction = |(idx, id): (usize, &Value)| {
        let kwargs = item.details["kwargs"].get(idx)?;
        Instruction::of(id.as_str()?, kwargs).ok()
    };
    let instructions: Vec<_> = ids.iter().enumerate().map(instruction).collect::<Option<_>>()?;
    Some(rule(&instructions, &item.prompt, &completion.text))
}

/// All of a prompt's instructions or none.
struct Prompts(Rule);

impl Judge for Prompts {
    fn evidence(&self, _: &Completion) -> Option<String> {
        None
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        match followed(self.0, item, completion) {
            None => Verdict::Unscored,
            Some(followed) if followed.iter().all(|followed| *followed) => Verdict::Yes,
            Some(_) => Verdict::No,
        }
    }
}

/// Each instruction for itself.
struct Instructions {
    rule: Rule,
    /// Upstream's metric, over all instructions of all prompts.
    pooled: &'static str,
}

impl Judge for Instructions {
    fn evidence(&self, _: &Completion) -> Option<String> {
        None
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        followed(self.rule, item, completion)
            .map_or(Verdict::Unscored, |followed| Verdict::Score(share(&followed)))
    }

    fn pooled(&self, answers: &[(&Item, &Completion)]) -> Vec<(&'static str, Option<f64>)> {
        let each = answers.iter().filter_map(|(item, completion)| followed(self.rule, item, completion));
        let all: Vec<bool> = each.flatten().collect();
        vec![(self.pooled, (!all.is_empty()).then(|| share(&all)))]
    }
}

fn share(followed: &[bool]) -> f64 {
    followed.iter().filter(|followed| **followed).count() as f64 / followed.len() as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eval::item::Finish;

    fn item(ids: &[&str], kwargs: &Value) -> Item {
        Item { details: json!({ "instruction_id_list": ids, "kwargs": kwargs }), ..Item::default() }
    }

    fn completion(text: &str) -> Completion {
        Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop }
    }

    #[test]
    fn a_prompt_wants_all_and_instructions_are_pooled() {
        let two = item(&["punctuation:no_comma", "startend:quotation"], &json!([{}, {}]));
        let one = item(&["punctuation:no_comma"], &json!([{}]));
        let (plain, comma) = (completion("no"), completion("a, b"));
        let judge = |row: &JudgeRow, item, completion| (row.build)().judge(item, completion);
        assert_eq!(judge(&STRICT, &two, &plain), Verdict::No);
        assert_eq!(judge(&STRICT, &one, &plain), Verdict::Yes);
        assert_eq!(judge(&INSTRUCTIONS_STRICT, &two, &plain), Verdict::Score(0.5));
        let pooled = (INSTRUCTIONS_STRICT.build)().pooled(&[(&two, &plain), (&one, &comma)]);
        assert_eq!(pooled, [("inst_level_strict_acc", Some(1.0 / 3.0))]);
    }

    #[test]
    fn what_cannot_be_verified_is_unscored() {
        let strange = item(&["no:such"], &json!([{}]));
        assert_eq!((STRICT.build)().judge(&strange, &completion("a")), Verdict::Unscored);
        assert_eq!((LOOSE.build)().judge(&Item::default(), &completion("a")), Verdict::Unscored);
    }
}
