//! Linear layers over bytes: y = W·x + b with int8 weights and u8 activations.
//!
//! Weights are symmetric per output channel, w ≈ scale·q. Activations are affine per token,
//! x ≈ low + step·q, so no token's numbers depend on its neighbours. Then
//! y = step·scale·Σq·q + (low·scale·Σq + b), and the integer sum is exact in any order.

#![allow(
    clippy::needless_range_loop,
    reason = "parallel arrays of registers read best by index"
)]

use crate::math::gelu;
use crate::simd::{BLOCK, Kernel, Lanes, Line, Quad};

/// One token's vector of `16 × LINES` numbers.
pub(crate) type Row<const LINES: usize> = [Line; LINES];

/// Activations of `4 × QUADS` inputs per token as bytes.
#[derive(Default)]
pub(crate) struct Quantized<const QUADS: usize> {
    pub(crate) rows: Vec<[[u8; 4]; QUADS]>,
    /// For each token its lowest value and the step from one byte to the next.
    pub(crate) ranges: Vec<Range>,
}

/// How one token's bytes map to numbers: `low + step × byte`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) low: f32,
    pub(crate) step: f32,
}

impl<const QUADS: usize> Quantized<QUADS> {
    pub(crate) fn resize(&mut self, tokens: usize) {
        self.rows.resize(tokens, [[0; 4]; QUADS]);
        self.ranges.resize(tokens, Range::default());
    }
}

/// A layer of `4 × QUADS` inputs and `16 × LINES` outputs.
pub(crate) struct Linear<const QUADS: usize, const LINES: usize> {
    /// One entry for each 48 output channels.
    pub(crate) blocks: Vec<[Quad; QUADS]>,
    /// Per output channel: weight of one step.
    pub(crate) scales: Row<LINES>,
    /// Per output channel: sum of its dequantized weights.
    pub(crate) totals: Row<LINES>,
    pub(crate) bias: Row<LINES>,
}

impl<const QUADS: usize, const LINES: usize> Linear<QUADS, LINES> {
    pub(crate) const INPUTS: usize = 4 * QUADS;
    pub(crate) const OUTPUTS: usize = 16 * LINES;

    /// Gives the all-zero layer.
    pub(crate) fn zeroed() -> Self {
        Linear {
            blocks: vec![[Quad::ZERO; QUADS]; Self::OUTPUTS / BLOCK],
            scales: [Line::ZERO; LINES],
            totals: [Line::ZERO; LINES],
            bias: [Line::ZERO; LINES],
        }
    }

    /// Quantizes one output channel: scale = largest |w| / 127, codes rounded with ties to even.
    ///
    /// `weights`: the channel's `4 × QUADS` weights, finite. `channel`: below `16 × LINES`.
    pub(crate) fn set_channel(&mut self, channel: usize, weights: &[f32], bias: f32) {
        let largest = weights
            .iter()
            .fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
        let scale = largest / 127.0;
        let block = &mut self.blocks[channel / BLOCK];
        let mut total = 0_i32;
        for (input, weight) in weights.iter().enumerate() {
            let code = if scale > 0.0 {
                (weight / scale).round_ties_even() as i8
            } else {
                0
            };
            block[input / 4].0[4 * (channel % BLOCK) + input % 4] = code;
            total += i32::from(code);
        }
        let (line, lane) = (channel / 16, channel % 16);
        self.scales[line].0[lane] = scale;
        self.totals[line].0[lane] = scale * total as f32;
        self.bias[line].0[lane] = bias;
    }
}

/// Applies the layer to every token; `GELU` also applies the activation function.
///
/// Blocks are the outer loop: each is read from memory once and then serves every token.
#[inline(always)]
pub(crate) fn apply<K: Kernel, const QUADS: usize, const LINES: usize, const GELU: bool>(
    layer: &Linear<QUADS, LINES>,
    input: &Quantized<QUADS>,
    output: &mut [Row<LINES>],
) {
    for block in 0..layer.blocks.len() {
        for tile in tiles(output.len(), K::TOKEN_TILE) {
            let (start, job) = (
                tile.start,
                Job {
                    layer,
                    input,
                    block,
                },
            );
            match tile.len() {
                1 => job.tile::<K, GELU, 1>(start, output),
                2 => job.tile::<K, GELU, 2>(start, output),
                3 => job.tile::<K, GELU, 3>(start, output),
                4 => job.tile::<K, GELU, 4>(start, output),
                5 => job.tile::<K, GELU, 5>(start, output),
                6 => job.tile::<K, GELU, 6>(start, output),
                7 => job.tile::<K, GELU, 7>(start, output),
                _ => job.tile::<K, GELU, 8>(start, output),
            }
        }
    }
}

/// One block of a layer on its way over the tokens.
#[derive(Clone, Copy)]
struct Job<'a, const QUADS: usize, const LINES: usize> {
    layer: &'a Linear<QUADS, LINES>,
    input: &'a Quantized<QUADS>,
    block: usize,
}

impl<const QUADS: usize, const LINES: usize> Job<'_, QUADS, LINES> {
    #[inline(always)]
    fn tile<K: Kernel, const GELU: bool, const TOKENS: usize>(
        self,
        start: usize,
        output: &mut [Row<LINES>],
    ) {
        // Tiles above the kernel's size never come; this spares compiling them.
        if TOKENS > K::TOKEN_TILE {
            return;
        }
        let Some(rows) = self.input.rows[start..].first_chunk::<TOKENS>() else {
            return;
        };
        let dots = K::dots(&self.layer.blocks[self.block], rows);
        let ranges = &self.input.ranges[start..start + TOKENS];
        let output = &mut output[start..start + TOKENS];
        for part in 0..3 {
            let line = 3 * self.block + part;
            let scales = K::Lanes::load(&self.layer.scales[line].0);
            let totals = K::Lanes::load(&self.layer.totals[line].0);
            let bias = K::Lanes::load(&self.layer.bias[line].0);
            for token in 0..TOKENS {
                let offset = K::Lanes::splat(ranges[token].low).mul_add(totals, bias);
                let scales = scales.mul(K::Lanes::splat(ranges[token].step));
                let value = K::Lanes::from_sums(&dots[token][part]).mul_add(scales, offset);
                let value = if GELU { gelu(value) } else { value };
                value.store(&mut output[token][line].0);
            }
        }
    }
}

/// Cuts `0..count` into as few runs of at most `size` as possible, as equal as possible.
#[inline(always)]
pub(crate) fn tiles(count: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let tiles = count.div_ceil(size);
    (0..tiles).map(move |tile| tile * count / tiles..(tile + 1) * count / tiles)
}
