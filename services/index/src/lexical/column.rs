//! Frequent terms, one byte for each row.
//!
//! A term that stands in every eighth row or more is dearer to read as postings than to add up over all rows
//! in order: no row numbers, no jumps, several rows an instruction. So its frequencies within a segment are laid out
//! by row the first time that it is asked for. What is added to a score is computed by the same
//! operations as for a posting, so its bits are the same; a row without the term gets 0 added, which changes nothing.
//!
//! A segment never changes, so neither do its columns, and they go with it. At most [`MOST`] are made: few terms are
//! that frequent.

use super::score::LengthNorm;
use crate::bitmap::Bitmap;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A term in fewer rows than one of so many gets no column.
pub const SPARSEST: usize = 8;

/// Columns of a segment: at most about so many bytes for each of its rows.
const MOST: usize = 96;

/// How often each row of a segment has a term.
pub struct Column {
    /// A multiple of 64.
    first_row: u32,
    frequencies: Vec<u8>,
    /// Rows that have it, counted from the first.
    holders: Vec<u64>,
    count: u64,
}

impl Column {
    /// Room for the rows from `first_row` on, up to but not including `end_row`; none has the term yet.
    pub fn new(first_row: u32, end_row: u32) -> Self {
        let first_row = first_row / 64 * 64;
        let rows = (end_row - first_row) as usize;
        Self {
            first_row,
            frequencies: vec![0; rows],
            holders: vec![0; rows.div_ceil(64)],
            count: 0,
        }
    }

    /// Notes postings of rows that it has room for. False: a frequency is too large to be kept.
    pub fn put(&mut self, rows: &[u32], frequencies: &[u32]) -> bool {
        for (row, frequency) in rows.iter().zip(frequencies) {
            let Ok(frequency) = u8::try_from(*frequency) else {
                return false;
            };
            let place = (row - self.first_row) as usize;
            self.frequencies[place] = frequency;
            self.holders[place / 64] |= 1 << (place % 64);
            self.count += 1;
        }
        true
    }

    /// How many rows have the term.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many rows of a set have the term.
    pub fn count_in(&self, rows: &Bitmap) -> u64 {
        let from = (self.first_row as usize / 64).min(rows.words().len());
        let both = self.holders.iter().zip(&rows.words()[from..]);
        both.map(|(held, word)| u64::from((held & word).count_ones()))
            .sum()
    }

    /// Adds the term's share to the score of each row that has a length.
    pub fn add_to(&self, scores: &mut [f64], lengths: &[u32], weight: f64, norm: LengthNorm) {
        let first = (self.first_row as usize).min(lengths.len());
        let end = (first + self.frequencies.len()).min(lengths.len());
        let rows = Run {
            scores: &mut scores[first..end],
            lengths: &lengths[first..end],
            frequencies: &self.frequencies[..end - first],
        };
        rows.add(weight, norm);
    }
}

/// Neighbouring rows.
struct Run<'a> {
    scores: &'a mut [f64],
    lengths: &'a [u32],
    frequencies: &'a [u8],
}

