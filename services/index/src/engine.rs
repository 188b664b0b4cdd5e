//! The index of one project: takes in commits, keeps them on disk, gives readers a fixed state.
//!
//! One writer at a time; readers take the published [`Snapshot`] and never wait. What is on disk is cut
//! back to the last index commit when it is opened, so after a crash the engine stands at some commit of
//! the feed and goes on from there. A folder that does not fit together is an error that says
//! so; throwing it away is the owner's part.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use commonplace_types::{CommitHash, Operation};
use tokio::sync::watch;

use crate::feed::Frame;
use crate::lexical::{self, Lexical, LexicalError};
use crate::log::Log;
use crate::parts::KeptParts;
use crate::prepare::{Prepared, prepare};
use crate::qdrant::Outside;
use crate::record::encode;
use crate::state::{Builder, State};
use crate::texts::{TextWriter, Texts};
use crate::vectors::{Embedder, Kept, Made, VectorLog, Vectors};
use crate::visibility::Views;
use crate::{analyzer, budget, passage};

/// Views of commits kept for each project.
const VIEWS: usize = 6;
/// Rows logs larger than this are written out before the next index commit.
const PENDING_BYTES: usize = 8 << 20;

const VECTORS: &str = "vectors.log";
const KEPT_VECTORS: &str = "vectors.kept";

/// Why a project's index cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The folder does not fit together or is of another version: throw it away and build it again.
    #[error("the index folder is of no use: {problem}")]
    Damaged {
        problem: String,
        #[source]
        cause: Option<LexicalError>,
    },
    /// The feed tells another history: throw the folder away and build it again.
    #[error("the journal tells another history from commit {number} on")]
    Diverged { number: u64 },
    /// The disk failed: open the folder again later.
    #[error("the index folder cannot be read or written")]
    Storage(#[from] std::io::Error),
}

fn damaged(problem: impl Into<String>) -> EngineError {
    EngineError::Damaged {
        problem: problem.into(),
        cause: None,
    }
}

impl From<LexicalError> for EngineError {
    /// What the system refuses (a full disk, too many open files) says nothing about what is on disk: that is
    /// kept, and opened again later.
    fn from(error: LexicalError) -> Self {
        if let Some(cause) = error.refused_by_system() {
            return Self::Storage(std::io::Error::new(cause, error));
        }
        Self::Damaged {
            problem: error.to_string(),
            cause: Some(error),
        }
    }
}

/// How far an engine has come, in commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Commits taken in: those below this number can be searched by words.
    pub(crate) commits: u64,
    /// Commits below this number have all their vectors.
    pub(crate) dense: u64,
    /// Commits below this number are in the vector store, if there is one.
    pub(crate) stored: u64,
    /// How often that store had come up when it was last found to hold them; 0 is never.
    pub(crate) checked: u64,
}

/// A fixed state, to read from.
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) words: Arc<lexical::Snapshot>,
    pub(crate) texts: Texts,
    pub(crate) vectors: Vectors,
    pub(crate) progress: Progress,
}

/// The index of one project.
pub(crate) struct Engine {
    writer: Mutex<Writer>,
    published: RwLock<Arc<Snapshot>>,
    progress: watch::Sender<Progress>,
    views: Views,
    parts: KeptParts,
    /// Vectors of the index that stood here before.
    kept: Mutex<Option<Kept>>,
    threads: usize,
    /// The vector store, if dense candidates come from one.
    outside: OnceLock<Arc<Outside>>,
}

/// What only the writer touches.
struct Writer {
    builder: Builder,
    log: Log,
    texts: TextWriter,
    lexical: Lexical,
    vectors: Vectors,
    vector_log: Option<VectorLog>,
    /// Commits below this number have all their vectors.
    dense: usize,
    /// Commits that the last index commit holds.
    durable: usize,
    /// Commits below this number are in the vector store.
    stored: usize,
    checked: u64,
    /// Vectors in the file of their log.
    flushed_vectors: usize,
    /// Most vectors held in memory besides those that are not on disk yet.
    held_vectors: usize,
}

