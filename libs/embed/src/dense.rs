//! Exact integer dot products of byte vectors, one against one or one against many.
//!
//! Always true: the result is the mathematical sum (at most 384 × 2^14, far inside `i32`) for any
//! bytes, -128 included, on any instruction set.

use crate::{DIMENSION, Isa};

pub mod halves;
mod kernels;

/// Why a scan was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The query is not one vector.
    #[error("query has {found} components, expected 384")]
    Query {
        /// Its length.
        found: usize,
    },
    /// The rows and the places for their scores do not agree.
    #[error("vectors have {found} components, expected 384 for each of {rows} scores")]
    Vectors {
        /// Length of the flat vectors.
        found: usize,
        /// Length of the scores.
        rows: usize,
    },
}

/// Gives the dot product of two vectors, exact.
pub fn dot(left: &[i8; DIMENSION], right: &[i8; DIMENSION]) -> i32 {
    let mut score = [0];
    kernels::scan(Isa::best(), left, std::slice::from_ref(right), &mut score);
    score[0]
}

/// Writes the dot product of `query` with every row into `scores`, exact.
///
/// `query`: 384 codes. `vectors`: rows of 384 codes behind one another. `scores`: one for each
/// row. Runs on the calling thread, near the speed at which memory can be read.
/// Errors: [`ScanError`] when the lengths do not agree; `scores` is then untouched.
pub fn scan(query: &[i8], vectors: &[i8], scores: &mut [i32]) -> Result<(), ScanError> {
    scan_on(Isa::best(), query, vectors, scores)
}

/// Scans like [`scan`] on a chosen instruction set; one that the CPU lacks runs as `Scalar`.
pub fn scan_on(
    isa: Isa,
    query: &[i8],
    vectors: &[i8],
    scores: &mut [i32],
) -> Result<(), ScanError> {
    let query = query
        .try_into()
        .map_err(|_| ScanError::Query { found: query.len() })?;
    let (rows, rest) = vectors.as_chunks::<DIMENSION>();
    if rows.len() != scores.len() || !rest.is_empty() {
        return Err(ScanError::Vectors {
            found: vectors.len(),
            rows: scores.len(),
        });
    }
    kernels::scan(isa, query, rows, scores);
    Ok(())
}

#[cfg(test)]
mod tests;
