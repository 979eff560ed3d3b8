//! One model on one suite, timed and written out, beside other harnesses.

use std::convert::Infallible;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::device;
use crate::eval::Form;
use crate::generate::{self, Generator, Query, likelihoods};
use crate::model::Decoder;
use crate::recipe::Recipe;
use crate::run::Failure;
use crate::run::plan::Model;
use crate::run::plan::questions::{self, Questions};
use crate::run::plan::sources::Sources;
use crate::run::plan::writing;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::writer::file_at_once;

/// Which suite, and how it is asked.
pub struct SuiteBench<'a> {
    pub task: &'a str,
    pub source: &'a Path,
    /// Keys of the recipe's `[[eval.suites]]`, such as `shots=5`.
    pub keys: &'a [String],
    /// Only the first so many items.
    pub first: Option<usize>,
    /// Where prompts are written as lists of token ids.
    pub prompts_out: Option<&'a Path>,
    /// Where what was found is written, a line for each item.
    pub out: Option<&'a Path>,
    /// Positions computed at once.
    pub micro_tokens: usize,
    /// Rows that generate together.
    pub rows: usize,
}

impl SuiteBench<'_> {
    /// Asks everything once; seconds are without loading, but with the first step's set-up.
    ///
    /// # Errors
    ///
    /// The suite or the model's tokenizer is wrong, or a file cannot be written.
    pub fn measure(&self, folder: &Path, decoder: &Decoder) -> Result<Value, Failure> {
        let model = Model::at(folder, |tokenizer| Ok(ChatTemplate::load(folder, tokenizer, None).ok()))?;
        let (task, source) = (json!(self.task), json!(self.source.display().to_string()));
        let keys = self.keys.join("\n");
        let text = format!(
            "schema = 1\nname = \"bench\"\n[model]\nsource = \"none\"\n[data]\nsource = \"none\"\n[[eval.suites]]\ntask = {task}\nsource = {source}\n{keys}\n"
        );
        let recipe = Recipe::parse(&text, "bench", &[])?;
        let mut suites = questions::draw(&recipe.eval, &mut Sources::new("", None, &mut |_| ()))?;
        writing::render(&mut suites, &recipe.eval, model.reader())?;
        let mut suite = suites.pop().expect("the recipe has one suite");
        if let Some(n) = self.first {
            suite.truncate(n);
        }
        if let Some(path) = self.prompts_out {
            let lines: String =
                suite.tokens().prompts.iter().map(|ids| format!("{}\n", json!(ids))).collect();
            file_at_once(path, lines.as_bytes())?;
        }
        let started = Instant::now();
        let mut found = vec![Value::Null; suite.posed.items.len()];
        let n_tokens = match suite.posed.suite.task.form {
            Form::Answer => answers(&suite, decoder, &model.tokenizer, self.rows, &mut found),
            Form::Choose => choices(&suite, decoder, self.micro_tokens, &mut found),
            Form::Read | Form::Expect => texts(&suite, decoder, self.micro_tokens, &mut found),
        };
        let seconds = started.elapsed().as_secs_f64();
        if let Some(path) = self.out {
            let mut lines = String::new();
            for (item, found) in suite.posed.items.iter().zip(&found) {
                let _ = writeln!(lines, "{}", json!({ "id": item.id, "found": found }));
            }
            file_at_once(path, lines.as_bytes())?;
        }
        Ok(json!({
            "program": format!("finetune {}", env!("CARGO_PKG_VERSION")),
            "task": self.task,
            "items": suite.posed.items.len(),
            "rows": self.rows,
            "seconds": seconds,
            "tokens": n_tokens,
            "peak_rss_bytes": device::peak_memory(),
        }))
    }
}

fn answers(
    suite: &Questions,
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    rows: usize,
    found: &mut [Value],
) -> usize {
    let queries: Vec<Query<'_>> = suite.tokens().prompts.iter().map(|ids| Query::once(ids)).collect();
    let decode = |ids: &[u32]| tokenizer.decode(ids, true);
    let generator = Generator { decoder, decode: &decode, rows, stop: None };
    let mut n_tokens = 0;
    let Ok(()) = generator.complete::<Infallible>(&queries, &suite.decoding, |news| {
        for (i, said) in news.ended {
            n_tokens += said.ids.len();
            found[i] = json!({ "ids": said.ids, "text": said.text, "ended": said.finish });
        }
        Ok(())
    });
    n_tokens
}

fn choices(suite: &Questions, decoder: &Decoder, micro_tokens: usize, found: &mut [Value]) -> usize {
    let mut n_tokens = 0;
    let Ok(()) = generate::choices::<Infallible>(decoder, &suite.tokens().choices, micro_tokens, |batch| {
        for (i, options) in batch {
            n_tokens += options.iter().map(|option| option.n_tokens).sum::<usize>();
            found[i] = json!(options.iter().map(|option| option.sum).collect::<Vec<f64>>());
        }
        Ok(())
    });
    n_tokens
}

fn texts(suite: &Questions, decoder: &Decoder, micro_tokens: usize, found: &mut [Value]) -> usize {
    let mut n_tokens = 0;
    for (found, windows) in found.iter_mut().zip(&suite.tokens().texts) {
        let Ok(likely) = likelihoods(decoder, windows, micro_tokens, || Ok::<(), Infallible>(()));
        n_tokens += likely.iter().map(|window| window.n_tokens).sum::<usize>();
        *found = json!(likely.iter().map(|window| window.sum).sum::<f64>());
    }
    n_tokens
}
