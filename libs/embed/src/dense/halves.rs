//! Byte vectors as two planes of half bytes, so that a scan can read the upper one alone.
//!
//! A code c is 16·u + l − 128 with u and l from 0 to 15, and so is a dot product: with U and L those of the query with
//! the rows' upper and lower halves and S the sum of the query's codes, it is 16·U + L − 128·S. A scan is bound
//! by memory, and U takes half of it. L is then known within a bound: l − 7½ has a length, which is kept for each row
//! as its [`spread`], and no dot product exceeds the product of the lengths (Cauchy and Schwarz). So
//! [`Query::highest`] is never below the dot product, and only rows that may still be of use need their lower halves.
//!
//! Always true: U and L are exact, on any instruction set.

use super::{dot, kernels};
use crate::{DIMENSION, Isa};

/// Bytes of a plane: component `j` is in the lower four bits of byte `j`, or in the upper ones of byte `j` − 192.
pub const BYTES: usize = DIMENSION / 2;

/// One half of each code.
pub type Plane = [u8; BYTES];

/// The upper and the lower halves of a vector's codes.
pub fn split(codes: &[i8; DIMENSION]) -> (Plane, Plane) {
    let (mut upper, mut lower) = ([0; BYTES], [0; BYTES]);
    let (first, second) = codes.split_at(BYTES);
    for place in 0..BYTES {
        let first = first[place].cast_unsigned() ^ 0x80;
        let second = second[place].cast_unsigned() ^ 0x80;
        upper[place] = first >> 4 | second & 0xf0;
        lower[place] = first & 0x0f | second << 4;
    }
    (upper, lower)
}

/// The codes of which these are the halves.
pub fn join(upper: &Plane, lower: &Plane) -> [i8; DIMENSION] {
    let mut codes = [0; DIMENSION];
    let (first, second) = codes.split_at_mut(BYTES);
    for place in 0..BYTES {
        let (upper, lower) = (upper[place], lower[place]);
        first[place] = (upper << 4 | lower & 0x0f).cast_signed() ^ -128;
        second[place] = (upper & 0xf0 | lower >> 4).cast_signed() ^ -128;
    }
    codes
}

/// The halves in a byte of a plane: of component `j`, and of component `j` + 192.
pub(super) fn halves(byte: u8) -> [u8; 2] {
    [byte & 0x0f, byte >> 4]
}

/// The length of a row's lower halves, each doubled and less 15, rounded up; at most 294.
pub fn spread(lower: &Plane) -> u16 {
    let doubled = |half: u8| i32::from(half) * 2 - 15;
    let square = |byte: &u8| halves(*byte).map(doubled).map(|half| half * half);
    let square = lower
        .iter()
        .map(square)
        .map(|[first, second]| first + second);
    length(square.sum()) as u16
}

/// The square root, rounded up.
fn length(square: i32) -> i32 {
    let square = square.unsigned_abs();
    let down = square.isqrt();
    (down + u32::from(down * down < square)).cast_signed()
}

/// A vector that planes are compared with.
#[derive(Clone, Debug)]
pub struct Query {
    codes: [i8; DIMENSION],
    /// Of the codes.
    sum: i32,
    /// The codes' length, rounded up.
    length: i32,
}

impl Query {
    /// Prepares a vector.
    pub fn new(codes: [i8; DIMENSION]) -> Self {
        Self {
            codes,
            sum: codes.iter().map(|code| i32::from(*code)).sum(),
            length: length(dot(&codes, &codes)),
        }
    }

    /// The vector.
    pub fn codes(&self) -> &[i8; DIMENSION] {
        &self.codes
    }

    /// Writes the dot product with each plane into `sums`; those beyond the shorter of both are left out.
    pub fn scan(&self, planes: &[Plane], sums: &mut [i32]) {
        self.scan_on(Isa::best(), planes, sums);
    }

    /// Scans like [`Query::scan`] on a chosen instruction set; one that the CPU lacks runs as `Scalar`.
    pub fn scan_on(&self, isa: Isa, planes: &[Plane], sums: &mut [i32]) {
        let rows = planes.len().min(sums.len());
        kernels::scan_planes(isa, &self.codes, &planes[..rows], &mut sums[..rows]);
    }

