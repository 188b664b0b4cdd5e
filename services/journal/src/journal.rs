//! The journal as one handle: opening, writing, shutting down. Reading is in [`crate::query`] and
//! [`crate::tail`].

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonplace_limits::Room;
use commonplace_storage::{
    DataFolder, Database, Leadership, Place, SchemaState, StorageError, WallState,
};
use commonplace_telemetry::Metrics;
use commonplace_types::Clock;
use futures::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::append::{Append, Appended};
use crate::credits::Credits;
use crate::entropy::{Entropy, SystemEntropy};
use crate::leader::Part;
use crate::quota::Within;
use crate::store::{CreateRef, FILE, MIGRATIONS, RefEntry, Store, WALL, Write, Written};
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
    running: Mutex<Option<Running>>,
    stopping: watch::Sender<bool>,
    heartbeat: Duration,
    /// Of all tails.
    credits: Arc<Credits>,
}

/// What ends at shutdown.
struct Running {
    writer: Writer,
    /// Where several journals share a database.
    part: Option<Part>,
    /// Where the data lie in a folder.
    folder: Option<DataFolder>,
}

/// How the journal's schema at a place stands beside what this program knows.
pub async fn schema_state(place: &Place) -> Result<SchemaState, StorageError> {
    Database::schema_state(place, FILE, MIGRATIONS).await
}

/// How the wall between tenants stands in the journal's schema at a place.
pub async fn wall_state(place: &Place) -> Result<WallState, StorageError> {
    Database::wall_state(place, WALL).await
}

/// Brings the journal's schema at a place up to date.
pub async fn migrate(place: &Place) -> Result<(), StorageError> {
    Database::open_walled(place, FILE, MIGRATIONS, WALL)
        .await?
        .close()
        .await
}

/// Opens the journal: in a folder of its own, which is created where it is missing and locked, or in its
/// schema on a server. There it may find that another journal leads; it then stands by ([`Journal::ready`]).
///
/// Errors: a wrong setting; the folder is in use, of a newer version, damaged, or not writable; the server
/// does not answer.
pub fn start(
    options: Options,
    place: impl Into<Place>,
    clock: Arc<dyn Clock>,
) -> LocalBoxFuture<'static, Result<Journal, JournalError>> {
    let entropy = SystemEntropy::new().map_err(|source| StorageError::File {
        action: "take random bytes for",
        path: "the journal".into(),
        source,
    });
    match entropy {
        Ok(entropy) => started(options, place.into(), clock, Arc::new(entropy)),
        Err(error) => Box::pin(ready(Err(error.into()))),
    }
}

/// [`start`] with a given source of salts and keys.
pub fn start_with(
    options: Options,
    place: impl Into<Place>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> LocalBoxFuture<'static, Result<Journal, JournalError>> {
    started(options, place.into(), clock, entropy)
}

/// In a box, so that all that a journal runs is compiled here, and not again by each program that starts one.
fn started(
    options: Options,
    place: Place,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> LocalBoxFuture<'static, Result<Journal, JournalError>> {
    Box::pin(open(options, place, clock, entropy))
}

async fn open(
    options: Options,
    place: Place,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Journal, JournalError> {
    let options = options.checked()?;
    let folder = match &place {
        Place::Folder(path) => Some(DataFolder::lock(path)?),
        Place::Postgres(_) => None,
    };
    let mut store = Store::open(&place, &options, clock, entropy).await?;
    let holder = format!("process {}", std::process::id());
    let leadership = Leadership::start(store.database(), &holder);
    if let Some(leadership) = &leadership {
        store.bind(leadership.lease());
    }
    let store = Arc::new(store);
    let part = match leadership {
        Some(leadership) => Some(Part::start(leadership, store.clone()).await?),
        None => {
            store.take_over(0).await?;
            None
        }
    };
    let writer = Writer::start(store.clone(), &options);
    let inner = Inner {
        store,
        queue: writer.queue(),
        running: Mutex::new(Some(Running {
            writer,
            part,
            folder,
        })),
        stopping: watch::Sender::new(false),
        heartbeat: options.heartbeat(),
        credits: Credits::new((options.tail_mebibytes as u64) << 20),
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
        self.append_within(append, Room::default()).await
    }

    /// [`Journal::append`] as far as there is room. Error: [`JournalError::QuotaExceeded`] as well; a request that was
    /// answered before gets its answer all the same.
    pub async fn append_within(
        &self,
        append: Append,
        room: Room,
    ) -> Result<Appended, JournalError> {
        let mut prepared = append.prepare()?;
        prepared.within = Within::new(room);
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

    /// Follows whether this journal answers. False while another one leads: every call is then refused with
    /// [`JournalError::Standby`], and this one takes over when the other ends.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.inner.store.ready()
    }

    /// Refuses new writes, writes what waits, ends all tails, gives the lead away, closes the database and
    /// frees the folder. Reads after this fail.
    pub async fn shutdown(&self) -> Result<(), JournalError> {
        let running = self
            .inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(running) = running else {
            return Ok(());
        };
        running.writer.drain().await;
        self.inner.stopping.send_replace(true);
        if let Some(part) = running.part {
            part.resign().await;
        }
        let closed = self.inner.store.close().await;
        drop(running.folder);
        closed
    }

    /// Tells what is counted here with the metrics of the process.
    pub fn register(&self, metrics: &Metrics) {
        self.inner.queue.numbers().register(metrics);
    }

    /// What it is kept in.
    pub fn database(&self) -> &Database {
        self.inner.store.database()
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

    pub(crate) fn credits(&self) -> &Arc<Credits> {
        &self.inner.credits
    }
}
