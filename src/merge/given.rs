//! What a method is given: a piece of one weight of every input, and its settings.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::simd::vectorised;

/// A piece of one weight of every input: whole rows.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The weight's name on disk; it keys random choices.
    pub name: &'a str,
    /// Numbers per row: the weight's last dimension.
    pub columns: usize,
    /// Where the piece begins in the weight, in numbers.
    pub start: usize,
    /// Every input's numbers in row-major order, all equally many.
    pub inputs: &'a [&'a [f32]],
    /// For a method that goes by it, how much each number of each input matters.
    pub importance: &'a [&'a [f32]],
    /// Which input is the base.
    pub base: Option<usize>,
    /// The first of everything that was read with numbers that are NaN or infinite.
    pub broken: Option<usize>,
}

impl<'a> Given<'a> {
    /// Everything that was read: inputs, then importance.
    pub fn all(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        self.inputs.iter().chain(self.importance).copied()
    }

    /// The base's numbers.
    ///
    /// # Panics
    ///
    /// There is no base: a method that needs one says so when it is built.
    pub fn base(&self) -> &'a [f32] {
        self.inputs[self.base.expect("a method that uses a base was built with one")]
    }

    /// Every input that is not the base.
    pub fn others(&self) -> impl Iterator<Item = &'a [f32]> + Clone + use<'a> {
        let base = self.base;
        self.inputs.iter().enumerate().filter(move |(i, _)| Some(*i) != base).map(|(_, input)| *input)
    }

    /// The first input that is not the base.
    ///
    /// # Panics
    ///
    /// There is none: a method that needs one says so when it is built.
    pub fn other(&self) -> &'a [f32] {
        self.others().next().expect("a method that needs another model was built with one")
    }

    /// Every other input less the base: the task vectors.
    pub fn updates(&self) -> Vec<Vec<f32>> {
        let base = self.base();
        let update = |other: &[f32]| {
            let mut update = vec![0.0; other.len()];
            difference(other, base, &mut update);
            update
        };
        self.others().map(update).collect()
    }

    /// One of the others less the base.
    pub fn update(&self, nth: usize, out: &mut [f32]) {
        difference(self.others().nth(nth).expect("there are as many others"), self.base(), out);
    }

    /// How many numbers the piece has.
    pub fn len(&self) -> usize {
        self.inputs[0].len()
    }

    /// Whether the piece has no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

vectorised! {
    fn difference<'a>(a: &'a [f32], b: &'a [f32], out: &'a mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a - b;
        }
    }
}

/// mergekit's settings of one weight, filters and gradients resolved.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Those of the merge.
    pub all: toml::Table,
    /// Those of each input, in order; the base's are there too.
    pub each: Vec<toml::Table>,
    /// Which input is the base.
    pub base: Option<usize>,
    /// Draws random masks.
    pub seed: u64,
}

impl Settings {
    /// The merge's own settings.
    pub(super) fn all<T: DeserializeOwned>(&self) -> Result<T, String> {
        read(self.all.clone())
    }

    /// The settings of every input.
    pub(super) fn each<T: DeserializeOwned>(&self) -> Result<Vec<T>, String> {
        self.each.iter().cloned().map(read).collect()
    }

    /// The settings of every input that is not the base.
    pub(super) fn others<T: DeserializeOwned>(&self) -> Result<Vec<T>, String> {
        let others = self.each.iter().enumerate().filter(|(i, _)| Some(*i) != self.base);
        others.map(|(_, table)| read(table.clone())).collect()
    }

    /// That no model has settings of its own but these.
    pub(super) fn only_of_each(&self, known: &[&str]) -> Result<(), String> {
        let mut keys = self.each.iter().flat_map(toml::Table::keys);
        match keys.find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(format!("`{key}` of a model has no effect on this method")),
        }
    }

    /// That there is a base and at least so many other inputs, at most so many.
    pub(super) fn with_base(&self, others: std::ops::RangeInclusive<usize>) -> Result<(), String> {
        if self.base.is_none() {
            return Err("it needs a `base_model`".to_owned());
        }
        Self::count(self.each.len() - 1, others, "besides the base")
    }

    /// That there are so many inputs.
    pub(super) fn inputs(&self, inputs: std::ops::RangeInclusive<usize>) -> Result<(), String> {
        Self::count(self.each.len(), inputs, "in all")
    }

    fn count(n: usize, range: std::ops::RangeInclusive<usize>, which: &str) -> Result<(), String> {
        if range.contains(&n) {
            return Ok(());
        }
        let wanted = match (*range.start(), *range.end()) {
            (low, high) if low == high => format!("{low}"),
            (low, usize::MAX) => format!("at least {low}"),
            (low, high) => format!("{low} to {high}"),
        };
        Err(format!("it takes {wanted} models {which}, and there are {n}"))
    }
}

/// The parameters of a method that has λ alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// How far from the base (0) to the tuned model (1).
    pub lambda: f64,
}

/// The settings of a model that has a weight alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Share {
    pub weight: f64,
}

/// The default of shares and strengths that leave all as it is.
pub(super) fn whole() -> f64 {
    1.0
}

/// The default of switches that are on.
pub(super) fn yes() -> bool {
    true
}

/// That a share is one.
pub(super) fn fraction(name: &str, value: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false if name == "λ" && value > 1.0 => {
            Err(format!("λ is {value}, expected 0 to 1; past the tuned model goes `extrapolate:{value}`"))
        }
        false => Err(format!("{name} is {value}, expected 0 to 1")),
    }
}

/// Parameters as a method's own type; the error is its sentence.
pub(super) fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| match error.message() {
        "missing field `lambda`" => "λ, the weight of the tuned model, is missing".to_owned(),
        message => message.to_owned(),
    })
}
