//! `[objective]`: what a training makes smaller, where that is not the cross-entropy of the answers.

use serde::{Deserialize, Serialize};

use super::{Asft, Data, Form, Kl, LossOn, Merge, Method, RecipeError, bad};

/// The objective. A key that its kind does not have is an error.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// `sft` (the answers as they are), `derta` (refusing from within harmful answers), `dpo` (of two answers the chosen
    /// one) or `adpo` (the same, of tokens with telling scores alone).
    pub kind: ObjectiveKind,
    /// Of `derta`: which records are made of a request with a safe and a harmful answer; absent, `rto` and `prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Vec<DertaRecord>>,
    /// Of `derta`: the share of a harmful answer's labels that stay in its `rto` record; absent, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_keep: Option<f64>,
    /// Of `derta`: what that share is of, `answer` (its labels) or `row` (every position of the padded row, as the
    /// authors' program draws); absent, `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_draw: Option<RtoDraw>,
    /// Of `derta`: what the loss of `rto` labels is multiplied by; absent, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_weight: Option<f64>,
    /// Of `derta`: the text whose first token the `rto` labels are; absent, `auto`: the record's own safe answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal_token: Option<String>,
    /// Of `dpo`: `sigmoid`, `cdpo`, `robust`, `ipo` (per token of the answer) or `ipo-sum`; absent, `sigmoid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<PreferenceLoss>,
    /// Of `dpo` and `adpo`: how hard the model is held to the base; absent, 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Of `dpo` with `cdpo` and `robust`: the share of pairs that are taken to be labelled the wrong way round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Of `adpo`: chosen tokens count above this score, rejected ones below its negative; absent, 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_threshold: Option<f64>,
    /// Of `adpo`, instead of the threshold: a token's state is that of the last score at least this far from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_hysteresis: Option<f64>,
    /// Of `adpo`: a reward model that scores the tokens, a folder or a hub's id of one of the families with a head of
    /// one number; absent, the file's scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<String>,
    /// Of any kind: also the distance from the base on given prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
    /// Of any kind: also how far the adapter's update leads out of the alignment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asft: Option<Asft>,
}

/// What kind of objective it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    #[default]
    Sft,
    Derta,
    Dpo,
    Adpo,
}

/// A record that DeRTa makes of a request with a safe and a harmful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DertaRecord {
    /// The harmful answer, at every place of which the refusal is to begin: reinforced transition optimization.
    Rto,
    /// The beginning of the harmful answer, then the safe one, which alone is learned.
    Prefix,
    /// The safe answer.
    Plain,
}

/// What the share of kept labels is drawn from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RtoDraw {
    /// The labels of the answer.
    #[default]
    Answer,
    /// All positions of the row, prompt and padding among them: a row may keep no label.
    Row,
}

/// The loss of a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferenceLoss {
    #[default]
    Sigmoid,
    Cdpo,
    Robust,
    Ipo,
    IpoSum,
}

/// DeRTa, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Derta {
    pub records: Vec<DertaRecord>,
    pub keep: f64,
    pub draw: RtoDraw,
    pub weight: f64,
    /// `None` for the first token of each record's safe answer.
    pub refusal: Option<String>,
}

/// A preference loss, every default filled in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Preference {
    pub loss: PreferenceLoss,
    pub beta: f64,
    pub label_smoothing: f64,
}

/// Which tokens of a pair count by their scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Mask {
    Threshold(f64),
    Hysteresis(f64),
}

impl PreferenceLoss {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Cdpo => "cdpo",
            Self::Robust => "robust",
            Self::Ipo => "ipo",
            Self::IpoSum => "ipo-sum",
        }
    }
}

impl ObjectiveKind {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Derta => "derta",
            Self::Dpo => "dpo",
            Self::Adpo => "adpo",
        }
    }

    /// The form of records that it reads where `[data]` names none.
    pub fn form(self) -> Option<Form> {
        match self {
            Self::Sft => None,
            Self::Derta => Some(Form::SafeHarmful),
            Self::Dpo | Self::Adpo => Some(Form::Preference),
        }
    }
}

