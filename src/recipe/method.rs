//! `[method]`: what is trained.

use serde::{Deserialize, Serialize};

use super::{Place, RecipeError, bad};

/// A low-rank adapter, or every weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Method {
    /// `lora` or `full`.
    pub kind: MethodKind,
    /// Rank `r` of the adapter.
    pub rank: usize,
    /// The adapter is scaled by `alpha / rank`.
    pub alpha: f64,
    /// The share of an adapter's inputs that is dropped while training.
    pub dropout: f64,
    /// `all-linear`, or places such as `["q_proj", "mlp", "layers.0-3", "*.self_attn.*"]`; each must hold a
    /// linear map.
    pub targets: Targets,
    /// `lora` scales by `alpha / rank`, `rslora` by `alpha / √rank`; `dora` is `lora` with the length
    /// of each row a weight of its own.
    pub variant: Variant,
    /// In how many bits the frozen base is kept while an adapter is trained.
    pub quantization: Quantization,
}

/// How the frozen base is kept while an adapter is trained; merges and answers are made with its own weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// As it is stored.
    #[default]
    None,
    /// `QLoRA`'s 4 bits with scales in 8: Dettmers et al. 2023, arXiv 2305.14314.
    Nf4,
    /// 8 bits with a scale for each row.
    Int8,
}

/// What is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    #[default]
    Lora,
    Full,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    #[default]
    Lora,
    RsLora,
    Dora,
}

/// Which linear maps get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// `all-linear`, or a single place.
    One(String),
    Many(Vec<String>),
}

impl Targets {
    /// The places, `all-linear` being `*`.
    ///
    /// # Errors
    ///
    /// One is a broken pattern; the error is its text.
    pub fn places(&self) -> Result<Vec<Place>, String> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        };
        let place = |text: &String| {
            let pattern = if text == "all-linear" { "*" } else { text };
            pattern.parse().map_err(|_| text.clone())
        };
        texts.iter().map(place).collect()
    }
}

impl Default for Method {
    /// The paper's settings: rank 8, alpha 16, all linear maps (Farn et al. 2024, section 4).
    fn default() -> Self {
        Self {
            kind: MethodKind::Lora,
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: Targets::One("all-linear".to_owned()),
            variant: Variant::Lora,
            quantization: Quantization::None,
        }
    }
}

impl Method {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if self.rank == 0 || self.rank > 4096 {
            return Err(bad("method.rank", self.rank, "1 to 4096"));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(bad("method.alpha", self.alpha, "a number above 0"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(bad("method.dropout", self.dropout, "a share of at least 0 and below 1"));
        }
        if self.kind == MethodKind::Full && self.quantization != Quantization::None {
            let expected =
                "\"none\": full tuning changes every weight, only the base of an adapter can be quantised";
            return Err(bad("method.quantization", "a quantised base for `kind = \"full\"`", expected));
        }
        let places = self.targets.places().map(drop);
        places.map_err(|text| bad("method.targets", format!("`{text}`"), "a pattern such as `*.q_proj`"))
    }
}
