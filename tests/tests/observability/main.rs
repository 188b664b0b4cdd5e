//! What a running mesh tells about itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod exported;
mod logs;
mod names;
mod rules;
mod traces;
