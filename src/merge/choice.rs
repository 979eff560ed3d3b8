//! Which matrices a merge changes: by how their updates lie to what alignment made of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::Rng;
use toml::{Table, Value};

use super::Whole;
use super::alignment::{Alignment, alignment};
use crate::recipe::layer_of;
use crate::seed;
use crate::snapshot::{Numbers, SharedWeights, SnapshotError};

/// The rule by which matrices are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub by: By,
    /// A ρ that equals the threshold is chosen.
    pub inclusive: bool,
    /// As SafeLoRA's program: with V = 0 a matrix has no ρ and is not chosen; all that tie with the last of a count
    /// are; and a count that reaches a matrix without ρ chooses nothing.
    pub official: bool,
}

/// What decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By {
    /// ρ below this.
    Tau(f64),
    /// ρ below so many times its chance baseline.
    Relative(f64),
    /// So many with the lowest ρ; of equals the first by name.
    Lowest(usize),
    /// So many with the highest ρ: a control.
    Highest(usize),
    /// So many drawn by chance: a control.
    Random(usize, u64),
}

/// The parameters that a choice has.
const RULES: [&str; 5] = ["tau", "relative", "lowest", "highest", "random"];
const DRAW: &str = "draw";

impl Choice {
    /// Takes a choice out of a spec's parameters; `usual` is what holds where they have none.
    ///
    /// # Errors
    ///
    /// There are two, one has another value than it may, or there is none and no usual one.
    pub fn take(parameters: &mut Table, usual: Option<By>, inclusive: bool) -> Result<Self, String> {
        let given: Vec<&str> = RULES.into_iter().filter(|rule| parameters.contains_key(*rule)).collect();
        let by = match (given.as_slice(), usual) {
            ([], Some(usual)) => usual,
            ([], None) => return Err(format!("which matrices are chosen is missing: {}", RULES.join(", "))),
            ([one], _) => {
                let value = parameters.remove(*one).expect("it is there");
                let draw = match parameters.remove(DRAW) {
                    None => 0,
                    Some(Value::Integer(draw)) if *one == "random" => draw.cast_unsigned(),
                    Some(_) => return Err("`draw` is the whole number that draws `random`".to_owned()),
                };
                Self::by(one, &value, draw)?
            }
            ([first, second, ..], _) => return Err(format!("`{first}` and `{second}` exclude each other")),
        };
        Ok(Self { by, inclusive, official: false })
    }

    /// The same with the peculiarities of SafeLoRA's program.
    ///
    /// # Errors
    ///
    /// The program has no such rule.
    pub fn official(self) -> Result<Self, String> {
        match self.by {
            By::Tau(_) | By::Lowest(_) => Ok(Self { official: true, ..self }),
            By::Relative(_) | By::Highest(_) | By::Random(..) => {
                Err("`official` is the authors' program, which chooses by `tau` or `lowest` alone".to_owned())
            }
        }
    }

    fn by(rule: &str, value: &Value, draw: u64) -> Result<By, String> {
        let number = match value {
            Value::Float(x) if x.is_finite() => *x,
            Value::Integer(x) => *x as f64,
            _ => return Err(format!("{rule} is {value}, expected a number")),
        };
        let count = || match value {
            Value::Integer(n @ 0..) => Ok(*n as usize),
            _ => Err(format!("{rule} is {value}, expected how many matrices")),
        };
        Ok(match rule {
            "tau" => By::Tau(number),
            "relative" if number >= 0.0 => By::Relative(number),
            "relative" => return Err(format!("relative is {value}, expected at least 0")),
            "lowest" => By::Lowest(count()?),
            "highest" => By::Highest(count()?),
            _ => By::Random(count()?, draw),
        })
    }

    /// ρ as it is compared, rounded to five decimals as the programs of SafeMERGE and SafeLoRA do; none where it is
    /// not defined.
    fn rho(&self, alignment: &Alignment) -> Option<f64> {
        if self.official && alignment.alignment_norm == 0.0 {
            return None;
        }
        Some(format!("{:.5}", alignment.rho).parse().expect("a number reads as it prints"))
    }

