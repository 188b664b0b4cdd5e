//! Tests that span the services, and what they share.
//!
//! [`layering`] holds the rules of the code's structure as functions over sources, so that the tests can
//! run them over this repository and over broken examples alike.

pub mod layering;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    // Without `tests/..` in it: rules look at folder names.
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}
