//! Sixteen plain `f32`: the meaning of every vector operation, on any CPU.

use super::{BLOCK, Kernel, Lanes, Quad, ROUNDING, Sums};

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; 16]);

#[inline(always)]
fn zip(left: Scalar, right: Scalar, operation: impl Fn(f32, f32) -> f32) -> Scalar {
    Scalar(std::array::from_fn(|lane| {
        operation(left.0[lane], right.0[lane])
    }))
}

#[inline(always)]
fn fold(mut lanes: [f32; 16], operation: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = operation(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}

#[inline(always)]
fn larger(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

impl Lanes for Scalar {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Scalar([value; 16])
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Scalar(*from)
    }

    #[inline(always)]
    fn from_sums(sums: &Sums) -> Self {
        Scalar(sums.0.map(|sum| sum as f32))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zip(self, other, |left, right| left + right)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zip(self, other, |left, right| left - right)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zip(self, other, |left, right| left * right)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Scalar(std::array::from_fn(|lane| {
            self.0[lane].mul_add(factor.0[lane], addend.0[lane])
        }))
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        zip(self, other, larger)
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        zip(
            self,
            other,
            |left, right| if left < right { left } else { right },
        )
    }

    #[inline(always)]
    fn scale_by_power(self, rounded: Self) -> Self {
        zip(self, rounded, |value, power| {
            f32::from_bits(value.to_bits().wrapping_add(power.to_bits() << 23))
        })
    }

    #[inline(always)]
    fn to_bytes(self) -> [[u8; 4]; 4] {
        let mut bytes = [[0; 4]; 4];
        for (byte, value) in bytes.as_flattened_mut().iter_mut().zip(self.0) {
            *byte = (value + ROUNDING).to_bits() as u8;
        }
        bytes
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        fold(self.0, |left, right| left + right)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        fold(self.0, larger)
    }
}

impl Kernel for Scalar {
    type Lanes = Scalar;
    const TOKEN_TILE: usize = 1;
    const QUERY_TILE: usize = 1;

    #[inline(always)]
    fn dots<const QUADS: usize, const TOKENS: usize>(
        weights: &[Quad; QUADS],
        rows: &[[[u8; 4]; QUADS]; TOKENS],
    ) -> [[Sums; 3]; TOKENS] {
        let mut sums = [[Sums([0; 16]); 3]; TOKENS];
        for (token, row) in rows.iter().enumerate() {
            for (weights, inputs) in weights.iter().zip(row) {
                for channel in 0..BLOCK {
                    let sum = &mut sums[token][channel / 16].0[channel % 16];
                    for (input, weight) in inputs.iter().zip(&weights.0[4 * channel..]) {
                        *sum += i32::from(*input) * i32::from(*weight);
                    }
                }
            }
        }
        sums
    }
}
