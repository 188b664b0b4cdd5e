//! Multi-head attention in `f32`, one sequence, no padding.
//!
//! Each score is one chain of fused multiply-adds over the head's 32 inputs and each output one
//! chain over the tokens, so vectors may span keys or outputs without changing a bit.

#![allow(
    clippy::needless_range_loop,
    reason = "parallel arrays of registers read best by index"
)]

use crate::linear::{Row, tiles};
use crate::math::exp2;
use crate::simd::{Kernel, Lanes, Line};
use crate::{HEADS, MAX_TOKENS};

/// Inputs of one head.
const WIDTH: usize = 32;
/// Lines of one token's query, of its key and of its value, which lie behind one another.
const SECTION: usize = 24;
/// log2(e) / sqrt(32): turns a dot product into the exponent of its softmax weight, base 2.
const SCALE: f32 = 0.255_034_86;

/// Buffers for one head at a time, reused.
pub(crate) struct Scratch {
    /// For each 16 tokens their keys, transposed: a line per input.
    keys: Vec<[Line; WIDTH]>,
    values: Vec<[Line; 2]>,
    /// For each query of a tile its scores, later its weights.
    scores: Vec<Scores>,
    /// Added to the last 16 scores: 0 for a token, -∞ beyond the end.
    mask: Line,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Scores([f32; MAX_TOKENS]);

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            keys: Vec::new(),
            values: Vec::new(),
            scores: vec![Scores([0.0; MAX_TOKENS]); 8],
            mask: Line::ZERO,
        }
    }
}

impl Scratch {
    pub(crate) fn resize(&mut self, tokens: usize) {
        self.keys.resize(tokens.div_ceil(16), [Line::ZERO; WIDTH]);
        self.values.resize(tokens, [Line::ZERO; 2]);
        let last = (tokens + 15) % 16;
        self.mask = Line(std::array::from_fn(|lane| {
            if lane > last { f32::NEG_INFINITY } else { 0.0 }
        }));
    }

    /// Copies one head's keys, transposed, and values out of the rows.
    #[inline(always)]
    fn load_head(&mut self, head: usize, rows: &[Row<{ 3 * SECTION }>]) {
        for (keys, rows) in self.keys.iter_mut().zip(rows.chunks(16)) {
            for (token, row) in rows.iter().enumerate() {
                for input in 0..WIDTH {
                    let line = SECTION + 2 * head + input / 16;
                    keys[input].0[token] = row[line].0[input % 16];
                }
            }
        }
        for (value, row) in self.values.iter_mut().zip(rows) {
            let start = 2 * SECTION + 2 * head;
            *value = [row[start], row[start + 1]];
        }
    }
}

/// Attends from every token to every token.
///
/// `rows`: each token's query, key and value. `output`: each token's weighted values.
#[inline(always)]
pub(crate) fn attend<K: Kernel>(
    rows: &[Row<{ 3 * SECTION }>],
    scratch: &mut Scratch,
    output: &mut [Row<SECTION>],
) {
    for head in 0..HEADS {
        scratch.load_head(head, rows);
        for tile in tiles(rows.len(), K::QUERY_TILE) {
            let (rows, output) = (&rows[tile.clone()], &mut output[tile]);
            match rows.len() {
                1 => attend_tile::<K, 1>(head, rows, scratch, output),
                2 => attend_tile::<K, 2>(head, rows, scratch, output),
                3 => attend_tile::<K, 3>(head, rows, scratch, output),
                4 => attend_tile::<K, 4>(head, rows, scratch, output),
                5 => attend_tile::<K, 5>(head, rows, scratch, output),
                6 => attend_tile::<K, 6>(head, rows, scratch, output),
                7 => attend_tile::<K, 7>(head, rows, scratch, output),
                _ => attend_tile::<K, 8>(head, rows, scratch, output),
            }
        }
    }
}

