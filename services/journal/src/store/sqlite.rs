//! The SQLite backend. This process is the only writer, so heads, refs and lanes live in memory too
//! ([`crate::state`]) and are read from the file once, when it is opened.

mod apply;
mod audit;
mod batch;
mod facts;
mod load;
mod read;
mod rows;
mod schema;
mod working;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use commonplace_storage::Database;
use commonplace_types::Clock;
use sea_orm::ConnectionTrait;

use crate::entropy::Entropy;
use crate::state::Projects;
use crate::token::Sealer;
use crate::{JournalError, Options};

/// One open journal file.
pub(crate) struct SqliteStore {
    database: Database,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) projects: Projects,
    pub(crate) sealer: Sealer,
    /// The row of the next new event.
    next_seq: AtomicI64,
}

impl SqliteStore {
    /// Opens or creates `journal.sqlite` in a folder and reads what is kept in memory.
    ///
    /// Errors: those of [`Database::open_sqlite`]; [`JournalError::Damaged`].
    pub(crate) async fn open(
        folder: &Path,
        options: &Options,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, JournalError> {
        let database =
            Database::open_sqlite(&folder.join("journal.sqlite"), schema::MIGRATIONS).await?;
        let kept = Duration::from_secs(u64::from(options.request_days) * 86_400);
        let oldest = clock.now().minus(kept).as_micros();
        let forget = rows::statement("DELETE FROM request WHERE time < ?", vec![oldest.into()]);
        database.writer().execute_raw(forget).await?;
        let sealer = Sealer::new(load::key(&database, entropy.as_ref()).await?);
        let store = Self {
            next_seq: AtomicI64::new(load::next_seq(&database).await?),
            database,
            clock,
            entropy,
            projects: Projects::default(),
            sealer,
        };
        for project in load::projects(&store.database).await? {
            store.projects.insert(Arc::new(project));
        }
        Ok(store)
    }

    fn next_seq(&self) -> i64 {
        self.next_seq.load(Ordering::Relaxed)
    }

    fn advance_seq(&self, count: i64) {
        self.next_seq.fetch_add(count, Ordering::Relaxed);
    }

    /// After a failed transaction: a failed commit may have been kept all the same, so memory is read anew.
    async fn recover(&self, error: &JournalError) {
        tracing::error!(%error, "a group of appends was not written");
        match load::projects(&self.database).await {
            Ok(projects) => projects.into_iter().for_each(|fresh| self.refresh(fresh)),
            Err(error) => tracing::error!(%error, "the journal could not be read again"),
        }
        if let Ok(next) = load::next_seq(&self.database).await {
            self.next_seq.fetch_max(next, Ordering::Relaxed);
        }
    }

    fn refresh(&self, fresh: crate::state::Project) {
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
