//! The journal as a whole, on real files and a real server.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;
mod conformance;
mod crash;
mod model;
mod postgres;
mod service;
mod states;
mod tail;
mod verify;
mod writer;
