//! Short work that holds its thread, without the two changes of thread that `spawn_blocking` costs: on a
//! machine of few cores these take longer than fetching some texts does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::IndexError;

/// Runs work where it is, while other tasks go on elsewhere: a search may wait for tasks that ask the vector store, which
/// must not lie behind it. Error: it panicked.
pub(crate) async fn in_place<T, F>(work: F) -> Result<T, IndexError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        // Nobody else could go on.
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
        return done.map_err(|_| IndexError::Stopping);
    }
    let done = tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(work)));
    done.map_err(|_| IndexError::Stopping)
}
