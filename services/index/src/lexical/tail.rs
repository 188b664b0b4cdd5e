//! The postings of rows that are not committed yet.
//!
//! Rows are gathered in an open part; taking a snapshot seals it. Sealed parts never change, so a
//! snapshot shares them, and neighbours of like size are merged, so there are few: adding a row
//! costs O(log n) amortised, however often snapshots are taken. Rows under commit are kept apart
//! from newer ones, so that they can be dropped whole.

use super::engine::term_counts;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a term occurs in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The row.
    pub row: u32,
    /// Occurrences, at least 1.
    pub frequency: u32,
}

/// An immutable run of rows: sorted terms, each with its postings in row order.
#[derive(Debug, Default)]
pub struct Part {
    first_row: u32,
    end_row: u32,
    terms: Vec<Arc<str>>,
    /// `postings[ends[i - 1]..ends[i]]` belong to `terms[i]`.
    ends: Vec<u32>,
    postings: Vec<Posting>,
}

impl Part {
    /// The term's postings, in row order; empty when no row has it.
    pub fn postings(&self, term: &str) -> &[Posting] {
        match self
            .terms
            .binary_search_by(|probe| probe.as_ref().cmp(term))
        {
            Ok(index) => self.postings_at(index),
            Err(_) => &[],
        }
    }

    fn postings_at(&self, index: usize) -> &[Posting] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.postings[start..self.ends[index] as usize]
    }

    fn push(&mut self, term: Arc<str>, runs: [&[Posting]; 2]) {
        self.terms.push(term);
        self.postings.extend(runs.into_iter().flatten());
        self.ends.push(self.postings.len() as u32);
    }

    /// Joins two neighbouring runs of rows, `older` first.
    fn merge(older: &Part, newer: &Part) -> Part {
        let mut merged = Part {
            first_row: older.first_row,
            end_row: newer.end_row,
            terms: Vec::with_capacity(older.terms.len() + newer.terms.len()),
            ends: Vec::with_capacity(older.terms.len() + newer.terms.len()),
            postings: Vec::with_capacity(older.postings.len() + newer.postings.len()),
        };
        let (mut left, mut right) = (0, 0);
        while let (Some(a), Some(b)) = (older.terms.get(left), newer.terms.get(right)) {
            let order = a.cmp(b);
            let mut runs: [&[Posting]; 2] = [&[], &[]];
            let term = if order.is_le() { a } else { b };
            if order.is_le() {
                runs[0] = older.postings_at(left);
                left += 1;
            }
            if order.is_ge() {
                runs[1] = newer.postings_at(right);
                right += 1;
            }
            merged.push(Arc::clone(term), runs);
        }
        for (part, from) in [(older, left), (newer, right)] {
            for index in from..part.terms.len() {
                merged.push(
                    Arc::clone(&part.terms[index]),
                    [part.postings_at(index), &[]],
                );
            }
        }
        merged
    }
}

/// Sealed parts, oldest first, and the open one.
pub struct Tail {
    sealed: Vec<Arc<Part>>,
    open: BTreeMap<Arc<str>, Vec<Posting>>,
    open_from: u32,
    next_row: u32,
    /// Parts below this row are under commit and must not grow into newer ones.
    barrier: u32,
}

impl Tail {
    /// An empty tail whose first row will be `next_row`.
    pub fn new(next_row: u32) -> Self {
        Self {
            sealed: Vec::new(),
            open: BTreeMap::new(),
            open_from: next_row,
            next_row,
            barrier: next_row,
        }
    }

    /// Adds `row`, which is the next one.
    pub fn add(&mut self, row: u32, terms: &[String]) {
        for (term, frequency) in term_counts(terms) {
            let posting = Posting { row, frequency };
            if let Some(postings) = self.open.get_mut(term) {
                postings.push(posting);
            } else {
                self.open.insert(Arc::from(term), vec![posting]);
            }
        }
        self.next_row = row + 1;
    }

    /// All rows so far, as immutable parts in row order.
    pub fn parts(&mut self) -> Vec<Arc<Part>> {
        self.seal();
        self.sealed.clone()
    }

    /// Seals what is there, so that it can be dropped once it is committed.
    pub fn seal_for_commit(&mut self) {
        self.seal();
        self.barrier = self.next_row;
    }

    /// Drops the parts whose rows are all below `row`.
    pub fn drop_below(&mut self, row: u32) {
        self.sealed.retain(|part| part.end_row > row);
    }

    fn seal(&mut self) {
        if self.open_from == self.next_row {
            return;
        }
        let mut part = Part {
            first_row: self.open_from,
            end_row: self.next_row,
            ..Part::default()
        };
        for (term, postings) in std::mem::take(&mut self.open) {
            part.push(term, [&postings, &[]]);
        }
        self.open_from = self.next_row;
        self.sealed.push(Arc::new(part));
        self.merge_neighbours();
    }

    /// Keeps each part at least twice as large as the next, so their number grows with the logarithm.
    fn merge_neighbours(&mut self) {
        while let [.., older, newer] = &self.sealed[..] {
            let apart = older.first_row < self.barrier && newer.first_row >= self.barrier;
            if apart || older.postings.len() >= 2 * newer.postings.len().max(1) {
                return;
            }
            let merged = Arc::new(Part::merge(older, newer));
            self.sealed.truncate(self.sealed.len() - 2);
            self.sealed.push(merged);
        }
    }
}