impl Engine {
    /// Opens or makes the index in a folder. `threads`: how many may prepare events. `held_vectors`: most held in
    /// memory, give or take a few thousand; the others are read from disk.
    pub(crate) fn open(
        folder: &Path,
        embedder: Option<&dyn Embedder>,
        threads: usize,
        held_vectors: usize,
    ) -> Result<Self, EngineError> {
        check_format(folder)?;
        let words = folder.join("lexical");
        std::fs::create_dir_all(&words)?;
        let (lexical, cursor) = Lexical::open(&words)?;
        let (builder, log) = load_rows(&folder.join("rows.log"), cursor.as_ref())?;
        let texts = TextWriter::open(&folder.join("texts"), builder.text_end)
            .map_err(|error| damaged(error.to_string()))?;
        let opened = embedder
            .map(|embedder| {
                let path = folder.join(VECTORS);
                VectorLog::open(&path, embedder.fingerprint(), &builder.state, held_vectors)
            })
            .transpose()?;
        let (vector_log, vectors) = opened.map_or((None, Vectors::default()), |(log, vectors)| {
            (Some(log), vectors)
        });
        let mut writer = Writer {
            durable: builder.state.commits.len(),
            builder,
            log,
            texts,
            lexical,
            flushed_vectors: vectors.len(),
            vectors,
            vector_log,
            dense: 0,
            stored: 0,
            checked: 0,
            held_vectors,
        };
        let snapshot = writer.snapshot();
        let kept = embedder.and_then(|embedder| {
            let path = folder.join(KEPT_VECTORS);
            Kept::open(&path, embedder.fingerprint())
        });
        Ok(Self {
            kept: Mutex::new(kept),
            progress: watch::Sender::new(snapshot.progress),
            published: RwLock::new(Arc::new(snapshot)),
            writer: Mutex::new(writer),
            views: Views::new(VIEWS),
            parts: KeptParts::default(),
            threads,
            outside: OnceLock::new(),
        })
    }

    /// The present state.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let published = self.published.read();
        Arc::clone(&published.unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of progress.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether a commit has been taken in.
    pub(crate) fn holds(&self, commit: &CommitHash) -> bool {
        self.snapshot().state.commit_number(commit).is_some()
    }

    /// What commits see.
    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    /// Which rows belong to parts of the project.
    pub(crate) fn parts(&self) -> &KeptParts {
        &self.parts
    }

    /// Where the feed is to be resumed; empty means from the start.
    pub(crate) fn cursor(&self) -> String {
        self.writer().builder.cursor.clone()
    }

    /// Depends on the commits taken in and on nothing else.
    pub(crate) fn digest(&self) -> String {
        self.writer().builder.digest()
    }

    /// Takes in the next commits; afterwards they can be searched by words. After an error the engine is of
    /// no further use.
    pub(crate) fn apply(&self, frames: &[Frame]) -> Result<(), EngineError> {
        let prepared = prepare(frames, self.threads);
        let mut writer = self.writer();
        for (frame, events) in frames.iter().zip(prepared) {
            writer.take(frame, &events)?;
        }
        writer.texts.flush()?;
        if writer.log.pending_bytes() > PENDING_BYTES {
            writer.log.flush(false)?;
        }
        self.publish(&mut writer);
        Ok(())
    }

    /// The title and text of rows that wait for a vector: at most `most`, in order. The first is row number
    /// `.0`.
    pub(crate) fn without_vector(&self, most: usize) -> (usize, Vec<[u8; 16]>, Vec<String>) {
        let snapshot = self.snapshot();
        let first = snapshot.vectors.len();
        let last = snapshot.state.rows.len().min(first + most);
        let mut contents = Vec::new();
        let mut texts = Vec::new();
        for row in snapshot.state.rows.range(first, last) {
            let event = snapshot.state.events.at(row.event as usize);
            // A text that cannot be read is noticed, and mended, where somebody asks for it.
            let title = snapshot.texts.head(event).map(|head| head.title);
            let text = snapshot.texts.text(event, row.start, row.end);
            let (Ok(title), Ok(text)) = (title, text) else {
                break;
            };
            contents.push(row.content);
            texts.push(format!("{title}\n{text}"));
        }
        (first, contents, texts)
    }

    /// Takes over vectors of the index that stood here before. False: there are none for the next rows.
    pub(crate) fn adopt_vectors(&self) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = kept.as_mut() else {
            return false;
        };
        let snapshot = self.snapshot();
        let first = snapshot.vectors.len();
        match source.next(first, &snapshot.state) {
            Ok(Some(made)) => {
                self.add_vectors(first, &made);
                true
            }
            Ok(None) => false,
            Err(_) => {
                *kept = None;
                false
            }
        }
    }

