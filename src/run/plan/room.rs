//! Whether what is asked and learned finds room in the model and in memory, before anything is computed.

use burn::tensor::Device;

use super::questions::Questions;
use crate::device::free_memory;
use crate::model::DecoderShape;
use crate::recipe::MethodKind;
use crate::run::failure::RoomError;
use crate::train::{Machine, optimizer};

/// Bytes of a number in the products whose sizes are estimated here.
const NUMBER_BYTES: u64 = 4;

/// Bytes that backward keeps of all blocks for a micro-batch of `positions` in rows of `width`: inputs, norms,
/// projections, and the shares of attention.
pub fn activations(shape: &DecoderShape, positions: usize, width: usize) -> u64 {
    let per_position =
        10 * shape.hidden_size + 6 * shape.intermediate_size + 4 * shape.n_heads * shape.head_dim;
    let shares = (3 * shape.n_heads as u64).saturating_mul(width as u64);
    let bytes = (per_position as u64).saturating_add(shares).saturating_mul(positions as u64);
    bytes.saturating_mul(shape.n_layers as u64 * NUMBER_BYTES)
}

/// Bytes that attention over one prompt takes at least: the mask, and in one block the scores of every head.
fn attention(shape: &DecoderShape, tokens: usize) -> u64 {
    let square = (tokens as u64).saturating_mul(tokens as u64);
    square.saturating_mul((1 + shape.n_heads as u64) * NUMBER_BYTES)
}

/// Bytes that learning from one sample takes at least: the shares of attention, which backward keeps of every block.
/// With `SmolLM2` and 1,536 tokens they are 2.5 GB of 4.2 that were measured.
fn learning(shape: &DecoderShape, tokens: usize) -> u64 {
    let square = (tokens as u64).saturating_mul(tokens as u64);
    square.saturating_mul((shape.n_layers * shape.n_heads) as u64 * NUMBER_BYTES)
}

/// That the weights find room, and beside them what full tuning by `method` needs of each.
///
/// # Errors
///
/// Memory does not hold them.
pub fn check_weights(
    shape: &DecoderShape,
    method: Option<MethodKind>,
    machine: &Machine,
) -> Result<(), RoomError> {
    let n = shape.n_parameters() as u64;
    let each = match method {
        // The weights in f32, their gradients, and what the optimizer remembers.
        Some(MethodKind::Full) => 2 * NUMBER_BYTES + optimizer::BYTES,
        Some(MethodKind::Lora) | None => machine.compute.size() as u64,
    };
    match free_memory(&machine.device) {
        Some(free) if n.saturating_mul(each) > free => {
            Err(RoomError::Weights { parameters: n, needed: n.saturating_mul(each), free })
        }
        _ => Ok(()),
    }
}

/// That every sample can be learned from, the longest of which has so many tokens.
///
/// # Errors
///
/// Memory does not hold it.
pub fn check_samples(shape: &DecoderShape, longest: usize, device: &Device) -> Result<(), RoomError> {
    held(learning(shape, longest), free_memory(device), || {
        let cure = "lower `data.max_tokens` (`data.too_long` says what becomes of longer samples), or take a smaller model";
        ("the longest sample".to_owned(), longest, cure)
    })
}

/// That every question can be asked.
///
/// # Errors
///
/// One is longer than the model's window or than memory can hold.
pub fn check_questions(suites: &[Questions], shape: &DecoderShape, device: &Device) -> Result<(), RoomError> {
    suites.iter().try_for_each(|asked| {
        let suite = &asked.posed.suite.name;
        // Windows of text are cut to the model's.
        let lengths: Vec<usize> = match asked.prompts.is_empty() {
            false => asked.prompts.iter().map(Vec::len).collect(),
            true => {
                let choices = |question: &crate::generate::Question| {
                    question.choices.iter().map(|choice| choice.ids.len()).max().unwrap_or(0)
                };
                asked.choices.iter().map(choices).collect()
            }
        };
        let Some((nth, longest)) = lengths.iter().copied().enumerate().max_by_key(|(_, length)| *length)
        else {
            return Ok(());
        };
        let window = shape.max_positions;
        if longest > window {
            let n = lengths.iter().filter(|length| **length > window).count();
            let (suite, item) = (suite.clone(), asked.posed.items[nth].id.clone());
            return Err(RoomError::Window { suite, n, of: lengths.len(), item, longest, window });
        }
        held(attention(shape, longest), free_memory(device), || {
            let whose = format!("item `{}` of suite `{suite}`", asked.posed.items[nth].id);
            (whose, longest, "take the item out of the file, or ask a smaller model")
        })
    })
}

/// That so many bytes are free, where the device tells.
fn held(
    needed: u64,
    free: Option<u64>,
    who: impl FnOnce() -> (String, usize, &'static str),
) -> Result<(), RoomError> {
    match free {
        Some(free) if needed > free => {
            let (whose, tokens, cure) = who();
            Err(RoomError::Memory { whose, tokens, needed, free, cure })
        }
        _ => Ok(()),
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
        assert_eq!(learning(&shape, 100), 100 * 100 * 8 * 4);
        // 200,000 tokens asked for 160 GB for the mask alone.
        assert!(attention(&shape, 200_000) > 160_000_000_000);
        assert_eq!(attention(&shape, usize::MAX), u64::MAX);
        assert_eq!(learning(&shape, usize::MAX), u64::MAX);
        assert_eq!(activations(&shape, usize::MAX, usize::MAX), u64::MAX);
        let who = || ("x".to_owned(), 3, "y");
        assert!(held(10, Some(9), who).is_err());
        assert!(held(10, Some(10), who).is_ok() && held(10, None, who).is_ok());
    }
}
