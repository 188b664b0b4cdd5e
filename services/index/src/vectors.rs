//! The passages' vectors: one for each row, in row order, compared exactly.
//!
//! A vector is 384 whole numbers of 8 bits. What is compared is the cosine of these, from an exact integer
//! dot product and the norms, so a score has the same bits on every machine. A scan reads the upper halves of the
//! codes first, which bound each score, and the lower halves of those rows only that may still be among the best: what
//! it finds is what comparing all of both would find. Vectors come after the rows, made in the background; they are kept in a log of their own, each with the content hash of its row, so
//! that one made for other content, or by another model, is never taken over.

use std::io;
use std::path::Path;

use crate::codec::{Decoder, Encoder, Malformed};
use crate::column::Column;
use crate::log::{Frames, HEADER, Log};
use crate::shelf::{RECORD, Shelf};
use crate::state::State;

use commonplace_embed::dense::halves::{self, Plane};

pub use commonplace_embed::DIMENSION;

/// When as many of 64 rows may be among the best, the lower halves of all are compared: that is as quick, and memory is
/// read in order.
const WORTH_ALL: u32 = 16;

/// Rows compared in one go.
pub(crate) const RUN: usize = 512;

/// A quantized vector.
pub type Codes = [i8; DIMENSION];

/// A vector, with the content hash of the row that it was made for.
pub(crate) type Made = ([u8; 16], Codes);

/// Turns texts into vectors: always the same one for the same text.
pub trait Embedder: Send + Sync + 'static {
    /// Names model, revision, dimension, tokenizer and quantizer.
    fn fingerprint(&self) -> &str;
    /// The vector of a text.
    fn embed(&self, text: &str) -> Codes;
}

impl Embedder for commonplace_embed::Model {
    fn fingerprint(&self) -> &str {
        commonplace_embed::Model::fingerprint(self)
    }

    fn embed(&self, text: &str) -> Codes {
        commonplace_embed::Model::embed(self, text).codes
    }
}

/// Vectors of the first rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vectors {
    upper: Column<Plane>,
    lower: Column<Plane>,
    /// Of the lower halves.
    spreads: Column<u16>,
    inverse_norms: Column<f64>,
    /// Rows below this number are read from disk.
    held_from: usize,
    shelf: Shelf,
}

impl Vectors {
    /// How many rows have one.
    pub(crate) fn len(&self) -> usize {
        self.upper.len()
    }

    pub(crate) fn push(&mut self, codes: Codes) {
        let (upper, lower) = halves::split(&codes);
        self.upper.push(upper);
        self.spreads.push(halves::spread(&lower));
        self.lower.push(lower);
        self.inverse_norms.push(inverse_norm(&codes));
    }

    /// The cosine of a row's vector and another; none for a row without one. Error: it cannot be read.
    pub(crate) fn score(&self, row: u32, query: &QueryVector) -> io::Result<Option<f64>> {
        let row = row as usize;
        if row >= self.len() {
            return Ok(None);
        }
        if row < self.held_from {
            let mut score = None;
            self.shelf.read(row..row + 1, |_, codes| {
                score = codes.first().map(|codes| query.score(codes))
            })?;
            return Ok(score);
        }
        let mut sums = [0; 2];
        let planes = [*self.upper.at(row), *self.lower.at(row)];
        query.halves.scan(&planes, &mut sums);
        let dot = query.halves.whole(sums[0], sums[1]);
        Ok(Some(query.cosine(dot, *self.inverse_norms.at(row))))
    }

    /// Hands the vectors of `rows`, all of which must have one, to `take`, some at a time.
    pub(crate) fn read(
        &self,
        rows: std::ops::Range<usize>,
        mut take: impl FnMut(usize, &[Codes]),
    ) -> io::Result<()> {
        let shelved = rows.start..rows.end.min(self.held_from).max(rows.start);
        let held = shelved.end..rows.end;
        self.shelf.read(shelved, &mut take)?;
        held.for_each(|row| take(row, &[self.codes(row)]));
        Ok(())
    }

    /// The vector of a row that is held in memory.
    fn codes(&self, row: usize) -> Codes {
        halves::join(self.upper.at(row), self.lower.at(row))
    }

    /// Gives back the memory of vectors of rows below a number; they must have been flushed to the log.
    pub(crate) fn forget(&mut self, below: usize) {
        self.held_from = self.held_from.max(self.upper.forget(below));
        self.lower.forget(below);
        self.spreads.forget(below);
        self.inverse_norms.forget(below);
    }

    /// Rows below this number are read from disk.
    pub(crate) fn held_from(&self) -> usize {
        self.held_from
    }

    /// Hands the rows of `rows` with their scores to `take`, one by one. They must lie below
    /// [`Vectors::held_from`], and are read from disk.
    pub(crate) fn scan_shelf(
        &self,
        query: &QueryVector,
        rows: std::ops::Range<usize>,
        mut take: impl FnMut(u32, f64),
    ) -> io::Result<()> {
        self.shelf.read(rows, |first, codes| {
            for (row, codes) in (first..).zip(codes) {
                take(row as u32, query.score(codes));
            }
        })
    }

