//! BM25, one term after the other, with statistics counted over the live rows.
//!
//! For a term: gather its postings in visible rows, or its column where it is frequent, count those
//! that are live (the document frequency), then add the term's share to each row's score. Terms go in
//! byte order and a row has a term's frequency in one place only, so each row's sum is made in one
//! fixed order: the bits of a score do not depend on how rows are spread over segments and tail, nor
//! on which of them have columns.
//!
//! score(q, d) = Σ qtf(t) · idf(t) · tf / (tf + k1 · (1 − b + b · (|d| + c) / (avgdl + c))),
//! idf(t) = ln(1 + (N − df + ½) / (df + ½)).
//! Source: Robertson and Zaragoza, 2009; the idf and the missing factor k1 + 1 as in Lucene 8. The
//! constant c is ours: see [`LENGTH_OFFSET`].

use super::column::Column;
use super::engine::term_counts;
use super::{LexicalError, Snapshot};
use crate::bitmap::Bitmap;
use std::cmp::Ordering;
use std::sync::Arc;

/// How soon repeated occurrences stop to count.
pub const K1: f64 = 1.2;

/// How much long rows are held back.
pub const B: f64 = 0.75;

/// Added to every length, so that among rows of a few words each, as in a conversation, one word
/// more or less does not decide; rows of a hundred terms hardly notice it.
pub const LENGTH_OFFSET: f64 = 5.0;

/// What is counted over the live rows before any term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Number of live rows.
    pub rows: u64,
    /// Sum of their lengths in terms.
    pub total_length: u64,
}

impl Statistics {
    /// Counts them; `lengths[row]` is the number of the row's terms. Rows without a length are left out.
    pub fn of(live: &Bitmap, lengths: &[u32]) -> Self {
        let mut statistics = Self::default();
        for row in live
            .iter()
            .take_while(|row| (*row as usize) < lengths.len())
        {
            statistics.rows += 1;
            statistics.total_length += u64::from(lengths[row as usize]);
        }
        statistics
    }
}

/// In how many live rows a query term occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermStatistics {
    /// The term.
    pub term: String,
    /// How often the query has it; its share counts that many times.
    pub query_frequency: u32,
    /// Live rows that hold it.
    pub document_frequency: u64,
}

/// The rows to search: who is seen, who counts, and how long each row is.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Rows that get a score.
    pub visible: &'a Bitmap,
    /// Rows that make the statistics; usually a part of `visible`.
    pub live: &'a Bitmap,
    /// Terms per row.
    pub lengths: &'a [u32],
    /// [`Statistics::of`] `live` and `lengths`, so that it can be kept from search to search.
    pub statistics: Statistics,
}

/// Memory to score in, to be used again: one `f64` per row and the postings of one term.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f64>,
    /// Rows that postings gave a score first, as long as there was no column.
    touched: Vec<u32>,
    /// Columns may have given any row a score.
    everywhere: bool,
    columns: Vec<Arc<Column>>,
    block: Vec<u32>,
    rows: Vec<u32>,
    frequencies: Vec<u32>,
}

impl Scratch {
    fn reset(&mut self, rows: usize) {
        if std::mem::take(&mut self.everywhere) {
            self.scores.fill(0.0);
            self.touched.clear();
        }
        for row in self.touched.drain(..) {
            self.scores[row as usize] = 0.0;
        }
        if self.scores.len() < rows {
            self.scores.resize(rows, 0.0);
        }
    }
}

/// The scores of one query, until the scratch is used again.
pub struct LexicalScores<'a> {
    terms: Vec<TermStatistics>,
    /// Of all rows that have a length; of rows that are not visible, they mean nothing.
    scores: &'a [f64],
    /// Rows with a score; none: look at all.
    touched: Option<&'a [u32]>,
    visible: &'a Bitmap,
}

