//! Text to vector, in this process, with the same bits everywhere.
//!
//! A context pack is a proof: another machine must rebuild it byte for byte, and dense scores are
//! part of it. General inference engines do not promise that: their last bits follow the CPU,
//! the batch and the neighbours in it. So this crate runs one model, all-MiniLM-L6-v2, with
//! kernels of its own.
//!
//! What always holds:
//! - An embedding depends on the text and on [`Model::fingerprint`], and on nothing else: not on
//!   the instruction set ([`Isa`]), the thread, the workspace or what was embedded before.
//!   Integer sums are exact, `f32` sums have one fixed order, and `exp` and `erf` are our own
//!   polynomials. The scalar code is the meaning; the vector code is tested equal to it.
//! - [`dense::scan`] scores are exact integers.
//! - Embedding a text cannot fail; only loading can, and says which file and what to do.
//!
//! Left out: batches (one sequence at a time is as fast, and needs no padding), other models,
//! fetching the model, and any thread: callers choose theirs.

pub mod dense;

mod attention;
mod embedding;
mod error;
mod isa;
mod kernels;
mod linear;
mod math;
mod model;
mod network;
mod normalize;
mod quantized;
mod simd;
mod source;
mod tokenizer;

pub use embedding::Embedding;
pub use error::EmbedError;
pub use isa::Isa;
pub use model::{Model, Workspace};

/// Numbers in an embedding.
pub const DIMENSION: usize = 384;

/// Most tokens of a text that the model sees, the start and end tokens included.
pub const MAX_TOKENS: usize = 256;

/// Heads of each attention layer.
const HEADS: usize = 12;
/// Transformer layers.
const LAYERS: usize = 6;
/// Pieces in the tokenizer's vocabulary.
const VOCABULARY: usize = 30_522;
