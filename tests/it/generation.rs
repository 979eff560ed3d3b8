//! Generation on the tiny model: neighbours, prefixes, refilled rows and samples.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{DType, Device};
use finetune::data::Sample;
use finetune::generate::{
    Choice, Completion, Decoding, Generator, Query, Question, Sampling, choices, likelihoods,
};
use finetune::model::{Decoder, families};
use finetune::snapshot::Config;
use finetune::snapshot::files::WeightFiles;
use finetune::snapshot::tokenizer::Tokenizer;

struct Tiny {
    decoder: Decoder,
    tokenizer: Tokenizer,
}

impl Tiny {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model");
        let shape = families::shape(&Config::read(&folder).unwrap()).unwrap();
        let weights = WeightFiles::open(&folder).unwrap();
        let decoder = Decoder::load(&shape, &weights, &Device::flex(), DType::F32).unwrap();
        Self { decoder, tokenizer: Tokenizer::load(&folder).unwrap() }
    }

    /// Prompts that begin alike, of lengths from one word to many, each of its own text.
    fn prompts(&self, beginning: &str, n: usize) -> Vec<Vec<u32>> {
        let words = ["apple", "seven", "what is the sum", "tell me a story of a dog and", "is it", "no"];
        let prompt = |i: usize| {
            let text: Vec<&str> = (0..=i % 5).map(|k| words[(i * 7 + k * 3) % words.len()]).collect();
            self.tokenizer.encode(&format!("{beginning}{} {i}", text.join(" "))).unwrap()
        };
        (0..n).map(prompt).collect()
    }

    fn complete(&self, prompts: &[Vec<u32>], decoding: &Decoding, rows: usize) -> Vec<Completion> {
        let queries: Vec<Query<'_>> = prompts.iter().map(|ids| Query::once(ids)).collect();
        self.ask(&queries, decoding, rows)
    }

    fn ask(&self, queries: &[Query<'_>], decoding: &Decoding, rows: usize) -> Vec<Completion> {
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, true);
        let generator = Generator { decoder: &self.decoder, decode: &decode, rows, stop: None };
        let mut found: Vec<Option<Completion>> = vec![None; queries.len()];
        let Ok(()) = generator.complete::<Infallible>(queries, decoding, |news| {
            for (i, completion) in news.ended {
                assert!(found[i].replace(completion).is_none(), "prompt {i} was answered twice");
            }
            Ok(())
        });
        found.into_iter().map(|found| found.expect("every prompt has its answer")).collect()
    }
}

#[test]
fn generation_ends_between_two_tokens_once_it_is_stopped() {
    let tiny = Tiny::new();
    let (prompts, decoding) = (tiny.prompts("", 12), decoding(&tiny, 24));
    let whole = tiny.complete(&prompts, &decoding, 4);
    let queries: Vec<Query<'_>> = prompts.iter().map(|ids| Query::once(ids)).collect();
    let decode = |ids: &[u32]| tiny.tokenizer.decode(ids, true);
    for already in [true, false] {
        let stop = AtomicBool::new(already);
        let generator = Generator { decoder: &tiny.decoder, decode: &decode, rows: 4, stop: Some(&stop) };
        let mut n_told = 0;
        let Ok(()) = generator.complete::<Infallible>(&queries, &decoding, |news| {
            assert!(!stop.swap(!news.ended.is_empty(), Ordering::Relaxed), "nothing comes behind the stop");
            n_told += news.ended.len();
            for (i, completion) in news.ended {
                assert_eq!(completion, whole[i]);
            }
            Ok(())
        });
        let expected = if already { 0..=0 } else { 1..=4 };
        assert!(expected.contains(&n_told), "{n_told}");
    }
}

/// Answers of all lengths: some end at once, some at the limit.
fn decoding(tiny: &Tiny, max_new_tokens: usize) -> Decoding {
    let often = ["e", " a", " the", ".", " "].iter().filter_map(|word| tiny.tokenizer.id_of(word));
    let stop_ids = tiny.tokenizer.stop_ids().iter().copied().chain(often).collect();
    Decoding { stop_ids, ..Decoding::greedy(max_new_tokens) }
}

