//! The families: one file and one row each, from `config.json` to a [`DecoderShape`].

use serde_json::{Value, json};

use crate::catalog::did_you_mean;
use crate::snapshot::{Config, SnapshotError};

use super::rope::RopeShape;
use super::shape::Sizes;
use super::{DecoderShape, NormScale};
use crate::device::kernels::Gate;

mod gemma;
mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;

/// One family of checkpoints.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub name: &'static str,
    /// What belongs to it.
    pub summary: &'static str,
    shape: fn(&Config) -> Result<DecoderShape, SnapshotError>,
}

/// Every family that can be tuned.
pub const FAMILIES: &[Family] = &[
    llama::LLAMA,
    mistral::MISTRAL,
    qwen2::QWEN2,
    qwen3::QWEN3,
    gemma::GEMMA,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    phi3::PHI3,
];

/// What the checkpoint with this configuration computes.
///
/// # Errors
///
/// The family is unknown, or a value that changes the computation is not supported.
pub fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    let name = config.model_type()?;
    match FAMILIES.iter().find(|family| family.name == name) {
        Some(family) => (family.shape)(config),
        None => {
            let names = FAMILIES.iter().map(|family| family.name);
            Err(config.wrong("model_type", &format!("a supported family ({})", did_you_mean(name, names))))
        }
    }
}

/// Tens of times what the largest published models have of each.
const MOST_LAYERS: usize = 10_000;
const MOST_WIDTH: usize = 1 << 20;
const MOST_ROWS: usize = 1 << 24;
const MOST_HEADS: usize = 1 << 14;

/// What all families say in the same keys; `head_dim` is the family's own where the file has none.
fn standard(
    config: &Config,
    family: &'static str,
    head_dim: Option<usize>,
) -> Result<DecoderShape, SnapshotError> {
    for key in ["quantization_config", "per_layer_config"] {
        config.only(key, &Value::Null)?;
    }
    config.only("is_causal", &json!(true))?;
    let hidden_size = config.count_up_to("hidden_size", MOST_WIDTH)?;
    let n_heads = config.count_up_to("num_attention_heads", MOST_HEADS)?;
    let n_kv_heads = config.optional_count("num_key_value_heads")?.unwrap_or(n_heads);
    if n_heads % n_kv_heads != 0 {
        return Err(config.wrong("num_key_value_heads", &format!("a divisor of {n_heads} query heads")));
    }
    let head_dim = match config.optional_count("head_dim")?.or(head_dim) {
        Some(width) => width,
        None if hidden_size % n_heads == 0 => hidden_size / n_heads,
        None => return Err(config.wrong("num_attention_heads", &format!("a divisor of width {hidden_size}"))),
    };
    if head_dim % 2 != 0 || head_dim > MOST_HEADS {
        return Err(config.wrong("head_dim", &format!("an even number of at most {MOST_HEADS}")));
    }
    let sizes = Sizes {
        vocab_size: config.count_up_to("vocab_size", MOST_ROWS)?,
        hidden_size,
        intermediate_size: config.count_up_to("intermediate_size", MOST_ROWS)?,
        n_layers: config.count_up_to("num_hidden_layers", MOST_LAYERS)?,
        n_heads,
        n_kv_heads,
        head_dim,
    };
    let rope = RopeShape::read(&config.rope()?, 10_000.0, head_dim)?;
    Ok(DecoderShape {
        sliding_rope: rope.clone(),
        rope,
        norm_epsilon: config.number("rms_norm_eps", 1e-6)?,
        max_positions: config.optional_count("max_position_embeddings")?.unwrap_or(2048),
        tied: config.tied()?,
        ..DecoderShape::plain(family, sizes)
    })
}

/// What the Gemma generations share.
fn standard_gemma(config: &Config, family: &'static str) -> Result<DecoderShape, SnapshotError> {
    config.only("use_bidirectional_attention", &json!(false))?;
    let shape = standard(config, family, Some(256))?;
    let bias = config.switch("attention_bias", false)?;
    Ok(DecoderShape {
        embedding_scale: (shape.hidden_size as f64).sqrt(),
        norm_scale: NormScale::OnePlusWeight,
        gate: Gate::GeluTanh,
        qkv_bias: bias,
        o_bias: bias,
        ..shape
    })
}