    /// Hands `rows` to `take`, run by run, each with what its scores do not exceed. They must lie below `len`; where they
    /// start at a multiple of [`RUN`], so does each run. Only what is held in memory is scanned: see
    /// [`Vectors::scan_shelf`].
    pub(crate) fn scan(
        &self,
        query: &QueryVector,
        rows: std::ops::Range<usize>,
        mut take: impl FnMut(Bounded<'_>),
    ) {
        let mut uppers = [0; RUN];
        let mut highest = [0.0; RUN];
        let upper = self.upper.chunks(rows.end);
        let lower = self
            .lower
            .chunks(rows.end)
            .zip(self.spreads.chunks(rows.end));
        let rest = lower.zip(self.inverse_norms.chunks(rows.end));
        for ((first, upper), (((_, lower), (_, spreads)), (_, norms))) in upper.zip(rest) {
            let mut at = rows.start.saturating_sub(first).min(upper.len());
            while at < upper.len() {
                let run = at..upper.len().min(at + RUN);
                let (uppers, highest) = (&mut uppers[..run.len()], &mut highest[..run.len()]);
                query.halves.scan(&upper[run.clone()], uppers);
                query.bound(uppers, &spreads[run.clone()], &norms[run.clone()], highest);
                take(Bounded {
                    query,
                    first: (first + at) as u32,
                    highest,
                    uppers,
                    lower: &lower[run.clone()],
                    norms: &norms[run.clone()],
                });
                at = run.end;
            }
        }
    }
}

/// Neighbouring rows of which the upper halves were compared.
pub(crate) struct Bounded<'a> {
    query: &'a QueryVector,
    /// The number of the first row.
    pub(crate) first: u32,
    /// What their scores do not exceed.
    pub(crate) highest: &'a [f64],
    uppers: &'a [i32],
    lower: &'a [Plane],
    norms: &'a [f64],
}

impl Bounded<'_> {
    /// Writes the scores of some of up to 64 rows, from the one with number `from` on, named by their bits in `wanted`;
    /// in the places of others stands anything.
    pub(crate) fn scores(&self, from: u32, wanted: u64, scores: &mut [f64; 64]) {
        let at = (from - self.first) as usize;
        let rows = at..self.lower.len().min(at + 64);
        let mut lowers = [0; 64];
        let halves = &self.query.halves;
        if wanted.count_ones() < WORTH_ALL {
            halves.scan_some(&self.lower[rows.clone()], wanted, &mut lowers);
        } else {
            halves.scan(&self.lower[rows.clone()], &mut lowers);
        }
        let rows = self.uppers[rows.clone()].iter().zip(&self.norms[rows]);
        for ((score, lower), (upper, norm)) in scores.iter_mut().zip(lowers).zip(rows) {
            *score = self.query.cosine(halves.whole(*upper, lower), *norm);
        }
    }
}

/// A vector to compare with.
#[derive(Debug, Clone)]
pub(crate) struct QueryVector {
    halves: halves::Query,
    inverse_norm: f64,
}

impl QueryVector {
    pub(crate) fn new(codes: Codes) -> Self {
        Self {
            inverse_norm: inverse_norm(&codes),
            halves: halves::Query::new(codes),
        }
    }

    /// The cosine with another vector; the same bits as a scan gives.
    fn score(&self, codes: &Codes) -> f64 {
        self.cosine(dot(self.halves.codes(), codes), inverse_norm(codes))
    }

    /// The cosine of which this is the dot product; `inverse_norm`: of the other vector.
    fn cosine(&self, dot: i32, inverse_norm: f64) -> f64 {
        f64::from(dot) * self.inverse_norm * inverse_norm
    }

    /// Writes what the cosines do not exceed. They come from numbers that are not below the dot products by the same
    /// operations, halved, which is exact; rounding keeps the order, so no bound is below its cosine.
    fn bound(&self, uppers: &[i32], spreads: &[u16], norms: &[f64], highest: &mut [f64]) {
        let half = self.inverse_norm * 0.5;
        let rows = uppers.iter().zip(spreads).zip(norms);
        for (highest, ((upper, spread), norm)) in highest.iter_mut().zip(rows) {
            *highest = f64::from(self.halves.twice_highest(*upper, *spread)) * half * norm;
        }
    }

    /// As a unit vector of floats.
    pub(crate) fn unit(&self) -> Vec<f32> {
        unit(self.halves.codes())
    }
}

/// A vector of length 1 in the same direction. A vector of nothing but zeros stays as it is.
pub(crate) fn unit(codes: &Codes) -> Vec<f32> {
    let inverse_norm = inverse_norm(codes);
    let scaled = |code: &i8| (f64::from(*code) * inverse_norm) as f32;
    codes.iter().map(scaled).collect()
}

fn inverse_norm(codes: &Codes) -> f64 {
    match dot(codes, codes) {
        0 => 0.0,
        square => 1.0 / f64::from(square).sqrt(),
    }
}

