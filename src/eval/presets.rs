//! Settings of published evaluations of safety, in one word each.
//!
//! A preset settles how answers are decoded, how long they may be and who judges them; numbers under other settings
//! are not comparable with the paper's.

use super::error::EvalError;
use super::metric::Denominator;
use crate::catalog::did_you_mean;

/// A row of the catalog.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub source: &'static str,
    /// Put before every request; empty for none.
    pub system: &'static str,
    /// For suites of harmful and of harmless requests.
    pub max_new_tokens: usize,
    pub repetition_penalty: f64,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    pub top_p: f64,
    /// Judges that go by phrases; empty leaves the tasks' own.
    pub judges: &'static [&'static str],
    /// A judge that is a model, which the recipe must give.
    pub rubric: Option<&'static str>,
    /// Over which answers the paper takes its rate.
    pub denominator: Denominator,
}

const GREEDY: Preset = Preset {
    name: "",
    source: "",
    system: "",
    max_new_tokens: 512,
    repetition_penalty: 1.0,
    temperature: 0.0,
    top_p: 1.0,
    judges: &[],
    rubric: None,
    denominator: Denominator::All,
};

/// All presets, in the order they are listed.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "pre_post_merging",
        source: "Farn et al. 2024, arXiv 2412.19512: WildGuard, answers it cannot parse left out",
        repetition_penalty: 1.2,
        rubric: Some("wildguard"),
        denominator: Denominator::Scored,
        ..GREEDY
    },
    Preset {
        name: "qi_keywords",
        source: "Qi et al. 2023, arXiv 2310.03693: 29 phrases",
        judges: &["advbench29"],
        ..GREEDY
    },
    Preset {
        name: "qi_policy",
        source: "Qi et al. 2023, arXiv 2310.03693: the 1-5 policy judge, share of 5",
        rubric: Some("policy_openai"),
        ..GREEDY
    },
    Preset {
        name: "shallow_vs_deep",
        source: "Qi et al. 2024, arXiv 2406.05946: 38 phrases, drawn answers",
        temperature: 0.6,
        top_p: 0.9,
        judges: &["shallow38"],
        ..GREEDY
    },
    Preset {
        name: "harmbench",
        source: "Mazeika et al. 2024, arXiv 2402.04249: its classifier, unreadable verdicts in the denominator",
        rubric: Some("harmbench"),
        ..GREEDY
    },
    Preset {
        name: "xstest",
        source: "Röttger et al. 2024, arXiv 2308.01263: string match on 256 tokens",
        max_new_tokens: 256,
        judges: &["xstest"],
        ..GREEDY
    },
    Preset {
        name: "jailbreakbench",
        source: "Chao et al. 2024, arXiv 2404.01318: Llama-3-70B on 150 tokens",
        max_new_tokens: 150,
        rubric: Some("jailbreakbench"),
        ..GREEDY
    },
];

/// The preset of this name.
///
/// # Errors
/// There is none; the help names the nearest.
pub fn find(name: &str) -> Result<&'static Preset, EvalError> {
    PRESETS.iter().find(|row| row.name == name).ok_or_else(|| EvalError::UnknownPreset {
        name: name.to_owned(),
        help: did_you_mean(name, PRESETS.iter().map(|row| row.name)),
    })
}

impl Preset {
    /// What the preset settles, in a line for reports.
    pub fn in_words(&self) -> String {
        let decoding = if self.temperature > 0.0 {
            format!("temperature {}, top-p {}", self.temperature, self.top_p)
        } else {
            "greedy".to_owned()
        };
        let penalty = if self.repetition_penalty == 1.0 {
            String::new()
        } else {
            format!(", repetition penalty {}", self.repetition_penalty)
        };
        let judges =
            self.rubric.into_iter().chain(self.judges.iter().copied()).collect::<Vec<_>>().join(", ");
        let over = match self.denominator {
            Denominator::All => "all answers",
            Denominator::Coherent => "coherent answers",
            Denominator::Scored => "answers that the judge could read",
        };
        let system = if self.system.is_empty() { "no system text" } else { self.system };
        format!(
            "{}: {decoding}{penalty}, {} tokens, {system}, judged by {judges} over {over} ({})",
            self.name, self.max_new_tokens, self.source
        )
    }
}

#[cfg(test)]
mod tests {
    use super::PRESETS;
    use crate::eval::{judges, rubrics};

    #[test]
    fn every_preset_names_judges_that_exist() {
        for preset in PRESETS {
            assert!(preset.judges.iter().all(|name| judges::find(name).is_ok()), "{}", preset.name);
            assert!(preset.rubric.is_none_or(|name| rubrics::find(name).is_some()), "{}", preset.name);
            assert!(!preset.judges.is_empty() || preset.rubric.is_some(), "{}", preset.name);
            assert!(preset.in_words().contains(preset.source));
        }
    }
}
