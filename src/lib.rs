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
//! `catalog, seed, folders, dtype, device, event → recipe → snapshot → hub → data → model → train → merge →
//! generate → eval → report → run → cli`
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
pub mod dtype;
pub mod eval;
pub mod event;
pub mod folders;
pub mod generate;
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