impl LexicalScores<'_> {
    /// The distinct query terms in the order in which they were scored.
    pub fn terms(&self) -> &[TermStatistics] {
        &self.terms
    }

    /// The row's score; 0 when no term matches or the row is not visible.
    pub fn get(&self, row: u32) -> f64 {
        if !self.visible.get(row) {
            return 0.0;
        }
        self.scores.get(row as usize).copied().unwrap_or(0.0)
    }

    /// Each visible row that holds a query term, with its score, which is above 0. Order: none.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let touched = self.touched.into_iter().flatten().copied();
        let others = match self.touched {
            Some(_) => 0,
            None => self.scores.len() as u32,
        };
        touched
            .chain(0..others)
            .map(|row| (row, self.scores[row as usize]))
            .filter(|(row, score)| *score > 0.0 && self.visible.get(*row))
    }

    /// The scores of all rows in order, when most rows may have one: 0 where no term matches, and anything
    /// for rows that are not visible. None: [`LexicalScores::iter`] is the shorter way.
    pub fn in_order(&self) -> Option<&[f64]> {
        self.touched.is_none().then_some(self.scores)
    }

    /// The `limit` best of the eligible rows, best first; equal scores by `tie`, lowest first, then row.
    pub fn top_k<K: Ord>(
        &self,
        limit: usize,
        eligible: &Bitmap,
        tie: impl Fn(u32) -> K,
    ) -> Vec<(u32, f64)> {
        if limit == 0 {
            return Vec::new();
        }
        let order = |a: &(u32, f64), b: &(u32, f64)| best_first(a, b, &tie);
        let mut best: Vec<(u32, f64)> = Vec::new();
        let mut floor = 0.0;
        let room = limit.saturating_mul(2).max(64);
        for (row, score) in self.iter() {
            if score < floor || !eligible.get(row) {
                continue;
            }
            best.push((row, score));
            if best.len() >= room {
                best.select_nth_unstable_by(limit - 1, order);
                best.truncate(limit);
                floor = best[limit - 1].1;
            }
        }
        best.sort_unstable_by(order);
        best.truncate(limit);
        best
    }
}

fn best_first<K: Ord>(a: &(u32, f64), b: &(u32, f64), tie: impl Fn(u32) -> K) -> Ordering {
    b.1.total_cmp(&a.1)
        .then_with(|| tie(a.0).cmp(&tie(b.0)))
        .then_with(|| a.0.cmp(&b.0))
}

impl Snapshot {
    /// Scores the visible rows that hold any of `query`'s terms.
    ///
    /// A term counts as often as the query has it: a long query, such as a whole bug report, says
    /// by repeating what it is about. The order of the terms is of no account. Rows must lie below both [`Snapshot::rows`] and the number of lengths to be found.
    /// Errors: `Read` or `Storage` when postings cannot be read.
    pub fn score<'a>(
        &self,
        query: &[String],
        rows: Rows<'a>,
        scratch: &'a mut Scratch,
    ) -> Result<LexicalScores<'a>, LexicalError> {
        scratch.reset(rows.lengths.len());
        let norm = LengthNorm::new(rows.statistics);
        let filter = Filter::new(rows, self.rows);
        let mut terms = Vec::new();
        for (term, query_frequency) in term_counts(query) {
            let document_frequency = self.gather(term, filter, scratch)?;
            let idf = idf(rows.statistics.rows, document_frequency);
            let weight = f64::from(query_frequency) * idf;
            add_columns(weight, norm, rows.lengths, scratch);
            add_postings(weight, norm, rows.lengths, scratch);
            terms.push(TermStatistics {
                term: term.to_owned(),
                query_frequency,
                document_frequency,
            });
        }
        Ok(LexicalScores {
            terms,
            scores: &scratch.scores[..rows.lengths.len()],
            touched: (!scratch.everywhere).then_some(&scratch.touched[..]),
            visible: rows.visible,
        })
    }

    /// Puts the term's columns and its other postings in visible rows into the scratch; returns how many
    /// rows are live.
    fn gather(
        &self,
        term: &str,
        filter: Filter<'_>,
        scratch: &mut Scratch,
    ) -> Result<u64, LexicalError> {
        let Scratch {
            columns,
            block,
            rows,
            frequencies,
            ..
        } = scratch;
        columns.clear();
        rows.clear();
        frequencies.clear();
        for segment in self.committed.segments() {
            if let Some(column) = segment.column(term, block)? {
                columns.push(column);
                continue;
            }
            segment.read(term, block, |block, of_block| {
                let from = rows.len();
                rows.extend_from_slice(block);
                frequencies.extend_from_slice(of_block);
                filter.keep_visible(rows, frequencies, from);
            })?;
        }
        let from = rows.len();
        for posting in self.tail.iter().flat_map(|part| part.postings(term)) {
            rows.push(posting.row);
            frequencies.push(posting.frequency);
        }
        filter.keep_visible(rows, frequencies, from);
        let in_columns = columns.iter().map(|column| filter.count_in_column(column));
        Ok(in_columns.sum::<u64>() + filter.count_live(rows))
    }
}

