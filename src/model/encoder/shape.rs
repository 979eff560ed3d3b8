//! What an encoder computes, read from `config.json`; what would change the mathematics unseen is refused by name.

use serde_json::{Value, json};

use crate::catalog::did_you_mean;
use crate::snapshot::{Config, SnapshotError};

/// The families, as `model_type` names them.
const FAMILIES: [&str; 3] = ["roberta", "bert", "deberta"];

#[derive(Debug, Clone, PartialEq)]
pub struct EncoderShape {
    pub family: &'static str,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub norm_epsilon: f64,
    /// Rows of the table of positions, where there is one.
    pub max_positions: usize,
    pub type_vocab_size: usize,
    pub positions: Positions,
    pub relative: Option<Relative>,
}

/// Where a token stands in the table of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// There is no table.
    None,
    FromZero,
    /// Behind the padding token's id, which is the place of padding tokens themselves: RoBERTa, from fairseq.
    Behind {
        padding: usize,
    },
}

/// Attention by distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    /// Distances of this and more are one.
    pub span: usize,
    /// Content looks for positions.
    pub c2p: bool,
    /// Positions look for content.
    pub p2c: bool,
}

impl EncoderShape {
    /// What the checkpoint with this configuration computes.
    ///
    /// # Errors
    ///
    /// The family is unknown, or a value that changes the computation is not supported.
    pub fn read(config: &Config) -> Result<Self, SnapshotError> {
        let name = config.model_type()?;
        let Some(family) = FAMILIES.into_iter().find(|family| *family == name) else {
            let expected = format!("an encoder ({})", did_you_mean(name, FAMILIES));
            return Err(config.wrong("model_type", &expected));
        };
        let hidden_size = config.count("hidden_size")?;
        let n_heads = config.count("num_attention_heads")?;
        if hidden_size % n_heads != 0 {
            return Err(config.wrong("num_attention_heads", &format!("a divisor of the width {hidden_size}")));
        }
        for (key, value) in [
            ("quantization_config", Value::Null),
            ("hidden_act", json!("gelu")),
            ("is_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
            ("position_embedding_type", json!("absolute")),
            ("embedding_size", json!(hidden_size)),
            ("attention_head_size", json!(hidden_size / n_heads)),
            ("talking_head", json!(false)),
        ] {
            config.only(key, &value)?;
        }
        let is_deberta = family == "deberta";
        let max_positions = config.optional_count("max_position_embeddings")?.unwrap_or(512);
        let relative = is_deberta.then(|| relative(config, max_positions)).transpose()?;
        let positions = match family {
            "roberta" => Positions::Behind { padding: padding(config)? },
            "deberta" if !config.switch("position_biased_input", true)? => Positions::None,
            _ => Positions::FromZero,
        };
        if let Positions::Behind { padding } = positions
            && padding + 1 >= max_positions
        {
            return Err(config.wrong("max_position_embeddings", &format!("more than {}", padding + 1)));
        }
        Ok(Self {
            family,
            vocab_size: config.count("vocab_size")?,
            hidden_size,
            intermediate_size: config.count("intermediate_size")?,
            n_layers: config.count("num_hidden_layers")?,
            n_heads,
            norm_epsilon: config.number("layer_norm_eps", if is_deberta { 1e-7 } else { 1e-12 })?,
            max_positions,
            type_vocab_size: types(config, if is_deberta { 0 } else { 2 })?,
            positions,
            relative,
        })
    }

    /// The longest text that the table of positions allows; without one, that the model was trained on.
    pub fn max_tokens(&self) -> usize {
        match self.positions {
            Positions::Behind { padding } => self.max_positions - padding - 1,
            Positions::FromZero | Positions::None => self.max_positions,
        }
    }

    /// Where the tokens of a text stand in the table of positions.
    pub(super) fn places(&self, text: &[u32]) -> Vec<i64> {
        let Positions::Behind { padding } = self.positions else { return (0..text.len() as i64).collect() };
        let mut place = padding as i64;
        let place = |id: &u32| {
            if *id as usize == padding {
                return padding as i64;
            }
            place += 1;
            place
        };
        text.iter().map(place).collect()
    }
}

fn padding(config: &Config) -> Result<usize, SnapshotError> {
    match config.json().get("pad_token_id") {
        None => Ok(1),
        Some(id) => match id.as_u64() {
            Some(id @ 0..=0xffff_ffff) => Ok(id as usize),
            _ => Err(config.wrong("pad_token_id", "a token's id")),
        },
    }
}

fn types(config: &Config, own: usize) -> Result<usize, SnapshotError> {
    match config.json().get("type_vocab_size").and_then(Value::as_u64) {
        Some(0) => Ok(0),
        _ => Ok(config.optional_count("type_vocab_size")?.unwrap_or(own)),
    }
}

fn relative(config: &Config, max_positions: usize) -> Result<Relative, SnapshotError> {
    if !config.switch("relative_attention", false)? {
        return Err(config.wrong("relative_attention", "`true`"));
    }
    let span = match config.json().get("max_relative_positions").and_then(Value::as_i64) {
        // Every number below 1 means the number of positions.
        Some(n) if n < 1 => max_positions,
        _ => config.optional_count("max_relative_positions")?.unwrap_or(max_positions),
    };
    let kinds: Vec<String> = match config.json().get("pos_att_type") {
        Some(Value::String(text)) => {
            text.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect()
        }
        Some(Value::Array(kinds)) => {
            kinds.iter().map(|kind| kind.as_str().unwrap_or_default().to_owned()).collect()
        }
        _ => Vec::new(),
    };
    let count = |name: &str| kinds.iter().filter(|kind| *kind == name).count();
    let (c2p, p2c) = (count("c2p"), count("p2c"));
    // Each kind also counts in the scale of the scores.
    if kinds.is_empty() || c2p > 1 || p2c > 1 || c2p + p2c != kinds.len() {
        return Err(config.wrong("pos_att_type", "`c2p`, `p2c` or `c2p|p2c`"));
    }
    Ok(Relative { span, c2p: c2p == 1, p2c: p2c == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(family: &str, more: Value) -> Config {
        let mut value = json!({
            "model_type": family, "vocab_size": 50265, "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "max_position_embeddings": 514,
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config::of(value)
    }

    #[test]
    fn published_configurations_are_read() {
        let roberta = EncoderShape::read(&config("roberta", json!({"type_vocab_size": 1}))).unwrap();
        assert_eq!((roberta.max_tokens(), roberta.places(&[0, 9, 1, 2])), (512, vec![2, 3, 1, 4]));
        let more = json!({
            "attention_head_size": 64, "layer_norm_eps": 1e-7, "max_position_embeddings": 512,
            "max_relative_positions": -1, "num_hidden_layers": 48, "pos_att_type": "c2p|p2c",
            "position_biased_input": false, "relative_attention": true, "type_vocab_size": 0,
        });
        let deberta = EncoderShape::read(&config("deberta", more)).unwrap();
        assert_eq!(deberta.relative, Some(Relative { span: 512, c2p: true, p2c: true }));
        assert_eq!((deberta.positions, deberta.type_vocab_size), (Positions::None, 0));
    }

    #[test]
    fn what_would_change_the_mathematics_is_refused_by_name() {
        let relative = json!({"relative_attention": true, "pos_att_type": "p2p"});
        let cases = [
            ("roberta", json!({"hidden_act": "gelu_new"}), "hidden_act"),
            ("bert", json!({"position_embedding_type": "relative_key"}), "position_embedding_type"),
            ("bert", json!({"is_decoder": true}), "is_decoder"),
            ("deberta", json!({}), "relative_attention"),
            ("deberta", relative, "pos_att_type"),
            ("deberta", json!({"embedding_size": 128}), "embedding_size"),
            ("deberta-v2", json!({}), "model_type"),
        ];
        for (family, more, key) in cases {
            let error = EncoderShape::read(&config(family, more)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
    }
}
