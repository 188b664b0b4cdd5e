//! Makes a server fail, for tests.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tonic::Status;

/// What is to go wrong. All off at first.
#[derive(Debug, Default)]
pub struct Faults {
    fail_calls: AtomicU32,
    lose_answers: AtomicU32,
    delay_ms: AtomicU64,
    read_only: AtomicBool,
    /// Writes done.
    pub writes: AtomicU64,
    /// Searches asked for.
    pub searches: AtomicU64,
}

impl Faults {
    /// The next `count` calls fail with `UNAVAILABLE` and do nothing.
    pub fn fail_next(&self, count: u32) {
        self.fail_calls.store(count, SeqCst);
    }

    /// The next `count` writes are done, but their callers are told that they failed.
    pub fn lose_next_answers(&self, count: u32) {
        self.lose_answers.store(count, SeqCst);
    }

    /// Every call takes so much longer.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, SeqCst);
    }

    /// Writes are refused.
    pub fn read_only(&self, on: bool) {
        self.read_only.store(on, SeqCst);
    }

    pub(crate) async fn before(&self) -> Result<(), Status> {
        let delay = self.delay_ms.load(SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        match take(&self.fail_calls) {
            true => Err(Status::unavailable("made to fail")),
            false => Ok(()),
        }
    }

    pub(crate) fn before_write(&self) -> Result<(), Status> {
        match self.read_only.load(SeqCst) {
            true => Err(Status::unavailable("made read-only")),
            false => Ok(()),
        }
    }

    pub(crate) fn after_write(&self) -> Result<(), Status> {
        self.writes.fetch_add(1, SeqCst);
        match take(&self.lose_answers) {
            true => Err(Status::unavailable("made to lose the answer")),
            false => Ok(()),
        }
    }
}

/// Takes one of a count, if there is one left.
fn take(count: &AtomicU32) -> bool {
    count
        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        .is_ok()
}
