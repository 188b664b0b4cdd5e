//! The gateway of a whole node over real sockets: what it takes, what it refuses, and in which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browsers;
mod clients;
mod common;
mod documents;
mod limits;
mod wording;
