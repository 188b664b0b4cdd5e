//! The scans on each instruction set.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes. Flipping a row's top bits adds 128 to each of
//! its codes, so the sum is too large by 128 times the sum of the query's codes: one number per
//! scan. Rows are taken four at a time, to reduce four accumulators at once, and are fetched
//! ahead of their use.
//!
//! Half bytes are unsigned as they are. Without `vpdpbusd`, `vpmaddubsw` adds their products with the query's codes
//! by pairs: at most 15 × 128 × 2 = 3,840 each, so that the six registers of a plane's lower or upper halves fit a sum of
//! 16 bits.

#![allow(
    unsafe_code,
    reason = "measured: reaches memory bandwidth; portable code does not"
)]

use super::halves::{self, Plane};
use crate::{DIMENSION, Isa};

type Vector = [i8; DIMENSION];

/// Scores each row; `scores` is as long as `rows`. An unsupported `isa` runs as `Scalar`.
pub(super) fn scan(isa: Isa, query: &Vector, rows: &[Vector], scores: &mut [i32]) {
    // SAFETY: each function's only demand is the instruction set, which was just checked.
    #[cfg(target_arch = "x86_64")]
    match isa {
        _ if !isa.is_supported() => {}
        Isa::Avx512Vnni => return unsafe { x86::scan_avx512(query, rows, scores) },
        Isa::AvxVnni => return unsafe { x86::scan_avx_vnni(query, rows, scores) },
        Isa::Avx2 => return unsafe { x86::scan_avx2(query, rows, scores) },
        Isa::Scalar => {}
    }
    let _ = isa;
    scan_scalar(query, rows, scores);
}

fn scan_scalar(query: &Vector, rows: &[Vector], scores: &mut [i32]) {
    for (row, score) in rows.iter().zip(scores) {
        let products = query
            .iter()
            .zip(row)
            .map(|(left, right)| i32::from(*left) * i32::from(*right));
        *score = products.sum();
    }
}

/// Scores each plane; `sums` is as long as `planes`. An unsupported `isa` runs as `Scalar`.
pub(super) fn scan_planes(isa: Isa, query: &Vector, planes: &[Plane], sums: &mut [i32]) {
    // SAFETY: each function's only demand is the instruction set, which was just checked.
    #[cfg(target_arch = "x86_64")]
    match isa {
        _ if !isa.is_supported() => {}
        Isa::Avx512Vnni => return unsafe { x86::planes_avx512(query, planes, sums) },
        Isa::AvxVnni => return unsafe { x86::planes_avx_vnni(query, planes, sums) },
        Isa::Avx2 => return unsafe { x86::planes_avx2(query, planes, sums) },
        Isa::Scalar => {}
    }
    let _ = isa;
    for (plane, sum) in planes.iter().zip(sums) {
        *sum = dot_plane(query, plane);
    }
}

/// Scores the planes whose bits are set, all of them below both lengths.
pub(super) fn scan_some(isa: Isa, query: &Vector, planes: &[Plane], wanted: u64, sums: &mut [i32]) {
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    match isa {
        _ if !isa.is_supported() => {}
        Isa::Avx512Vnni => return unsafe { x86::some_avx512(query, planes, wanted, sums) },
        Isa::AvxVnni => return unsafe { x86::some_avx_vnni(query, planes, wanted, sums) },
        Isa::Avx2 => return unsafe { x86::some_avx2(query, planes, wanted, sums) },
        Isa::Scalar => {}
    }
    let _ = isa;
    for place in places(wanted) {
        sums[place] = dot_plane(query, &planes[place]);
    }
}

/// The places of a word's set bits, lowest first.
fn places(wanted: u64) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(wanted), |rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|rest| *rest != 0)
        .map(|rest| rest.trailing_zeros() as usize)
}

