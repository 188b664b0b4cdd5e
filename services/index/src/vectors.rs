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
use crate::log::{Frames, Log};
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

    /// The cosine of a row's vector and another.
    pub(crate) fn score(&self, row: u32, query: &QueryVector) -> Option<f64> {
        let row = row as usize;
        (row < self.len()).then(|| {
            let dot = dot(&query.codes, self.codes.at(row));
            f64::from(dot) * query.inverse_norm * self.inverse_norms.at(row)
        })
    }

    /// Hands the scores of `rows` to `take`, run by run: the first row of a run and the run's scores.
    /// `rows` must lie below `len`; where it starts at a multiple of [`RUN`], so does each run.
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
    /// Opens or makes the log and loads what was made by this embedder for the rows of this state.
    pub(crate) fn open(
        path: &Path,
        fingerprint: &str,
        state: &State,
    ) -> io::Result<(Self, Vectors)> {
        let mut vectors = Vectors::default();
        let mut headed = false;
        let mut log = Log::open::<io::Error>(path, |payload| {
            if !headed {
                headed = payload == fingerprint.as_bytes();
                return Ok(headed);
            }
            Ok(take_frame(payload, state, &mut vectors).is_ok())
        })?;
        if !headed {
            log.append(fingerprint.as_bytes());
        }
        Ok((Self { log }, vectors))
    }

    /// Adds the vectors of the rows from `first` on.
    pub(crate) fn append(&mut self, first: usize, made: &[Made]) {
        let mut out = Encoder::default();
        out.number(first as u64);
        out.number(made.len() as u64);
        for (content, codes) in made {
            out.fixed(content);
            out.fixed(&codes.map(|code| code as u8));
        }
        self.log.append(&out.finish());
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
