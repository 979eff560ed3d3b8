//! What a configuration says layer by layer, for a model that is put together of other layers.
//!
//! mergekit copies the donor's configuration and changes the number of layers; what it says of single layers would
//! then be of another length, or of other layers.

use serde_json::{Map, Value, json};

use crate::model::families;
use crate::snapshot::Config;

/// Lists that are as long as the model is deep by chance only: they say nothing of layers.
const NOT_BY_LAYER: [&str; 6] = [
    "architectures",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "keys_to_ignore_at_inference",
];

/// Lists of the numbers of some layers.
const NUMBERS: [&str; 6] = [
    "mlp_only_layers",
    "moe_layers",
    "attn_layer_indices",
    "full_attn_idxs",
    "cross_attention_layers",
    "hybrid_layer_ids",
];

/// What says by a rule which layers differ, and the list that says it layer by layer and wins over the rule.
const RULES: [(&str, &str); 12] = [
    ("sliding_window_pattern", "layer_types"),
    ("max_window_layers", "layer_types"),
    ("full_attention_interval", "layer_types"),
    ("global_attn_every_n_layers", "layer_types"),
    ("attn_layer_period", "layers_block_type"),
    ("expert_layer_period", "layers_block_type"),
    ("no_rope_layer_interval", "no_rope_layers"),
    ("first_k_dense_replace", "mlp_layer_types"),
    ("decoder_sparse_step", "mlp_layer_types"),
    ("moe_layer_freq", "mlp_layer_types"),
    ("interleave_moe_layer_step", "moe_layers"),
    ("hybrid_override_pattern", "layers_block_type"),
];

/// Where a layer of the result is from: a model, and its layer.
pub(super) type Origin = (usize, usize);

