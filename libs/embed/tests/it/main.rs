//! The crate's behaviour with the real model. Without it the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod determinism;
mod fidelity;
mod loading;
mod support;
mod tokenizer;
