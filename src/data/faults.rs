//! What is wrong with several records of a file, told at once.

use miette::Diagnostic;

/// So many wrong records are looked for before reading ends.
const MOST: usize = 20;

/// The wrong records that were found so far.
#[derive(Debug)]
pub struct Faults<E> {
    first: Option<E>,
    numbers: Vec<usize>,
}

impl<E> Default for Faults<E> {
    fn default() -> Self {
        Self { first: None, numbers: Vec::new() }
    }
}

/// What is said of several.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub n: usize,
    /// Their numbers.
    pub lines: String,
    pub first: String,
    pub help: String,
}

impl<E: Diagnostic> Faults<E> {
    /// Whether nothing was wrong so far.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether enough was found to stop reading.
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= MOST
    }

    /// Notes what is wrong with a record.
    pub fn note(&mut self, error: E, number: usize) {
        self.first.get_or_insert(error);
        self.numbers.push(number);
    }

    /// What was wrong, if anything was: the one error, or `several`.
    ///
    /// # Errors
    ///
    /// Something was.
    pub fn end(self, several: impl FnOnce(Told) -> E) -> Result<(), E> {
        let Some(first) = self.first else { return Ok(()) };
        let n = self.numbers.len();
        if n == 1 {
            return Err(first);
        }
        let numbers: Vec<String> = self.numbers.iter().map(ToString::to_string).collect();
        let more = if n == MOST { " and perhaps more" } else { "" };
        let help = first.help().map(|help| help.to_string()).unwrap_or_default();
        Err(several(Told {
            n,
            lines: format!("{}{more}", numbers.join(", ")),
            first: first.to_string(),
            help,
        }))
    }
}
