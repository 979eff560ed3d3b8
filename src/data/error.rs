//! Every way a data set can be wrong.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use super::conversation::Line;
use super::table::{Place, TableError};
use crate::snapshot::template::TemplateError;
use crate::snapshot::tokenizer::TokenizerError;

/// Why a data set cannot be trained on.
#[derive(Debug, Error, Diagnostic)]
pub enum DataError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Table(#[from] TableError),
    #[error("`{}` has no records", path.display())]
    #[diagnostic(
        code(data::empty),
        help("expected a record a line, one JSON array of objects, or a table with a header")
    )]
    Empty { path: PathBuf },
    #[error("{place} has no field `{field}`; it has {found}")]
    #[diagnostic(
        code(data::missing_field),
        help(
            "name the file's own fields under `[data]`, such as `fields = {{ prompt = \"…\", completion = \"…\" }}`"
        )
    )]
    MissingField { place: Place, field: String, found: String },
    #[error("field `{field}` in {place} is {found}, expected {expected}")]
    #[diagnostic(code(data::wrong_type), help("correct the record"))]
    WrongType { place: Place, field: String, found: String, expected: &'static str },
    #[error("{place} has no field `{field}`; it has {found}")]
    #[diagnostic(code(data::one_answer), help("{}", where_from(what)))]
    OneAnswer { place: Place, field: String, found: String, what: String },
    #[error(
        "{found} of {n} conversations have two answers, the first in {line}, and `objective.kind = \"sft\"` learns one"
    )]
    #[diagnostic(
        code(data::two_answers),
        help(
            "set `objective.kind` to `dpo` for chosen and rejected answers or to `derta` for safe and harmful ones; or name the one to learn: `fields = {{ prompt = \"…\", completion = \"…\" }}` under `[data]`"
        )
    )]
    TwoAnswers { found: usize, n: usize, line: Line },
    #[error("none of {n} conversations has both {what}, and `objective.kind = \"{kind}\"` learns from them")]
    #[diagnostic(code(data::no_pairs), help("{}", where_from(other)))]
    NoPairs { n: usize, kind: &'static str, what: &'static str, other: &'static str },
    #[error("line or record {line} has one answer, and `objective.kind = \"{kind}\"` compares two")]
    #[diagnostic(
        code(data::no_pair),
        help("take the record out; only `derta` also learns from ordinary conversations")
    )]
    NoPair { line: Line, kind: &'static str },
    #[error(
        "line or record {line} has no scores of its tokens, and `objective.kind = \"adpo\"` masks by them"
    )]
    #[diagnostic(
        code(data::no_scores),
        help(
            "give a list of numbers for each answer, one a token, as a reward model of tokens makes them, in `chosen_scores` and `rejected_scores` (or name the columns in `fields` under `[data]`); without any, `objective.kind = \"dpo\"` counts every token"
        )
    )]
    NoScores { line: Line },
    #[error("line or record {line} has {found} scores for the {n} tokens of its {which} answer")]
    #[diagnostic(
        code(data::scores_misfit),
        help(
            "score the tokens of this model's tokenizer, with or without the one that ends the answer; `--plan` shows what is learned"
        )
    )]
    ScoresMisfit { line: Line, which: &'static str, found: usize, n: usize },
    #[error("no token of any pair has a score beyond the mask")]
    #[diagnostic(
        code(data::all_masked),
        help("lower `objective.mask_threshold` or `objective.mask_hysteresis`: nothing would be learned")
    )]
    AllMasked,
    #[error("{place} has none of the known forms; its fields are {found}")]
    #[diagnostic(
        code(data::unknown_form),
        help(
            "name them under `[data]`: `fields = {{ prompt = \"…\", completion = \"…\" }}`, or those of another form; `recipes/reference.toml` lists them"
        )
    )]
    UnknownForm { place: Place, found: String },
    #[error("{n} records of `{}` are wrong ({lines}); the first: {first}", path.display())]
    #[diagnostic(code(data::several), help("{help}"))]
    Several { path: PathBuf, n: usize, lines: String, first: String, help: String },
    #[error("field `{field}` in {place} is empty")]
    #[diagnostic(
        code(data::empty_text),
        help(
            "remove the record, or fill the field in; at most one in a hundred may be empty and is left out"
        )
    )]
    EmptyText { place: Place, field: String },
    #[error("the role `{role}` in {place} is unknown, expected `system`, `user`, `assistant` or `tool`")]
    #[diagnostic(code(data::unknown_role), help("give the turn one of these roles, or remove the record"))]
    UnknownRole { place: Place, role: String },
    #[error("field `{field}` in {place} says what no text can, and would be lost")]
    #[diagnostic(
        code(data::beyond_text),
        help(
            "remove the record; or only the field, if the text alone is what is to be learned; `finetune data mix` mixes refusals into records with images, for training elsewhere"
        )
    )]
    BeyondText { place: Place, field: String },
    #[error("{place} ends with a message from the {found}, expected the assistant")]
    #[diagnostic(code(data::no_answer), help("the last message is what is learned; remove what follows it"))]
    NoAnswer { place: Place, found: String },
    #[error("{place} has a system message that is not the first")]
    #[diagnostic(code(data::late_system), help("move it to the front"))]
    LateSystem { place: Place },

    #[error("cannot render the conversation of line or record {line}")]
    #[diagnostic(
        code(data::template),
        help("see the cause; the model's chat template has the last word on what a conversation is")
    )]
    Template {
        line: Line,
        #[source]
        #[diagnostic_source]
        source: TemplateError,
    },
    #[error("cannot encode the conversation of line or record {line}")]
    #[diagnostic(code(data::tokenizer))]
    Tokenizer {
        line: Line,
        #[source]
        #[diagnostic_source]
        source: TokenizerError,
    },
    #[error(
        "chat template `{template}` writes an answer's beginning differently once the answer is there (line or record {line}): `{found}`, expected `{expected}`"
    )]
    #[diagnostic(
        code(data::not_prefix_stable),
        help(
            "what is learned cannot be told from what is given; use `loss_on = \"completion\"` or a template that only appends"
        )
    )]
    NotPrefixStable { template: String, line: Line, expected: String, found: String },
    #[error(
        "chat template `{template}` leaves a part of an answer out of what is learned (line or record {line}): of `{field}` \"{expected}\" it writes \"{found}\""
    )]
    #[diagnostic(
        code(data::not_whole),
        help(
            "a template that strips the thinking from past answers cannot teach it: bring one that writes answers whole, `template = \"FILE.jinja\"` under `[data]`; or take the part out of the data"
        )
    )]
    NotWhole { template: String, line: Line, field: String, expected: String, found: String },
    #[error("chat template `{template}` does not write {what} (line or record {line})")]
    #[diagnostic(
        code(data::not_written),
        help(
            "the model would not see it: bring a template that writes it, `template = \"FILE.jinja\"` under `[data]`, or take it out of the data"
        )
    )]
    NotWritten { template: String, line: Line, what: String },
    #[error("chat template `{template}` has no generation prompt: it writes `{}` before an answer and not where one is asked for", header.escape_debug())]
    #[diagnostic(
        code(data::no_generation_prompt),
        help(
            "write `{{% if add_generation_prompt %}}{}{{% endif %}}` at the end of a copy, and name it: `template = \"FILE.jinja\"` under `[data]`", header.escape_debug()
        )
    )]
    NoGenerationPrompt { template: String, header: String },
    #[error("the tokenizer writes line or record {line} differently when the answer is cut off")]
    #[diagnostic(code(data::not_splittable), help("end the prompt with a line end or a special token"))]
    NotSplittable { line: Line },
    #[error(
        "line or record {line} has {found} messages; without a chat template a prompt and an answer are expected"
    )]
    #[diagnostic(
        code(data::needs_template),
        help("bring a template for conversations: `template = \"FILE.jinja\"` under `[data]`")
    )]
    NeedsTemplate { line: Line, found: usize },
    #[error(
        "the tokenizer has no end-of-text token, so that a model tuned without a chat template would never stop"
    )]
    #[diagnostic(code(data::no_eos), help("name one as `eos_token` in `tokenizer_config.json`"))]
    NoEos,

    #[error("{found} of {n} samples have more than {max_tokens} tokens, the longest {longest}: {places}")]
    #[diagnostic(
        code(data::too_long),
        help("raise `max_tokens` under `[data]`, or choose `too_long = \"drop\"` or `\"truncate\"`")
    )]
    TooLong { found: usize, n: usize, max_tokens: usize, longest: usize, places: String },
    #[error("all {n} samples have more than {max_tokens} tokens, the shortest {shortest}")]
    #[diagnostic(code(data::all_too_long), help("raise `max_tokens` under `[data]`"))]
    AllTooLong { n: usize, max_tokens: usize, shortest: usize },
    #[error(
        "a validation share of {share} leaves {train} of {n} conversations for training and {validation} for validation"
    )]
    #[diagnostic(
        code(data::bad_split),
        help("choose a share between 0 and 1 that leaves some on both sides, or 0 for none")
    )]
    BadSplit { share: f64, n: usize, train: usize, validation: usize },
    #[error("`{}` holds plain text, and `{key}` is for conversations", path.display())]
    #[diagnostic(code(data::plain_text), help("{help}"))]
    PlainText { path: PathBuf, key: &'static str, help: &'static str },
    #[error("there is no transform `{name}`")]
    #[diagnostic(code(data::unknown_transform), help("{help}"))]
    UnknownTransform { name: String, help: String },
    #[error("transform `{written}` needs {expected}")]
    #[diagnostic(code(data::bad_transform), help("write it as `{example}`"))]
    BadTransform { written: String, expected: &'static str, example: &'static str },
    #[error(
        "source {number} of the mixture, `{name}`, has {n} conversations, and its share of {share} needs {needed}"
    )]
    #[diagnostic(
        code(data::share_too_large),
        help("lower `limit`, change the shares, or let its records come several times: `repeat = true`")
    )]
    ShareTooLarge { number: usize, name: String, n: usize, share: f64, needed: usize },
    #[error(
        "source {number} of the mixture, `{name}`, gives {train} of {n} conversations to training: its share is {share}"
    )]
    #[diagnostic(code(data::share_too_small), help("raise its share or `limit`, or take it out"))]
    ShareTooSmall { number: usize, name: String, n: usize, share: f64, train: usize },
    #[error(
        "source {number} of the refusal mix, `{name}`, has {n} requests, of which {n_free} stand neither in the data nor twice, and {needed} are needed"
    )]
    #[diagnostic(
        code(data::few_requests),
        help(
            "lower the ratio or the count, or name a larger file: no request that is trained on or held out is refused"
        )
    )]
    FewRequests { number: usize, name: String, n: usize, n_free: usize, needed: usize },
    #[error("`{}` has {found} records, and {needed} are to stay", path.display())]
    #[diagnostic(code(data::few_records), help("lower `--limit`, or leave it out to keep all"))]
    FewRecords { path: PathBuf, found: usize, needed: usize },
    #[error("`{}` is {found}, expected a JSON array or JSON lines", path.display())]
    #[diagnostic(
        code(data::not_json),
        help("write it as JSON lines first: what is mixed keeps every field of its records")
    )]
    NotJson { path: PathBuf, found: String },

    #[error("{found} of {n} samples have nothing to learn: {places}")]
    #[diagnostic(
        code(data::nothing_to_learn),
        help(
            "look at one with `--plan`: is the answer there, and is it after the prompt? A truncated one may have lost it"
        )
    )]
    NothingToLearn { found: usize, n: usize, places: String },
    #[error(
        "the model would not learn to stop: {found} of {n} samples train no stop token ({stops}): {places}"
    )]
    #[diagnostic(code(data::stop_never_trained), help("{help}"))]
    StopNotTrained { found: usize, n: usize, stops: String, places: String, help: String },
    #[error("{found} of {n} samples begin with `{bos}` twice: {places}")]
    #[diagnostic(
        code(data::bos_twice),
        help("the template and the text both write it; remove it from the data, or from the template")
    )]
    BosTwice { found: usize, n: usize, bos: String, places: String },
    #[error(
        "{found} of {n} samples use token ids that the model lacks, the largest {largest} (`{token}`) where there are {vocab_size}: {places}"
    )]
    #[diagnostic(
        code(data::outside_vocabulary),
        help(
            "do tokenizer and weights belong to the same model? Added tokens need added rows in the embedding"
        )
    )]
    OutsideVocabulary {
        found: usize,
        n: usize,
        largest: u32,
        token: String,
        vocab_size: usize,
        places: String,
    },
}