    /// Writes the dot products with some of up to 64 planes, named by their bits, into their places in `sums`; places
    /// beyond the shorter of both are left out.
    pub fn scan_some(&self, planes: &[Plane], wanted: u64, sums: &mut [i32]) {
        self.scan_some_on(Isa::best(), planes, wanted, sums);
    }

    /// Like [`Query::scan_some`] on a chosen instruction set; one that the CPU lacks runs as `Scalar`.
    pub fn scan_some_on(&self, isa: Isa, planes: &[Plane], wanted: u64, sums: &mut [i32]) {
        let rows = planes.len().min(sums.len());
        let held = u64::MAX
            .checked_shl(rows as u32)
            .map_or(u64::MAX, |beyond| !beyond);
        kernels::scan_some(isa, &self.codes, planes, wanted & held, sums);
    }

    /// The dot product with the vector of which these are the dot products with its halves.
    pub fn whole(&self, upper: i32, lower: i32) -> i32 {
        16 * upper + lower - 128 * self.sum
    }

    /// Twice a number that the dot product with a vector does not exceed. `upper`: the dot product with its upper
    /// halves, `spread`: that of its lower halves.
    pub fn twice_highest(&self, upper: i32, spread: u16) -> i32 {
        32 * upper + self.length * i32::from(spread) - 241 * self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vectors(bytes: &[i8]) -> &[[i8; DIMENSION]] {
        bytes.as_chunks().0
    }

    fn check(query: &[i8; DIMENSION], rows: &[[i8; DIMENSION]], wanted: u64) {
        let query = Query::new(*query);
        let (upper, lower): (Vec<Plane>, Vec<Plane>) = rows.iter().map(split).unzip();
        for isa in Isa::supported() {
            let (mut uppers, mut lowers) = (vec![7; rows.len()], vec![7; rows.len()]);
            query.scan_on(isa, &upper, &mut uppers);
            query.scan_some_on(isa, &lower, wanted, &mut lowers);
            for (place, row) in rows.iter().enumerate() {
                let exact = dot(query.codes(), row);
                assert_eq!(join(&upper[place], &lower[place]), *row);
                let twice = query.twice_highest(uppers[place], spread(&lower[place]));
                assert!(twice >= 2 * exact, "{isa}: {twice} is below twice {exact}");
                let expected = match place < 64 && wanted >> place & 1 == 1 {
                    true => exact - query.whole(uppers[place], 0),
                    false => 7,
                };
                assert_eq!(lowers[place], expected, "{isa}");
            }
        }
    }

    proptest! {
        #[test]
        fn halves_make_the_whole_and_bound_it(
            query in prop::collection::vec(any::<i8>(), DIMENSION),
            rows in prop::collection::vec(any::<i8>(), 0..14 * DIMENSION),
            wanted in any::<u64>(),
        ) {
            check(&vectors(&query)[0], vectors(&rows), wanted);
        }

        #[test]
        fn a_row_like_the_query_is_bounded_too(
            query in prop::collection::vec(-127i8..=127, DIMENSION),
            signs in any::<[bool; 4]>(),
        ) {
            // Lower halves that all point the query's way come nearest to the bound.
            let lower = |code: i8| if code < 0 { 0 } else { 15 };
            let row: Vec<i8> = query.iter().map(|&code| (code & -16) | lower(code)).collect();
            let turned: Vec<i8> = row.iter().zip(signs.iter().cycle()).map(|(&code, &turn)| if turn { !code } else { code }).collect();
            check(&vectors(&query)[0], vectors(&[row, turned].concat()), u64::MAX);
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for left in [i8::MIN, -1, 0, i8::MAX] {
            for right in [i8::MIN, -113, -1, 0, 15, i8::MAX] {
                check(&[left; DIMENSION], &[[right; DIMENSION]; 6], 0b101101);
            }
        }
    }

    #[test]
    fn lengths_are_rounded_up() {
        for (square, expected) in [(0, 0), (1, 1), (2, 2), (4, 2), (5, 3), (86_400, 294)] {
            assert_eq!(length(square), expected);
        }
    }
}
