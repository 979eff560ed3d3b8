//! What is the user's word and never a recipe's alone, for a recipe may be a stranger's: which key goes to which
//! endpoint, and whether programs run without a sandbox.

use crate::recipe::{Eval, RecipeError};
use crate::run::Failure;
use crate::run::failure::JudgeError;

/// Settles both by the command line: `--key RUBRIC=VARIABLE` and `--set eval.unprotected_programs=true`.
///
/// # Errors
///
/// The recipe decides what the command line does not.
pub fn settle(eval: &mut Eval, keys: &[String], set: &[String]) -> Result<(), Failure> {
    const KEY: &str = "eval.unprotected_programs";
    let said = set.iter().any(|written| written.split('=').next().is_some_and(|key| key.trim() == KEY));
    if eval.unprotected_programs && !said {
        return Err(RecipeError::BadValue {
            key: KEY.to_owned(),
            found: "`true` in the recipe alone".to_owned(),
            expected: format!("your own word: `--set {KEY}=true`, if this machine holds nothing of worth"),
        }
        .into());
    }
    Ok(give(eval, keys)?)
}

/// Gives endpoints the keys that the command line names.
///
/// # Errors
///
/// The recipe names a variable that the command line does not, or a rubric has no endpoint.
fn give(eval: &mut Eval, keys: &[String]) -> Result<(), JudgeError> {
    let mut given: Vec<(&str, &str)> = Vec::new();
    let asked = || eval.rubrics.iter().filter(|asked| asked.endpoint.is_some());
    for written in keys {
        let known = written.split_once('=').filter(|(name, _)| asked().any(|asked| asked.rubric == *name));
        let Some((name, variable)) = known else {
            let names: Vec<String> = asked().map(|asked| format!("`{}`", asked.rubric)).collect();
            let there = match names.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has {}", names.join(", ")),
            };
            return Err(JudgeError::KeyOfNobody { written: written.clone(), there });
        };
        given.push((name, variable));
    }
    for asked in &mut eval.rubrics {
        let Some(url) = &asked.endpoint else { continue };
        match given.iter().find(|(name, _)| asked.rubric == *name) {
            Some((_, variable)) => asked.key_variable = Some((*variable).to_owned()),
            None => {
                if let Some(variable) = asked.key_variable.clone() {
                    let (name, url) = (asked.rubric.clone(), url.clone());
                    return Err(JudgeError::KeyNotGiven { name, variable, url });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn eval(more: &str) -> Eval {
        let text = format!(
            "schema = 1\nname = \"x\"\n[model]\nsource = \"m\"\n[data]\nsource = \"d\"\n[[eval.rubrics]]\n\
             rubric = \"strongreject\"\nmodel = \"judge\"\n{more}"
        );
        Recipe::parse(&text, "test", &[]).unwrap().eval
    }

    fn given(more: &str, keys: &[&str]) -> Result<Option<String>, JudgeError> {
        let mut eval = eval(more);
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        give(&mut eval, &keys)?;
        Ok(eval.rubrics[0].key_variable.clone())
    }

    #[test]
    fn a_recipe_alone_runs_no_program_without_a_sandbox() {
        let open = || Eval { unprotected_programs: true, ..Eval::default() };
        let settled =
            |set: &[&str]| settle(&mut open(), &[], &set.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(settled(&["eval.limit=3"]).unwrap_err().to_string().contains("unprotected_programs"));
        settled(&["eval.unprotected_programs=true"]).unwrap();
        settle(&mut Eval::default(), &[], &[]).unwrap();
    }

    #[test]
    fn a_recipe_alone_sends_no_key() {
        let endpoint = "endpoint = \"https://far.example/v1\"\n";
        let both = format!("{endpoint}key_variable = \"HF_TOKEN\"\n");
        assert_eq!(given(endpoint, &[]).unwrap(), None);
        let refused = given(&both, &[]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the recipe would send the key in `HF_TOKEN` to `https://far.example/v1` for rubric `strongreject`"
        );
        assert_eq!(given(&both, &["strongreject=HF_TOKEN"]).unwrap().as_deref(), Some("HF_TOKEN"));
        // The command line has the last word.
        assert_eq!(given(&both, &["strongreject=OTHER"]).unwrap().as_deref(), Some("OTHER"));
        assert_eq!(given(endpoint, &["strongreject=OTHER"]).unwrap().as_deref(), Some("OTHER"));
        for wrong in ["wildguard=OTHER", "strongreject"] {
            let refused = given(&both, &[wrong]).unwrap_err();
            assert!(matches!(refused, JudgeError::KeyOfNobody { .. }), "{refused}");
        }
        // A model of the user's own needs none.
        assert!(matches!(given("", &["strongreject=OTHER"]), Err(JudgeError::KeyOfNobody { .. })));
    }
}
