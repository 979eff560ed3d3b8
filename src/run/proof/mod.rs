//! Proof: that a device computes what independent programs computed, and how long that takes.

pub mod bench;
pub mod bench_suite;
pub mod selftest;
