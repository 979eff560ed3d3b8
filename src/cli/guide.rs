//! `finetune guide`: the guide's pages, without a network and without a pager.

use clap::Args;

use super::print;
use crate::catalog::did_you_mean;
use crate::guide::{TOPICS, Topic, find};
use crate::recipe::RecipeError;
use crate::run::Failure;

#[derive(Debug, Args)]
pub struct GuideArgs {
    /// The page; without it their list is printed
    topic: Option<String>,
}

/// Prints a page, or what there is.
///
/// # Errors
///
/// There is no such page.
pub fn guide(args: &GuideArgs) -> Result<(), Failure> {
    let Some(name) = &args.topic else {
        let line = |topic: &Topic| format!("{:<20} {}\n", topic.name, topic.title());
        print(&TOPICS.iter().map(line).collect::<String>());
        return Ok(());
    };
    let topic = find(name).ok_or_else(|| RecipeError::BadValue {
        key: "guide".to_owned(),
        found: format!("`{name}`"),
        expected: format!(
            "a page of the guide; {}",
            did_you_mean(name, TOPICS.iter().map(|topic| topic.name))
        ),
    })?;
    print(topic.text);
    Ok(())
}
