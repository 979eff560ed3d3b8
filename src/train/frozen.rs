//! What training leaves as it is, by `train.freeze`.
//!
//! Freezing the layers that tell harmful requests from others, attention and feed-forward weights alone, is SPPFT: Li et
//! al., "Safety Layers in Aligned Large Language Models: The Key to LLM Security", 2024, arXiv 2408.17003.

use std::collections::{BTreeMap, BTreeSet};

use super::TrainError;
use crate::catalog::did_you_mean;
use crate::model::DecoderShape;
use crate::recipe::{Place, Train};

/// The weights that full tuning leaves as they are.
///
/// # Errors
///
/// A place holds none of the model's weights, or together they hold all.
pub fn weights(shape: &DecoderShape, train: &Train) -> Result<BTreeSet<String>, TrainError> {
    let frozen = take_out(&mut shape.weights(), shape, train)?;
    Ok(frozen.into_keys().collect())
}

/// Takes what is frozen out of what could be trained, weights or modules by their names, and hands it over.
///
/// # Errors
///
/// A place holds nothing that could be trained, or nothing is left.
pub(super) fn take_out<T>(
    trained: &mut BTreeMap<String, T>,
    shape: &DecoderShape,
    train: &Train,
) -> Result<BTreeMap<String, T>, TrainError> {
    let places = train.frozen().expect("the recipe checked its places");
    if let Some(idle) = places.iter().find(|place| !trained.keys().any(|name| place.holds(name))) {
        return Err(nothing(idle, shape, trained));
    }
    within("train.freeze", &places, shape.n_layers)?;
    let is_frozen = |name: &String, _: &mut T| places.iter().any(|place| place.holds(name));
    let frozen = trained.extract_if(.., is_frozen).collect();
    match trained.is_empty() {
        true => Err(TrainError::AllFrozen { places: format!("{:?}", train.freeze) }),
        false => Ok(frozen),
    }
}

/// That no range of layers is a longer model's: it would mean fewer of them than was asked for.
///
/// # Errors
///
/// One begins in the model and ends past its last layer.
pub(super) fn within(key: &'static str, places: &[Place], n_layers: usize) -> Result<(), TrainError> {
    let is_past =
        |place: &&Place| matches!(place, Place::Layers(from, to) if (*from..*to).contains(&(n_layers - 1)));
    match places.iter().find(is_past) {
        None => Ok(()),
        Some(place) => {
            let (place, last) = (place.to_string(), n_layers - 1);
            Err(TrainError::PastTheLayers { key, place, last })
        }
    }
}

/// Why a place holds nothing that could be trained.
fn nothing<T>(place: &Place, shape: &DecoderShape, trained: &BTreeMap<String, T>) -> TrainError {
    let help = match shape.weights().keys().any(|name| place.holds(name)) {
        true => {
            "leave it out: the model has it, and the adapters of `method.targets` leave it as it is anyway"
                .to_owned()
        }
        false if place.holds("lm_head") => {
            "the model's head is its embedding: `embed` freezes both".to_owned()
        }
        false => {
            let module =
                |name: &String| name.trim_end_matches(".weight").trim_end_matches(".bias").to_owned();
            let modules: Vec<String> = trained.keys().map(module).collect();
            let nearest =
                nearest_module(&place.to_string(), shape.n_layers, modules.iter().map(String::as_str));
            // An adapter has no norms and no embedding.
            let whole = modules.iter().any(|module| module.ends_with("norm"));
            let more = if whole { ", `mlp`, `norm`, `embed` and `head`" } else { " and `mlp`" };
            format!("{nearest}; `layers.0-3`, `attn`{more} are places too")
        }
    };
    TrainError::NothingToFreeze { place: place.to_string(), help }
}

/// Which of the `modules` a place that means none of them comes nearest to.
pub(super) fn nearest_module<'m>(
    place: &str,
    n_layers: usize,
    modules: impl Iterator<Item = &'m str>,
) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let known: BTreeSet<String> = modules.map(last).collect();
    let help = did_you_mean(&last(place), known.iter().map(String::as_str));
    match place.contains("layers.") {
        true => format!("{help}; the layers are 0 to {}", n_layers.saturating_sub(1)),
        false => help,
    }
}