impl DataError {
    /// Whether the recipe asks for what cannot be, whatever the files hold.
    pub fn is_recipe(&self) -> bool {
        matches!(
            self,
            Self::PlainText { .. }
                | Self::TwoAnswers { .. }
                | Self::UnknownTransform { .. }
                | Self::BadTransform { .. }
                | Self::ShareTooLarge { .. }
                | Self::ShareTooSmall { .. }
                | Self::FewRequests { .. }
                | Self::FewRecords { .. }
        )
    }
}

/// Where an answer comes from that no file of ours has.
fn where_from(what: &str) -> String {
    let (source, field) = match what {
        "harmful" | "safe" => (
            "DeRTa learns to stop within harmful answers, and this program ships none: the file is your own, a safe and a \
             harmful answer to each request, as preference sets on safety have them (BeaverTails and PKU-SafeRLHF in the \
             authors' field)",
            "safe = \"…\", harmful = \"…\"",
        ),
        _ => (
            "a pair is two answers to one prompt of which people or a judge chose one, as HH-RLHF, UltraFeedback and \
             PKU-SafeRLHF have them",
            "chosen = \"…\", rejected = \"…\"",
        ),
    };
    format!(
        "{source}; if it has other names for its columns: `fields = {{ prompt = \"…\", {field} }}` under `[data]`"
    )
}

/// The first places of many, for a message: `line or record 3, 17, 20 and 4 more`.
pub(super) fn places(lines: &[Line]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = lines.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = lines.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("line or record {}{more}", shown.join(", "))
}
