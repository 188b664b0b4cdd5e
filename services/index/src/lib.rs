//! The index finds passages by words and by meaning, as of any commit.

mod always;
pub mod analyzer;
mod best;
pub mod bitmap;
pub mod budget;
mod codec;
mod column;
mod engine;
mod feed;
mod filter;
mod helper;
mod keys;
pub mod lexical;
mod log;
pub mod passage;
mod prepare;
mod ranking;
mod record;
mod search;
mod state;
mod texts;
mod vectors;
mod visibility;

pub use feed::Frame;
pub use search::{Always, Answer, Candidate, Eligibility, MOST_ALWAYS, Query};
pub use vectors::{Codes, DIMENSION, Embedder};
