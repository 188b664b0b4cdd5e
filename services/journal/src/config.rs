//! What can be set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use commonplace_types::Invalid;

/// Settings of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Appends that may wait for the writer; one more is refused. 1 to 65,536.
    pub queue_appends: usize,
    /// MiB of events that may wait for the writer, 16 to 4,096.
    pub queue_mebibytes: usize,
    /// MiB of history that all tails together hold for their readers, 32 to 65,536. A tail waits where they are used
    /// up; what a reader does not come for is let go of meanwhile and read again.
    pub tail_mebibytes: usize,
    /// Milliseconds between heartbeats of an idle tail, 10 to 60,000.
    pub heartbeat_ms: u64,
    /// Days that the answer to a request id is kept, 1 to 3,650.
    pub request_days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_appends: 1_024,
            queue_mebibytes: 128,
            tail_mebibytes: 128,
            heartbeat_ms: 5_000,
            request_days: 30,
        }
    }
}

impl Options {
    /// Checks every bound. Error: names the setting.
    pub fn checked(self) -> Result<Self, Invalid> {
        within("queue_appends", self.queue_appends as u64, 1, 65_536)?;
        within("queue_mebibytes", self.queue_mebibytes as u64, 16, 4_096)?;
        within("tail_mebibytes", self.tail_mebibytes as u64, 32, 65_536)?;
        within("heartbeat_ms", self.heartbeat_ms, 10, 60_000)?;
        within("request_days", self.request_days.into(), 1, 3_650)?;
        Ok(self)
    }

    /// Between heartbeats of an idle tail.
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
}

fn within(field: &str, found: u64, least: u64, most: u64) -> Result<(), Invalid> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("expected {least} to {most}, found {found}"),
    ))
}
