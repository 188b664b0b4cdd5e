//! Tests that span the services, and what they share.
//!
//! [`layering`] holds the rules of the code's structure as functions over sources, so that the tests can
//! run them over this repository and over broken examples alike. [`mesh`] runs the services in each of their
//! forms, [`proxy`] fails on purpose between them, [`load`] calls them steadily and accounts for what came of it,
//! [`sink`] takes the traces that they send, [`story`] is what people do with them, told once for all forms,
//! [`raw`] calls any rpc by its path, [`dice`] chooses what is tried.

// This is code of tests: a failure is a panic that says where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod dice;
pub mod layering;
pub mod load;
pub mod mesh;
pub mod overload;
pub mod proxy;
pub mod raw;
pub mod sink;
pub mod story;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    // Without `tests/..` in it: rules look at folder names.
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}