fn dot(a: &Codes, b: &Codes) -> i32 {
    commonplace_embed::dense::dot(a, b)
}

/// Keeps vectors on disk.
#[derive(Debug)]
pub(crate) struct VectorLog {
    log: Log,
}

impl VectorLog {
    /// Opens or makes the log and loads what was made by this embedder for the rows of this state. Holds at most
    /// about `held` vectors in memory, the last ones.
    pub(crate) fn open(
        path: &Path,
        fingerprint: &str,
        state: &State,
        held: usize,
    ) -> io::Result<(Self, Vectors)> {
        let mut vectors = Vectors::default();
        let mut headed = false;
        let mut end = 0;
        let mut log = Log::open::<io::Error>(path, |payload| {
            end += (HEADER + payload.len()) as u64;
            if !headed {
                headed = payload == fingerprint.as_bytes();
                return Ok(headed);
            }
            let before = vectors.len();
            let taken = take_frame(payload, state, &mut vectors).is_ok();
            let count = vectors.len() - before;
            vectors.shelf.add(end - (count * RECORD) as u64, count);
            vectors.forget(vectors.len().saturating_sub(held));
            Ok(taken)
        })?;
        if !headed {
            log.append(fingerprint.as_bytes());
        }
        vectors.shelf.read_from(log.reader()?);
        Ok((Self { log }, vectors))
    }

    /// Adds the vectors of the rows from `first` on, to both.
    pub(crate) fn append(&mut self, vectors: &mut Vectors, first: usize, made: &[Made]) {
        let mut out = Encoder::default();
        out.number(first as u64);
        out.number(made.len() as u64);
        for (content, codes) in made {
            out.fixed(content);
            out.fixed(&codes.map(|code| code as u8));
        }
        let payload = out.finish();
        let at = self.log.append(&payload);
        let records = at + (payload.len() - made.len() * RECORD) as u64;
        vectors.shelf.add(records, made.len());
    }

    /// Bytes waiting for [`VectorLog::flush`].
    pub(crate) fn pending_bytes(&self) -> usize {
        self.log.pending_bytes()
    }

    /// Writes what was appended.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.log.flush(false)
    }
}

/// Takes over a frame whose vectors follow on and belong to the rows' content. Error: they do not.
fn take_frame(payload: &[u8], state: &State, vectors: &mut Vectors) -> Result<(), Malformed> {
    let (first, made) = decode_frame(payload)?;
    if first != vectors.len() || !belong(&made, first, state) {
        return Err(Malformed);
    }
    made.into_iter().for_each(|(_, codes)| vectors.push(codes));
    Ok(())
}

/// Whether vectors were made for the content that the rows from `first` on have.
fn belong(made: &[Made], first: usize, state: &State) -> bool {
    let end = first + made.len();
    end <= state.rows.len()
        && state
            .rows
            .range(first, end)
            .zip(made)
            .all(|(row, (content, _))| row.content == *content)
}

/// The vectors of an index that was thrown away: its rows come again in the same order, so most of them,
/// and mostly all, need not be made again.
#[derive(Debug)]
pub(crate) struct Kept {
    frames: Frames,
    /// Read, but not yet of use: the first row, and what was made.
    next: Option<(usize, Vec<Made>)>,
}

impl Kept {
    /// Opens what was kept. None: nothing was, or it was made by another embedder.
    pub(crate) fn open(path: &Path, fingerprint: &str) -> Option<Self> {
        let mut frames = Frames::open(path).ok()?;
        let head = frames.next()?;
        (head == fingerprint.as_bytes()).then_some(Self { frames, next: None })
    }

    /// The vectors of the next rows, from `first` on. None: they are not there, or these rows have not come
    /// yet. Error: nothing further is of use.
    pub(crate) fn next(
        &mut self,
        first: usize,
        state: &State,
    ) -> Result<Option<Vec<Made>>, Malformed> {
        loop {
            let (from, mut made) = match self.next.take() {
                Some(next) => next,
                None => decode_frame(&self.frames.next().ok_or(Malformed)?)?,
            };
            if from > first {
                return Err(Malformed);
            }
            if from + made.len() <= first {
                continue;
            }
            if from + made.len() > state.rows.len() {
                self.next = Some((from, made));
                return Ok(None);
            }
            let made = made.split_off(first - from);
            return match belong(&made, first, state) {
                true => Ok(Some(made)),
                false => Err(Malformed),
            };
        }
    }
}

fn decode_frame(payload: &[u8]) -> Result<(usize, Vec<Made>), Malformed> {
    let mut input = Decoder::new(payload);
    let first = input.small()? as usize;
    let count = input.small()?;
    let made = (0..count)
        .map(|_| {
            let content = input.fixed()?;
            Ok((content, input.fixed::<DIMENSION>()?.map(|byte| byte as i8)))
        })
        .collect::<Result<_, _>>()?;
    input.end()?;
    Ok((first, made))
}

#[cfg(test)]
mod tests;
