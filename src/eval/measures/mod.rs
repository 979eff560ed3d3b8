//! Numbers from answers: what the published scorers compute, as functions of texts, counts and log-likelihoods alone.
//!
//! Nothing in here reads a file, knows a model or draws at random. A task or a judge hands over what it has and gets
//! what the upstream program of that name would print, its quirks included; where the quirk is a trap, the function
//! says so. A better rule has its own name.
//!
//! - Text against text: [`rouge`] (with [`porter`] stems), [`bertscore`], [`exact_match`].
//! - Answers drawn out of text: [`bbh`] (anywhere in it: [`bbh_flexible`], as words:
//!   [`number_words`]), [`majority`], [`humaneval`], [`tool_calls`] (from [`call_text`]).
//! - Ours, for what upstream's rules miss: [`numbers`], [`refusals`], [`bbh::read`].
//! - Log-likelihoods: [`options`], [`perplexity`] over [`windows`].
//! - From items to a table: [`pass_at_k`], [`clustered`], [`agreement`].
//! - Of a curve of attack success over weights: [`visage`]; of scores that tell two kinds apart: [`roc`]; of probabilities and
//!   labels: [`detection`].
//!
//! [`python_text`] prints and strips as the programs do that are compared with.

pub mod agreement;
pub mod bbh;
pub mod bbh_flexible;
pub mod bertscore;
pub mod call_text;
pub mod clustered;
pub mod detection;
pub mod exact_match;
pub mod humaneval;
pub mod majority;
pub mod number_words;
pub mod numbers;
pub mod options;
pub mod pass_at_k;
pub mod perplexity;
pub mod porter;
pub mod python_text;
pub mod refusals;
pub mod roc;
pub mod rouge;
pub mod tool_calls;
pub mod visage;
pub mod windows;
