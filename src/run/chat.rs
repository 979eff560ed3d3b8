//! Asking base, tuned and merged the same thing, side by side.

use std::io::{BufRead, Write};
use std::sync::atomic::AtomicBool;

use super::failure::Failure;
use super::plan::{Plan, steering};
use super::probe;
use super::session::Session;
use crate::data::{Encoder, Message, Role};
use crate::generate::scans::read::states;
use crate::generate::{Decoding, Generator, Query};

/// Reads questions, one a line, and writes every candidate's answer, until the input ends.
///
/// Each question stands alone. All candidates are held on the device at once.
///
/// # Errors
///
/// The run is not finished, or a candidate cannot be loaded.
pub fn chat(
    plan: &Plan,
    max_new_tokens: usize,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    prompt: bool,
) -> Result<(), Failure> {
    let (stop, mut watch) = (AtomicBool::new(false), |_| ());
    let mut session = Session::open(&plan.folder, Some(&plan.key), &stop, &mut watch)?;
    let cast = probe::cast(plan, &mut session)?;
    let Plan { model, machine, recipe, .. } = plan;
    let mut decoders = Vec::new();
    for candidate in &cast.candidates {
        decoders.push((candidate, cast.load(candidate, &model.shape, machine, None)?.0));
    }
    let (tokenizer, template) = (&model.tokenizer, model.template.as_ref());
    let encoder = Encoder::new(tokenizer, template, &recipe.eval.system, recipe.data.loss_on)?;
    let decoding = Decoding {
        stop_ids: encoder.stop_ids().to_vec(),
        repetition_penalty: recipe.eval.repetition_penalty,
        ..Decoding::greedy(max_new_tokens)
    };
    let decode = |ids: &[u32]| tokenizer.decode(ids, true);
    let width = decoders.iter().map(|(one, _)| one.name.chars().count()).max().unwrap_or(0);
    // A closed pipe ends the conversation as the end of the input does.
    loop {
        if prompt && (write!(output, "> ").is_err() || output.flush().is_err()) {
            return Ok(());
        }
        let mut line = String::new();
        if !input.read_line(&mut line).is_ok_and(|n| n > 0) {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let messages = [Message::new(Role::User, line.trim())];
        let ids = encoder.prompt(&messages, "")?;
        for (candidate, decoder) in &decoders {
            let name = &candidate.name;
            let push = cast.steering(candidate).map(|steering| {
                let suffix = &steering.scans.settings.suffix;
                let with_suffix = encoder.ids(&format!("{}{suffix}", encoder.prompt_text(&messages)?))?;
                let probe = steering::probe(&ids, with_suffix, suffix, model)?;
                let mut score = 0.0;
                states(decoder, &[probe], steering.reading(machine), |_, states| {
                    score = steering.scans.score(&states);
                    Ok::<(), Failure>(())
                })?;
                Ok::<_, Failure>(steering.scans.push(score, steering.from(ids.len())))
            });
            let query = Query { push: push.transpose()?, ..Query::once(&ids) };
            let generator = Generator { decoder, decode: &decode, rows: 1, stop: None };
            generator.complete(&[query], &decoding, |news| {
                for (_, answer) in news.ended {
                    let pad = width - name.chars().count();
                    // Answers of several lines stay beside their candidate.
                    let text = answer.text.replace('\n', &format!("\n{:width$}  ", ""));
                    let _ = writeln!(output, "{name}{:pad$}  {text}", "");
                }
                Ok::<(), Failure>(())
            })?;
        }
    }
}
