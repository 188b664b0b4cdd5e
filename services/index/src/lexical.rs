//! Finds rows by words: postings on disk, a tail in memory, and scores that are exact as of a commit.
//!
//! One `Lexical` serves one project. Rows are added in ascending order without gaps and are never
//! taken out; whether a row counts is the caller's set of rows. tantivy keeps the postings of rows
//! that were committed; a tail in memory keeps those that were not, so a row can be found as soon
//! as a snapshot is taken after [`Lexical::add`].
//!
//! What always holds: the score of a row depends only on the rows, the sets passed to
//! [`Snapshot::score`] and the query, never on segments, merges, commits or the order of the query.
//! Document frequencies are counted in the postings, not taken from the engine, and lengths are
//! exact. A commit is atomic and carries the caller's cursor: what is found on opening is all rows
//! up to it and nothing after.
//!
//! It leaves out positions, phrases, stored text and deletion, and decides neither when to commit
//! nor which rows are visible.

mod column;
mod engine;
mod score;
mod tail;
#[cfg(test)]
mod tests;

pub use score::{B, K1, LENGTH_OFFSET, LexicalScores, Rows, Scratch, Statistics, TermStatistics};

use engine::{Committed, Engine, Pending};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tail::Tail;

/// A term may have at most this many bytes; the analyser's have at most 120.
pub const MAX_TERM_BYTES: usize = 1_000;

/// How far a commit goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Rows below this number are in the index.
    pub rows: u32,
    /// What the caller passed to [`Lexical::commit`].
    pub payload: String,
}

