//! Prompts with worked examples: which examples are drawn, and how they are joined into a text or into chat turns.
//!
//! As lm-eval 0.4.13 does both (`ContextSampler`, `fewshot_context`), to the byte: with another draw or another blank
//! the published numbers are not those of the same test.

use super::measures::python_text::is_space;
use super::python_random::PythonRandom;
use crate::data::{Message, Role};

/// How the examples of a question are chosen from the rows of a pool.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// `default`: drawn at random, for one question after the other from one generator. A question that is skipped
    /// moves all later draws.
    Random(Box<PythonRandom>),
    /// `first_n`: the first ones, the same for every question.
    First,
}

impl Sampler {
    /// The random one, as upstream seeds it; its default seed is 1234.
    pub fn seeded(seed: u64) -> Self {
        Self::Random(Box::new(PythonRandom::new(i128::from(seed))))
    }

    /// The rows of `n` examples for the next question, from a pool of `n_rows`; none if there are not that many.
    pub fn rows(&mut self, n_rows: usize, n: usize) -> Option<Vec<usize>> {
        match self {
            _ if n == 0 => Some(Vec::new()),
            Self::Random(rng) => rng.sample(n_rows, n),
            Self::First => (n <= n_rows).then(|| (0..n).collect()),
        }
    }

    /// The same where the pool holds the questions themselves: `is_asked` tells whether a row equals the question, and
    /// no such row is its example.
    pub fn rows_but(
        &mut self,
        n_rows: usize,
        n: usize,
        is_asked: impl Fn(usize) -> bool,
    ) -> Option<Vec<usize>> {
        let others = |rows: Vec<usize>| rows.into_iter().filter(|row| !is_asked(*row)).collect::<Vec<_>>();
        if n == 0 {
            return Some(Vec::new());
        }
        let Self::Random(rng) = self else {
            return others((0..n_rows).collect()).get(..n).map(<[usize]>::to_vec);
        };
        // One more is drawn, in case the question is among them; if it is there twice, upstream draws anew.
        let drawn = others(rng.sample(n_rows, n + 1)?);
        if let Some(rows) = drawn.get(..n) {
            return Some(rows.to_vec());
        }
        let pool = others((0..n_rows).collect());
        Some(rng.sample(pool.len(), n)?.into_iter().map(|place| pool[place]).collect())
    }
}

/// How the examples stand in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each example is a turn of the user and one of the assistant.
    MultiTurn,
    /// Examples and question are one turn of the user.
    SingleTurn,
}

/// Everything of a prompt but the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewShot {
    /// What the user of the program asks for in every prompt, before the description.
    pub system: Option<String>,
    /// What the task says before its examples, with the line breaks behind it; may be empty.
    pub description: String,
    /// Between two examples.
    pub delimiter: String,
    /// Between a question and its answer.
    pub target_delimiter: String,
    /// How every answer begins; the model goes on from there.
    pub opening: Option<String>,
    /// Question and answer.
    pub shots: Vec<(String, String)>,
}

impl Default for FewShot {
    /// What upstream's tasks have unless they say otherwise.
    fn default() -> Self {
        Self {
            system: None,
            description: String::new(),
            delimiter: "\n\n".to_owned(),
            target_delimiter: " ".to_owned(),
            opening: None,
            shots: Vec::new(),
        }
    }
}

/// A turn, and what follows it where turns are joined into one text.
struct Part<'p> {
    role: Role,
    content: String,
    delimiter: &'p str,
}

impl FewShot {
    /// The prompt as one text, for a model without a chat template. Nothing is put between the description and the
    /// first example: a description brings its own line breaks.
    pub fn text(&self, question: &str) -> String {
        joined(&self.parts(question))
    }

    /// The prompt as turns, for a chat template. The last one is the user's, or, with an opening, one of the
    /// assistant to go on with.
    pub fn turns(&self, question: &str, layout: Layout) -> Vec<Message> {
        let mut parts = self.parts(question);
        if layout == Layout::MultiTurn {
            return parts.into_iter().map(|part| Message::new(part.role, part.content)).collect();
        }
        let n_system = usize::from(parts[0].role == Role::System);
        let opening = parts.pop_if(|part| part.role == Role::Assistant);
        if let Some(last) = parts.last_mut() {
            last.delimiter = "";
        }
        let user = Message::new(Role::User, joined(&parts[n_system..]));
        parts.truncate(n_system);
        let kept = |part: Part| Message::new(part.role, part.content);
        parts.into_iter().map(kept).chain([user]).chain(opening.map(kept)).collect()
    }

    /// What stands between the prompt and an option to be scored. A chat template has ended the user's turn, so that
    /// nothing is left to delimit unless the answer has been opened.
    pub fn option_delimiter(&self, in_chat: bool) -> &str {
        let is_open = self.opening.as_ref().is_some_and(|text| !text.is_empty() && !text.ends_with(is_space));
        if in_chat && !is_open { "" } else { &self.target_delimiter }
    }