impl Run<'_> {
    #[cfg(target_arch = "x86_64")]
    fn add(self, weight: f64, norm: LengthNorm) {
        if wide::has_512() {
            wide::add_512(self, weight, norm);
        } else if wide::has_256() {
            wide::add_256(self, weight, norm);
        } else {
            self.add_plainly(weight, norm);
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn add(self, weight: f64, norm: LengthNorm) {
        self.add_plainly(weight, norm);
    }

    /// Each row for itself: however many an instruction takes at once, the bits are the same.
    #[inline(always)]
    fn add_plainly(self, weight: f64, norm: LengthNorm) {
        let rows = self.scores.iter_mut().zip(self.lengths);
        for ((score, length), frequency) in rows.zip(self.frequencies) {
            *score += weight * norm.saturate(u32::from(*frequency), *length);
        }
    }
}

/// The same loop for CPUs with wider registers.
#[cfg(target_arch = "x86_64")]
mod wide {
    #![allow(
        unsafe_code,
        reason = "measured: four times as many rows an instruction; the loop itself is safe code"
    )]

    use super::{LengthNorm, Run};

    pub(super) fn has_512() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
    }

    pub(super) fn has_256() -> bool {
        is_x86_feature_detected!("avx2")
    }

    pub(super) fn add_512(run: Run<'_>, weight: f64, norm: LengthNorm) {
        #[target_feature(enable = "avx512f,avx512vl")]
        fn add(run: Run<'_>, weight: f64, norm: LengthNorm) {
            run.add_plainly(weight, norm);
        }
        if has_512() {
            // SAFETY: the CPU was just asked for what the function demands.
            unsafe { add(run, weight, norm) }
        }
    }

    pub(super) fn add_256(run: Run<'_>, weight: f64, norm: LengthNorm) {
        #[target_feature(enable = "avx2")]
        fn add(run: Run<'_>, weight: f64, norm: LengthNorm) {
            run.add_plainly(weight, norm);
        }
        if has_256() {
            // SAFETY: the CPU was just asked for what the function demands.
            unsafe { add(run, weight, norm) }
        }
    }
}

/// The columns of a segment.
#[derive(Default)]
pub struct Columns {
    /// None: the term has no column and gets none.
    known: RwLock<HashMap<Box<str>, Option<Arc<Column>>>>,
}

impl Columns {
    /// What is known of a term; none: it was not asked for before.
    pub fn get(&self, term: &str) -> Option<Option<Arc<Column>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(term).cloned()
    }

    /// Keeps what was made for a term, if there is room.
    pub fn keep(&self, term: &str, column: Option<Arc<Column>>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(term.into(), column);
    }

    /// Whether there is room for another.
    pub fn has_room(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexical::Statistics;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_width_gives_the_bits_of_the_plain_loop(
            rows in proptest::collection::vec((any::<u8>(), 0u32..400, 0u32..9), 0..300),
            weight in 1e-6f64..20.0,
            total_length in 0u64..100_000,
        ) {
            let norm = LengthNorm::new(Statistics { rows: 300, total_length });
            let (frequencies, rest): (Vec<u8>, Vec<(u32, u32)>) =
                rows.into_iter().map(|(frequency, length, score)| (frequency, (length, score))).unzip();
            let (lengths, scores): (Vec<u32>, Vec<u32>) = rest.into_iter().unzip();
            let before: Vec<f64> = scores.into_iter().map(|score| f64::from(score) / 3.0).collect();
            let with = |add: fn(Run<'_>, f64, LengthNorm)| -> Vec<u64> {
                let mut scores = before.clone();
                add(Run { scores: &mut scores, lengths: &lengths, frequencies: &frequencies }, weight, norm);
                scores.into_iter().map(f64::to_bits).collect()
            };
            let plain = with(|run, weight, norm| run.add_plainly(weight, norm));
            prop_assert_eq!(&with(|run, weight, norm| run.add(weight, norm)), &plain);
            #[cfg(target_arch = "x86_64")]
            {
                if wide::has_512() {
                    prop_assert_eq!(&with(wide::add_512), &plain);
                }
                if wide::has_256() {
                    prop_assert_eq!(&with(wide::add_256), &plain);
                }
            }
        }

        #[test]
        fn a_column_counts_like_its_postings(
            first in 0u32..200,
            places in proptest::collection::btree_set(0u32..300, 0..90),
            set in proptest::collection::btree_set(0u32..600, 0..300),
        ) {
            let rows: Vec<u32> = places.iter().map(|place| first + place).collect();
            let mut column = Column::new(first, first + 300);
            prop_assert!(column.put(&rows, &vec![1; rows.len()]));
            prop_assert_eq!(column.count(), rows.len() as u64);
            let set: Bitmap = set.into_iter().collect();
            let held = rows.iter().filter(|row| set.get(**row)).count() as u64;
            prop_assert_eq!(column.count_in(&set), held);
        }
    }
}
