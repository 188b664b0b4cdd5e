//! Keys, grants and authorization policies as their callers see them: through the generated client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "access/common.rs"]
mod common;
#[path = "access/explain.rs"]
mod explain;
#[path = "access/keys.rs"]
mod keys;
#[path = "access/life.rs"]
mod life;
#[path = "access/rules.rs"]
mod rules;