/// The caller's sets, and whether they need to be looked at.
#[derive(Clone, Copy)]
struct Filter<'a> {
    visible: &'a Bitmap,
    live: &'a Bitmap,
    /// Rows from here on have no length and are not visible.
    limit: u32,
    all_visible: bool,
    all_live: bool,
}

impl<'a> Filter<'a> {
    fn new(rows: Rows<'a>, in_snapshot: u32) -> Self {
        let limit = u32::try_from(rows.lengths.len()).unwrap_or(u32::MAX);
        Self {
            visible: rows.visible,
            live: rows.live,
            limit,
            all_visible: in_snapshot <= limit && rows.visible.holds_all(in_snapshot),
            all_live: rows.live.holds_all(limit),
        }
    }

    /// Drops the postings at `from` and after that are not visible; without branches that depend
    /// on the data, which would cost more than the work.
    fn keep_visible(self, rows: &mut Vec<u32>, frequencies: &mut Vec<u32>, from: usize) {
        if self.all_visible {
            return;
        }
        let mut kept = from;
        for at in from..rows.len() {
            let row = rows[at];
            rows[kept] = row;
            frequencies[kept] = frequencies[at];
            kept += usize::from(row < self.limit && self.visible.get(row));
        }
        rows.truncate(kept);
        frequencies.truncate(kept);
    }

    fn count_in_column(self, column: &Column) -> u64 {
        if self.all_live && self.all_visible {
            return column.count();
        }
        column.count_in(self.live)
    }

    fn count_live(self, rows: &[u32]) -> u64 {
        if self.all_live {
            return rows.len() as u64;
        }
        rows.iter().map(|row| u64::from(self.live.get(*row))).sum()
    }
}

/// Inverse document frequency; above 0 for any `document_frequency` up to `rows`.
///
/// The logarithm is computed by `libm` in Rust, so its bits are the same on every machine.
pub(super) fn idf(rows: u64, document_frequency: u64) -> f64 {
    let (rows, frequency) = (rows as f64, document_frequency as f64);
    libm::log(1.0 + (rows - frequency + 0.5) / (frequency + 0.5))
}

/// k1 · (1 − b + b · (length + c) / (average + c)), as a line over the length.
#[derive(Clone, Copy)]
pub(super) struct LengthNorm {
    base: f64,
    slope: f64,
}

impl LengthNorm {
    pub(super) fn new(statistics: Statistics) -> Self {
        let average = statistics.total_length as f64 / statistics.rows.max(1) as f64;
        let slope = K1 * B / (average + LENGTH_OFFSET);
        Self {
            base: K1 * (1.0 - B) + slope * LENGTH_OFFSET,
            slope,
        }
    }

    /// The share of an occurrence count in its term's weight, between 0 and 1.
    #[inline]
    pub(super) fn saturate(self, frequency: u32, length: u32) -> f64 {
        let frequency = f64::from(frequency);
        frequency / (frequency + (self.base + self.slope * f64::from(length)))
    }
}

fn add_columns(weight: f64, norm: LengthNorm, lengths: &[u32], scratch: &mut Scratch) {
    for column in &scratch.columns {
        scratch.everywhere = true;
        column.add_to(&mut scratch.scores, lengths, weight, norm);
    }
}

fn add_postings(weight: f64, norm: LengthNorm, lengths: &[u32], scratch: &mut Scratch) {
    let Scratch {
        scores,
        touched,
        rows,
        frequencies,
        ..
    } = scratch;
    let mut count = touched.len();
    touched.resize(count + rows.len(), 0);
    for (row, frequency) in rows.iter().zip(frequencies.iter()) {
        let share = weight * norm.saturate(*frequency, lengths[*row as usize]);
        let score = &mut scores[*row as usize];
        // Every share is above 0, so only a row that was not touched yet has none.
        touched[count] = *row;
        count += usize::from(*score == 0.0);
        *score += share;
    }
    touched.truncate(count);
}