#[cfg(test)]
mod tests {
    use super::weights;
    use crate::model::{DecoderShape, Sizes};
    use crate::recipe::{Method, Targets, Train};
    use crate::train::init::targets;

    fn shape(tied: bool) -> DecoderShape {
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 12,
            n_layers: 3,
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 4,
        };
        DecoderShape { tied, ..DecoderShape::plain("small", sizes) }
    }

    fn train(freeze: &[&str]) -> Train {
        Train { freeze: freeze.iter().map(|place| (*place).to_owned()).collect(), ..Train::default() }
    }

    #[test]
    fn a_range_that_goes_past_the_last_layer_is_of_another_model() {
        let method =
            |target: &str| Method { targets: Targets::Many(vec![target.to_owned()]), ..Method::default() };
        for place in ["layers.0-3", "layers.2-9"] {
            let error = weights(&shape(false), &train(&[place])).unwrap_err().to_string();
            assert!(error.contains(place) && error.ends_with("last layer, 2"), "{error}");
            let error = targets(&shape(false), &method(place), &train(&[])).unwrap_err().to_string();
            assert!(error.contains("`method.targets`") && error.ends_with("last layer, 2"), "{error}");
        }
        assert!(targets(&shape(false), &method("layers.0-2"), &train(&[])).is_ok());
    }

    #[test]
    fn a_layer_is_frozen_with_its_norms_and_a_pattern_without() {
        let whole = weights(&shape(false), &train(&["layers.1"])).unwrap();
        assert_eq!(whole.len(), 9);
        assert!(whole.iter().all(|name| name.starts_with("model.layers.1.")));
        let bare = weights(&shape(false), &train(&["layers.1.*_proj"])).unwrap();
        assert_eq!(bare.len(), 7);
        assert!(whole.difference(&bare).all(|name| name.ends_with("norm.weight")));
        assert!(weights(&shape(false), &train(&[])).unwrap().is_empty());
    }

    #[test]
    fn no_adapter_is_attached_where_it_is_frozen() {
        let all = targets(&shape(false), &Method::default(), &train(&[])).unwrap();
        let left = targets(&shape(false), &Method::default(), &train(&["layers.0-1", "down_proj"])).unwrap();
        assert_eq!((all.len(), left.len()), (21, 6));
        assert!(left.keys().all(|name| name.starts_with("model.layers.2.") && !name.ends_with("down_proj")));
    }

    #[test]
    fn a_place_without_effect_and_a_model_without_training_are_refused() {
        let full = |tied: bool, freeze: &[&str]| weights(&shape(tied), &train(freeze)).unwrap_err();
        let help = |error: super::TrainError| miette::Diagnostic::help(&error).unwrap().to_string();
        assert_eq!(
            full(false, &["mlp", "layers.3"]).to_string(),
            "`layers.3` of `train.freeze` holds none of the weights that are trained"
        );
        assert!(help(full(false, &["layers.2-1"])).contains("the layers are 0 to 2"));
        assert!(help(full(false, &["qproj"])).contains("did you mean `q_proj`?"));
        assert!(help(full(true, &["head"])).contains("`embed` freezes both"));
        let all = full(false, &["layers.0-2", "embed", "norm", "head"]);
        assert_eq!(all.to_string(), "`train.freeze` leaves nothing to train");
        let lora =
            |method: &Method, freeze: &[&str]| targets(&shape(false), method, &train(freeze)).unwrap_err();
        assert!(help(lora(&Method::default(), &["embed"])).contains("leave it as it is anyway"));
        let few = Method { targets: Targets::One("q_proj".to_owned()), ..Method::default() };
        assert!(help(lora(&few, &["mlp"])).contains("leave it as it is anyway"));
        assert_eq!(lora(&few, &["attn"]).to_string(), "`train.freeze` leaves nothing to train");
    }
}