    fn is_below(&self, alignment: &Alignment, tau: f64) -> bool {
        self.rho(alignment).is_some_and(|rho| rho < tau || self.inclusive && rho == tau)
    }

    /// Whether a matrix is chosen among all.
    fn among(&self, name: &str, all: &BTreeMap<String, Alignment>, n: usize) -> bool {
        let rhos = || all.iter().map(|(name, alignment)| (self.rho(alignment), name));
        if self.official {
            let mut sorted: Vec<f64> = rhos().filter_map(|(rho, _)| rho).collect();
            sorted.sort_by(f64::total_cmp);
            let last = n.checked_sub(1).and_then(|last| sorted.get(last));
            return last.is_some_and(|last| self.rho(&all[name]).is_some_and(|rho| rho <= *last));
        }
        let mut sorted: Vec<(f64, &String)> = rhos().map(|(rho, name)| (rho.unwrap_or(0.0), name)).collect();
        match self.by {
            By::Highest(_) => sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1))),
            _ => sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1))),
        }
        sorted.iter().take(n).any(|(_, chosen)| *chosen == name)
    }
}

/// How the update of every matrix lies to the alignment of base and unaligned model; each is looked at once.
///
/// Of an adapter the matrices are those that it acts on; of a tuned model, those of its layers that differ from the
/// base's.
pub struct Alignments {
    /// Base, tuned and unaligned model.
    models: [SharedWeights; 3],
    known: Mutex<BTreeMap<String, Option<Alignment>>>,
}

impl Alignments {
    pub fn new(base: SharedWeights, tuned: SharedWeights, unaligned: SharedWeights) -> Self {
        Self { models: [base, tuned, unaligned], known: Mutex::default() }
    }

