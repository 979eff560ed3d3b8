//! `[[gate]]`: bounds that a result must keep.

use serde::{Deserialize, Serialize};

use super::{RecipeError, bad};

/// One bound; a run or study that does not keep it ends with exit code 5, its report written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The suite that is looked at.
    pub suite: String,
    /// The metric; the suite's headline if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// `base`, `tuned` or a merge such as `slerp:0.5`.
    pub candidate: String,
    /// The most that it may be; rates are from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The least that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Bound the difference from the base or the tuned model, on the same prompts, instead of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// What has to keep the bound: the value, or its whole 95 % interval.
    #[serde(default)]
    pub by: By,
}

/// Whom a candidate is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    Base,
    Tuned,
}

impl Against {
    /// The candidate's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Tuned => "tuned",
        }
    }
}

/// What is held against a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    #[default]
    Value,
    Interval,
}

impl Gate {
    /// Whether a number with this interval keeps the bounds; one that is not there does not.
    pub fn holds(&self, value: Option<f64>, interval: Option<(f64, f64)>) -> bool {
        let ends = match self.by {
            By::Value => value.map(|value| (value, value)),
            By::Interval => interval,
        };
        ends.is_some_and(|(low, high)| {
            self.at_most.is_none_or(|most| high <= most) && self.at_least.is_none_or(|least| low >= least)
        })
    }

    /// The bound in words: `harmful attack_success_rate of slerp:0.5 less base at most 0.05, by its interval`.
    pub fn in_words(&self) -> String {
        let metric = self.metric.as_ref().map(|metric| format!(" {metric}")).unwrap_or_default();
        let less = self.against.map(|against| format!(" less {}", against.name())).unwrap_or_default();
        let most = self.at_most.map(|most| format!(" at most {most}"));
        let least = self.at_least.map(|least| format!(" at least {least}"));
        let bounds: Vec<String> = [most, least].into_iter().flatten().collect();
        let by = if self.by == By::Interval { ", by its interval" } else { "" };
        format!("{}{metric} of {}{less}{}{by}", self.suite, self.candidate, bounds.join(","))
    }

    /// That it bounds something that is measured.
    ///
    /// # Errors
    ///
    /// It has no bound, or its suite is none of these.
    pub fn check(&self, suites: &[&str]) -> Result<(), RecipeError> {
        if self.at_most.is_none() && self.at_least.is_none() {
            return Err(bad("gate", self.in_words(), "a bound, `at_most` or `at_least`"));
        }
        if !suites.contains(&self.suite.as_str()) {
            let known = suites.join(", ");
            return Err(bad(
                "gate.suite",
                format!("`{}`", self.suite),
                &format!("one of the suites: {known}"),
            ));
        }
        match self.against {
            Some(against) if against.name() == self.candidate => {
                Err(bad("gate.against", format!("`{}` itself", self.candidate), "another candidate"))
            }
            _ => Ok(()),
        }
    }

    /// That its candidate is one of `names`.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn check_candidate(&self, names: &[String]) -> Result<(), RecipeError> {
        match names.contains(&self.candidate) {
            true => Ok(()),
            false => Err(bad(
                "gate.candidate",
                format!("`{}`", self.candidate),
                &format!("one of {}", names.join(", ")),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_by_the_value_or_by_the_whole_interval() {
        let gate: Gate =
            toml::from_str("suite = \"h\"\ncandidate = \"slerp:0.5\"\nat_most = 0.05\nagainst = \"base\"")
                .unwrap();
        assert!(gate.holds(Some(0.05), Some((0.0, 0.2))) && !gate.holds(Some(0.06), None));
        assert!(!gate.holds(None, None));
        let strict = Gate { by: By::Interval, ..gate.clone() };
        assert!(!strict.holds(Some(0.05), Some((0.0, 0.2))) && strict.holds(Some(0.0), Some((-0.01, 0.03))));
        let between = Gate { at_least: Some(0.0), ..gate };
        assert!(!between.holds(Some(-0.1), None));
        assert_eq!(between.in_words(), "h of slerp:0.5 less base at most 0.05, at least 0");
    }
}
