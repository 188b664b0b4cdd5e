//! Who leads, where several journals share a database: this process takes over when it is given the lead,
//! and steps down as soon as it has lost it.

use std::sync::Arc;
use std::time::Duration;

use commonplace_storage::{Leadership, Term};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::store::Store;

/// Between attempts to read the journal after a take-over.
const RETRY: Duration = Duration::from_millis(200);

/// The part of this process in who leads.
pub(crate) struct Part {
    leadership: Leadership,
    follower: JoinHandle<()>,
}

impl Part {
    /// Contends for the lead; returns once it is known who leads. `store`: bound to the lease.
    pub(crate) async fn start(leadership: Leadership, store: Arc<Store>) -> Self {
        let known = Arc::new(Notify::new());
        let follower = tokio::spawn(follow(store, leadership.term(), known.clone()));
        known.notified().await;
        Self {
            leadership,
            follower,
        }
    }

    /// Gives the lead away.
    pub(crate) async fn resign(self) {
        self.leadership.resign().await;
        self.follower.abort();
    }
}

async fn follow(store: Arc<Store>, mut terms: watch::Receiver<Term>, known: Arc<Notify>) {
    loop {
        let term = *terms.borrow_and_update();
        match term {
            Term::Unknown => {}
            Term::Standby => {
                store.step_down();
                known.notify_one();
            }
            Term::Leading { epoch } => {
                take_over(&store, epoch, &terms).await;
                known.notify_one();
            }
        }
        if terms.changed().await.is_err() {
            store.step_down();
            return;
        }
    }
}

/// Reads the journal until it could be read or the lead is lost.
async fn take_over(store: &Store, epoch: i64, terms: &watch::Receiver<Term>) {
    store.step_down();
    while !terms.has_changed().unwrap_or(true) {
        match store.take_over(epoch).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, epoch, "the journal could not be taken over yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
