//! Where the points of a landscape lie, and the weights there.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::merge::direction::{Direction, Noise, Toward, moved};
use crate::recipe::{RecipeError, Spec};
use crate::report::landscape::{Axis, Layout};
use crate::run::cast::{Cast, RoleWeights};
use crate::run::failure::Failure;
use crate::snapshot::SharedWeights;
use crate::snapshot::digest::of_json;

/// The line goes as far beyond base and tuned model, in λ.
const BEYOND: f64 = 0.5;
/// Directions and planes go as far to both sides, in α: the paper's.
const REACH: f64 = 0.5;
/// Directions of a plane.
const IN_PLANE: usize = 2;

/// Which points are asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Points of the line and of each direction.
    pub points: usize,
    /// Random directions around each model.
    pub directions: usize,
    /// `base`, `tuned` or merges of the two, around which directions and planes lie.
    pub around: Vec<String>,
    /// Points of each side of a plane, where one is wanted.
    pub plane: Option<usize>,
    /// Points of each side of the plane of base → tuned and one direction, where it is wanted.
    pub across: Option<usize>,
    /// Rates of attack success, in percent, for the widths.
    pub rates: Vec<f64>,
    /// Draws the directions.
    pub seed: u64,
    /// The most items of each suite.
    pub limit: Option<usize>,
}

