//! The vector types behind the kernels, one module per instruction set.
//!
//! Always true: an operation on [`Lanes`] rounds exactly like the same operation on sixteen plain
//! `f32`, and an integer sum is exact, so code written over [`Kernel`] gives the same bits on
//! every implementation. Nothing here may reorder a floating-point sum; [`Lanes::sum`] and
//! [`Lanes::largest`] are the only ways across lanes and fix their tree.
//!
//! Every method is `inline(always)`: the kernels of [`crate::kernels`] carry the
//! `target_feature` attribute, and the instructions are only chosen once a method is inlined
//! there. That table is also what makes the methods sound to call: it hands kernels out after
//! the CPU said that it has the instructions.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;

/// Adding this to `x` in ±2^22 leaves `x`, rounded to the nearest integer with ties to even, in
/// the low bits of the sum.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// Output channels of one weight block.
pub(crate) const BLOCK: usize = 48;

/// Sixteen `f32`, aligned to a cache line so that no vector load crosses one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

impl Line {
    pub(crate) const ZERO: Line = Line([0.0; 16]);
}

/// Sixteen exact integer sums.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [i32; 16]);

/// The weights of one block for four consecutive inputs: channel 0's four, channel 1's four, ….
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Quad(pub(crate) [i8; 4 * BLOCK]);

impl Quad {
    pub(crate) const ZERO: Quad = Quad([0; 4 * BLOCK]);
}

/// Sixteen `f32` in registers.
pub(crate) trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; 16]) -> Self;
    fn from_sums(sums: &Sums) -> Self;
    fn store(self, to: &mut [f32; 16]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self × factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Per lane `if self > other { self } else { other }`.
    fn larger(self, other: Self) -> Self;
    /// Per lane `if self < other { self } else { other }`.
    fn smaller(self, other: Self) -> Self;
    /// `self × 2^n`, where `rounded` is `n + ROUNDING`, by adding `n` to the exponent bits.
    fn scale_by_power(self, rounded: Self) -> Self;
    /// Rounds lanes within 0..=255 to the nearest integer, ties to even.
    fn to_bytes(self) -> [[u8; 4]; 4];
    /// Adds lanes 0 and 8, 1 and 9, …; then the halves of the result, until one is left.
    fn sum(self) -> f32;
    /// The largest lane, compared along the same tree as [`Lanes::sum`].
    fn largest(self) -> f32;
}

/// The lanes of one instruction set with its integer dot products and tile sizes.
pub(crate) trait Kernel {
    type Lanes: Lanes;
    /// Most tokens that [`Kernel::dots`] takes at once without spilling registers.
    const TOKEN_TILE: usize;
    /// Most queries of one attention tile.
    const QUERY_TILE: usize;

    /// Exact dot products of `TOKENS` activation rows with the 48 channels of one block.
    fn dots<const QUADS: usize, const TOKENS: usize>(
        weights: &[Quad; QUADS],
        rows: &[[[u8; 4]; QUADS]; TOKENS],
    ) -> [[Sums; 3]; TOKENS];
}
