//! Sixteen lanes in two 256-bit registers, for CPUs with AVX2 and for those that add AVX-VNNI.
//!
//! Without `vpdpbusd` bytes are widened to 16 bits first: `vpmaddubsw` would multiply bytes
//! directly but saturates its pair sums, which makes some dot products wrong.

#![allow(
    unsafe_code,
    reason = "measured: several times the speed of portable code; see the twin"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "parallel arrays of registers read best by index"
)]

use std::arch::x86_64::*;

use super::{Kernel, Lanes, Quad, Sums};

// SAFETY, for every `unsafe` block of this module: the methods run only inside the kernel tables
// for AVX2, AVX-VNNI and AVX-512, which are handed out after the CPU reported avx2, fma and, for
// `AvxVnni`, avxvnni. Pointers come from references to arrays of exactly the bytes that are read
// or written; the aligned forms are used only where the type's alignment is at least 32.

/// Sixteen lanes in two registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

/// Marks the kernels that use the same lanes with byte dot products by `vpdpbusd`.
pub(crate) struct AvxVnni;

/// Adds eight lanes: 0 and 4, 1 and 5, …; then halves until one is left.
#[inline(always)]
pub(crate) fn sum_of_eight(lanes: __m256) -> f32 {
    unsafe {
        let four = _mm_add_ps(
            _mm256_castps256_ps128(lanes),
            _mm256_extractf128_ps::<1>(lanes),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// Gives the largest of eight lanes along the same tree.
#[inline(always)]
pub(crate) fn largest_of_eight(lanes: __m256) -> f32 {
    unsafe {
        let four = _mm_max_ps(
            _mm256_castps256_ps128(lanes),
            _mm256_extractf128_ps::<1>(lanes),
        );
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

#[inline(always)]
fn scale_eight(value: __m256, rounded: __m256) -> __m256 {
    unsafe {
        let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), power))
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        let from = from.as_ptr();
        unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    fn from_sums(sums: &Sums) -> Self {
        let from: *const __m256i = sums.0.as_ptr().cast();
        unsafe {
            let (low, high) = (_mm256_load_si256(from), _mm256_load_si256(from.add(1)));
            Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        let to = to.as_mut_ptr();
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_add_ps(self.0, other.0),
                _mm256_add_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_sub_ps(self.0, other.0),
                _mm256_sub_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_mul_ps(self.0, other.0),
                _mm256_mul_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_max_ps(self.0, other.0),
                _mm256_max_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_min_ps(self.0, other.0),
                _mm256_min_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn scale_by_power(self, rounded: Self) -> Self {
        Avx2(
            scale_eight(self.0, rounded.0),
            scale_eight(self.1, rounded.1),
        )
    }

    #[inline(always)]
    fn to_bytes(self) -> [[u8; 4]; 4] {
        let mut bytes = [[0; 4]; 4];
        unsafe {
            // Packing works within 128-bit halves, so the 64-bit groups are put back in order.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let low = _mm256_castsi256_si128(words);
            let packed = _mm_packus_epi16(low, _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), packed);
        }
        bytes
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        sum_of_eight(unsafe { _mm256_add_ps(self.0, self.1) })
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        largest_of_eight(unsafe { _mm256_max_ps(self.0, self.1) })
    }
}

impl Kernel for Avx2 {
    type Lanes = Avx2;
    const TOKEN_TILE: usize = 2;
    const QUERY_TILE: usize = 2;

    #[inline(always)]
    fn dots<const QUADS: usize, const TOKENS: usize>(
        weights: &[Quad; QUADS],
        rows: &[[[u8; 4]; QUADS]; TOKENS],
    ) -> [[Sums; 3]; TOKENS] {
        let mut result = [[Sums([0; 16]); 3]; TOKENS];
        for part in 0..3 {
            let sums = widened_dots(weights, rows, 64 * part);
            for token in 0..TOKENS {
                result[token][part] = sums[token];
            }
        }
        result
    }
}

/// Dot products of the sixteen channels that start `offset` bytes into each quad.
///
/// An accumulator holds four channels, each as two sums of two inputs. Two tokens need eight of
/// them; a third would leave no register for the products.
#[inline(always)]
fn widened_dots<const QUADS: usize, const TOKENS: usize>(
    weights: &[Quad; QUADS],
    rows: &[[[u8; 4]; QUADS]; TOKENS],
    offset: usize,
) -> [Sums; TOKENS] {
    let mut result = [Sums([0; 16]); TOKENS];
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 4]; TOKENS];
        for quad in 0..QUADS {
            let bytes = weights[quad].0.as_ptr().add(offset);
            let mut inputs = [_mm256_setzero_si256(); TOKENS];
            for token in 0..TOKENS {
                let four = _mm_set1_epi32(i32::from_le_bytes(rows[token][quad]));
                inputs[token] = _mm256_cvtepu8_epi16(four);
            }
            for part in 0..4 {
                let weights = _mm_load_si128(bytes.add(16 * part).cast());
                let weights = _mm256_cvtepi8_epi16(weights);
                for token in 0..TOKENS {
                    let products = _mm256_madd_epi16(inputs[token], weights);
                    sums[token][part] = _mm256_add_epi32(sums[token][part], products);
                }
            }
        }
        for token in 0..TOKENS {
            let to: *mut __m256i = result[token].0.as_mut_ptr().cast();
            for pair in 0..2 {
                // Adds neighbours, which leaves channels as 0 1 4 5 | 2 3 6 7.
                let sums = _mm256_hadd_epi32(sums[token][2 * pair], sums[token][2 * pair + 1]);
                let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
                _mm256_store_si256(to.add(pair), sums);
            }
        }
    }
    result
}

impl Kernel for AvxVnni {
    type Lanes = Avx2;
    // Twelve accumulators, two weights and one input: one register to spare.
    const TOKEN_TILE: usize = 6;
    const QUERY_TILE: usize = 2;

    #[inline(always)]
    fn dots<const QUADS: usize, const TOKENS: usize>(
        weights: &[Quad; QUADS],
        rows: &[[[u8; 4]; QUADS]; TOKENS],
    ) -> [[Sums; 3]; TOKENS] {
        let mut result = [[Sums([0; 16]); 3]; TOKENS];
        for part in 0..3 {
            unsafe {
                let mut sums = [[_mm256_setzero_si256(); 2]; TOKENS];
                for quad in 0..QUADS {
                    let bytes: *const __m256i = weights[quad].0.as_ptr().add(64 * part).cast();
                    let halves = [_mm256_load_si256(bytes), _mm256_load_si256(bytes.add(1))];
                    for token in 0..TOKENS {
                        let inputs = _mm256_set1_epi32(i32::from_le_bytes(rows[token][quad]));
                        for half in 0..2 {
                            let sum = &mut sums[token][half];
                            *sum = _mm256_dpbusd_avx_epi32(*sum, inputs, halves[half]);
                        }
                    }
                }
                for token in 0..TOKENS {
                    let to: *mut __m256i = result[token][part].0.as_mut_ptr().cast();
                    _mm256_store_si256(to, sums[token][0]);
                    _mm256_store_si256(to.add(1), sums[token][1]);
                }
            }
        }
        result
    }
}
