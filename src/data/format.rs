//! The forms of records, and how each is recognised.

use super::error::DataError;
use super::table::{Place, Record, names};
use super::turn::{GIVEN, HISTORY, MEDIA};
use crate::recipe::{Field, Fields, Form};

/// Where in a record the turns are: the form, and the file's names for its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Format {
    pub form: Form,
    pub fields: Fields,
}

/// Pairs of fields that [`Form::Auto`] takes for prompt and completion.
const PAIRS: [(&str, &str); 6] = [
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("problem", "solution"),
    ("input", "output"),
];

/// Names of a list of turns.
const LISTS: [&str; 2] = ["messages", "conversations"];
/// Names of the fields of [`Form::Alpaca`].
const ALPACA: [&str; 5] = ["instruction", "input", "context", "output", "response"];

impl Format {
    /// The form of a recipe, if it names one by its name or by its fields.
    pub fn new(form: Form, fields: &Fields) -> Self {
        Self { form: form.asked(fields).unwrap_or(form), fields: fields.clone() }
    }

    fn of<const N: usize>(form: Form, fields: [(Field, &str); N]) -> Self {
        let fields = fields.map(|(field, name)| (field, name.to_owned()));
        Self { form, fields: Fields::from(fields) }
    }

    /// Whether a record's field of this name can be read in this form, or in any that it may turn out to have.
    pub(super) fn reads(&self, name: &str) -> bool {
        let own = self.form.fields().iter().any(|field| self.name(*field) == name);
        let named = self.fields.values().any(|other| other == name);
        let is_pair = PAIRS.iter().any(|(a, b)| [*a, *b].contains(&name));
        let open =
            is_pair || LISTS.contains(&name) || ALPACA.contains(&name) || name == "text" || name == "system";
        let beside = GIVEN.contains(&name) || MEDIA.contains(&name);
        let before = name == HISTORY;
        let form = match self.form {
            Form::Auto | Form::Messages | Form::Sharegpt => open || beside || before,
            // A prompt may be a list of turns.
            Form::PromptCompletion => beside || before,
            Form::Preference | Form::SafeHarmful => beside,
            Form::Alpaca => before,
            Form::Text | Form::Guard => false,
        };
        own || named || form
    }

    /// The file's name for a field.
    pub(super) fn name(&self, field: Field) -> String {
        self.fields.get(&field).cloned().unwrap_or_else(|| field.name())
    }

    /// The form in words.
    pub(super) fn said(&self) -> String {
        let named = |(field, name): (&Field, &String)| match name.as_str() {
            "" => format!("no {}", field.name()),
            name => format!("`{name}` ({})", field.name()),
        };
        let renamed: Vec<String> = self.fields.iter().map(named).collect();
        let with = if renamed.is_empty() { String::new() } else { format!(" with {}", renamed.join(", ")) };
        format!("{}{with}, because the recipe says so", self.form.name())
    }

    /// The form of a record, and why. A system message's own name is the recipe's.
    pub(super) fn recognise(&self, record: &Record, place: &Place) -> Result<(Self, String), DataError> {
        let has = |name: &str| record.contains_key(name);
        let first = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
        let (mut found, why) = if let Some(list) = first(&LISTS) {
            let turn = record[list].get(0);
            if turn.is_some_and(|turn| turn.get("from").is_some() && turn.get("role").is_none()) {
                let why = format!("`{list}` with `from` and `value`");
                (Self::of(Form::Sharegpt, [(Field::Conversations, list)]), why)
            } else {
                (Self::of(Form::Messages, [(Field::Messages, list)]), format!("`{list}`"))
            }
        } else if let (true, Some(output)) = (has("instruction"), first(&["output", "response"])) {
            let input = first(&["input", "context"]).unwrap_or("input");
            let given = if has(input) { format!(", `{input}`") } else { String::new() };
            let why = format!("`instruction`{given} and `{output}`");
            (Self::of(Form::Alpaca, [(Field::Input, input), (Field::Output, output)]), why)
        } else if let Some((prompt, completion)) = PAIRS.into_iter().find(|(a, b)| has(a) && has(b)) {
            let why = format!("`{prompt}` (prompt) and `{completion}` (completion)");
            (
                Self::of(Form::PromptCompletion, [(Field::Prompt, prompt), (Field::Completion, completion)]),
                why,
            )
        } else if has("text") {
            (Self::of(Form::Text, []), "`text`".to_owned())
        } else if has("chosen") && has("rejected") {
            (Self::of(Form::Preference, []), "`chosen` and `rejected`".to_owned())
        } else if has("prompt") && has("safe") && has("harmful") {
            (Self::of(Form::SafeHarmful, []), "`prompt`, `safe` and `harmful`".to_owned())
        } else {
            return Err(DataError::UnknownForm { place: place.clone(), found: names(record) });
        };
        found
            .fields
            .extend(self.fields.get_key_value(&Field::System).map(|(field, name)| (*field, name.clone())));
        let said = format!("{}, because the first record has {why}", found.form.name());
        Ok((found, said))
    }
}
