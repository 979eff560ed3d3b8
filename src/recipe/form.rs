//! What records look like: the form of a file and its names for the form's fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecipeError, bad};

/// Where in a record the turns are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Recognised from the first record.
    #[default]
    Auto,
    /// A list of `{"role", "content"}`.
    Messages,
    /// A list of `{"from", "value"}`.
    Sharegpt,
    /// A question and its answer.
    PromptCompletion,
    /// An instruction, an input that may be empty, and an output.
    Alpaca,
    /// Plain text, to be continued by nobody.
    Text,
    /// A prompt, the answer that was chosen and the one that was rejected.
    Preference,
    /// A request, a safe and a harmful answer.
    SafeHarmful,
    /// A request, its label, and with it a category and the answer of a guard.
    Guard,
}

/// A field of a form, by the name it has unless `fields` gives it another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Messages,
    Role,
    Content,
    Conversations,
    From,
    Value,
    Prompt,
    Completion,
    Instruction,
    Input,
    Output,
    Text,
    /// Whether a request is harmful.
    Label,
    Category,
    /// What a guard says to a request; used where a record has it.
    Answer,
    /// A system message beside the turns; used where a record has it.
    System,
    Chosen,
    Rejected,
    /// A number for each token of the answer.
    ChosenScores,
    RejectedScores,
    Safe,
    Harmful,
}

/// The file's names for fields.
pub type Fields = BTreeMap<Field, String>;

impl Form {
    /// The fields that a record of this form has.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Auto => &[],
            Self::Messages => &[Field::Messages, Field::Role, Field::Content, Field::System],
            Self::Sharegpt => &[Field::Conversations, Field::From, Field::Value, Field::System],
            Self::PromptCompletion => &[Field::Prompt, Field::Completion, Field::System],
            Self::Alpaca => &[Field::Instruction, Field::Input, Field::Output, Field::System],
            Self::Text => &[Field::Text],
            Self::Preference => &[
                Field::Prompt,
                Field::Chosen,
                Field::Rejected,
                Field::ChosenScores,
                Field::RejectedScores,
                Field::System,
            ],
            Self::SafeHarmful => &[Field::Prompt, Field::Safe, Field::Harmful, Field::System],
            Self::Guard => &[Field::Prompt, Field::Label, Field::Category, Field::Answer],
        }
    }

    /// The form that has these fields; `Auto` if none are given.
    ///
    /// A field that keeps its own name says nothing, nor does one that all have.
    fn with(fields: &Fields) -> Option<Self> {
        let is_telling =
            |(field, name): &(&Field, &String)| **field != Field::System && field.name() != **name;
        let named = || fields.iter().filter(is_telling).map(|(field, _)| field);
        // A guard is another kind of training: only its name asks for it.
        let forms = [
            Self::Auto,
            Self::Messages,
            Self::Sharegpt,
            Self::PromptCompletion,
            Self::Alpaca,
            Self::Text,
            Self::Preference,
            Self::SafeHarmful,
        ];
        forms.into_iter().find(|form| named().all(|field| form.fields().contains(field)))
    }

    /// The form that a recipe asks for by its name or by its fields.
    ///
    /// `None` if the fields are not of one form.
    pub fn asked(self, fields: &Fields) -> Option<Self> {
        match self {
            Self::Auto => Self::with(fields),
            form => fields.keys().all(|field| form.fields().contains(field)).then_some(form),
        }
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::PromptCompletion => "prompt-completion",
            Self::Alpaca => "alpaca",
            Self::Text => "text",
            Self::Preference => "preference",
            Self::SafeHarmful => "safe-harmful",
            Self::Guard => "guard",
        }
    }
}

impl Field {
    /// The name it has in recipes, and in files unless `fields` says otherwise.
    pub fn name(self) -> String {
        match self {
            Self::ChosenScores => "chosen_scores".to_owned(),
            Self::RejectedScores => "rejected_scores".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// That fields are those of one form.
pub(super) fn check_form(key: &str, form: Form, fields: &Fields) -> Result<(), RecipeError> {
    if form.asked(fields).is_some() {
        return Ok(());
    }
    let names: Vec<String> = fields.keys().map(|field| field.name()).collect();
    let expected = match form.fields() {
        [] => "the fields of one form".to_owned(),
        own => {
            let own: Vec<String> = own.iter().map(|field| field.name()).collect();
            format!("those of `{}`: {}", form.name(), own.join(", "))
        }
    };
    Err(bad(&format!("{key}.fields"), format!("a map of {}", names.join(", ")), &expected))
}
