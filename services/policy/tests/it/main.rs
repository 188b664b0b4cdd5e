//! The policy service as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod catalog;
mod limits;