/// Why words cannot be indexed or searched.
#[derive(Debug, thiserror::Error)]
pub enum LexicalError {
    /// The folder was written by another analyser or layout: wipe it and build it again.
    #[error("lexical index was written by `{found}`, expected `{expected}`")]
    Mismatch {
        /// What this program writes.
        expected: String,
        /// What the folder says.
        found: String,
    },
    /// The folder contradicts itself: wipe it and build it again.
    #[error("lexical index is damaged: {problem}")]
    Corrupt {
        /// What does not fit.
        problem: String,
    },
    /// A row was skipped or repeated.
    #[error("row: expected {expected}, got {got}")]
    RowOrder {
        /// The next row.
        expected: u32,
        /// The row that was passed.
        got: u32,
    },
    /// A term cannot be kept.
    #[error("terms[{position}]: {problem}")]
    Term {
        /// Which of the row's terms.
        position: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The disk or the engine failed. On opening: wipe the folder and build it again.
    #[error("lexical index storage failed")]
    Storage(#[from] tantivy::TantivyError),
    /// Reading postings failed.
    #[error("lexical index could not be read")]
    Read(#[from] std::io::Error),
}

impl LexicalError {
    /// The kind of error with which the system refused a file, unless it says that the file is missing or not
    /// as it should be. LockBusy counts: it passes.
    pub fn refused_by_system(&self) -> Option<std::io::ErrorKind> {
        use std::io::ErrorKind;
        use tantivy::TantivyError as Error;
        use tantivy::directory::error::{
            LockError, OpenDirectoryError, OpenReadError, OpenWriteError,
        };
        let Self::Storage(error) = self else {
            return None;
        };
        let kind = match error {
            Error::IoError(error)
            | Error::OpenReadError(OpenReadError::IoError {
                io_error: error, ..
            })
            | Error::OpenWriteError(OpenWriteError::IoError {
                io_error: error, ..
            })
            | Error::OpenDirectoryError(OpenDirectoryError::IoError {
                io_error: error, ..
            })
            | Error::LockFailure(LockError::IoError(error), _) => error.kind(),
            Error::LockFailure(LockError::LockBusy, _) => ErrorKind::ResourceBusy,
            Error::SystemError(_) => ErrorKind::Other,
            _ => return None,
        };
        let damage = [
            ErrorKind::NotFound,
            ErrorKind::InvalidData,
            ErrorKind::UnexpectedEof,
        ];
        (!damage.contains(&kind)).then_some(kind)
    }
}

/// The words of one project.
pub struct Lexical {
    engine: Mutex<Engine>,
    state: Mutex<State>,
}

/// What `add`, `commit` and `snapshot` share; locked only for short steps in memory.
struct State {
    committed: Arc<Committed>,
    tail: Tail,
    pending: Vec<Pending>,
    next_row: u32,
    /// The last snapshot, while nothing has changed since.
    snapshot: Option<Arc<Snapshot>>,
}

/// All rows added before it was taken. Immutable, cheap to clone and to hold.
pub struct Snapshot {
    committed: Arc<Committed>,
    tail: Vec<Arc<tail::Part>>,
    rows: u32,
}

impl Lexical {
    /// Opens or creates the index in `dir`, which must exist, and tells how far its last commit goes.
    ///
    /// Errors: `Mismatch`, `Corrupt` or `Storage` for a folder that must be wiped and built again.
    pub fn open(dir: &Path) -> Result<(Self, Option<Cursor>), LexicalError> {
        let (engine, committed, cursor) = Engine::open(dir)?;
        let next_row = cursor.as_ref().map_or(0, |cursor| cursor.rows);
        let state = State {
            committed: Arc::new(committed),
            tail: Tail::new(next_row),
            pending: Vec::new(),
            next_row,
            snapshot: None,
        };
        let lexical = Self {
            engine: Mutex::new(engine),
            state: Mutex::new(state),
        };
        Ok((lexical, cursor))
    }

    /// Adds the next row with its terms, in any order, repeated as often as they occur.
    ///
    /// Takes microseconds and never touches the disk. Errors: `RowOrder`, `Term`.
    pub fn add(&self, row: u32, terms: &[String]) -> Result<(), LexicalError> {
        check_terms(terms)?;
        let pending = Pending::new(row, terms);
        let mut state = lock(&self.state);
        if row != state.next_row {
            return Err(LexicalError::RowOrder {
                expected: state.next_row,
                got: row,
            });
        }
        state.tail.add(row, terms);
        state.pending.push(pending);
        state.next_row += 1;
        state.snapshot = None;
        Ok(())
    }

    /// Makes all rows added so far durable together with `payload`, and frees their tail.
    ///
    /// Takes 45 to 60 ms and blocks: run it on a thread that may. Adding, taking snapshots and
    /// searching go on meanwhile. After an error nothing is lost: the rows stay in the tail and the
    /// next commit tries them again.
    pub fn commit(&self, payload: &str) -> Result<Cursor, LexicalError> {
        let mut engine = lock(&self.engine);
        let (batch, cursor) = {
            let mut state = lock(&self.state);
            state.tail.seal_for_commit();
            let cursor = Cursor {
                rows: state.next_row,
                payload: payload.to_owned(),
            };
            (std::mem::take(&mut state.pending), cursor)
        };
        let outcome = engine.commit(&batch, &cursor);
        let mut state = lock(&self.state);
        match outcome {
            Ok(committed) => {
                state.committed = Arc::new(committed);
                state.tail.drop_below(cursor.rows);
                state.snapshot = None;
                Ok(cursor)
            }
            Err(error) => {
                let newer = std::mem::replace(&mut state.pending, batch);
                state.pending.extend(newer);
                Err(error)
            }
        }
    }

    /// Gives back the writer's threads and memory until the next commit; waits for running merges.
    pub fn rest(&self) -> Result<(), LexicalError> {
        lock(&self.engine).rest()
    }

    /// The rows added so far, to search in.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut state = lock(&self.state);
        if let Some(snapshot) = &state.snapshot {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new(Snapshot {
            committed: Arc::clone(&state.committed),
            tail: state.tail.parts(),
            rows: state.next_row,
        });
        state.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// The number of the row to add next.
    pub fn next_row(&self) -> u32 {
        lock(&self.state).next_row
    }

    /// How many rows wait for a commit.
    pub fn pending_rows(&self) -> usize {
        lock(&self.state).pending.len()
    }
}

impl Snapshot {
    /// Rows below this number can be found in it.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How many segments its committed rows are in; for figures and tests.
    pub fn segments(&self) -> usize {
        self.committed.segments().len()
    }
}

fn check_terms(terms: &[String]) -> Result<(), LexicalError> {
    for (position, term) in terms.iter().enumerate() {
        let problem = if term.is_empty() {
            "must not be empty"
        } else if term.len() > MAX_TERM_BYTES {
            "must have at most 1000 bytes"
        } else if term.contains(engine::SEPARATOR) {
            "must not hold U+001F"
        } else {
            continue;
        };
        return Err(LexicalError::Term { position, problem });
    }
    Ok(())
}

/// A panic elsewhere cannot leave these states half changed in a way that matters: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
