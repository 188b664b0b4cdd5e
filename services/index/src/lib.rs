//! The index finds passages by words and by meaning, as of any commit.

pub mod analyzer;
pub mod bitmap;
pub mod budget;
pub mod lexical;
pub mod passage;
