//! What can be done to conversations before they are learned: one file and one row each.
//!
//! A transform is written `NAME` or `NAME:NUMBER`. It never works in silence: its sentence has the counts.

mod dedupe;
mod drop_system;
mod refuse;
mod turns;

use super::conversation::Conversation;
use super::error::DataError;
use crate::catalog::did_you_mean;

/// A row of the catalog.
#[derive(Debug)]
pub struct Transform {
    pub name: &'static str,
    pub summary: &'static str,
    pub example: &'static str,
    pub source: &'static str,
    number: Number,
    /// Changes conversations by its number (1 if it takes none) and the seed, and says what it did.
    apply: fn(&mut Vec<Conversation>, f64, u64) -> String,
}

/// What stands behind the colon.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    None,
    /// Above 0 and at most 1.
    Share,
    /// A whole number, at least 1.
    Count,
}

/// Every transform, in the order they are listed.
pub const TRANSFORMS: &[Transform] =
    &[dedupe::DEDUPE, drop_system::DROP_SYSTEM, refuse::REFUSE, turns::TURNS];

/// Applies transforms in order and returns a sentence for each.
pub(super) fn apply(
    written: &[String],
    conversations: &mut Vec<Conversation>,
    seed: u64,
) -> Result<Vec<String>, DataError> {
    let parsed = written.iter().map(|written| parse(written)).collect::<Result<Vec<_>, _>>()?;
    let each = |((row, number), written): ((&Transform, f64), &String)| {
        format!("`{written}`: {}", (row.apply)(conversations, number, seed))
    };
    Ok(parsed.into_iter().zip(written).map(each).collect())
}

/// Looks transforms up without a conversation.
///
/// # Errors
///
/// There is no such transform, or its number is not one it can take.
pub fn check(written: &[String]) -> Result<(), DataError> {
    written.iter().try_for_each(|written| parse(written).map(drop))
}

fn parse(written: &str) -> Result<(&'static Transform, f64), DataError> {
    let (name, number) = match written.split_once(':') {
        Some((name, number)) => (name, Some(number)),
        None => (written, None),
    };
    let row = TRANSFORMS.iter().find(|row| row.name == name).ok_or_else(|| DataError::UnknownTransform {
        name: name.to_owned(),
        help: did_you_mean(name, TRANSFORMS.iter().map(|row| row.name)),
    })?;
    let parsed = number.and_then(|number| number.parse::<f64>().ok());
    let expected = match (row.number, number, parsed) {
        (Number::None, None, _) => return Ok((row, 1.0)),
        (Number::Share, _, Some(share)) if share > 0.0 && share <= 1.0 => return Ok((row, share)),
        (Number::Count, _, Some(n)) if n >= 1.0 && n.fract() == 0.0 => return Ok((row, n)),
        (Number::None, ..) => "no number",
        (Number::Share, ..) => "a share above 0 and at most 1",
        (Number::Count, ..) => "a whole number of at least 1",
    };
    Err(DataError::BadTransform { written: written.to_owned(), expected, example: row.example })
}

#[cfg(test)]
mod tests {
    use super::super::tiny;
    use super::*;

    fn conversations() -> Vec<Conversation> {
        (0..40)
            .map(|i| {
                let mut turns = vec![format!("user: question {}", i % 30), format!("assistant: answer {i}")];
                if i % 4 == 0 {
                    turns.insert(0, "system: be brief".to_owned());
                    turns.extend(["user: and?".to_owned(), "assistant: no more".to_owned()]);
                }
                let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
                Conversation { line: (i + 1).into(), ..tiny::conversation(&turns) }
            })
            .collect()
    }

    #[test]
    fn every_transform_has_an_example_that_works_and_depends_on_the_seed_alone() {
        for row in TRANSFORMS {
            let after = |seed| {
                let mut all = conversations();
                let said = apply(&[row.example.to_owned()], &mut all, seed).unwrap();
                assert!(said[0].chars().any(|c| c.is_ascii_digit()), "{said:?}");
                all
            };
            assert_eq!(after(1), after(1), "{}", row.name);
            assert_ne!(after(1), conversations(), "{}", row.name);
            for conversation in after(1) {
                assert_eq!(conversation.messages.last().unwrap().role, super::super::Role::Assistant);
            }
            assert!(!row.summary.is_empty() && !row.source.is_empty());
        }
    }

    #[test]
    fn what_is_written_wrong_is_named() {
        for (written, expected) in [
            ("dedup", "there is no transform `dedup`"),
            ("dedupe:1", "transform `dedupe:1` needs no number"),
            ("refuse", "transform `refuse` needs a share above 0 and at most 1"),
            ("refuse:1.5", "transform `refuse:1.5` needs a share above 0 and at most 1"),
            ("turns:0.5", "transform `turns:0.5` needs a whole number of at least 1"),
        ] {
            assert_eq!(check(&[written.to_owned()]).unwrap_err().to_string(), expected);
        }
    }
}