#[test]
fn an_answer_does_not_depend_on_the_rows_beside_it() {
    let tiny = Tiny::new();
    let long = "this is what all of the questions begin with, and it is long enough to be worth it: ";
    for beginning in ["", long] {
        let prompts = tiny.prompts(beginning, 23);
        let decoding = decoding(&tiny, 40);
        let alone: Vec<Completion> = prompts
            .iter()
            .flat_map(|prompt| tiny.complete(std::slice::from_ref(prompt), &decoding, 1))
            .collect();
        let lengths: std::collections::BTreeSet<usize> =
            alone.iter().map(|answer| answer.ids.len()).collect();
        assert!(lengths.len() > 3, "the answers are to differ in length: {lengths:?}");
        for rows in [1, 2, 5, 32] {
            assert_eq!(tiny.complete(&prompts, &decoding, rows), alone, "{rows} rows, `{beginning}`");
        }
    }
}

#[test]
fn a_repetition_penalty_counts_each_row_its_own() {
    let tiny = Tiny::new();
    let prompts = tiny.prompts("", 9);
    let decoding = Decoding { repetition_penalty: 1.3, ..decoding(&tiny, 24) };
    let one = tiny.complete(&prompts, &decoding, 1);
    assert_eq!(tiny.complete(&prompts, &decoding, 4), one);
    assert_ne!(one, tiny.complete(&prompts, &Decoding { repetition_penalty: 1.0, ..decoding }, 4));
}

#[test]
fn samples_differ_and_come_again() {
    let tiny = Tiny::new();
    let prompts = tiny.prompts("", 6);
    let sampling = Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, seed: 7 };
    let decoding = Decoding { sampling: Some(sampling.clone()), ..Decoding::greedy(12) };
    let queries: Vec<Query<'_>> =
        prompts.iter().flat_map(|ids| (0..3).map(move |sample| Query { ids, sample, push: None })).collect();
    let drawn = tiny.ask(&queries, &decoding, 5);
    assert_eq!(tiny.ask(&queries, &decoding, 2), drawn);
    assert!(drawn.chunks(3).all(|samples| samples[0] != samples[1] && samples[1] != samples[2]));
    // Alone as among others: a run that goes on draws what it would have drawn.
    assert_eq!(tiny.ask(&queries[4..5], &decoding, 1), drawn[4..5]);
    let other = Decoding { sampling: Some(Sampling { seed: 8, ..sampling.clone() }), ..decoding.clone() };
    assert_ne!(tiny.ask(&queries, &other, 5), drawn);
    let cold = Decoding { sampling: Some(Sampling { top_k: 1, ..sampling }), ..decoding };
    assert_eq!(tiny.complete(&prompts, &cold, 3), tiny.complete(&prompts, &Decoding::greedy(12), 3));
}

#[test]
fn options_in_one_pass_are_as_likely_as_each_alone() {
    let tiny = Tiny::new();
    let long = "this is what all of the questions begin with, and it is long enough to be worth it: ";
    let options = [" a", " the dog and the cat", " the dog", " no", " the", ""];
    for beginning in ["", long] {
        let question = |context: &Vec<u32>| {
            let choice = |option: &&str| {
                let mut ids = context.clone();
                ids.extend(tiny.tokenizer.encode(option).unwrap());
                // An empty option scores the question's last token.
                let n_context = if option.is_empty() { ids.len() - 1 } else { context.len() };
                Choice { ids, n_context }
            };
            Question { choices: options.iter().map(choice).collect() }
        };
        let questions: Vec<Question> = tiny.prompts(beginning, 7).iter().map(question).collect();
        for micro_tokens in [1, 100, 4000] {
            let mut found = vec![Vec::new(); questions.len()];
            let Ok(()) = choices::<Infallible>(&tiny.decoder, &questions, micro_tokens, |batch| {
                for (i, options) in batch {
                    found[i] = options;
                }
                Ok(())
            });
            for (question, found) in questions.iter().zip(&found) {
                let sample = |choice: &Choice| {
                    let trained = (0..choice.ids.len()).map(|i| i >= choice.n_context);
                    Sample::of_trained(choice.ids.clone(), trained, 1.into())
                };
                let samples: Vec<Sample> = question.choices.iter().map(sample).collect();
                let go_on = || Ok::<(), Infallible>(());
                let Ok(each) = likelihoods(&tiny.decoder, &samples, 1000, go_on);
                for (alone, together) in each.iter().zip(found) {
                    assert_eq!(alone.n_tokens, together.n_tokens);
                    assert!((alone.sum - together.sum).abs() < 1e-4, "{alone:?} {together:?}");
                }
            }
        }
    }
}
