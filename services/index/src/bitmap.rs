//! A dense set of rows: one bit each.
//!
//! Rows are numbered from 0 without gaps, and visibility at a commit is a set of them that every
//! signal reads many times, so the set is a plain array of 64-bit words. A row beyond the end is
//! simply not in the set. It leaves out compression: a million rows take 125 kB.

/// A set of rows.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
}

/// Two sets are equal when they hold the same rows, whatever room they have.
impl PartialEq for Bitmap {
    fn eq(&self, other: &Self) -> bool {
        let (short, long) = if self.words.len() <= other.words.len() {
            (&self.words, &other.words)
        } else {
            (&other.words, &self.words)
        };
        let (head, tail) = long.split_at(short.len());
        head == &short[..] && tail.iter().all(|word| *word == 0)
    }
}

impl Eq for Bitmap {}

impl Bitmap {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set with room for rows below `rows`.
    pub fn with_rows(rows: u32) -> Self {
        Self {
            words: vec![0; words_for(rows)],
        }
    }

    /// The set of all rows below `rows`.
    pub fn full(rows: u32) -> Self {
        let mut words = vec![u64::MAX; words_for(rows)];
        let rest = rows % 64;
        if let (Some(last), true) = (words.last_mut(), rest != 0) {
            *last = (1u64 << rest) - 1;
        }
        Self { words }
    }

    /// The set whose row `64 * i + b` is bit `b` of `words[i]`.
    pub fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    /// The bits, 64 rows a word, lowest row in the lowest bit.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Puts `row` in, making room for it.
    pub fn set(&mut self, row: u32) {
        let word = row as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (row % 64);
    }

    /// Takes `row` out.
    pub fn clear(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            *word &= !(1 << (row % 64));
        }
    }

    /// Whether `row` is in the set.
    #[inline]
    pub fn get(&self, row: u32) -> bool {
        self.words
            .get(row as usize / 64)
            .is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Puts in all rows from `start` up to but not including `end`.
    pub fn set_range(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        if words_for(end) > self.words.len() {
            self.words.resize(words_for(end), 0);
        }
        let (first, last) = (start as usize / 64, (end - 1) as usize / 64);
        let head = u64::MAX << (start % 64);
        let tail = u64::MAX >> (63 - (end - 1) % 64);
        if first == last {
            self.words[first] |= head & tail;
            return;
        }
        self.words[first] |= head;
        self.words[first + 1..last].fill(u64::MAX);
        self.words[last] |= tail;
    }

    /// Keeps only rows that are in `other` too.
    pub fn and(&mut self, other: &Bitmap) {
        self.words.truncate(other.words.len());
        for (word, with) in self.words.iter_mut().zip(&other.words) {
            *word &= with;
        }
    }

    /// Takes out the rows of `other`.
    pub fn and_not(&mut self, other: &Bitmap) {
        for (word, without) in self.words.iter_mut().zip(&other.words) {
            *word &= !without;
        }
    }

    /// Puts in the rows of `other`.
    pub fn or(&mut self, other: &Bitmap) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, with) in self.words.iter_mut().zip(&other.words) {
            *word |= with;
        }
    }

    /// How many rows are in the set.
    pub fn count_ones(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every row below `rows` is in the set.
    pub fn holds_all(&self, rows: u32) -> bool {
        let (whole, rest) = (rows as usize / 64, rows % 64);
        self.words.len() >= words_for(rows)
            && self.words[..whole].iter().all(|word| *word == u64::MAX)
            && (rest == 0 || !self.words[whole] & ((1 << rest) - 1) == 0)
    }

    /// The rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let base = index as u32 * 64;
            std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| base + rest.trailing_zeros())
        })
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        let mut set = Self::new();
        for row in rows {
            set.set(row);
        }
        set
    }
}

fn words_for(rows: u32) -> usize {
    rows.div_ceil(64) as usize
}

#[cfg(test)]
mod tests {
    use super::Bitmap;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn full_holds_exactly_the_rows_below() {
        for rows in [0, 1, 63, 64, 65, 128, 200] {
            let set = Bitmap::full(rows);
            assert_eq!(set.count_ones(), rows);
            assert_eq!(
                set.iter().collect::<Vec<_>>(),
                (0..rows).collect::<Vec<_>>()
            );
            assert!(set.holds_all(rows) && !set.holds_all(rows + 1));
        }
    }

    #[test]
    fn room_does_not_matter_for_equality() {
        let mut roomy = Bitmap::with_rows(1_000);
        roomy.set(3);
        assert_eq!(roomy, Bitmap::from_iter([3]));
        assert_ne!(roomy, Bitmap::from_iter([3, 999]));
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            left in proptest::collection::btree_set(0u32..300, 0..80),
            right in proptest::collection::btree_set(0u32..400, 0..80),
            start in 0u32..300, length in 0u32..150,
        ) {
            let of = |rows: &BTreeSet<u32>| rows.iter().copied().collect::<Bitmap>();
            let rows = |set: &Bitmap| set.iter().collect::<BTreeSet<u32>>();
            let mut both = of(&left);
            both.and(&of(&right));
            prop_assert_eq!(rows(&both), &left & &right);
            let mut either = of(&left);
            either.or(&of(&right));
            prop_assert_eq!(rows(&either), &left | &right);
            let mut only = of(&left);
            only.and_not(&of(&right));
            prop_assert_eq!(rows(&only), &left - &right);
            let mut ranged = of(&left);
            ranged.set_range(start, start + length);
            prop_assert_eq!(rows(&ranged), &left | &(start..start + length).collect());
            prop_assert_eq!(of(&left).count_ones() as usize, left.len());
            for row in 0..400 {
                prop_assert_eq!(of(&left).get(row), left.contains(&row));
            }
        }
    }
}
