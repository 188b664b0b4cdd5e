//! The cluster: several addresses, whether it is up, and what may be asked of it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use commonplace_types::Invalid;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::Node;
use super::convert::{Layout, Question};
use super::options::QdrantOptions;
use super::point::{Owner, Point, PointId, Stored};

/// Names the form of points: another form, another collection.
const FORM: &str = "commonplace qdrant points 1";

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another address, or the same one later, may answer.
    #[error("qdrant at {address} cannot be reached: {problem}")]
    Unreachable {
        /// Which one.
        address: String,
        /// What it said.
        problem: String,
    },
    /// The key is wrong or may not do this.
    #[error("qdrant at {address} refuses the key in `index.qdrant.api_key`: {problem}")]
    Denied {
        /// Which one.
        address: String,
        /// What it said.
        problem: String,
    },
    /// The collection has gone; it is made again.
    #[error("qdrant at {address} has lost what it held: {problem}")]
    Missing {
        /// Which one.
        address: String,
        /// What it said.
        problem: String,
    },
    /// Asking again does not help.
    #[error("qdrant at {address} refuses: {problem}")]
    Refused {
        /// Which one.
        address: String,
        /// What it said.
        problem: String,
    },
    /// It is known to be down and was not asked.
    #[error("{0}")]
    Down(String),
}

/// Whether the store is asked at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is; `epoch` counts from 1 how often it came up.
    Up { epoch: u64 },
    /// It is not, and why.
    Down { reason: String },
}

/// A candidate that the store proposes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    pub(crate) id: PointId,
    pub(crate) row: u32,
    /// The store's; only says how good what it did not propose can be.
    pub(crate) score: f32,
}

/// The cluster's collection for one embedder.
pub(crate) struct Store {
    nodes: Vec<Node>,
    /// The address that answered last.
    current: AtomicUsize,
    pub(crate) options: QdrantOptions,
    pub(crate) collection: String,
    standing: watch::Sender<Standing>,
    /// Calls in a row that failed at every address.
    failures: AtomicU32,
    runtime: Handle,
}

impl Store {
    /// Asks nothing yet: see [`Store::keep`]. Must be called on the runtime that is to make the calls. Error: a setting
    /// that cannot be used.
    pub(crate) fn new(options: QdrantOptions, fingerprint: &str) -> Result<Self, Invalid> {
        if options.addresses.is_empty() {
            let problem =
                "expected at least one address, for example `http://127.0.0.1:6334`, found none";
            return Err(Invalid::new("index.qdrant.addresses", problem));
        }
        let nodes = options
            .addresses
            .iter()
            .map(|address| Node::new(address, &options));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let reason = format!("qdrant at {} has not answered yet", options.addresses[0]);
        Ok(Self {
            nodes,
            current: AtomicUsize::new(0),
            collection: collection_name(&options.collection_prefix, fingerprint),
            options,
            standing: watch::Sender::new(Standing::Down { reason }),
            failures: AtomicU32::new(0),
            runtime: Handle::current(),
        })
    }

