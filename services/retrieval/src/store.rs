//! Packs on disk, compressed, by tenant and id; written behind, several at a time.
//!
//! A pack is served from memory until it is written. Its bytes follow from its manifest, so what is lost in
//! a crash before that can be made again; who needs it on disk asks for `durable`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::context;
use commonplace_storage::{
    Database, Guarded, Migration, Place, SchemaState, StorageError, WallState,
};
use commonplace_types::{TenantName, Timestamp};
use sea_orm::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use crate::config::Options;
use crate::error::RetrievalError;
use crate::pack::{self, Pack};

/// The SQLite file.
const FILE: &str = "packs.db";

const MIGRATIONS: &[Migration] = &[PACKS, TRACES];

/// The tables with rows of tenants.
const WALL: &[Guarded] = &[Guarded::by_tenant("pack")];

/// The call that made a pack: beside its content, which must not depend on it.
const TRACES: Migration = Migration {
    version: 2,
    name: "traces",
    oldest: 1,
    sqlite: &["ALTER TABLE pack ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''"],
    postgres: &["ALTER TABLE pack ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''"],
};

const PACKS: Migration = Migration {
    version: 1,
    name: "packs",
    oldest: 1,
    sqlite: &["CREATE TABLE pack (
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        project TEXT NOT NULL,
        created_micros INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (tenant, id)
    ) STRICT"],
    postgres: &[
        "CREATE TABLE pack (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            project TEXT NOT NULL,
            created_micros BIGINT NOT NULL,
            bytes BIGINT NOT NULL,
            content BYTEA NOT NULL,
            PRIMARY KEY (tenant, id)
        )",
        // It is compressed already.
        "ALTER TABLE pack ALTER COLUMN content SET STORAGE EXTERNAL",
    ],
};

/// Packs are ids of their content, so whoever comes first wrote the same.
const INSERT: &str =
    "INSERT INTO pack (tenant, id, project, created_micros, bytes, content, traceparent)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
/// How often packs are tried again when the database is away or busy, and after what wait: as long as a
/// restart takes, and less than callers wait.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// zstd's fastest common level: packs are small and many.
const LEVEL: i32 = 1;
/// Most packs of one transaction.
const BATCH: usize = 64;
/// Largest pack that is read back.
const PACK_BYTES: usize = 256 << 20;

/// A pack with its id and bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// `blake3:` and 64 hex digits of `content`.
    pub id: String,
    /// Its bytes.
    pub content: Bytes,
    /// What they say.
    pub pack: Pack,
    /// The call that made it; no part of its bytes.
    pub traceparent: String,
}

impl Kept {
    /// Writes a pack's bytes and names them.
    pub fn new(pack: Pack) -> Self {
        let content = pack.to_bytes();
        Self::of(pack, content)
    }

    /// The same, with what [`pack::candidates_bytes`] gave.
    pub(crate) fn with_candidates(pack: Pack, candidates: &[u8]) -> Self {
        let content = pack.to_bytes_with(candidates);
        Self::of(pack, content)
    }

    fn of(pack: Pack, content: Vec<u8>) -> Self {
        let content = Bytes::from(content);
        Self {
            id: pack::id(&content),
            content,
            pack,
            traceparent: context::traceparent(),
        }
    }
}

type Key = (TenantName, String);
type Answer = oneshot::Sender<Result<(), String>>;

struct Job {
    key: Key,
    kept: Arc<Kept>,
    created: Timestamp,
    /// The call that made it, as its `traceparent`.
    trace: String,
    answer: Option<Answer>,
}

/// Kept packs.
pub struct Store {
    database: Database,
    memory: Arc<Memory>,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// How its schema stands.
    pub async fn schema_state(place: &Place) -> Result<SchemaState, StorageError> {
        Database::schema_state(place, FILE, MIGRATIONS).await
    }

    /// Brings its schema up to date.
    pub async fn migrate(place: &Place) -> Result<(), StorageError> {
        Database::open_walled(place, FILE, MIGRATIONS, WALL)
            .await?
            .close()
            .await
    }

    /// How the wall between tenants stands in it.
    pub async fn wall_state(place: &Place) -> Result<WallState, StorageError> {
        Database::wall_state(place, WALL).await
    }

