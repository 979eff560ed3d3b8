//! The tokens of a text that is cut where answers begin.
//!
//! The ids before an answer must be those that generation would see. Mostly the whole text's ids are
//! so. Where a token would reach across the border (a prompt that ends in a blank, say), the parts
//! are encoded one by one, as they are when a conversation is really held.

use std::ops::Range;

use crate::snapshot::tokenizer::{Piece, Tokenizer, TokenizerError};

/// A text's tokens.
pub(super) struct Cut {
    pub pieces: Vec<Piece>,
    /// At which token each answer starts.
    pub starts: Vec<usize>,
    /// Whether the parts had to be encoded one by one.
    pub is_split: bool,
}

pub(super) enum CutError {
    Tokenizer(TokenizerError),
    /// The parts' tokens do not spell the text.
    NotSplittable,
}

impl From<TokenizerError> for CutError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

/// The tokens of `text`, in which `answers` are byte ranges in order.
pub(super) fn cut(tokenizer: &Tokenizer, text: &str, answers: &[Range<usize>]) -> Result<Cut, CutError> {
    let whole = tokenizer.encode_pieces(text)?;
    let mut starts = Vec::with_capacity(answers.len());
    for &Range { start, .. } in answers {
        let before = tokenizer.encode(&text[..start])?;
        if begins(&whole, &before) {
            starts.push(before.len());
            continue;
        }
        let (pieces, starts) = in_parts(tokenizer, text, answers)?;
        let spelled = |pieces: &[Piece]| {
            let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
            tokenizer.decode(&ids, false)
        };
        if spelled(&pieces) != spelled(&whole) {
            return Err(CutError::NotSplittable);
        }
        return Ok(Cut { pieces, starts, is_split: true });
    }
    Ok(Cut { pieces: whole, starts, is_split: false })
}

fn begins(pieces: &[Piece], ids: &[u32]) -> bool {
    ids.len() <= pieces.len() && pieces.iter().zip(ids).all(|(piece, id)| piece.id == *id)
}

fn in_parts(
    tokenizer: &Tokenizer,
    text: &str,
    answers: &[Range<usize>],
) -> Result<(Vec<Piece>, Vec<usize>), TokenizerError> {
    let mut pieces = Vec::new();
    let mut starts = Vec::new();
    let mut at = 0;
    for &Range { start, end } in answers {
        append(tokenizer, &mut pieces, text, at..start)?;
        starts.push(pieces.len());
        append(tokenizer, &mut pieces, text, start..end)?;
        at = end;
    }
    append(tokenizer, &mut pieces, text, at..text.len())?;
    Ok((pieces, starts))
}

/// Appends the tokens of a part of `text` as they are in the middle of a text.
///
/// Tokenizers of Llama 2's kind put a blank before what they take for the beginning, but not after a
/// newline.
fn append(
    tokenizer: &Tokenizer,
    pieces: &mut Vec<Piece>,
    text: &str,
    range: Range<usize>,
) -> Result<(), TokenizerError> {
    let from = range.start;
    let part = &text[range];
    if part.is_empty() {
        return Ok(());
    }
    let newline = tokenizer.encode("\n")?;
    let shifted = tokenizer.encode_pieces(&format!("\n{part}"))?;
    let (part, offset) = if from > 0 && begins(&shifted, &newline) {
        (shifted[newline.len()..].to_vec(), 1)
    } else {
        (tokenizer.encode_pieces(part)?, 0)
    };
    let place = |at: usize| from + at.saturating_sub(offset);
    pieces.extend(part.iter().map(|piece| Piece {
        start: place(piece.start),
        end: place(piece.end),
        ..*piece
    }));
    Ok(())
}