impl Request {
    /// Looks at every number and name.
    ///
    /// # Errors
    ///
    /// One makes no sense.
    pub fn check(&self) -> Result<(), Failure> {
        let bad = |key: &str, found: String, expected: &str| RecipeError::BadValue {
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        if let Some(rate) = self.rates.iter().find(|rate| !(0.0..100.0).contains(*rate)) {
            return Err(bad("--rate", rate.to_string(), "percent from 0 to below 100").into());
        }
        if !self.around.is_empty() && self.directions == 0 && self.plane.is_none() {
            let found = format!("`{}` without directions", self.around[0]);
            return Err(bad("--around", found, "`--directions` or `--plane` with it").into());
        }
        self.centres().map(drop)
    }

    /// The models around which directions lie, by candidates' names.
    fn centres(&self) -> Result<Vec<String>, Failure> {
        let mut centres = Vec::new();
        let default = ["base".to_owned()];
        let asked = if self.around.is_empty() { &default[..] } else { &self.around };
        for text in asked {
            let names = match text.as_str() {
                "base" | "tuned" => vec![text.clone()],
                _ => Spec::parse_range(text)?.iter().map(ToString::to_string).collect(),
            };
            centres.extend(names.into_iter().filter(|name| !centres.contains(name)).collect::<Vec<_>>());
        }
        Ok(centres)
    }

    /// The merges that are points, as a recipe has them.
    ///
    /// # Errors
    ///
    /// What directions lie around is neither `base` nor `tuned` nor a merge.
    pub fn merges(&self) -> Result<Vec<String>, Failure> {
        let line = self.line().into_iter().filter(|lambda| *lambda > 0.0 && *lambda != 1.0).map(on_line);
        let centres = self.centres()?.into_iter().filter(|name| !["base", "tuned"].contains(&name.as_str()));
        Ok(line.chain(centres).collect())
    }

    /// λ of the points of the line: even steps, and base and tuned model in any case.
    fn line(&self) -> Vec<f64> {
        let mut line = steps(-BEYOND, 1.0 + BEYOND, self.points);
        line.extend([0.0, 1.0]);
        line.sort_by(f64::total_cmp);
        line.dedup();
        line
    }
}

/// Even steps from one number to another, as a person would have written them: the sum of ten tenths is 1.
fn steps(from: f64, to: f64, n: usize) -> Vec<f64> {
    let at = |k: usize| from + (to - from) * k as f64 / (n - 1) as f64;
    // Adding 0 makes the zero that has a sign one that has none.
    (0..n).map(|k| (at(k) * 1e9).round() / 1e9 + 0.0).collect()
}

/// What the candidate at λ is called. Between and past the two models it is a merge, whose answers a run may have.
fn on_line(lambda: f64) -> String {
    match lambda {
        0.0 => "base".to_owned(),
        1.0 => "tuned".to_owned(),
        _ if lambda < 0.0 => format!("line:{lambda}"),
        _ if lambda < 1.0 => format!("linear:{lambda}"),
        _ => format!("extrapolate:{lambda}"),
    }
}

/// Every point as a candidate, and where it lies.
pub struct Points {
    pub cast: Cast,
    pub layout: Layout,
}

impl Points {
    /// Adds the points that are none of the cast's candidates to it.
    ///
    /// # Errors
    ///
    /// Weights do not fit together.
    pub fn laid(cast: Cast, request: &Request) -> Result<Self, Failure> {
        let Request { points, directions, plane, across, rates, seed, .. } = request;
        let mut more = More { cast: &cast, seed: *seed, known: BTreeSet::new(), models: Vec::new() };
        let line = request.line().into_iter().map(|lambda| Ok((lambda, more.on_line(lambda)?)));
        let line = line.collect::<Result<_, Failure>>()?;
        let mut layout = Layout { seed: *seed, rates: rates.clone(), line, ..Layout::default() };
        let is_asked = *directions > 0 || plane.is_some();
        for model in request.centres()?.into_iter().filter(|_| is_asked) {
            let n = (*directions).max(plane.map_or(0, |_| IN_PLANE));
            let centre = more.centre(&model, n)?;
            let mut ways = Vec::new();
            for nth in 0..*directions {
                let way = steps(-REACH, REACH, *points).into_iter();
                let way = way.map(|x| Ok((x, more.moved(&centre, &[(nth, x)])?)));
                ways.push(way.collect::<Result<_, Failure>>()?);
            }
            if !ways.is_empty() {
                layout.around.push((model.clone(), ways));
            }
            if let Some(side) = plane {
                let side = steps(-REACH, REACH, *side);
                let all = side.iter().flat_map(|y| side.iter().map(move |x| [*x, *y]));
                let all = all.map(|[x, y]| Ok(([x, y], more.moved(&centre, &[(0, x), (1, y)])?)));
                let axes = [Axis::Direction(0), Axis::Direction(1)];
                layout.planes.push((model.clone(), axes, all.collect::<Result<_, Failure>>()?));
            }
        }
        if let Some(side) = across {
            let base = more.centre("base", 1)?;
            let (x, y) = (steps(-BEYOND, 1.0 + BEYOND, *side), steps(-REACH, REACH, *side));
            let all = y.iter().flat_map(|y| x.iter().map(move |x| [*x, *y]));
            let all = all.map(|[x, y]| Ok(([x, y], more.across(&base, x, y)?)));
            let axes = [Axis::Tuned, Axis::Direction(0)];
            layout.planes.push(("base".to_owned(), axes, all.collect::<Result<_, Failure>>()?));
        }
        let models = more.models;
        Ok(Self { cast: cast.with(models), layout })
    }
}

/// A model and the directions around it.
struct Centre {
    name: String,
    key: String,
    weights: SharedWeights,
    directions: Vec<SharedWeights>,
}

/// Models that are no candidates yet.
struct More<'c> {
    cast: &'c Cast,
    seed: u64,
    known: BTreeSet<String>,
    models: Vec<(String, RoleWeights)>,
}

