//! The store in SQL, for SQLite and PostgreSQL. One process at a time writes: on SQLite the one that holds
//! the folder's lock, on PostgreSQL the leader, and every transaction makes sure that it still is. So heads,
//! refs and lanes live in memory too ([`crate::state`]), and are read anew whenever they may have fallen
//! behind: when this process becomes the leader, and after a transaction whose end is not known.

mod apply;
mod audit;
mod batch;
mod facts;
mod load;
mod prune;
mod read;
mod rows;
mod schema;
mod working;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use commonplace_storage::{Database, Lease, Place, StorageError};
use commonplace_types::Clock;
use tokio::sync::{Mutex, watch};

use crate::entropy::Entropy;
use crate::state::{Project, Projects};
use crate::token::Sealer;
use crate::{JournalError, Options};

pub use schema::{FILE, MIGRATIONS, WALL};

/// One open journal.
pub(crate) struct SqlStore {
    database: Database,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    projects: Projects,
    pub(crate) sealer: Sealer,
    /// The row of the next new event.
    next_seq: AtomicI64,
    /// Held while a group is decided and written, and while memory is read anew.
    memory: Mutex<Memory>,
    /// Whether this process may answer.
    ready: watch::Sender<bool>,
    /// Until when that is sure, where it can end.
    lease: Option<Lease>,
    /// Forgets old answers to requests.
    sweep: prune::Sweep,
}

/// What is known of the memory's standing.
#[derive(Debug, Default)]
struct Memory {
    /// It may differ from what is stored.
    stale: bool,
    /// This process leads in this epoch; 0 where there are none.
    epoch: i64,
}

impl SqlStore {
    /// Opens or creates the store. On SQLite it is ready at once; on PostgreSQL once
    /// [`SqlStore::take_over`] was called.
    ///
    /// Errors: those of [`Database::open`]; [`JournalError::Damaged`].
    pub(crate) async fn open(
        place: &Place,
        options: &Options,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, JournalError> {
        let database = Database::open_walled(place, FILE, MIGRATIONS, WALL).await?;
        let sealer = Sealer::new(load::key(&database.for_all(), entropy.as_ref()).await?);
        Ok(Self {
            next_seq: AtomicI64::new(1),
            database,
            clock,
            entropy,
            projects: Projects::default(),
            sealer,
            memory: Mutex::default(),
            ready: watch::Sender::new(false),
            lease: None,
            sweep: prune::Sweep::new(Duration::from_secs(
                u64::from(options.request_days) * 86_400,
            )),
        })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Answers only as long as this lease lasts.
    pub(crate) fn bind(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Follows whether this process may answer.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Error: another process leads, or this one does not know that it does.
    pub(crate) fn leading(&self) -> Result<(), JournalError> {
        let lasts = self.lease.as_ref().is_none_or(Lease::lasts);
        if lasts && *self.ready.borrow() {
            return Ok(());
        }
        Err(JournalError::Standby)
    }

    /// What is kept in memory. Error: as [`SqlStore::leading`].
    pub(crate) fn projects(&self) -> Result<&Projects, JournalError> {
        self.leading()?;
        Ok(&self.projects)
    }

    /// Reads everything anew and answers from now on, as the leader of an epoch.
    pub(crate) async fn take_over(&self, epoch: i64) -> Result<(), JournalError> {
        let mut memory = self.memory.lock().await;
        memory.epoch = epoch;
        let now = self.clock.now();
        self.sweep.all(&self.database.for_all(), epoch, now).await?;
        self.reload().await?;
        memory.stale = false;
        self.ready.send_replace(true);
        Ok(())
    }

    /// Answers nothing any more.
    pub(crate) fn step_down(&self) {
        self.ready.send_if_modified(std::mem::take);
    }

    fn next_seq(&self) -> i64 {
        self.next_seq.load(Ordering::Relaxed)
    }

    fn advance_seq(&self, count: i64) {
        self.next_seq.fetch_add(count, Ordering::Relaxed);
    }

    /// Brings memory in line with what is stored.
    async fn reload(&self) -> Result<(), JournalError> {
        let statements = self.database.for_all();
        let projects = load::projects(&statements).await?;
        let next = load::next_seq(&statements).await?;
        projects.into_iter().for_each(|fresh| self.refresh(fresh));
        self.next_seq.fetch_max(next, Ordering::Relaxed);
        Ok(())
    }

    /// After a failed transaction: a failed commit may have been kept all the same.
    async fn recover(&self, memory: &mut Memory, error: &JournalError) {
        tracing::error!(%error, "a group of appends was not written");
        if let JournalError::Storage(cause) = error
            && matches!(**cause, StorageError::Fenced { .. })
        {
            self.step_down();
        }
        memory.stale = true;
        self.settle(memory).await;
    }

    /// Reads memory anew if it may have fallen behind. Error: it still may have.
    async fn settle(&self, memory: &mut Memory) -> Option<JournalError> {
        if !memory.stale {
            return None;
        }
        match self.reload().await {
            Ok(()) => {
                memory.stale = false;
                None
            }
            Err(error) => {
                tracing::error!(%error, "the journal could not be read again");
                Some(error)
            }
        }
    }

    fn refresh(&self, fresh: Project) {
        match self.projects.find(&fresh.tenant, &fresh.name) {
            None => self.projects.insert(Arc::new(fresh)),
            Some(project) => {
                let state = fresh.into_state();
                let newest = state.last.number;
                *project.write() = state;
                project.newest.send_replace(newest);
            }
        }
    }

    /// Ends all connections; what was written is on disk already.
    pub(crate) async fn close(&self) -> Result<(), JournalError> {
        Ok(self.database.clone().close().await?)
    }
}

#[cfg(test)]
mod tests;
