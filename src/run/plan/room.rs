//! Whether what is asked and learned finds room in the model and in memory, before anything is computed.

use burn::tensor::Device;

use super::questions::Questions;
use crate::device::{free_memory, is_cpu};
use crate::model::DecoderShape;
use crate::recipe::MethodKind;
use crate::run::failure::RoomError;
use crate::train::Machine;
use crate::train::extent::Extent;
use crate::train::recompute::Kept;

/// Bytes of a number in the products whose sizes are estimated here.
const NUMBER_BYTES: u64 = 4;

/// Bytes that attention over one prompt takes at least: the mask, and in one block the scores of every head.
fn attention(shape: &DecoderShape, tokens: usize) -> u64 {
    let square = (tokens as u64).saturating_mul(tokens as u64);
    square.saturating_mul((1 + shape.n_heads as u64) * NUMBER_BYTES)
}

/// Bytes that learning from one sample takes at least: what the way back keeps if every block is computed again.
fn learning(shape: &DecoderShape, tokens: usize, device: &Device) -> u64 {
    Kept::of(MethodKind::Lora, device).recomputed_bytes(shape, tokens, tokens)
}

/// That the weights find room, and beside them what full tuning needs of each that it trains and what penalties keep.
///
/// # Errors
///
/// Memory does not hold them.
pub fn check_weights(
    shape: &DecoderShape,
    training: Option<(MethodKind, Extent)>,
    penalties: u64,
    machine: &Machine,
) -> Result<(), RoomError> {
    let n = shape.n_parameters() as u64;
    let weights = match training {
        // The weights in f32, and of those that are trained gradients and what the optimizer remembers.
        Some((MethodKind::Full, Extent { trained, remembered, .. })) => {
            let of_trained = (trained as u64).saturating_mul(NUMBER_BYTES).saturating_add(remembered);
            n.saturating_mul(NUMBER_BYTES).saturating_add(of_trained)
        }
        // The processor keeps matrices as they are stored, in 16 bits at the least.
        Some((MethodKind::Lora, _)) | None if is_cpu(&machine.device) => n.saturating_mul(2),
        Some((MethodKind::Lora, _)) | None => n.saturating_mul(machine.compute.size() as u64),
    };
    let needed = weights.saturating_add(penalties);
    match free_memory(&machine.device) {
        Some(free) if needed > free && weights <= free => {
            Err(RoomError::Penalties { penalties, needed, free })
        }
        Some(free) if needed > free => Err(RoomError::Weights { parameters: n, needed, free }),
        _ => Ok(()),
    }
}

/// That every sample can be learned from, the longest of which has so many tokens.
///
/// # Errors
///
/// The model or memory does not hold it.
pub fn check_samples(shape: &DecoderShape, longest: usize, device: &Device) -> Result<(), RoomError> {
    let text = Text {
        whose: "the longest sample".to_owned(),
        tokens: longest,
        cure: "lower `data.max_tokens` (`data.too_long` says what becomes of longer samples)",
    };
    text.fits(shape, learning(shape, longest, device), device)
}

/// That every question can be asked.
///
/// # Errors
///
/// The model or memory does not hold one.
pub fn check_questions(suites: &[Questions], shape: &DecoderShape, device: &Device) -> Result<(), RoomError> {
    for asked in suites {
        // Windows of text are cut to the model's.
        let choices = asked.outline.choices.iter().map(|[longest, _]| *longest);
        let lengths = asked.outline.prompts.iter().copied().chain(choices);
        let Some((nth, tokens)) = lengths.enumerate().max_by_key(|(_, tokens)| *tokens) else { continue };
        let (item, suite) = (&asked.posed.items[nth].id, &asked.posed.suite.name);
        let text = Text {
            whose: format!("item `{item}` of suite `{suite}`"),
            tokens,
            cure: "take the item out of the file, ask with fewer worked examples (`shots`)",
        };
        text.fits(shape, attention(shape, tokens), device)?;
    }
    Ok(())
}

/// What finds no room, in a sentence, where another machine than this one is to run it.
///
/// # Errors
///
/// It is this machine that is to run it, or it would fit on none.
pub fn told(found: Result<(), RoomError>, elsewhere: bool) -> Result<Option<String>, RoomError> {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    // How much is free changes while cells are planned.
    let what = match found {
        Err(RoomError::Weights { parameters, needed, .. }) if elsewhere => {
            format!(
                "{:.3} billion parameters take at least {:.1} GB",
                gigabytes(parameters),
                gigabytes(needed)
            )
        }
        Err(RoomError::Penalties { needed, .. }) if elsewhere => {
            format!("the weights and what penalties keep take at least {:.1} GB", gigabytes(needed))
        }
        Err(RoomError::Memory { whose, tokens, needed, .. }) if elsewhere => {
            format!("attention over {tokens} tokens, {whose}, takes at least {:.1} GB", gigabytes(needed))
        }
        other => return other.map(|()| None),
    };
    Ok(Some(format!("{what} of memory, more than is free on this machine, which could not run it")))
}

/// How many times its window the longest text may be that a model is given. Rotary angles have no end, and a little
/// beyond the window is only said; published models were stretched 32 times at most (Phi-3's `LongRoPE`, 4,096 to
/// 131,072), and their configuration names the longer window.
const STRETCH: usize = 32;

/// The longest text of its kind.
struct Text {
    whose: String,
    tokens: usize,
    cure: &'static str,
}

impl Text {
    fn fits(self, shape: &DecoderShape, needed: u64, device: &Device) -> Result<(), RoomError> {
        let Self { whose, tokens, cure } = self;
        let window = shape.max_positions;
        if tokens > window.saturating_mul(STRETCH) {
            return Err(RoomError::Window { whose, tokens, window, stretch: STRETCH, cure });
        }
        match free_memory(device).filter(|free| needed > *free) {
            Some(free) => Err(RoomError::Memory { whose, tokens, needed, free, cure }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sizes;

    #[test]
    fn what_attention_takes_grows_with_the_square_and_never_wraps_around() {
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 32,
            intermediate_size: 48,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 8,
        };
        let shape = DecoderShape::plain("small", sizes);
        assert_eq!(attention(&shape, 100), 100 * 100 * 5 * 4);
        assert_eq!(attention(&shape, 200), 4 * attention(&shape, 100));
        // Inputs of two blocks, and what one keeps: inputs of its parts, heads, what the gate reads.
        assert_eq!(learning(&shape, 100, &Device::flex()), 100 * (2 * 32 + 2 * 32 + 2 * 6 * 8 + 2 * 48) * 4);
        // 200,000 tokens asked for 160 GB for the mask alone.
        assert!(attention(&shape, 200_000) > 160_000_000_000);
        assert_eq!(attention(&shape, usize::MAX), u64::MAX);
        assert_eq!(learning(&shape, usize::MAX, &Device::flex()), u64::MAX);
    }

    #[test]
    fn a_text_may_be_so_many_windows_long_and_take_what_memory_is_free() {
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 32,
            intermediate_size: 48,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 8,
        };
        let shape = DecoderShape { max_positions: 100, ..DecoderShape::plain("small", sizes) };
        let fits = |tokens, needed| {
            Text { whose: "x".to_owned(), tokens, cure: "" }.fits(&shape, needed, &Device::flex())
        };
        fits(3200, 1).unwrap();
        assert!(matches!(fits(3201, 1), Err(RoomError::Window { tokens: 3201, window: 100, .. })));
        assert!(matches!(fits(100, u64::MAX), Err(RoomError::Memory { .. })));
    }
}
