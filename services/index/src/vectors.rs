//! The passages' vectors: one for each row, in row order, compared exactly.
//!
//! A vector is 384 whole numbers of 8 bits. What is compared is the cosine of these, from an exact integer
//! dot product and the norms, so a score has the same bits on every machine. Vectors come after the rows,
//! made in the background; they are kept in a log of their own, each with the content hash of its row, so
//! that one made for other content, or by another model, is never taken over.

use std::io;
use std::path::Path;

use crate::codec::{Decoder, Encoder, Malformed};
use crate::column::Column;
use crate::log::{Frames, HEADER, Log};
use crate::shelf::{RECORD, Shelf};
use crate::state::State;

pub use commonplace_embed::DIMENSION;

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
    codes: Column<Codes>,
    inverse_norms: Column<f64>,
    /// Rows below this number are read from disk.
    held_from: usize,
    shelf: Shelf,
}

impl Vectors {
    /// How many rows have one.
    pub(crate) fn len(&self) -> usize {
        self.codes.len()
    }

    pub(crate) fn push(&mut self, codes: Codes) {
        self.codes.push(codes);
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
        let dot = dot(&query.codes, self.codes.at(row));
        Ok(Some(
            f64::from(dot) * query.inverse_norm * self.inverse_norms.at(row),
        ))
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
        held.for_each(|row| take(row, std::slice::from_ref(self.codes.at(row))));
        Ok(())
    }

    /// Gives back the memory of vectors of rows below a number; they must have been flushed to the log.
    pub(crate) fn forget(&mut self, below: usize) {
        self.held_from = self.held_from.max(self.codes.forget(below));
        self.inverse_norms.forget(below);
    }

    /// Rows below this number are read from disk.
    pub(crate) fn held_from(&self) -> usize {
        self.held_from
    }

    /// Hands the scores of `rows` to `take`, run by run: the first row of a run and the run's scores.
    /// `rows` must lie below `len`; where it starts at a multiple of [`RUN`], so does each run. Only what is held in
    /// memory is scanned: see [`Vectors::scan_shelf`].
    /// Like [`Vectors::scan`] for rows below [`Vectors::held_from`].
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

    /// Scans rows in memory.
    pub(crate) fn scan(
        &self,
        query: &QueryVector,
        rows: std::ops::Range<usize>,
        mut take: impl FnMut(u32, &[f64]),
    ) {
        let mut dots = [0; RUN];
        let mut scores = [0.0; RUN];
        let chunks = self.codes.chunks(rows.end);
        for ((first, codes), (_, norms)) in chunks.zip(self.inverse_norms.chunks(rows.end)) {
            let skip = rows.start.saturating_sub(first).min(codes.len());
            let mut row = first + skip;
            let runs = codes[skip..].chunks(RUN).zip(norms[skip..].chunks(RUN));
            for (codes, norms) in runs {
                let (dots, scores) = (&mut dots[..codes.len()], &mut scores[..codes.len()]);
                scan_codes(&query.codes, codes, dots);
                for ((score, dot), norm) in scores.iter_mut().zip(&*dots).zip(norms) {
                    *score = f64::from(*dot) * query.inverse_norm * norm;
                }
                take(row as u32, scores);
                row += codes.len();
            }
        }
    }
}

/// A vector to compare with.
#[derive(Debug, Clone)]
pub(crate) struct QueryVector {
    codes: Codes,
    inverse_norm: f64,
}

impl QueryVector {
    pub(crate) fn new(codes: Codes) -> Self {
        Self {
            inverse_norm: inverse_norm(&codes),
            codes,
        }
    }

    /// The cosine with another vector; the same bits as a scan gives.
    fn score(&self, codes: &Codes) -> f64 {
        f64::from(dot(&self.codes, codes)) * self.inverse_norm * inverse_norm(codes)
    }

    /// As a unit vector of floats.
    pub(crate) fn unit(&self) -> Vec<f32> {
        unit(&self.codes)
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

fn scan_codes(query: &Codes, vectors: &[Codes], dots: &mut [i32]) {
    let scanned = commonplace_embed::dense::scan(query, vectors.as_flattened(), dots);
    debug_assert!(scanned.is_ok(), "one dot product for each vector");
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