/// What the configuration of `donor`, one of `configs`, has to say otherwise of a model whose layers are `layers`.
///
/// # Errors
///
/// A sentence, if a configuration tells single layers apart in a way that cannot be told of these.
pub(super) fn settings(
    configs: &[&Config],
    donor: usize,
    layers: &[Origin],
) -> Result<Map<String, Value>, String> {
    let count = |config: &Config| config.count("num_hidden_layers").map_err(|error| error.to_string());
    let n_layers = count(configs[donor])?;
    let mut settings = Map::from_iter([("num_hidden_layers".to_owned(), json!(layers.len()))]);
    let is_beginning = layers.iter().enumerate().all(|(nth, (_, layer))| nth == *layer);
    if is_beginning && layers.len() == n_layers {
        return Ok(settings);
    }
    for (key, value) in configs[donor].json() {
        let Some(list) = value.as_array() else { continue };
        let of = |(model, layer): &Origin| -> Result<Value, String> {
            let n_layers = count(configs[*model])?;
            let own = configs[*model].json().get(key).and_then(Value::as_array);
            let own = own.filter(|own| own.len() == n_layers).and_then(|own| own.get(*layer));
            own.cloned().ok_or_else(|| {
                format!("`{key}` in the configurations is by layer, and one of the models has it not of layer {layer}")
            })
        };
        if NUMBERS.contains(&key.as_str()) {
            let holds = |(_, layer): &Origin| list.contains(&json!(layer));
            let found = layers.iter().enumerate().filter(|(_, origin)| holds(origin)).map(|(nth, _)| nth);
            settings.insert(key.clone(), found.collect());
        } else if list.len() == n_layers && !NOT_BY_LAYER.contains(&key.as_str()) {
            settings.insert(key.clone(), layers.iter().map(of).collect::<Result<_, _>>()?);
        }
    }
    let edited = configs[donor].with(&settings);
    match configs.iter().map(|config| families::shape(config)).collect::<Result<Vec<_>, _>>() {
        Ok(shapes) => {
            let wanted: Vec<Option<usize>> =
                layers.iter().map(|(model, layer)| shapes[*model].windows[*layer]).collect();
            let found = |config: &Config| families::shape(config).map(|shape| shape.windows).ok();
            if found(&edited).as_ref() != Some(&wanted) {
                let kind = |window: &Option<usize>| match window {
                    Some(_) => "sliding_attention",
                    None => "full_attention",
                };
                let kinds = wanted.iter().map(kind).collect::<Vec<_>>();
                settings.insert("layer_types".to_owned(), json!(kinds));
                if found(&configs[donor].with(&settings)).as_ref() != Some(&wanted) {
                    return Err(
                        "its layers see differently far, which the configuration cannot say".to_owned()
                    );
                }
            }
        }
        // Of another family we know the rules by their names only. They hold where the first layers were taken.
        Err(_) if is_beginning => {}
        Err(_) => {
            let says = |key: &str| edited.json().get(key).is_some_and(|value| !value.is_null());
            let list = |key: &str| edited.json().get(key).is_some_and(Value::is_array);
            if let Some((rule, list)) = RULES.iter().find(|(rule, by_layer)| says(rule) && !list(by_layer)) {
                return Err(format!(
                    "`{rule}` in `config.json` tells layers apart by their numbers, and the result has others; say it \
                    by layer, in `{list}`"
                ));
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(family: &str, n_layers: usize, more: Value) -> Config {
        let mut value = json!({
            "model_type": family, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": n_layers, "num_attention_heads": 4, "num_key_value_heads": 2,
            "hidden_act": "silu",
        });
        if family.starts_with("gemma") {
            value["hidden_act"] = json!("gelu_pytorch_tanh");
        }
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config::of(value)
    }

    /// Layers of one model.
    fn of_one(layers: &[usize]) -> Vec<Origin> {
        layers.iter().map(|layer| (0, *layer)).collect()
    }

    fn kinds(letters: &str) -> Value {
        let kind = |letter| if letter == 's' { "sliding_attention" } else { "full_attention" };
        letters.chars().map(kind).collect::<Vec<_>>().into()
    }

    #[test]
    fn lists_by_layer_are_those_of_the_layers_that_were_taken() {
        let more =
            json!({"layer_types": kinds("sfsf"), "eos_token_id": [1, 2, 3, 4], "architectures": ["A"]});
        let one = config("gemma2", 4, more);
        let found = settings(&[&one], 0, &of_one(&[0, 1, 3, 2, 2])).unwrap();
        assert_eq!(Value::Object(found), json!({"num_hidden_layers": 5, "layer_types": kinds("sffss")}));
        // The same layers in the same order say nothing new.
        let found = settings(&[&one], 0, &of_one(&[0, 1, 2, 3])).unwrap();
        assert_eq!(Value::Object(found), json!({"num_hidden_layers": 4}));
        // Each from its own model.
        let other = config("gemma2", 2, json!({"layer_types": kinds("ff")}));
        let found = settings(&[&one, &other], 0, &[(0, 0), (1, 0), (0, 2)]).unwrap();
        assert_eq!(found["layer_types"], kinds("sfs"));
    }

    #[test]
    fn a_rule_that_no_longer_holds_becomes_a_list() {
        // Gemma 2 without a list: every other layer slides, beginning with the first.
        let one = config("gemma2", 4, json!({}));
        let types = |config: &Config, layers: &[usize]| {
            settings(&[config], 0, &of_one(layers)).unwrap().get("layer_types").cloned()
        };
        assert_eq!(types(&one, &[0, 1, 2]), None);
        assert_eq!(types(&one, &[0, 1, 0, 1, 2, 3]), None);
        assert_eq!(types(&one, &[0, 1, 1, 2]), Some(kinds("sffs")));
        let three = config("gemma3_text", 6, json!({"sliding_window_pattern": 3}));
        assert_eq!(types(&three, &[0, 1, 2, 3, 4, 5, 3, 4, 5]), None);
        assert_eq!(types(&three, &[1, 2, 3, 4, 5]), Some(kinds("sfssf")));
        let window = json!({"sliding_window": 7, "max_window_layers": 2, "use_sliding_window": true});
        let qwen = config("qwen3", 4, window.clone());
        assert_eq!(types(&qwen, &[0, 1, 2, 3, 3]), None);
        assert_eq!(types(&qwen, &[0, 2, 3]), Some(kinds("fss")));
        assert_eq!(types(&config("qwen3", 4, json!({"max_window_layers": 2})), &[0, 2, 3]), None);
        assert_eq!(types(&config("mistral", 4, json!({"sliding_window": 7})), &[0, 2, 3]), None);
        // What is read again is what was taken.
        for (config, layers) in [(&one, [0, 1, 1, 2].as_slice()), (&three, &[5, 0, 1]), (&qwen, &[3, 0])] {
            let again = config.with(&settings(&[config], 0, &of_one(layers)).unwrap());
            let (before, after) = (families::shape(config).unwrap(), families::shape(&again).unwrap());
            let wanted: Vec<_> = layers.iter().map(|layer| before.windows[*layer]).collect();
            assert_eq!(after.windows, wanted);
        }
    }

    #[test]
    fn another_family_is_told_by_lists_or_not_at_all() {
        let more =
            json!({"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4, "mlp_only_layers": [0, 3]});
        let smol = config("smollm3", 4, more);
        let found = settings(&[&smol], 0, &of_one(&[0, 3, 3, 1])).unwrap();
        assert_eq!(found["no_rope_layers"], json!([1, 0, 0, 1]));
        assert_eq!(found["mlp_only_layers"], json!([0, 1, 2]));
        let rule = config("cohere2", 4, json!({"sliding_window_pattern": 4}));
        assert!(settings(&[&rule], 0, &of_one(&[0, 1, 2])).is_ok());
        let error = settings(&[&rule], 0, &of_one(&[1, 2, 3])).unwrap_err();
        assert!(error.contains("`sliding_window_pattern`") && error.contains("`layer_types`"), "{error}");
    }

    #[test]
    fn layers_that_no_list_can_tell_apart_are_refused() {
        let (near, far) = (json!({"sliding_window": 7}), json!({"sliding_window": 9}));
        let models = [config("mistral", 2, near), config("mistral", 2, far)];
        let error = settings(&[&models[0], &models[1]], 0, &[(0, 0), (1, 1), (0, 1)]).unwrap_err();
        assert!(error.contains("differently far"), "{error}");
    }
}
