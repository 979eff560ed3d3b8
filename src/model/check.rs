//! Whether weights are those of a model of a shape.

use super::{Decoder, DecoderShape};
use crate::snapshot::{SnapshotError, Weights};

impl Decoder {
    /// Checks that `weights` are exactly those of a model of this shape.
    ///
    /// # Errors
    ///
    /// A weight is missing, has another shape, or is not part of such a model.
    pub fn check(shape: &DecoderShape, weights: &dyn Weights, place: &str) -> Result<(), SnapshotError> {
        let expected = shape.weights();
        for (name, expected) in &expected {
            let Some(info) = weights.infos().get(name) else {
                let help = misnamed(weights, name).unwrap_or_else(|| {
                    format!("`config.json` describes a `{}` model that has it", shape.family)
                });
                return Err(SnapshotError::MissingWeight {
                    name: name.clone(),
                    place: place.to_owned(),
                    help,
                });
            };
            if info.shape != *expected {
                return Err(SnapshotError::BadShape {
                    name: name.clone(),
                    place: place.to_owned(),
                    found: info.shape.clone(),
                    expected: expected.clone(),
                });
            }
        }
        let extra = weights.infos().keys().find(|name| !expected.contains_key(*name) && !derived(name));
        match extra {
            None => Ok(()),
            Some(name) if shape.tied && name == "lm_head.weight" && head_is_embedding(weights)? => Ok(()),
            Some(name) => Err(SnapshotError::UnexpectedWeight {
                name: name.clone(),
                place: place.to_owned(),
                family: shape.family.to_owned(),
                help: match shape.tied && name == "lm_head.weight" {
                    true => {
                        "`tie_word_embeddings` in `config.json` says that the head is the embedding, and this one is another: make it \
                         false, or take the head away"
                    }
                    false => {
                        "does `config.json` belong to these weights? A weight that is not used would be lost in the tuned model"
                    }
                },
            }),
        }
    }
}

/// How the weights are called instead, where they are called as another tool saves them.
fn misnamed(weights: &dyn Weights, name: &str) -> Option<String> {
    let has = |name: &str| weights.infos().contains_key(name);
    if has(&format!("_orig_mod.{name}")) {
        return Some(
            "the names begin with `_orig_mod.`, as `torch.compile` has them: save the model behind it, \
             `model._orig_mod.save_pretrained(…)`"
                .to_owned(),
        );
    }
    let bare = name.strip_prefix("model.").filter(|bare| has(bare))?;
    Some(format!(
        "it is called `{bare}` there, as in a model without a head: load it by transformers' `AutoModelForCausalLM` and \
         `save_pretrained` it"
    ))
}

/// Old checkpoints carry tables that follow from the configuration.
fn derived(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// A tied checkpoint may store its head as well, if it is the embedding.
fn head_is_embedding(weights: &dyn Weights) -> Result<bool, SnapshotError> {
    let [head, embedding] = ["lm_head.weight", "model.embed_tokens.weight"];
    let infos = [head, embedding].map(|name| &weights.infos()[name]);
    // Whatever dtypes they are stored in.
    Ok(infos[0].shape == infos[1].shape
        && weights.numbers(head)?.equal(&weights.numbers(embedding)?, infos[0].n_elements()))
}
