//! Everything that is tested from outside, in one binary: each more would link burn again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod carried;
mod ema;
mod errors;
mod first_hour;
mod fisher;
mod fixture;
mod folders;
mod freezing;
mod fuzz;
mod generation;
mod golden_adapters;
mod golden_encoders;
mod golden_eval;
mod golden_judges;
mod golden_landscape;
mod golden_merge;
mod golden_models;
mod golden_prompts;
mod golden_related;
mod golden_tokenizers;
mod golden_wgpu;
mod guards;
mod hub;
mod hub_server;
mod inspecting;
mod judging;
mod landscape;
mod merge_pairs;
mod merges;
mod others;
mod pipeline;
mod recipes;
mod related;
mod reports;
mod rooms;
mod sandbox;
mod studies;
mod tasks;
mod thinking;
mod tidy;
