//! Keeps a safety-aligned language model safe through fine-tuning.
//!
//! One command takes a recipe: it snapshots the aligned base, fine-tunes it, merges the weights
//! from before and after (Farn et al., "Safeguard Fine-Tuned LLMs Through Pre- and Post-Tuning
//! Model Merging", arXiv 2412.19512), evaluates base, tuned and merged models, and writes a report.
//!
//! # Map
//!
//! Data flows one way, and a module uses itself and those before it:
//!
//! `catalog, guide, seed, simd, folders, doing, dtype, device, event, sandbox → recipe → snapshot → hub → data → model →
//! generate → train → merge → eval → report → run → cli`
//!
//! [`run`] tells the flow: recipe → plan → tune → cast → ask → judge → report.
//!
//! # Where things to come will live
//!
//! - A loss: a file of [`train::objective`]; another label or weight is in a [`data::Sample`]'s labels: [`data::derta`].
//! - An optimizer: [`train::optimizer`], which alone knows what it remembers and under which names.
//! - A format of weights on a device (bf16 or 4-bit on the processor): [`model::Matrix`], which makes every product.
//! - A merge: a row of [`merge::METHODS`] that says what it [needs](merge::Needs); a model of another kind is a
//!   [`merge::Role`], which the [cast](run::cast) fills.
//! - Which weights are meant (targets, places of λ, filters, freezing): [`recipe::Place`].
//! - Steering and recomputation: a walk over the blocks of [`model::Decoder`], which probes
//!   [watch](model::Decoder::hidden_watched); what steers a candidate is part of the cast.
//! - A judge with a memory: an [assessor](run::judge::settle::Assessor).
//! - A grid: recipes varied, each planned and run as one; its cells share answers by what decides them.
//!
//! # Words
//!
//! - *base*, *tuned*, *merged*: the weights before, after and between; *candidate*: any of them under evaluation.
//! - *suite*: a task on a file; *item*: one thing to ask; *posed suite*: a suite with its items drawn;
//!   *questions*: a posed suite as tokens; *query*: one prompt to complete.
//! - *completion*: an answer; *transcript*: what one candidate said to one suite; *responses*: all of them.
//! - *judge*: who decides an answer; *criterion*: the question that a judge answers; *rubric*: a judge that is a
//!   model; *finding*: what a judge stores; *verdict*: its decision; *judgement*: all verdicts of one judge.
//! - *finish*: why a completion ended. *key*: the digest of all that decides a result.
//! - *sample*: what is learned of one conversation; *label*: the token to predict at a position.
//!
//! # Letters for sizes
//!
//! `b` batch, `t` tokens, `s` cached and new tokens, `h` query heads, `g` key/value heads, `d` head
//! width, `m` model width, `f` feed-forward width, `v` vocabulary, `r` adapter rank.
//!
//! # Invariants
//!
//! - λ is the weight of the tuned model: 0 is the base and 1 the tuned model, bit for bit.
//! - The base is never written to; a finished folder or file is never half-made.
//! - On the processor a stopped and resumed run equals the uninterrupted one bit for bit.

pub mod catalog;
pub mod cli;
pub mod data;
pub mod device;
pub mod doing;
pub mod dtype;
pub mod eval;
pub mod event;
pub mod folders;
pub mod generate;
pub mod guide;
pub mod hub;
pub mod merge;
pub mod model;
pub mod recipe;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod seed;
mod simd;
pub mod snapshot;
pub mod train;