    /// Adds vectors of the rows from `first` on. What does not follow on is left out.
    pub(crate) fn add_vectors(&self, first: usize, made: &[Made]) {
        let mut guard = self.writer();
        let writer = &mut *guard;
        if writer.vectors.len() != first {
            return;
        }
        if let Some(log) = &mut writer.vector_log {
            log.append(&mut writer.vectors, first, made);
        }
        for (_, codes) in made {
            writer.vectors.push(*codes);
        }
        if let Err(error) = writer.flush_vectors(PENDING_BYTES) {
            // They stay in memory; the next flush tells whoever can do something about it.
            tracing::warn!(%error, "vectors cannot be written");
        }
        self.publish(writer);
    }

    /// Has dense candidates come from a store. `commits`: those below this number are in it, as far as is known.
    pub(crate) fn use_store(&self, outside: Arc<Outside>, commits: u64) {
        let _ = self.outside.set(outside);
        self.set_stored(commits, 0);
    }

    /// The vector store, if dense candidates come from one.
    pub(crate) fn outside(&self) -> Option<&Arc<Outside>> {
        self.outside.get()
    }

    /// Notes that commits below a number are in the vector store, as it was found after coming up for the
    /// `epoch`th time.
    pub(crate) fn set_stored(&self, commits: u64, epoch: u64) {
        let mut writer = self.writer();
        writer.stored = (commits as usize).min(writer.builder.state.commits.len());
        writer.checked = epoch;
        writer.forget_vectors();
        self.publish(&mut writer);
    }

    /// Rows that are not on disk yet.
    pub(crate) fn pending_rows(&self) -> usize {
        self.writer().lexical.pending_rows()
    }

    /// Puts everything taken in so far on disk, as one index commit.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let mut writer = self.writer();
        writer.flush_vectors(0)?;
        let commits = writer.builder.state.commits.len();
        if writer.durable == commits {
            return Ok(());
        }
        writer.texts.sync()?;
        writer.log.flush(true)?;
        let last = writer.builder.state.commits.at(commits - 1);
        let payload = format!("{} {}", commits - 1, last.hash);
        writer.lexical.commit(&payload)?;
        writer.durable = commits;
        self.publish(&mut writer);
        Ok(())
    }

    /// Gives back memory that only writing needs.
    pub(crate) fn rest(&self) -> Result<(), EngineError> {
        Ok(self.writer().lexical.rest()?)
    }

    fn publish(&self, writer: &mut Writer) {
        let snapshot = Arc::new(writer.snapshot());
        let progress = snapshot.progress;
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.progress.send_replace(progress);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Writes vectors out when more than so many bytes of them wait, and frees the memory of those that need not
    /// be held.
    fn flush_vectors(&mut self, most_pending: usize) -> std::io::Result<()> {
        let Some(log) = self.vector_log.as_mut() else {
            return Ok(());
        };
        if log.pending_bytes() > most_pending {
            log.flush()?;
            self.flushed_vectors = self.vectors.len();
            self.forget_vectors();
        }
        Ok(())
    }

    /// Holds on to what is not on disk, what the vector store has not got, and not more than the most.
    fn forget_vectors(&mut self) {
        if self.held_vectors == usize::MAX {
            return;
        }
        let last = self.stored.checked_sub(1);
        let stored = last.map_or(0, |last| self.builder.state.commits.at(last).rows as usize);
        let below = stored.max(self.vectors.len().saturating_sub(self.held_vectors));
        self.vectors.forget(below.min(self.flushed_vectors));
    }

    fn take(&mut self, frame: &Frame, events: &[Prepared]) -> Result<(), EngineError> {
        self.check_order(frame)?;
        let state = &self.builder.state;
        let mut own = HashSet::new();
        let mut is_fresh = |id| own.insert(id) && state.event_number(id).is_none();
        let fresh: Vec<bool> = frame.events.iter().map(|e| is_fresh(e.id)).collect();
        let payload = encode(frame, &fresh, |place| &events[place].rows[..]);
        for ((event, prepared), fresh) in frame.events.iter().zip(events).zip(fresh) {
            if fresh && event.draft.operation == Operation::Assert {
                self.texts.append(event);
                for terms in &prepared.terms {
                    self.lexical.add(self.lexical.next_row(), terms)?;
                }
            }
        }
        let applied = self.builder.apply(&payload);
        applied.map_err(|error| damaged(error.to_string()))?;
        self.log.append(&payload);
        Ok(())
    }

    fn check_order(&self, frame: &Frame) -> Result<(), EngineError> {
        let commits = &self.builder.state.commits;
        let last = commits.len().checked_sub(1);
        let expected: Option<CommitHash> = last.map(|last| commits.at(last).hash);
        if frame.number == commits.len() as u64 && frame.previous == expected {
            return Ok(());
        }
        Err(EngineError::Diverged {
            number: frame.number,
        })
    }

    fn snapshot(&mut self) -> Snapshot {
        let state = &self.builder.state;
        let embedded = |dense: usize| state.commits.at(dense).rows as usize <= self.vectors.len();
        while self.dense < state.commits.len() && embedded(self.dense) {
            self.dense += 1;
        }
        Snapshot {
            state: state.clone(),
            words: self.lexical.snapshot(),
            texts: self.texts.reader(),
            vectors: self.vectors.clone(),
            progress: Progress {
                commits: state.commits.len() as u64,
                dense: self.dense as u64,
                stored: self.stored as u64,
                checked: self.checked,
            },
        }
    }
}