    fn parts(&self, question: &str) -> Vec<Part<'_>> {
        let mut parts = Vec::with_capacity(2 * self.shots.len() + 3);
        let system =
            delimited(self.system.as_deref().unwrap_or_default(), &self.description, &self.delimiter);
        if !system.is_empty() {
            parts.push(Part { role: Role::System, content: system, delimiter: "" });
        }
        for (question, answer) in &self.shots {
            self.push(&mut parts, question, answer);
        }
        self.push(&mut parts, question, "");
        parts
    }

    /// A question and, if it has one or one is opened, its answer.
    fn push<'p>(&'p self, parts: &mut Vec<Part<'p>>, question: &str, answer: &str) {
        let opening = self.opening.as_deref().unwrap_or_default();
        let has_delimiter = match (answer.is_empty(), opening.is_empty()) {
            (_, false) => {
                !question.is_empty() && !question.ends_with(is_space) && !opening.starts_with(is_space)
            }
            (is_unanswered, true) => !is_unanswered,
        };
        let delimiter = if has_delimiter { self.target_delimiter.as_str() } else { "" };
        parts.push(Part { role: Role::User, content: question.to_owned(), delimiter });
        let content = delimited(opening, answer, " ");
        if !content.is_empty() {
            let delimiter = if answer.is_empty() { "" } else { self.delimiter.as_str() };
            parts.push(Part { role: Role::Assistant, content, delimiter });
        }
    }
}

fn joined(parts: &[Part]) -> String {
    parts.iter().flat_map(|part| [part.content.as_str(), part.delimiter]).collect()
}

/// The two texts with `delimiter` between, unless one is empty or brings white space of its own.
fn delimited(before: &str, after: &str, delimiter: &str) -> String {
    let needs = !before.is_empty()
        && !after.is_empty()
        && !before.ends_with(is_space)
        && !after.starts_with(is_space);
    format!("{before}{}{after}", if needs { delimiter } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> FewShot {
        let shots =
            vec![("Q: 1+1\nA:".to_owned(), "2".to_owned()), ("Q: 2+2\nA:".to_owned(), "4".to_owned())];
        FewShot { description: "Add.\n\n".to_owned(), shots, ..FewShot::default() }
    }

    #[test]
    fn a_text_has_the_delimiters_and_turns_have_none() {
        let prompt = prompt();
        assert_eq!(prompt.text("Q: 3+3\nA:"), "Add.\n\nQ: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 3+3\nA:");
        let turns = prompt.turns("Q: 3+3\nA:", Layout::MultiTurn);
        let roles: Vec<&str> = turns.iter().map(|turn| turn.role.name()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "assistant", "user"]);
        assert_eq!((turns[1].content.as_str(), turns[2].content.as_str()), ("Q: 1+1\nA:", "2"));
    }

    #[test]
    fn a_single_turn_holds_the_examples_and_the_system_text_stays_outside() {
        let prompt = FewShot { system: Some("Be brief.".to_owned()), ..prompt() };
        let turns = prompt.turns("Q: 3+3\nA:", Layout::SingleTurn);
        assert_eq!(turns[0], Message::new(Role::System, "Be brief.\n\nAdd.\n\n"));
        assert_eq!(turns[1], Message::new(Role::User, "Q: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 3+3\nA:"));
        assert_eq!(turns.len(), 2);
    }

    #[test]
    fn an_opened_answer_is_the_last_turn() {
        let prompt = FewShot { opening: Some("It is".to_owned()), ..prompt() };
        assert_eq!(
            prompt.text("Q: 3+3\nA:"),
            "Add.\n\nQ: 1+1\nA: It is 2\n\nQ: 2+2\nA: It is 4\n\nQ: 3+3\nA: It is"
        );
        let turns = prompt.turns("Q: 3+3\nA:", Layout::SingleTurn);
        assert!(turns[1].content.ends_with("Q: 3+3\nA:"));
        assert_eq!(turns[2], Message::new(Role::Assistant, "It is"));
        assert_eq!((prompt.option_delimiter(true), FewShot::default().option_delimiter(true)), (" ", ""));
    }

    #[test]
    fn a_question_is_never_its_own_example() {
        for seed in 0..50 {
            let rows = Sampler::seeded(seed).rows_but(6, 3, |row| row == 2 || row == 4).unwrap();
            assert!(rows.len() == 3 && rows.iter().all(|row| *row != 2 && *row != 4), "{rows:?}");
        }
        assert_eq!(Sampler::First.rows_but(4, 3, |row| row == 1), Some(vec![0, 2, 3]));
        assert_eq!(Sampler::First.rows_but(4, 4, |row| row == 1), None);
        assert_eq!(Sampler::First.rows(5, 2), Some(vec![0, 1]));
    }

    #[test]
    fn no_examples_leave_the_generator_alone() {
        let mut sampler = Sampler::seeded(1234);
        assert_eq!(sampler.rows(7473, 0), Some(vec![]));
        assert_eq!(sampler.rows(7473, 2), Some(vec![6374, 3610]));
    }
}
