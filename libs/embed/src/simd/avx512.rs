//! Sixteen lanes in one 512-bit register, byte dot products by `vpdpbusd`.

#![allow(
    unsafe_code,
    reason = "measured: 8 times the AVX2 speed of portable code; see the twin"
)]

use std::arch::x86_64::*;

use super::{Kernel, Lanes, Quad, Sums};

// SAFETY, for every `unsafe` block of this module: the methods run only inside the kernel table
// for AVX-512 VNNI, which is handed out after the CPU reported avx512f, avx512bw and avx512vnni.
// Pointers come from references to arrays of exactly the bytes that are read or written; the
// aligned forms are used only where the type's alignment is 64.

/// Sixteen lanes in a register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Gives the two 256-bit halves.
#[inline(always)]
fn halves(lanes: __m512) -> (__m256, __m256) {
    unsafe {
        let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes));
        (_mm512_castps512_ps256(lanes), _mm256_castpd_ps(high))
    }
}

impl Lanes for Avx512 {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Avx512(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Avx512(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_sums(sums: &Sums) -> Self {
        Avx512(unsafe { _mm512_cvtepi32_ps(_mm512_load_si512(sums.0.as_ptr().cast())) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn scale_by_power(self, rounded: Self) -> Self {
        unsafe {
            let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
            let bits = _mm512_add_epi32(_mm512_castps_si512(self.0), power);
            Avx512(_mm512_castsi512_ps(bits))
        }
    }

    #[inline(always)]
    fn to_bytes(self) -> [[u8; 4]; 4] {
        let mut bytes = [[0; 4]; 4];
        unsafe {
            let rounded = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), rounded);
        }
        bytes
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let (low, high) = halves(self.0);
        unsafe { super::avx2::sum_of_eight(_mm256_add_ps(low, high)) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let (low, high) = halves(self.0);
        unsafe { super::avx2::largest_of_eight(_mm256_max_ps(low, high)) }
    }
}

impl Kernel for Avx512 {
    type Lanes = Avx512;
    const TOKEN_TILE: usize = 8;
    const QUERY_TILE: usize = 8;

    #[inline(always)]
    fn dots<const QUADS: usize, const TOKENS: usize>(
        weights: &[Quad; QUADS],
        rows: &[[[u8; 4]; QUADS]; TOKENS],
    ) -> [[Sums; 3]; TOKENS] {
        let mut result = [[Sums([0; 16]); 3]; TOKENS];
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); 3]; TOKENS];
            for quad in 0..QUADS {
                let bytes = weights[quad].0.as_ptr();
                let parts = [
                    _mm512_load_si512(bytes.cast()),
                    _mm512_load_si512(bytes.add(64).cast()),
                    _mm512_load_si512(bytes.add(128).cast()),
                ];
                for token in 0..TOKENS {
                    let inputs = _mm512_set1_epi32(i32::from_le_bytes(rows[token][quad]));
                    for part in 0..3 {
                        let sum = &mut sums[token][part];
                        *sum = _mm512_dpbusd_epi32(*sum, inputs, parts[part]);
                    }
                }
            }
            for token in 0..TOKENS {
                for part in 0..3 {
                    let to = result[token][part].0.as_mut_ptr();
                    _mm512_store_si512(to.cast(), sums[token][part]);
                }
            }
        }
        result
    }
}