/// Everything that makes the rows what they are, one version a line.
fn format() -> String {
    format!(
        "commonplace index 2\n{}\n{}\n{}\n",
        analyzer::ANALYZER,
        passage::SPLITTER,
        budget::TOKENIZER
    )
}

fn check_format(folder: &Path) -> Result<(), EngineError> {
    std::fs::create_dir_all(folder)?;
    let path: PathBuf = folder.join("format");
    match std::fs::read(&path) {
        Ok(found) if found == format().as_bytes() => Ok(()),
        Ok(_) => Err(damaged("it was written by another version")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if folder.join("rows.log").exists() {
                return Err(damaged("it has no `format` file"));
            }
            Ok(std::fs::write(&path, format())?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Loads the rows up to the last index commit and cuts off what lies beyond.
fn load_rows(path: &Path, cursor: Option<&lexical::Cursor>) -> Result<(Builder, Log), EngineError> {
    let wanted = cursor.map(parse_cursor).transpose()?;
    let commits = wanted.as_ref().map_or(0, |(number, _)| number + 1);
    let mut builder = Builder::default();
    let log = Log::open::<EngineError>(path, |payload| {
        if builder.state.commits.len() == commits {
            return Ok(false);
        }
        let applied = builder.apply(payload);
        applied.map_err(|error| damaged(error.to_string()))?;
        Ok(true)
    })?;
    let found = builder.state.commits.len();
    if found != commits {
        return Err(damaged(format!(
            "its rows end at commit {found} of {commits}"
        )));
    }
    if let (Some((number, hash)), Some(cursor)) = (wanted, cursor) {
        let last = builder.state.commits.at(number);
        if last.hash.to_string() != hash || last.rows != cursor.rows {
            return Err(damaged("its rows and its words do not belong together"));
        }
    }
    Ok((builder, log))
}

fn parse_cursor(cursor: &lexical::Cursor) -> Result<(usize, String), EngineError> {
    let parts = cursor.payload.split_once(' ');
    let parsed = parts.and_then(|(number, hash)| Some((number.parse().ok()?, hash.to_owned())));
    parsed.ok_or_else(|| damaged("its words do not say what they belong to"))
}

/// Throws the index in a folder away. Its vectors are kept aside: those whose text comes in again are taken
/// over. A folder that is not there is fine.
pub(crate) fn wipe(folder: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Ok(());
    };
    // A name that no project has.
    let aside = parent.join(format!(".{}.vectors", name.to_string_lossy()));
    let length = |name: &str| folder.join(name).metadata().map_or(0, |about| about.len());
    let longer = if length(KEPT_VECTORS) > length(VECTORS) {
        KEPT_VECTORS
    } else {
        VECTORS
    };
    let saved = std::fs::rename(folder.join(longer), &aside).is_ok();
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if saved {
        std::fs::create_dir_all(folder)?;
        std::fs::rename(&aside, folder.join(KEPT_VECTORS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