    /// Opens or creates it, `packs.db` in a folder or a schema, and starts the writer.
    pub async fn open(place: &Place, options: &Options) -> Result<Self, StorageError> {
        let database = Database::open_walled(place, FILE, MIGRATIONS, WALL).await?;
        let memory = Arc::new(Memory::new(options.cached_packs.max(1)));
        let (queue, jobs) = mpsc::channel(options.write_queue.max(1));
        let delay = Duration::from_millis(options.write_delay_ms);
        let writer = tokio::spawn(write_behind(database.clone(), memory.clone(), jobs, delay));
        Ok(Self {
            database,
            memory,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// What packs are kept in.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Keeps a pack: at once in memory, soon on disk; `durable` waits for the disk. Says whether it was kept
    /// already, as far as memory knows.
    ///
    /// Errors: [`RetrievalError::NotKept`], [`RetrievalError::ShuttingDown`].
    pub async fn put(
        &self,
        tenant: TenantName,
        kept: Arc<Kept>,
        created: Timestamp,
        durable: bool,
    ) -> Result<bool, RetrievalError> {
        let key = (tenant, kept.id.clone());
        let known = self.memory.get(&key).is_some();
        if known && !durable {
            return Ok(true);
        }
        let queue = lock(&self.queue)
            .clone()
            .ok_or(RetrievalError::ShuttingDown)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            key: key.clone(),
            kept: kept.clone(),
            created,
            trace: context::traceparent(),
            answer: durable.then_some(answer),
        };
        // Room first, so that what memory holds as unwritten is surely written.
        let room = queue
            .reserve()
            .await
            .map_err(|_| RetrievalError::ShuttingDown)?;
        self.memory.add_unwritten(key, kept.clone());
        room.send(job);
        if durable {
            let not_kept = |problem| RetrievalError::NotKept {
                id: kept.id.clone(),
                problem,
            };
            let written = answered.await.map_err(|_| RetrievalError::ShuttingDown)?;
            written.map_err(not_kept)?;
        }
        Ok(known)
    }

    /// A kept pack by its id.
    ///
    /// Errors: [`RetrievalError::UnknownPack`]; [`RetrievalError::Damaged`] when its bytes do not fit its id.
    pub async fn get(&self, tenant: &TenantName, id: &str) -> Result<Arc<Kept>, RetrievalError> {
        let key = (tenant.clone(), id.to_owned());
        if let Some(kept) = self.memory.get(&key) {
            return Ok(kept);
        }
        let kept = Arc::new(self.read(tenant, id).await?);
        self.memory.add(key, kept.clone());
        Ok(kept)
    }

    async fn read(&self, tenant: &TenantName, id: &str) -> Result<Kept, RetrievalError> {
        let sql = "SELECT content, traceparent FROM pack WHERE tenant = ? AND id = ?";
        let values = vec![tenant.as_str().into(), id.into()];
        let statements = self.database.for_tenant(tenant);
        let row = statements.query_one(sql, values).await?;
        let row = row.ok_or_else(|| RetrievalError::UnknownPack(id.to_owned()))?;
        let compressed: Vec<u8> = row.try_get_by_index(0).map_err(StorageError::from)?;
        let traceparent = row.try_get_by_index(1).map_err(StorageError::from)?;
        let damaged = |problem: String| RetrievalError::Damaged {
            id: id.to_owned(),
            problem,
        };
        let content = zstd::bulk::decompress(&compressed, PACK_BYTES)
            .map_err(|error| damaged(error.to_string()))?;
        let found = pack::id(&content);
        if found != id {
            return Err(damaged(format!("its bytes hash to {found}")));
        }
        let pack = pack::read(&content).map_err(|error| damaged(error.to_string()))?;
        Ok(Kept {
            id: found,
            content: content.into(),
            pack,
            traceparent,
        })
    }

    /// Writes what waits, then closes the database. Nothing is taken any more.
    pub async fn shutdown(&self) -> Result<(), StorageError> {
        lock(&self.queue).take();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            // The writer ends when the queue is empty and closed.
            if let Err(error) = writer.await {
                tracing::error!(%error, "writer of packs failed");
            }
        }
        self.database.clone().close().await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left whole entries behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs in memory: those not on disk yet, and the last ones used.
struct Memory {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    unwritten: BTreeMap<Key, (Arc<Kept>, usize)>,
    cached: BTreeMap<Key, Arc<Kept>>,
    /// Oldest first.
    order: VecDeque<Key>,
}

impl Memory {
    fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        let state = lock(&self.state);
        let unwritten = state.unwritten.get(key).map(|(kept, _)| kept);
        unwritten.or_else(|| state.cached.get(key)).cloned()
    }

    fn add_unwritten(&self, key: Key, kept: Arc<Kept>) {
        let mut state = lock(&self.state);
        state.unwritten.entry(key).or_insert((kept, 0)).1 += 1;
    }

    fn add(&self, key: Key, kept: Arc<Kept>) {
        let mut state = lock(&self.state);
        if state.cached.insert(key.clone(), kept).is_none() {
            state.order.push_back(key);
        }
        while state.order.len() > self.most {
            if let Some(oldest) = state.order.pop_front() {
                state.cached.remove(&oldest);
            }
        }
    }

    /// One write of this pack has ended, well or not: it may now be forgotten.
    fn end_write(&self, key: Key) {
        let ended = {
            let mut state = lock(&self.state);
            let Some((kept, writes)) = state.unwritten.get_mut(&key) else {
                return;
            };
            *writes -= 1;
            let kept = kept.clone();
            if *writes == 0 {
                state.unwritten.remove(&key);
            }
            kept
        };
        self.add(key, ended);
    }
}

async fn write_behind(
    database: Database,
    memory: Arc<Memory>,
    mut jobs: mpsc::Receiver<Job>,
    delay: Duration,
) {
    while let Some(first) = jobs.recv().await {
        let batch = gather(first, &mut jobs, delay).await;
        let result = write(&database, &batch).instrument(span_of(&batch)).await;
        if let Err(error) = &result {
            tracing::error!(error, packs = batch.len(), "packs could not be kept");
        }
        for job in batch {
            memory.end_write(job.key);
            if let Some(answer) = job.answer {
                // Whoever asked may be gone.
                let _ = answer.send(result.clone());
            }
        }
    }
}

/// A batch belongs to the call whose pack came first, and follows from the others. Where it holds packs of several
/// tenants it is told to none of them.
fn span_of(batch: &[Job]) -> Span {
    let tenant = batch.first().map(|job| job.key.0.as_str());
    let tenant = tenant.filter(|tenant| batch.iter().all(|job| job.key.0.as_str() == *tenant));
    let parent = batch.first().map(|job| job.trace.as_str());
    let others = batch.iter().skip(1).map(|job| job.trace.as_str());
    let link = (batch.len() > 1).then(|| others.collect::<Vec<_>>().join(" "));
    tracing::info_span!(
        "write packs",
        service = "retrieval",
        tenant,
        parent,
        link,
        commonplace.batch.size = batch.len(),
    )
}

/// Waits a little for more to write together, unless somebody waits for it.
async fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>, delay: Duration) -> Vec<Job> {
    let mut batch = vec![first];
    let end = tokio::time::Instant::now() + delay;
    while batch.len() < BATCH {
        let waited_for = batch.iter().any(|job| job.answer.is_some());
        let next = if waited_for {
            jobs.try_recv().ok()
        } else {
            tokio::time::timeout_at(end, jobs.recv())
                .await
                .ok()
                .flatten()
        };
        match next {
            Some(job) => batch.push(job),
            None => break,
        }
    }
    batch
}

async fn write(database: &Database, batch: &[Job]) -> Result<(), String> {
    let packs: Vec<(Key, Arc<Kept>, Timestamp)> = batch
        .iter()
        .map(|job| (job.key.clone(), job.kept.clone(), job.created))
        .collect();
    let compressed = tokio::task::spawn_blocking(move || {
        // Its tables are large beside a pack: they are made once for all.
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        packs
            .into_iter()
            .map(|(key, kept, created)| {
                let content = compressor.compress(&kept.content)?;
                Ok((key, kept, created, content))
            })
            .collect::<std::io::Result<Vec<_>>>()
    });
    let rows: Arc<Vec<Vec<Value>>> = Arc::new(
        compressed
            .await
            .map_err(text)?
            .map_err(text)?
            .into_iter()
            .map(row)
            .collect(),
    );
    let mut tries = 0;
    loop {
        match insert(database, rows.clone()).await {
            Err(StorageError::Unavailable(_) | StorageError::Busy(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(TRY_AGAIN).await;
            }
            written => return written.map_err(text),
        }
    }
}

type Compressed = (Key, Arc<Kept>, Timestamp, Vec<u8>);

fn row(((tenant, id), kept, created, content): Compressed) -> Vec<Value> {
    vec![
        tenant.as_str().into(),
        id.into(),
        kept.pack.recipe.project.as_str().into(),
        created.as_micros().into(),
        (kept.content.len() as i64).into(),
        content.into(),
        kept.traceparent.as_str().into(),
    ]
}

async fn insert(database: &Database, rows: Arc<Vec<Vec<Value>>>) -> Result<(), StorageError> {
    // Packs of several tenants are written together.
    database
        .for_all()
        .write(move |transaction| {
            let rows = rows.clone();
            Box::pin(async move {
                for row in rows.iter() {
                    transaction.execute(INSERT, row.clone()).await?;
                }
                Ok(())
            })
        })
        .await
}

fn text(error: impl std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