impl Objective {
    /// Whether a recipe may leave it out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The settings of DeRTa, if it is that.
    pub fn derta(&self) -> Option<Derta> {
        (self.kind == ObjectiveKind::Derta).then(|| Derta {
            records: self.records.clone().unwrap_or_else(|| vec![DertaRecord::Rto, DertaRecord::Prefix]),
            keep: self.rto_keep.unwrap_or(1.0),
            draw: self.rto_draw.unwrap_or_default(),
            weight: self.rto_weight.unwrap_or(1.0),
            refusal: self.refusal_token.clone().filter(|text| text != "auto"),
        })
    }

    /// The loss of pairs, if it has one.
    pub fn preference(&self) -> Option<Preference> {
        let is_pairs = matches!(self.kind, ObjectiveKind::Dpo | ObjectiveKind::Adpo);
        is_pairs.then(|| Preference {
            loss: self.loss.unwrap_or_default(),
            beta: self.beta.unwrap_or(0.1),
            label_smoothing: self.label_smoothing.unwrap_or(0.0),
        })
    }

    /// Which tokens count by scores that the file has.
    pub fn mask_of_file(&self) -> Option<Mask> {
        self.mask().filter(|_| self.reward_model.is_none())
    }

    /// Which tokens count, if not all do.
    pub fn mask(&self) -> Option<Mask> {
        let by_threshold = Mask::Threshold(self.mask_threshold.unwrap_or(0.0));
        (self.kind == ObjectiveKind::Adpo)
            .then(|| self.mask_hysteresis.map_or(by_threshold, Mask::Hysteresis))
    }

    /// The objective in words.
    pub fn in_words(&self) -> String {
        if let Some(Preference { loss, beta, label_smoothing }) = self.preference() {
            let loss = loss.name();
            let smoothing = match label_smoothing {
                0.0 => String::new(),
                share => format!(", label smoothing {share}"),
            };
            let mask = match self.mask() {
                None => String::new(),
                Some(Mask::Threshold(threshold)) => format!(", tokens with scores beyond {threshold}"),
                Some(Mask::Hysteresis(height)) => format!(", tokens by scores with hysteresis {height}"),
            };
            let by = self.reward_model.as_ref().map_or(String::new(), |by| format!(" of `{by}`"));
            return format!("{}: {loss} loss of pairs, beta {beta}{smoothing}{mask}{by}", self.kind.name());
        }
        match self.derta() {
            Some(Derta { records, keep, draw, weight, refusal }) => format!(
                "derta: records {}, of the labels of rto {keep} kept by {}, their weight {weight}, refusing as {}",
                format!("{records:?}").to_lowercase(),
                format!("{draw:?}").to_lowercase(),
                refusal.map_or("each safe answer does".to_owned(), |text| format!("`{text}` does"))
            ),
            None => "sft: the answers as they are".to_owned(),
        }
    }

    /// How many samples, one after the other, are one thing to learn from: the two of a pair.
    pub fn group(&self) -> usize {
        if self.preference().is_some() { 2 } else { 1 }
    }

