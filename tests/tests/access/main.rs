//! Who may call what: every rpc and every path, by everybody, over a real port; and what no answer may tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod common;
mod doors;
mod isolation;
mod leaks;
mod mesh;
mod operators;
mod parts;
mod rotation;
mod staleness;
mod streams;
