//! The crate's behaviour with the real model. Without it the tests say so and pass.

mod determinism;
mod fidelity;
mod loading;
mod support;
mod tokenizer;