    pub(super) fn check(&self, data: &Data, method: &Method, merge: &Merge) -> Result<(), RecipeError> {
        self.check_places()?;
        self.kl.as_ref().map_or(Ok(()), Kl::check)?;
        self.asft.as_ref().map_or(Ok(()), |asft| asft.check(method, merge))?;
        let number = |key: &str, value: Option<f64>, is_good: fn(f64) -> bool, expected: &str| match value {
            Some(value) if !(value.is_finite() && is_good(value)) => {
                Err(bad(&format!("objective.{key}"), value, expected))
            }
            _ => Ok(()),
        };
        number("rto_keep", self.rto_keep, |x| (0.0..=1.0).contains(&x), "a share from 0 to 1")?;
        number("rto_weight", self.rto_weight, |x| x > 0.0, "a number above 0")?;
        number("beta", self.beta, |x| x > 0.0, "a number above 0")?;
        number("mask_threshold", self.mask_threshold, |x| x >= 0.0, "a number of at least 0")?;
        number("mask_hysteresis", self.mask_hysteresis, |x| x > 0.0, "a number above 0")?;
        number(
            "label_smoothing",
            self.label_smoothing,
            |x| x > 0.0 && x < 0.5,
            "a share above 0 and below 0.5",
        )?;
        if let (Some(threshold), Some(_)) = (self.mask_threshold, self.mask_hysteresis) {
            return Err(bad(
                "objective.mask_threshold",
                threshold,
                "either this or `mask_hysteresis`, not both",
            ));
        }
        if let Some(text) = self.refusal_token.as_ref().filter(|text| text.trim().is_empty()) {
            return Err(bad("objective.refusal_token", format!("`{text}`"), "`auto` or a text that refuses"));
        }
        let smooths = matches!(self.loss, Some(PreferenceLoss::Cdpo | PreferenceLoss::Robust));
        if let (Some(share), false) = (self.label_smoothing, smooths) {
            // TRL's sigmoid loss takes it and goes on without a word.
            return Err(bad("objective.label_smoothing", share, "`objective.loss` to be `cdpo` or `robust`"));
        }
        if smooths && self.label_smoothing.is_none() {
            return Err(bad(
                "objective.label_smoothing",
                "missing",
                "a share above 0 and below 0.5, such as 0.1",
            ));
        }
        if let Some(records) = &self.records {
            let twice = |(i, record): (usize, &DertaRecord)| records[..i].contains(record);
            let made = self.rto_keep != Some(0.0) || records.iter().any(|record| *record != DertaRecord::Rto);
            if records.is_empty() || records.iter().enumerate().any(twice) || !made {
                let expected = "some of `rto`, `prefix`, `plain`, each once, from which something is learned";
                return Err(bad("objective.records", format!("{records:?}").to_lowercase(), expected));
            }
        }
        if self.kind != ObjectiveKind::Sft && data.loss_on != LossOn::Completion {
            let found = format!("`{:?}` with `objective.kind = \"{}\"`", data.loss_on, self.kind.name());
            return Err(bad(
                "data.loss_on",
                found.to_lowercase(),
                "`completion`: the last answer is the one that counts",
            ));
        }
        Ok(())
    }

    /// That every key that is set is one of its kind.
    fn check_places(&self) -> Result<(), RecipeError> {
        use ObjectiveKind::{Adpo, Derta, Dpo};
        let set: [(&str, bool, &[ObjectiveKind]); 11] = [
            ("records", self.records.is_some(), &[Derta]),
            ("rto_keep", self.rto_keep.is_some(), &[Derta]),
            ("rto_draw", self.rto_draw.is_some(), &[Derta]),
            ("rto_weight", self.rto_weight.is_some(), &[Derta]),
            ("refusal_token", self.refusal_token.is_some(), &[Derta]),
            ("loss", self.loss.is_some(), &[Dpo]),
            ("beta", self.beta.is_some(), &[Dpo, Adpo]),
            ("label_smoothing", self.label_smoothing.is_some(), &[Dpo]),
            ("mask_threshold", self.mask_threshold.is_some(), &[Adpo]),
            ("mask_hysteresis", self.mask_hysteresis.is_some(), &[Adpo]),
            ("reward_model", self.reward_model.is_some(), &[Adpo]),
        ];
        let misplaced = set.iter().find(|(_, is_set, kinds)| *is_set && !kinds.contains(&self.kind));
        let Some((key, _, kinds)) = misplaced else { return Ok(()) };
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
        let found = format!("set with `objective.kind = \"{}\"`", self.kind.name());
        Err(bad(
            &format!("objective.{key}"),
            found,
            &format!("`objective.kind` to be {}", kinds.join(" or ")),
        ))
    }
}