fn dot_plane(query: &Vector, plane: &Plane) -> i32 {
    let (first, second) = query.split_at(halves::BYTES);
    let codes = first.iter().zip(second).zip(plane);
    let products = codes.map(|((first, second), byte)| {
        let [of_first, of_second] = halves::halves(*byte).map(i32::from);
        i32::from(*first) * of_first + i32::from(*second) * of_second
    });
    products.sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{DIMENSION, Plane, Vector, halves, places};

    // SAFETY, for every `unsafe` block of this module: loads go through pointers into arrays of
    // 384 or 192 bytes at offsets that leave a whole register inside; prefetching any address is
    // allowed and does not fault.

    /// How far ahead rows are fetched, in bytes: about the latency of memory at its bandwidth.
    const AHEAD: usize = 16 * DIMENSION;

    /// 128 times the sum of the query's codes.
    fn excess(query: &Vector) -> i32 {
        128 * query.iter().map(|code| i32::from(*code)).sum::<i32>()
    }

    #[inline(always)]
    fn fetch(row: &Vector) {
        let address = row.as_ptr().wrapping_add(AHEAD);
        for line in 0..DIMENSION / 64 {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(64 * line)) };
        }
    }

    #[inline(always)]
    fn fetch_plane(plane: &Plane) {
        let address = plane.as_ptr().cast::<i8>().wrapping_add(AHEAD);
        for line in 0..halves::BYTES / 64 {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(64 * line)) };
        }
    }

    /// Writes, for an instruction set, the scan of all planes and that of some.
    macro_rules! plane_scans {
        ($features:literal, $all:ident, $some:ident, $dot:ident, $prepare:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $all(query: &Vector, planes: &[Plane], sums: &mut [i32]) {
                let query = $prepare(query);
                let (fours, rest) = planes.as_chunks::<4>();
                let (sum_fours, sum_rest) = sums.as_chunks_mut::<4>();
                for (planes, sums) in fours.iter().zip(sum_fours) {
                    let mut parts = [_mm256_setzero_si256(); 4];
                    for (part, plane) in parts.iter_mut().zip(planes) {
                        fetch_plane(plane);
                        *part = $dot(&query, plane);
                    }
                    *sums = finish(parts, 0);
                }
                for (plane, sum) in rest.iter().zip(sum_rest) {
                    *sum = alone($dot(&query, plane));
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn $some(query: &Vector, planes: &[Plane], wanted: u64, sums: &mut [i32]) {
                let query = $prepare(query);
                for place in places(wanted) {
                    sums[place] = alone($dot(&query, &planes[place]));
                }
            }
        };
    }

    plane_scans!(
        "avx512f,avx512bw,avx512vnni,avx2",
        planes_avx512,
        some_avx512,
        plane_avx512,
        parts_avx512
    );
    plane_scans!(
        "avxvnni,avx2",
        planes_avx_vnni,
        some_avx_vnni,
        plane_avx_vnni,
        std::convert::identity
    );
    plane_scans!(
        "avx2",
        planes_avx2,
        some_avx2,
        plane_avx2,
        std::convert::identity
    );

    #[inline]
    #[target_feature(enable = "avx2")]
    fn alone(sum: __m256i) -> i32 {
        let zero = _mm256_setzero_si256();
        finish([sum, zero, zero, zero], 0)[0]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn parts_avx512(query: &Vector) -> [__m512i; 6] {
        let mut parts = [_mm512_setzero_si512(); 6];
        for (part, codes) in parts.iter_mut().zip(query.as_chunks::<64>().0) {
            *part = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        }
        parts
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
    fn plane_avx512(parts: &[__m512i; 6], plane: &Plane) -> __m256i {
        let half = _mm512_set1_epi8(0x0f);
        let mut sums = [_mm512_setzero_si512(); 2];
        for (index, bytes) in plane.as_chunks::<64>().0.iter().enumerate() {
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            let first = _mm512_and_si512(bytes, half);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), half);
            sums[0] = _mm512_dpbusd_epi32(sums[0], first, parts[index]);
            sums[1] = _mm512_dpbusd_epi32(sums[1], second, parts[index + 3]);
        }
        fold(_mm512_add_epi32(sums[0], sums[1]))
    }

    /// The halves of 32 bytes: those of the first components, and those 192 components further on.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves_avx2(bytes: &[u8; 32]) -> [__m256i; 2] {
        let half = _mm256_set1_epi8(0x0f);
        let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        [
            _mm256_and_si256(bytes, half),
            _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half),
        ]
    }

    #[inline]
    #[target_feature(enable = "avxvnni,avx2")]
    fn plane_avx_vnni(query: &&Vector, plane: &Plane) -> __m256i {
        let codes = query.as_chunks::<32>().0;
        let mut sums = [_mm256_setzero_si256(); 2];
        for (index, bytes) in plane.as_chunks::<32>().0.iter().enumerate() {
            let halves = halves_avx2(bytes);
            for part in 0..2 {
                let codes = &codes[index + 6 * part];
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
                sums[part] = _mm256_dpbusd_avx_epi32(sums[part], halves[part], codes);
            }
        }
        _mm256_add_epi32(sums[0], sums[1])
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn plane_avx2(query: &&Vector, plane: &Plane) -> __m256i {
        let codes = query.as_chunks::<32>().0;
        let mut sums = [_mm256_setzero_si256(); 2];
        for (index, bytes) in plane.as_chunks::<32>().0.iter().enumerate() {
            let halves = halves_avx2(bytes);
            for part in 0..2 {
                let codes = &codes[index + 6 * part];
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
                let products = _mm256_maddubs_epi16(halves[part], codes);
                sums[part] = _mm256_add_epi16(sums[part], products);
            }
        }
        let ones = _mm256_set1_epi16(1);
        _mm256_add_epi32(
            _mm256_madd_epi16(sums[0], ones),
            _mm256_madd_epi16(sums[1], ones),
        )
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
    pub(super) fn scan_avx512(query: &Vector, rows: &[Vector], scores: &mut [i32]) {
        let excess = excess(query);
        let mut parts = [_mm512_setzero_si512(); 6];
        for (part, codes) in parts.iter_mut().zip(query.as_chunks::<64>().0) {
            *part = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        }
        let (fours, rest) = rows.as_chunks::<4>();
        let (score_fours, score_rest) = scores.as_chunks_mut::<4>();
        for (rows, scores) in fours.iter().zip(score_fours) {
            let mut sums = [_mm256_setzero_si256(); 4];
            for (sum, row) in sums.iter_mut().zip(rows) {
                fetch(row);
                *sum = fold(dot_avx512(&parts, row));
            }
            *scores = finish(sums, excess);
        }
        for (row, score) in rest.iter().zip(score_rest) {
            *score = _mm512_reduce_add_epi32(dot_avx512(&parts, row)) - excess;
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
    fn dot_avx512(parts: &[__m512i; 6], row: &Vector) -> __m512i {
        let flip = _mm512_set1_epi8(-128);
        let mut sums = [_mm512_setzero_si512(); 2];
        for (index, codes) in row.as_chunks::<64>().0.iter().enumerate() {
            let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
            let codes = _mm512_xor_si512(codes, flip);
            sums[index % 2] = _mm512_dpbusd_epi32(sums[index % 2], codes, parts[index]);
        }
        _mm512_add_epi32(sums[0], sums[1])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx2")]
    fn fold(sum: __m512i) -> __m256i {
        let high = _mm512_extracti64x4_epi64::<1>(sum);
        _mm256_add_epi32(_mm512_castsi512_si256(sum), high)
    }

    /// Adds up each of four registers and takes the excess off.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn finish(sums: [__m256i; 4], excess: i32) -> [i32; 4] {
        let pairs = [
            _mm256_hadd_epi32(sums[0], sums[1]),
            _mm256_hadd_epi32(sums[2], sums[3]),
        ];
        let sums = _mm256_hadd_epi32(pairs[0], pairs[1]);
        let sums = _mm_add_epi32(
            _mm256_castsi256_si128(sums),
            _mm256_extracti128_si256::<1>(sums),
        );
        let sums = _mm_sub_epi32(sums, _mm_set1_epi32(excess));
        let mut scores = [0; 4];
        unsafe { _mm_storeu_si128(scores.as_mut_ptr().cast(), sums) };
        scores
    }

    #[target_feature(enable = "avxvnni,avx2")]
    pub(super) fn scan_avx_vnni(query: &Vector, rows: &[Vector], scores: &mut [i32]) {
        let excess = excess(query);
        let (fours, rest) = rows.as_chunks::<4>();
        let (score_fours, score_rest) = scores.as_chunks_mut::<4>();
        for (rows, scores) in fours.iter().zip(score_fours) {
            let mut sums = [_mm256_setzero_si256(); 4];
            for (sum, row) in sums.iter_mut().zip(rows) {
                fetch(row);
                *sum = dot_avx_vnni(query, row);
            }
            *scores = finish(sums, excess);
        }
        for (row, score) in rest.iter().zip(score_rest) {
            let zero = _mm256_setzero_si256();
            [*score, ..] = finish([dot_avx_vnni(query, row), zero, zero, zero], excess);
        }
    }

    #[inline]
    #[target_feature(enable = "avxvnni,avx2")]
    fn dot_avx_vnni(query: &Vector, row: &Vector) -> __m256i {
        let flip = _mm256_set1_epi8(-128);
        let mut sums = [_mm256_setzero_si256(); 2];
        let chunks = query
            .as_chunks::<32>()
            .0
            .iter()
            .zip(row.as_chunks::<32>().0);
        for (index, (query, codes)) in chunks.enumerate() {
            let query = unsafe { _mm256_loadu_si256(query.as_ptr().cast()) };
            let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
            let codes = _mm256_xor_si256(codes, flip);
            sums[index % 2] = _mm256_dpbusd_avx_epi32(sums[index % 2], codes, query);
        }
        _mm256_add_epi32(sums[0], sums[1])
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn scan_avx2(query: &Vector, rows: &[Vector], scores: &mut [i32]) {
        let (fours, rest) = rows.as_chunks::<4>();
        let (score_fours, score_rest) = scores.as_chunks_mut::<4>();
        for (rows, scores) in fours.iter().zip(score_fours) {
            let mut sums = [_mm256_setzero_si256(); 4];
            for (sum, row) in sums.iter_mut().zip(rows) {
                fetch(row);
                *sum = dot_avx2(query, row);
            }
            *scores = finish(sums, 0);
        }
        for (row, score) in rest.iter().zip(score_rest) {
            let zero = _mm256_setzero_si256();
            [*score, ..] = finish([dot_avx2(query, row), zero, zero, zero], 0);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn dot_avx2(query: &Vector, row: &Vector) -> __m256i {
        let mut sums = [_mm256_setzero_si256(); 2];
        let chunks = query
            .as_chunks::<16>()
            .0
            .iter()
            .zip(row.as_chunks::<16>().0);
        for (index, (query, codes)) in chunks.enumerate() {
            let query = unsafe { _mm_loadu_si128(query.as_ptr().cast()) };
            let codes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
            let products =
                _mm256_madd_epi16(_mm256_cvtepi8_epi16(query), _mm256_cvtepi8_epi16(codes));
            sums[index % 2] = _mm256_add_epi32(sums[index % 2], products);
        }
        _mm256_add_epi32(sums[0], sums[1])
    }
}
