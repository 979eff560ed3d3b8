//! What the command line says of a recipe, found and put into it.

use super::{RecipeArgs, RunArgs, progress, trust, typed};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::{self, Recipe, RecipeError};
use crate::run::{Failure, Options, Plan, Shared, Work};

impl RecipeArgs {
    /// The recipe's name as it was typed.
    pub(super) fn name(&self) -> &str {
        self.recipe.as_deref().or(self.named.as_deref()).expect("clap requires a recipe")
    }
}

/// What the command line says of a recipe, found.
pub(super) struct Asked {
    pub(super) text: String,
    pub(super) origin: String,
    pub(super) recipe: Recipe,
    pub(super) options: Options,
}

impl Asked {
    pub(super) fn find(args: &RecipeArgs, more: Option<&RunArgs>) -> Result<Self, Failure> {
        let name = args.name();
        let (text, origin) = recipe::find(name).map_err(|error| match (error, typed::start_hint(name)) {
            (RecipeError::NotFound { name, .. }, Some(help)) => RecipeError::NotFound { name, help },
            (error, _) => error,
        })?;
        progress::say(&format!("recipe {origin}"));
        let mut recipe = Recipe::parse(&text, &origin, &args.set)?;
        amend(&mut recipe, args, more)?;
        let options = Options {
            device: args.device.parse::<DeviceSpec>()?,
            out: args.out.clone(),
            micro_tokens: more.and_then(|more| more.micro_tokens),
            eval_rows: more.and_then(|more| more.eval_rows),
            keep_merged: more.is_some_and(|more| more.keep_merged),
            allow_device_change: more.is_some_and(|more| more.allow_device_change),
            own_answers: false,
            elsewhere: false,
        };
        Ok(Self { text, origin, recipe, options })
    }

    pub(super) fn plan(self) -> Result<Plan, Failure> {
        let Self { text, origin, recipe, options } = self;
        let mut transfers = progress::Transfers::default();
        Plan::new(recipe, text, origin, options, &mut Shared::default(), &mut |transfer| {
            transfers.show(transfer);
        })
    }

    pub(super) fn work(self) -> Result<Work, Failure> {
        let Self { text, origin, recipe, options } = self;
        let mut transfers = progress::Transfers::default();
        let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
        Work::new(recipe, (text, origin), options, &mut Shared::default(), &mut tell)
    }
}

/// Puts into a recipe what the command line says besides `--set`.
pub(super) fn amend(recipe: &mut Recipe, args: &RecipeArgs, more: Option<&RunArgs>) -> Result<(), Failure> {
    if !args.merge.is_empty() {
        recipe.merge.methods.clone_from(&args.merge);
    }
    more.map_or(Ok(()), |more| trust::settle(&mut recipe.eval, &more.key, &args.set))
}
