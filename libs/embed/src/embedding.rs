//! What embedding a text gives: a unit vector as bytes.

use crate::{DIMENSION, dense};

/// A unit vector of 384 numbers as bytes: component ≈ `scale × code`.
///
/// Rounding: scale = largest |component| / 127, code = component / scale to the nearest integer,
/// ties to even; so codes lie in ±127 and at least one is ±127. The zero vector has scale 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Each component in steps of `scale`.
    pub codes: [i8; DIMENSION],
    /// One step; at least 0.
    pub scale: f32,
}

impl Embedding {
    /// Quantizes a vector of finite numbers, of length one by custom.
    pub fn new(vector: &[f32; DIMENSION]) -> Embedding {
        let (codes, scale) = quantize(vector);
        Embedding { codes, scale }
    }

    /// Estimates the cosine of the angle to another embedding, within about 0.005 of the
    /// unquantized cosine: the exact integer dot product times both scales.
    pub fn similarity(&self, other: &Embedding) -> f32 {
        dense::dot(&self.codes, &other.codes) as f32 * (self.scale * other.scale)
    }
}

/// Gives codes and scale, rounded as [`Embedding`] says.
pub(crate) fn quantize(vector: &[f32; DIMENSION]) -> ([i8; DIMENSION], f32) {
    let largest = vector
        .iter()
        .fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let scale = largest / 127.0;
    if scale <= 0.0 {
        return ([0; DIMENSION], 0.0);
    }
    (
        vector.map(|number| (number / scale).round_ties_even() as i8),
        scale,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizing_rounds_to_the_nearest_code_with_ties_to_even() {
        let mut vector = [0.0; DIMENSION];
        vector[..6].copy_from_slice(&[-254.0, 254.0, 3.0, 5.0, -0.9, 1.2]);
        let embedding = Embedding::new(&vector);
        assert_eq!(embedding.scale, 2.0);
        assert_eq!(embedding.codes[..6], [-127, 127, 2, 2, 0, 1]);
    }

    #[test]
    fn the_zero_vector_has_scale_zero() {
        let embedding = Embedding::new(&[0.0; DIMENSION]);
        assert_eq!((embedding.codes, embedding.scale), ([0; DIMENSION], 0.0));
    }

    #[test]
    fn similarity_is_the_cosine() {
        let first = Embedding::new(&std::array::from_fn(|index| (index as f32).sin() / 13.85));
        assert!((first.similarity(&first) - 1.0).abs() < 0.01);
        let opposite = Embedding::new(&std::array::from_fn(|index| -(index as f32).sin() / 13.85));
        assert!((first.similarity(&opposite) + 1.0).abs() < 0.01);
    }
}