    /// That of one weight; nothing where no choice is to be made.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn of(&self, name: &str) -> Result<Option<Alignment>, SnapshotError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alignment) = known().get(name) {
            return Ok(*alignment);
        }
        let found = self.look(name)?;
        known().insert(name.to_owned(), found);
        Ok(found)
    }

    fn look(&self, name: &str) -> Result<Option<Alignment>, SnapshotError> {
        let [base, ..] = &self.models;
        let Some(&[rows, columns]) = base.infos().get(name).map(|info| info.shape.as_slice()) else {
            return Ok(None);
        };
        if layer_of(name).is_none() {
            return Ok(None);
        }
        let inputs = self.models.iter().map(|model| model.numbers(name));
        let inputs: Vec<Numbers<'_>> = inputs.collect::<Result<_, _>>()?;
        let len = rows * columns;
        if inputs[1].factors().is_none() && inputs[1].equal(&inputs[0], len) {
            return Ok(None);
        }
        let whole = Whole { base: Some(0), ..Whole::new(name, columns, len, &inputs) };
        Ok(Some(alignment(&whole)))
    }

    /// The weights that may be matrices to choose from.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        let infos = self.models[0].infos().iter();
        infos.filter(|(name, info)| info.shape.len() == 2 && layer_of(name).is_some()).map(|(name, _)| name)
    }

    /// Whether all was looked at.
    pub fn is_settled(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.names().all(|name| known.contains_key(name))
    }

    /// Looks at every matrix; `tell` is told how many of how many, and `stop` ends it.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn settle(&self, tell: &dyn Fn(usize, usize), stop: &AtomicBool) -> Result<(), SnapshotError> {
        let names: Vec<&String> = self.names().collect();
        for (nth, name) in names.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.of(name)?;
            tell(nth + 1, names.len());
        }
        Ok(())
    }

    /// Those of all matrices.
    fn all(&self) -> Result<BTreeMap<String, Alignment>, SnapshotError> {
        let mut all = BTreeMap::new();
        for name in self.names() {
            if let Some(alignment) = self.of(name)? {
                all.insert(name.clone(), alignment);
            }
        }
        Ok(all)
    }

    /// Whether a weight is chosen; nothing where there is no choice to be made.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn chosen(&self, name: &str, choice: &Choice) -> Result<Option<bool>, SnapshotError> {
        let Some(alignment) = self.of(name)? else { return Ok(None) };
        Ok(Some(match choice.by {
            By::Tau(tau) => choice.is_below(&alignment, tau),
            By::Relative(times) => alignment.rho < times * alignment.baseline,
            By::Lowest(n) | By::Highest(n) => choice.among(name, &self.all()?, n),
            By::Random(n, draw) => {
                let all = self.all()?;
                let mut drawn: Vec<(u64, &String)> =
                    all.keys().map(|name| (seed::rng(draw, name).next_u64(), name)).collect();
                drawn.sort_unstable();
                drawn.iter().take(n).any(|(_, chosen)| *chosen == name)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Alignments, Choice};
    use crate::snapshot::{Dtype, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

    /// A matrix of two by two in each of five layers, by the layer's number.
    struct Model(BTreeMap<String, WeightInfo>, fn(f32) -> [f32; 4]);

    impl Model {
        fn shared(numbers: fn(f32) -> [f32; 4]) -> SharedWeights {
            let info = || WeightInfo { shape: vec![2, 2], dtype: Dtype::F32 };
            let names = (0..5).map(|layer| (format!("model.layers.{layer}.mlp.up_proj.weight"), info()));
            Arc::new(Self(names.collect(), numbers))
        }
    }

    impl Weights for Model {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }
        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            let layer = self.0.keys().position(|own| own == name).unwrap() as f32;
            Ok(Weight::from_f32(vec![2, 2], &(self.1)(layer)))
        }
    }

    /// The layers that are chosen. By hand ρ is 1, 0.486, 0.750, 0.955 and 1: C weighs the first row 16 times the second.
    fn chosen(parameters: &str) -> Vec<usize> {
        let base = Model::shared(|_| [1.0, 0.0, 0.0, 0.0]);
        let tuned = Model::shared(|layer| [1.0 + layer, 0.0, 4.0 - layer, 0.0]);
        let unaligned = Model::shared(|_| [-1.0, 0.0, 0.0, -0.5]);
        let alignments = Alignments::new(base, tuned, unaligned);
        let choice = Choice::take(&mut parameters.parse().unwrap(), None, false).unwrap();
        let name = |layer: &usize| format!("model.layers.{layer}.mlp.up_proj.weight");
        (0..5).filter(|layer| alignments.chosen(&name(layer), &choice).unwrap().unwrap()).collect()
    }

    #[test]
    fn the_lowest_and_the_highest_are_the_two_ends_and_chance_takes_as_many() {
        assert_eq!(chosen("lowest = 2"), [1, 2]);
        assert_eq!(chosen("highest = 2"), [0, 4]);
        assert_eq!(chosen("tau = 2"), [0, 1, 2, 3, 4]);
        assert_eq!((chosen("lowest = 0"), chosen("relative = 0")), (vec![], vec![]));
        let drawn: Vec<Vec<usize>> =
            (0..8).map(|draw| chosen(&format!("random = 2\ndraw = {draw}"))).collect();
        assert!(drawn.iter().all(|layers| layers.len() == 2));
        assert_eq!(drawn[3], chosen("random = 2\ndraw = 3"));
        assert!(drawn.iter().any(|layers| *layers != drawn[0]), "{drawn:?}");
    }

    #[test]
    fn the_authors_program_has_no_controls() {
        for (rule, is_there) in
            [("tau = 1", true), ("lowest = 1", true), ("highest = 1", false), ("random = 1", false)]
        {
            let choice = Choice::take(&mut rule.parse().unwrap(), None, true).unwrap();
            assert_eq!(choice.official().is_ok(), is_there, "{rule}");
        }
    }
}
