//! The journal as one handle: opening, writing, shutting down. Reading is in [`crate::query`] and
//! [`crate::tail`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonplace_storage::{DataFolder, StorageError};
use commonplace_types::Clock;
use tokio::sync::watch;

use crate::append::{Append, Appended};
use crate::entropy::{Entropy, SystemEntropy};
use crate::store::{CreateRef, RefEntry, Store, Write, Written};
use crate::writer::{Queue, Writer};
use crate::{JournalError, Options};

/// An open journal. Cheap to clone; all clones are one journal.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    queue: Queue,
    /// Taken at shutdown.
    running: Mutex<Option<(Writer, DataFolder)>>,
    stopping: watch::Sender<bool>,
    heartbeat: Duration,
}

/// Opens the journal in a folder of its own, which is created where it is missing and locked.
///
/// Errors: a wrong setting; the folder is in use, of a newer version, damaged, or not writable.
pub async fn start(
    options: Options,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Journal, JournalError> {
    let entropy = SystemEntropy::new().map_err(|source| StorageError::File {
        action: "take random bytes for",
        path: data_dir.into(),
        source,
    })?;
    start_with(options, data_dir, clock, Arc::new(entropy)).await
}

/// [`start`] with a given source of salts and keys.
pub async fn start_with(
    options: Options,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Journal, JournalError> {
    let options = options.checked()?;
    let folder = DataFolder::lock(data_dir)?;
    let store = Arc::new(Store::open(folder.path(), &options, clock, entropy).await?);
    let writer = Writer::start(store.clone(), &options);
    let inner = Inner {
        store,
        queue: writer.queue(),
        running: Mutex::new(Some((writer, folder))),
        stopping: watch::Sender::new(false),
        heartbeat: options.heartbeat(),
    };
    Ok(Journal {
        inner: Arc::new(inner),
    })
}

impl Journal {
    /// Appends events to a branch as one commit, durable when this returns.
    ///
    /// Errors: a wrong field, an unknown branch, [`JournalError::HeadMoved`],
    /// [`JournalError::EventConflict`], [`JournalError::QueueFull`], a full disk.
    pub async fn append(&self, append: Append) -> Result<Appended, JournalError> {
        let prepared = append.prepare()?;
        match self.inner.queue.write(Write::Append(prepared)).await? {
            Written::Appended(appended) => Ok(appended),
            Written::Ref(_) => Err(JournalError::damaged("an append got another answer")),
        }
    }

    /// Makes a branch or a tag. The same name at the same point is no error and gives the present ref.
    ///
    /// Errors: an unknown project or point; [`JournalError::RefConflict`].
    pub async fn create_ref(&self, create: CreateRef) -> Result<RefEntry, JournalError> {
        let point = self
            .resolve(&create.tenant, &create.project, &create.at)
            .await?;
        match self
            .inner
            .queue
            .write(Write::Ref(create, point.commit))
            .await?
        {
            Written::Ref(entry) => Ok(entry),
            Written::Appended(_) => Err(JournalError::damaged("a ref got another answer")),
        }
    }

    /// Refuses new writes, writes what waits, ends all tails, closes the file and frees the folder.
    /// Reads after this fail.
    pub async fn shutdown(&self) -> Result<(), JournalError> {
        let running = self
            .inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((writer, folder)) = running else {
            return Ok(());
        };
        writer.drain().await;
        self.inner.stopping.send_replace(true);
        let closed = self.inner.store.close().await;
        drop(folder);
        closed
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.inner.heartbeat
    }
}