    /// Whether the store is asked.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Tells when that changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// How often it came up; none while it is down.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match *self.standing.borrow() {
            Standing::Up { epoch } => Some(epoch),
            Standing::Down { .. } => None,
        }
    }

    /// Where its calls run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Brings the store up, and up again whenever it went down, until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut changed = self.watch();
        let (mut epoch, mut attempt) = (0, 0);
        loop {
            let pause = match self.standing() {
                Standing::Up { .. } => {
                    let _ = self
                        .call(|node, limit| async move { node.ping(limit).await })
                        .await;
                    Duration::from_millis(self.options.probe_ms.max(1))
                }
                Standing::Down { .. } => match self.bring_up(epoch + 1).await {
                    Ok(()) => {
                        (epoch, attempt) = (epoch + 1, 0);
                        continue;
                    }
                    Err(error) => {
                        self.go_down(error.to_string());
                        attempt += 1;
                        self.options.delay(attempt - 1)
                    }
                },
            };
            changed.mark_unchanged();
            let up = self.epoch().is_some();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed(), if up => {}
            }
        }
    }

    /// Makes the collection where it is missing. Error: that of the last address.
    async fn bring_up(&self, epoch: u64) -> Result<(), StoreError> {
        let mut last = StoreError::Down("no address".into());
        for place in self.order() {
            let node = &self.nodes[place];
            let layout = Layout {
                collection: &self.collection,
                options: &self.options,
            };
            let limit = self.options.write_timeout();
            let patience = self.options.read_timeout();
            let prepared = match node.ping(patience).await {
                Ok(()) => node.prepare(&layout, limit).await,
                Err(error) => Err(error),
            };
            match prepared {
                Ok(()) => {
                    self.current.store(place, Ordering::Relaxed);
                    self.failures.store(0, Ordering::Relaxed);
                    tracing::info!(
                        address = node.address,
                        collection = self.collection,
                        "qdrant serves"
                    );
                    self.standing.send_replace(Standing::Up { epoch });
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn go_down(&self, reason: String) {
        let changed = |standing: &mut Standing| {
            let next = Standing::Down { reason };
            let changes = *standing != next;
            *standing = next;
            changes
        };
        if self.standing.send_if_modified(changed) {
            tracing::warn!(standing = ?self.standing(), "the vector store is not asked");
        }
    }

    /// The addresses, the one that answered last first.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.nodes.len());
        (0..count).map(move |place| (first + place) % count)
    }

    /// Asks one address after the other until one answers. Each has the time of a read.
    async fn call<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn(Node, Duration) -> F,
    ) -> Result<T, StoreError> {
        self.call_within(self.options.read_timeout(), ask).await
    }

    async fn call_within<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        limit: Duration,
        ask: impl Fn(Node, Duration) -> F,
    ) -> Result<T, StoreError> {
        if let Standing::Down { reason } = self.standing() {
            return Err(StoreError::Down(reason));
        }
        let mut last = StoreError::Down("no address".into());
        for place in self.order() {
            match ask(self.nodes[place].clone(), limit).await {
                Ok(done) => {
                    self.current.store(place, Ordering::Relaxed);
                    self.failures.store(0, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error @ StoreError::Unreachable { .. }) => last = error,
                Err(error @ (StoreError::Denied { .. } | StoreError::Missing { .. })) => {
                    self.go_down(error.to_string());
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= self.options.failures.max(1) {
            self.go_down(last.to_string());
        }
        Err(last)
    }

    /// Writes points and waits until they are durable and found. Unless `force`, points of more commits stay.
    pub(crate) async fn upsert(
        &self,
        owner: &Owner,
        points: &[Point],
        force: bool,
    ) -> Result<(), StoreError> {
        let collection = &self.collection;
        let limit = self.options.write_timeout();
        let ask = |node: Node, limit| async move {
            node.upsert(collection, owner, points, force, limit).await
        };
        self.call_within(limit, ask).await
    }

    /// Deletes points.
    pub(crate) async fn delete(&self, ids: &[PointId]) -> Result<(), StoreError> {
        let collection = &self.collection;
        let limit = self.options.write_timeout();
        let ask = |node: Node, limit| async move { node.delete(collection, ids, limit).await };
        self.call_within(limit, ask).await
    }

    /// The hits of each question, best first.
    pub(crate) async fn nearest(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Vec<Hit>>, StoreError> {
        let collection = &self.collection;
        self.call(|node, limit| async move { node.nearest(collection, questions, limit).await })
            .await
    }

    /// How many points an owner has.
    pub(crate) async fn count(&self, owner: &Owner) -> Result<u64, StoreError> {
        let collection = &self.collection;
        let limit = self.options.write_timeout();
        let ask = |node: Node, limit| async move { node.count(collection, owner, limit).await };
        self.call_within(limit, ask).await
    }

    /// The next points of an owner by id, and where to go on.
    pub(crate) async fn page(
        &self,
        owner: &Owner,
        from: Option<PointId>,
    ) -> Result<(Vec<Stored>, Option<PointId>), StoreError> {
        let collection = &self.collection;
        let limit = self.options.write_timeout();
        let ask =
            |node: Node, limit| async move { node.page(collection, owner, from, limit).await };
        self.call_within(limit, ask).await
    }
}

/// One collection for each embedder and each form of points.
fn collection_name(prefix: &str, fingerprint: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(FORM.as_bytes())
        .update(b"\n")
        .update(fingerprint.as_bytes());
    let hash = hasher.finalize().to_hex();
    format!("{prefix}_{}", &hash[..16])
}
