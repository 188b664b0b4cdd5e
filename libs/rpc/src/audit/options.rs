//! Settings of recording.

use commonplace_types::{Invalid, TenantName};
use serde::{Deserialize, Serialize};

/// When a change is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// `kept` where callers must show who they are, `queued` in development mode.
    #[default]
    Auto,
    /// When its record is on disk.
    Kept,
    /// When its record is queued in the process.
    Queued,
}

/// What becomes of a change whose record has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It is refused.
    #[default]
    Refuse,
    /// It is served; how many records are missing is recorded.
    DropAndCount,
}

/// What is recorded of calls, and how surely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// When a change is answered: `kept`, when its record is on disk; `queued`, when it is queued in the process,
    /// so that a crash may lose the last ones; `auto`: `kept` with `access.mode=required`, else `queued`.
    pub answer: Answer,
    /// What becomes of a change whose record has no room, as the policy service was away for long: `refuse`, or
    /// `drop_and_count`, which serves it and records how many records are missing.
    pub on_full: OnFull,
    /// Records of changes that a process holds until they are kept, 100 to 1,000,000.
    pub queue: usize,
    /// Milliseconds that an answer waits for its record to be kept, 100 to 600,000; after that long without the
    /// policy service changes are refused before they begin.
    pub patience_ms: u64,
    /// Seconds within which denials that are alike are counted instead of recorded one by one, 1 to 3,600.
    pub window_seconds: u64,
    /// Denials of a tenant that a process tells apart within a window, 1 to 10,000, a quarter of them of one caller;
    /// more are counted together.
    pub distinct_denials: usize,
    /// Tenant whose log gets the denials of callers that nobody knows; its administrators see them.
    pub strangers_tenant: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer: Answer::Auto,
            on_full: OnFull::Refuse,
            queue: 10_000,
            patience_ms: 10_000,
            window_seconds: 60,
            distinct_denials: 100,
            strangers_tenant: "default".into(),
        }
    }
}

impl Options {
    /// Checks the bounds. Gives the tenant of strangers. Error: names the setting.
    pub(super) fn check(&self) -> Result<TenantName, Invalid> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let problem = format!("expected {least} to {most}, found {value}");
            Err(Invalid::new(format!("audit.{name}"), problem))
        };
        within("queue", self.queue as u64, 100, 1_000_000)?;
        within("patience_ms", self.patience_ms, 100, 600_000)?;
        within("window_seconds", self.window_seconds, 1, 3_600)?;
        let distinct = self.distinct_denials as u64;
        within("distinct_denials", distinct, 1, 10_000)?;
        let wrong = |invalid: Invalid| Invalid::new("audit.strangers_tenant", invalid.problem);
        TenantName::new(&*self.strangers_tenant).map_err(wrong)
    }
}
