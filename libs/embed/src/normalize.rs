//! Residual addition with layer normalisation, and quantization of activations to bytes.

use crate::linear::{Quantized, Range, Row};
use crate::simd::{Kernel, Lanes, Line};

/// The epsilon of every layer normalisation in the model.
const EPSILON: f32 = 1e-12;

/// The learnt scale and shift of one layer normalisation.
pub(crate) struct Norm<const LINES: usize> {
    pub(crate) weight: Row<LINES>,
    pub(crate) bias: Row<LINES>,
}

impl<const LINES: usize> Norm<LINES> {
    pub(crate) fn zeroed() -> Self {
        Norm {
            weight: [Line::ZERO; LINES],
            bias: [Line::ZERO; LINES],
        }
    }
}

/// Replaces each row of `hidden` by the normalised sum of itself and its row of `delta`, and
/// gives the same rows as bytes in `output`.
///
/// Source: Ba, Kiros and Hinton, "Layer Normalization", 2016; the variance is the biased one.
#[inline(always)]
pub(crate) fn add_and_normalize<K: Kernel, const LINES: usize, const QUADS: usize>(
    norm: &Norm<LINES>,
    delta: &[Row<LINES>],
    hidden: &mut [Row<LINES>],
    output: &mut Quantized<QUADS>,
) {
    let bytes = output.rows.iter_mut().zip(&mut output.ranges);
    for ((row, delta), (bytes, range)) in hidden.iter_mut().zip(delta).zip(bytes) {
        normalize_row::<K, LINES>(norm, delta, row);
        *range = quantize_row::<K, LINES, QUADS>(row, bytes);
    }
}

/// Gives each row as bytes, with a range of its own.
#[inline(always)]
pub(crate) fn quantize<K: Kernel, const LINES: usize, const QUADS: usize>(
    rows: &[Row<LINES>],
    output: &mut Quantized<QUADS>,
) {
    let bytes = output.rows.iter_mut().zip(&mut output.ranges);
    for (row, (bytes, range)) in rows.iter().zip(bytes) {
        *range = quantize_row::<K, LINES, QUADS>(row, bytes);
    }
}

#[inline(always)]
fn normalize_row<K: Kernel, const LINES: usize>(
    norm: &Norm<LINES>,
    delta: &Row<LINES>,
    row: &mut Row<LINES>,
) {
    let share = K::Lanes::splat(1.0 / (16 * LINES) as f32);
    let mut values = [K::Lanes::splat(0.0); LINES];
    let mut sum = K::Lanes::splat(0.0);
    for line in 0..LINES {
        values[line] = K::Lanes::load(&row[line].0).add(K::Lanes::load(&delta[line].0));
        sum = sum.add(values[line]);
    }
    let mean = K::Lanes::splat(sum.sum()).mul(share);
    let mut squares = K::Lanes::splat(0.0);
    for value in &mut values {
        *value = value.sub(mean);
        squares = value.mul_add(*value, squares);
    }
    let variance = squares.sum() * (1.0 / (16 * LINES) as f32);
    let inverse = K::Lanes::splat(1.0 / (variance + EPSILON).sqrt());
    for line in 0..LINES {
        let weight = K::Lanes::load(&norm.weight[line].0);
        let bias = K::Lanes::load(&norm.bias[line].0);
        values[line]
            .mul(inverse)
            .mul_add(weight, bias)
            .store(&mut row[line].0);
    }
}

/// Maps the row's lowest value to 0 and its highest to 255; a constant row gives step 0.
#[inline(always)]
fn quantize_row<K: Kernel, const LINES: usize, const QUADS: usize>(
    row: &Row<LINES>,
    bytes: &mut [[u8; 4]; QUADS],
) -> Range {
    let mut low = K::Lanes::load(&row[0].0);
    let mut high = low;
    for line in row {
        let value = K::Lanes::load(&line.0);
        low = value.smaller(low);
        high = value.larger(high);
    }
    // There is one tree across lanes; the lowest is the largest of the negated.
    let low = -K::Lanes::splat(0.0).sub(low).largest();
    let width = high.largest() - low;
    let steps = K::Lanes::splat(if width > 0.0 { 255.0 / width } else { 0.0 });
    let base = K::Lanes::splat(low);
    for (line, bytes) in row.iter().zip(bytes.as_chunks_mut::<4>().0) {
        let value = K::Lanes::load(&line.0).sub(base).mul(steps);
        *bytes = value.to_bytes();
    }
    Range {
        low,
        step: width / 255.0,
    }
}
