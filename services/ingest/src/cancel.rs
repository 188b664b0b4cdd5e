//! Ends work that nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells work on another thread that its call has ended. Clones are one flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// Cancels when it is dropped, as when the call that holds it ends early.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Cancel {
    /// Whether the call has ended.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says that the call has ended.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Cancels when what is given here is dropped.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