/// What Gemma 2 has over Gemma, and Gemma 3 kept.
fn standard_gemma2(
    config: &Config,
    family: &'static str,
    is_sliding: impl Fn(usize) -> bool,
    [attention_cap, logit_cap]: [Option<f64>; 2],
) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_activation", &json!("gelu_pytorch_tanh"))?;
    let shape = standard_gemma(config, family)?;
    let cap = |key: &str, own: Option<f64>| match config.json().contains_key(key) {
        true => config.optional_number(key),
        false => Ok(own),
    };
    Ok(DecoderShape {
        post_norms: true,
        windows: windows(config, shape.n_layers, Some(4096), is_sliding)?,
        attention_scale: config.number("query_pre_attn_scalar", 256.0)?.powf(-0.5),
        attention_softcap: cap("attn_logit_softcapping", attention_cap)?,
        logit_softcap: cap("final_logit_softcapping", logit_cap)?,
        ..shape
    })
}

/// How far each layer sees: `layer_types` says which ones slide, or the family's own rule.
/// `own` is the family's window where the file names none.
fn windows(
    config: &Config,
    n_layers: usize,
    own: Option<usize>,
    is_sliding: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, SnapshotError> {
    let expected = format!("a list of {n_layers} times `full_attention` or `sliding_attention`");
    let kinds: Vec<bool> = match config.json().get("layer_types") {
        None | Some(Value::Null) => (0..n_layers).map(is_sliding).collect(),
        Some(Value::Array(kinds)) if kinds.len() == n_layers => {
            let kind = |kind: &Value| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(config.wrong("layer_types", &expected)),
            };
            kinds.iter().map(kind).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(config.wrong("layer_types", &expected)),
    };
    let window = match config.json().contains_key("sliding_window") {
        true => config.optional_count("sliding_window")?,
        false => own,
    };
    Ok(kinds.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

/// Qwen's rule: with `use_sliding_window`, layers from `max_window_layers` on slide.
fn qwen_windows(config: &Config, n_layers: usize) -> Result<Vec<Option<usize>>, SnapshotError> {
    if !config.switch("use_sliding_window", false)? {
        return Ok(vec![None; n_layers]);
    }
    let first = config.optional_count("max_window_layers")?.unwrap_or(28);
    windows(config, n_layers, Some(4096), |layer| layer >= first)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The sizes of a published model, with what else its file says.
    fn config(family: &str, sizes: [usize; 6], more: Value) -> Config {
        let [vocab, m, f, layers, h, g] = sizes;
        let mut value = json!({
            "model_type": family, "vocab_size": vocab, "hidden_size": m, "intermediate_size": f,
            "num_hidden_layers": layers, "num_attention_heads": h, "num_key_value_heads": g,
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config::of(value)
    }

    #[test]
    fn published_models_have_their_published_number_of_parameters() {
        let silu = json!({"hidden_act": "silu"});
        let tied = json!({"hidden_act": "silu", "tie_word_embeddings": true});
        let own = json!({});
        let cases = [
            ("llama", [128_256, 4096, 14_336, 32, 32, 8], &silu, 8_030_261_248),
            ("mistral", [32_000, 4096, 14_336, 32, 32, 8], &silu, 7_241_732_096),
            ("qwen2", [151_936, 896, 4864, 24, 14, 2], &tied, 494_032_768),
            ("qwen3", [151_936, 1024, 3072, 28, 16, 8], &tied, 596_049_920),
            ("gemma", [256_000, 2048, 16_384, 18, 8, 1], &own, 2_506_172_416),
            ("gemma2", [256_000, 2304, 9216, 26, 8, 4], &own, 2_614_341_888),
            ("gemma3_text", [262_144, 640, 2048, 18, 4, 1], &own, 268_098_176),
            ("phi3", [32_064, 3072, 8192, 32, 32, 32], &silu, 3_821_079_552),
        ];
        for (family, sizes, more, n) in cases {
            let shape = shape(&config(family, sizes, more.clone())).unwrap();
            assert_eq!((shape.family, shape.n_parameters()), (family, n));
        }
    }

    #[test]
    fn layers_slide_where_the_reference_lets_them() {
        let slides = |family: &str, more: Value| -> String {
            let config = config(family, [64, 32, 48, 6, 4, 2], more);
            let windows = shape(&config).unwrap().windows;
            windows.iter().map(|window| if window.is_some() { 's' } else { 'f' }).collect()
        };
        assert_eq!(slides("mistral", json!({})), "ssssss");
        assert_eq!(slides("mistral", json!({"sliding_window": null})), "ffffff");
        assert_eq!(slides("phi3", json!({})), "ffffff");
        assert_eq!(slides("phi3", json!({"sliding_window": 7})), "ssssss");
        let window = json!({"sliding_window": 7, "max_window_layers": 4});
        assert_eq!(slides("qwen2", window), "ffffff");
        let window = json!({"sliding_window": 7, "max_window_layers": 4, "use_sliding_window": true});
        assert_eq!(slides("qwen2", window), "ffffss");
        assert_eq!(slides("gemma2", json!({})), "sfsfsf");
        assert_eq!(slides("gemma3_text", json!({})), "sssssf");
        assert_eq!(slides("gemma3_text", json!({"sliding_window_pattern": 3})), "ssfssf");
        let kinds = ["full_attention", "sliding_attention"].repeat(3);
        assert_eq!(slides("gemma3_text", json!({"layer_types": kinds})), "fsfsfs");
    }

    #[test]
    fn what_changes_nothing_is_read() {
        let of = |family: &str, more: Value| shape(&config(family, [64, 32, 48, 6, 4, 2], more));
        for (family, more) in [
            ("llama", json!({"sliding_window": 4096})),
            ("llama", json!({"sliding_window": null, "partial_rotary_factor": 1})),
            ("llama", json!({"partial_rotary_factor": 1.0, "layer_types": vec!["full_attention"; 6]})),
            ("qwen2", json!({"partial_rotary_factor": 1.0})),
            ("mistral", json!({"partial_rotary_factor": 1.0})),
        ] {
            let plain = of(family, json!({})).unwrap();
            assert_eq!(of(family, more.clone()).unwrap(), plain, "{family} {more}");
        }
        let sliding = json!({"layer_types": ["full_attention", "sliding_attention"]});
        assert!(of("llama", sliding).unwrap_err().to_string().contains("`layer_types`"));
        // The true value is named, whatever the key is called.
        let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 1.0}});
        assert!(of("llama", dynamic).unwrap_err().to_string().contains("is `dynamic`, expected `default`"));
    }

    #[test]
    fn what_would_change_the_mathematics_is_refused_by_name() {
        let refused = |family: &str, more: Value| {
            let error = shape(&config(family, [64, 32, 48, 6, 4, 2], more.clone()));
            error.expect_err(&format!("{family} {more}")).to_string()
        };
        let cases = [
            ("llama", json!({"hidden_act": "gelu"}), "hidden_act"),
            ("llama", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            ("llama", json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}), "rope_type"),
            ("llama", json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            ("llama", json!({"is_causal": false}), "is_causal"),
            ("mistral", json!({"layer_types": ["full_attention"]}), "layer_types"),
            (
                "qwen3",
                json!({"use_sliding_window": true, "layer_types": vec!["linear_attention"; 6]}),
                "layer_types",
            ),
            ("gemma", json!({"hidden_act": "relu"}), "hidden_act"),
            ("gemma2", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
            ("gemma2", json!({"attn_logit_softcapping": -1.0}), "attn_logit_softcapping"),
            ("gemma3_text", json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
            ("gemma3_text", json!({"rope_parameters": {"rope_theta": 1e4}}), "rope_parameters"),
            ("phi3", json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}), "rope_type"),
            ("phi3", json!({"rope_scaling": {"type": "longrope"}}), "original_max_position_embeddings"),
            ("mixtral", json!({}), "model_type"),
        ];
        for (family, more, key) in cases {
            let text = refused(family, more);
            assert!(text.contains(&format!("`{key}`")), "{key}: {text}");
        }
    }
}