impl More<'_> {
    fn candidate(&self, name: &str) -> usize {
        let found = self.cast.candidates.iter().position(|candidate| candidate.name == name);
        found.expect("base, tuned model and the request's merges are candidates")
    }

    /// The weights of a candidate, not rounded, and the digest of all that decides them.
    fn exact(&self, name: &str) -> Result<(SharedWeights, String), Failure> {
        let nth = self.candidate(name);
        Ok((self.cast.exact(&self.cast.candidates[nth])?, self.cast.key(nth)))
    }

    fn on_line(&mut self, lambda: f64) -> Result<String, Failure> {
        let name = on_line(lambda);
        if lambda < 0.0 {
            let ((base, of_base), (tuned, of_tuned)) = (self.exact("base")?, self.exact("tuned")?);
            let toward: SharedWeights = Arc::new(Toward::new(base.clone(), tuned));
            let weights = moved(name.clone(), base, &[(toward, lambda)], self.cast.dtypes())?;
            let key = of_json(&json!(["toward", of_base, of_tuned, lambda]));
            self.models.push((name.clone(), RoleWeights { weights: Arc::new(weights), key }));
        }
        Ok(name)
    }

    /// The name of the model that lies so far towards the tuned one and so far along the base's first direction.
    fn across(&mut self, base: &Centre, lambda: f64, alpha: f64) -> Result<String, Failure> {
        match (lambda, alpha) {
            (0.0, _) => return self.moved(base, &[(0, alpha)]),
            (1.0, 0.0) => return Ok("tuned".to_owned()),
            _ => {}
        }
        let name = format!("base/tuned:{lambda},d0:{alpha}");
        if self.known.insert(name.clone()) {
            let (tuned, of_tuned) = self.exact("tuned")?;
            let toward: SharedWeights = Arc::new(Toward::new(base.weights.clone(), tuned));
            let steps = [(toward, lambda), (base.directions[0].clone(), alpha)];
            let weights = moved(name.clone(), base.weights.clone(), &steps, self.cast.dtypes())?;
            let key = of_json(&json!(["across", base.key, of_tuned, self.seed, lambda, alpha]));
            self.models.push((name.clone(), RoleWeights { weights: Arc::new(weights), key }));
        }
        Ok(name)
    }

    fn centre(&self, name: &str, n_directions: usize) -> Result<Centre, Failure> {
        let (weights, key) = self.exact(name)?;
        let direction = |nth: usize| {
            let noise = Arc::new(Noise::new(&weights, self.seed, nth));
            Arc::new(Direction::new(noise, weights.clone())) as SharedWeights
        };
        let directions = (0..n_directions).map(direction).collect();
        Ok(Centre { name: name.to_owned(), key, weights, directions })
    }

    /// The name of the model that lies so far along some of the directions: at the origin it is the centre.
    fn moved(&mut self, centre: &Centre, to: &[(usize, f64)]) -> Result<String, Failure> {
        let to: Vec<(usize, f64)> = to.iter().copied().filter(|(_, step)| *step != 0.0).collect();
        if to.is_empty() {
            return Ok(centre.name.clone());
        }
        let parts: Vec<String> = to.iter().map(|(nth, step)| format!("d{nth}:{step}")).collect();
        let name = format!("{}/{}", centre.name, parts.join(","));
        if self.known.insert(name.clone()) {
            let steps = to.iter().map(|(nth, step)| (centre.directions[*nth].clone(), *step));
            let steps: Vec<(SharedWeights, f64)> = steps.collect();
            let weights = moved(name.clone(), centre.weights.clone(), &steps, self.cast.dtypes())?;
            let key = of_json(&json!(["directions", centre.key, self.seed, to]));
            self.models.push((name.clone(), RoleWeights { weights: Arc::new(weights), key }));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(points: usize) -> Request {
        let (around, rates) = (vec!["base".to_owned(), "slerp:0.5".to_owned()], vec![50.0]);
        Request { points, directions: 1, around, plane: None, across: None, rates, seed: 0, limit: None }
    }

    #[test]
    fn the_line_has_the_merges_of_a_run_and_both_of_its_ends() {
        let line = request(21).line();
        assert_eq!(line.len(), 21);
        assert_eq!(line[..6], [-0.5, -0.4, -0.3, -0.2, -0.1, 0.0]);
        assert_eq!((line[8], line[15], line[20]), (0.3, 1.0, 1.5));
        assert!(line[5].is_sign_positive());
        let line = request(4).line();
        assert_eq!(line, [-0.5, 0.0, 0.166_666_667, 0.833_333_333, 1.0, 1.5]);
        let expected = ["linear:0.166666667", "linear:0.833333333", "extrapolate:1.5", "slerp:0.5"];
        assert_eq!(request(4).merges().unwrap(), expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(request(3).check().is_ok());
        for rate in [-1.0, 100.0, f64::NAN] {
            assert!(Request { rates: vec![rate], ..request(3) }.check().is_err(), "{rate}");
        }
        assert!(Request { directions: 0, ..request(3) }.check().is_err());
        assert!(Request { around: vec!["bsae".to_owned() + ":"], ..request(3) }.check().is_err());
    }
}