#[inline(always)]
fn attend_tile<K: Kernel, const QUERIES: usize>(
    head: usize,
    rows: &[Row<{ 3 * SECTION }>],
    scratch: &mut Scratch,
    output: &mut [Row<SECTION>],
) {
    // Tiles above the kernel's size never come; this spares compiling them.
    if QUERIES > K::QUERY_TILE {
        return;
    }
    let Scratch {
        keys,
        values,
        scores,
        mask,
    } = scratch;
    let Some(rows) = rows.first_chunk::<QUERIES>() else {
        return;
    };
    let Some(scores) = scores.first_chunk_mut::<QUERIES>() else {
        return;
    };
    let mut queries = [[Line::ZERO; 2]; QUERIES];
    for query in 0..QUERIES {
        queries[query] = [rows[query][2 * head], rows[query][2 * head + 1]];
    }
    score::<K, QUERIES>(&queries, keys, scores);
    let mut inverses = [0.0; QUERIES];
    for query in 0..QUERIES {
        inverses[query] = soften::<K>(&mut scores[query].0.as_chunks_mut().0[..keys.len()], mask);
    }
    let sums = weigh::<K, QUERIES>(scores, values);
    for query in 0..QUERIES {
        let inverse = K::Lanes::splat(inverses[query]);
        for part in 0..2 {
            sums[query][part]
                .mul(inverse)
                .store(&mut output[query][2 * head + part].0);
        }
    }
}

/// Fills in the dot product of each query with each key.
#[inline(always)]
fn score<K: Kernel, const QUERIES: usize>(
    queries: &[[Line; 2]; QUERIES],
    keys: &[[Line; WIDTH]],
    scores: &mut [Scores; QUERIES],
) {
    let (pairs, last) = keys.as_chunks::<2>();
    for (index, pair) in pairs.iter().enumerate() {
        score_blocks::<K, QUERIES, 2>(queries, pair, 2 * index, scores);
    }
    if let Some(last) = last.first_chunk::<1>() {
        score_blocks::<K, QUERIES, 1>(queries, last, 2 * pairs.len(), scores);
    }
}

#[inline(always)]
fn score_blocks<K: Kernel, const QUERIES: usize, const BLOCKS: usize>(
    queries: &[[Line; 2]; QUERIES],
    keys: &[[Line; WIDTH]; BLOCKS],
    first: usize,
    scores: &mut [Scores; QUERIES],
) {
    let mut sums = [[K::Lanes::splat(0.0); BLOCKS]; QUERIES];
    for input in 0..WIDTH {
        let mut lanes = [K::Lanes::splat(0.0); BLOCKS];
        for block in 0..BLOCKS {
            lanes[block] = K::Lanes::load(&keys[block][input].0);
        }
        for query in 0..QUERIES {
            let factor = K::Lanes::splat(queries[query][input / 16].0[input % 16]);
            for block in 0..BLOCKS {
                sums[query][block] = factor.mul_add(lanes[block], sums[query][block]);
            }
        }
    }
    for query in 0..QUERIES {
        let scores = &mut scores[query].0.as_chunks_mut::<16>().0[first..first + BLOCKS];
        for block in 0..BLOCKS {
            sums[query][block].store(&mut scores[block]);
        }
    }
}

/// Turns one query's scores into weights relative to the largest and gives one over their sum.
#[inline(always)]
fn soften<K: Kernel>(scores: &mut [[f32; 16]], mask: &Line) -> f32 {
    let mut largest = K::Lanes::splat(f32::NEG_INFINITY);
    if let Some(last) = scores.last_mut() {
        K::Lanes::load(last)
            .add(K::Lanes::load(&mask.0))
            .store(last);
    }
    for scores in scores.iter() {
        largest = K::Lanes::load(scores).larger(largest);
    }
    let offset = K::Lanes::splat(-largest.largest() * SCALE);
    let mut sum = K::Lanes::splat(0.0);
    for scores in scores {
        let exponent = K::Lanes::load(scores).mul_add(K::Lanes::splat(SCALE), offset);
        let weights = exp2(exponent);
        sum = sum.add(weights);
        weights.store(scores);
    }
    1.0 / sum.sum()
}

/// Adds up the values, each times its weight, for each query.
#[inline(always)]
fn weigh<K: Kernel, const QUERIES: usize>(
    weights: &[Scores; QUERIES],
    values: &[[Line; 2]],
) -> [[K::Lanes; 2]; QUERIES] {
    let mut sums = [[K::Lanes::splat(0.0); 2]; QUERIES];
    for token in 0..values.len().min(MAX_TOKENS) {
        let [first, second] = &values[token];
        let values = [K::Lanes::load(&first.0), K::Lanes::load(&second.0)];
        for query in 0..QUERIES {
            let weight = K::Lanes::splat(weights[query].0[token]);
            for part in 0..2 {
                sums[query][part] = weight.mul_add(values[part], sums[query][part]);
            }
        }
    }
    sums
}
