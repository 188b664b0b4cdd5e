//! Who leads, where several journals share a database: this process takes over when it is given the lead,
//! and steps down as soon as it has lost it.

use std::sync::Arc;
use std::time::Duration;

use commonplace_rpc::{Code, Reason};
use commonplace_storage::{Leadership, Term};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::JournalError;
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
    /// Error: this process was given the lead, and what is stored cannot be read.
    pub(crate) async fn start(
        leadership: Leadership,
        store: Arc<Store>,
    ) -> Result<Self, JournalError> {
        let (first, known) = oneshot::channel();
        let follower = tokio::spawn(follow(store, leadership.term(), first));
        match known.await.unwrap_or(Err(JournalError::Stopping)) {
            Ok(()) => Ok(Self {
                leadership,
                follower,
            }),
            Err(error) => {
                leadership.resign().await;
                Err(error)
            }
        }
    }

    /// Gives the lead away.
    pub(crate) async fn resign(self) {
        self.leadership.resign().await;
        self.follower.abort();
    }
}

/// `first`: told the first outcome.
async fn follow(
    store: Arc<Store>,
    mut terms: watch::Receiver<Term>,
    first: oneshot::Sender<Result<(), JournalError>>,
) {
    let mut first = Some(first);
    loop {
        let term = *terms.borrow_and_update();
        let outcome = match term {
            Term::Unknown => None,
            Term::Standby => {
                store.step_down();
                Some(Ok(()))
            }
            Term::Leading { epoch } => {
                Some(take_over(&store, epoch, &terms, first.is_some()).await)
            }
        };
        if let (Some(outcome), true) = (outcome, first.is_some())
            && let Some(first) = first.take()
        {
            // Whoever started this may be gone.
            let _ = first.send(outcome);
        }
        if terms.changed().await.is_err() {
            store.step_down();
            return;
        }
    }
}

/// Reads the journal until it could be read or the lead is lost. `starting`: an error that will not pass is
/// given to whoever waits for the start; later there is nobody, and the journal stays refused.
async fn take_over(
    store: &Store,
    epoch: i64,
    terms: &watch::Receiver<Term>,
    starting: bool,
) -> Result<(), JournalError> {
    store.step_down();
    while !terms.has_changed().unwrap_or(true) {
        let Err(error) = store.take_over(epoch).await else {
            return Ok(());
        };
        if starting && error.failure().code != Code::Unavailable {
            return Err(error);
        }
        tracing::error!(%error, epoch, "the journal could not be taken over yet");
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}
