//! Keys, grants and authorization policies as their callers see them: through the generated client.

mod common;
mod explain;
mod keys;
mod life;
mod rules;
