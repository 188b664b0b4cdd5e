//! Settings of the ingest service.

use commonplace_types::{Invalid, limits};
use serde::{Deserialize, Serialize};

use crate::adapter::TextLimits;
use crate::redact::RedactionOptions;

/// Settings of the ingest service. Every bound is in bytes or a number of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest report that is read. A report is held in memory while it is read, because nothing of a
    /// report that turns out unreadable may be written.
    pub max_report_bytes: usize,
    /// Most memory for all reports that are being read; a call beyond it is asked to come again.
    pub max_buffered_bytes: usize,
    /// Most calls that are read and masked at once, each on a thread of its own; others wait their turn.
    pub max_readers: usize,
    /// Most events of one report.
    pub max_report_events: usize,
    /// Most events of one append to the journal, 1 to 5,000.
    pub batch_events: usize,
    /// Most bytes of one append to the journal, at most 16 MiB; one event may be as large as 4 MiB.
    pub batch_bytes: usize,
    /// Most refusals that an answer lists; further ones are counted.
    pub max_refusals: usize,
    /// How much text of a report is kept.
    pub text: TextLimits,
    /// What is masked before it is written.
    pub redaction: RedactionOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_report_bytes: 64 << 20,
            max_buffered_bytes: 256 << 20,
            max_readers: 4,
            max_report_events: 1_000_000,
            batch_events: 1_000,
            batch_bytes: 8 << 20,
            max_refusals: 1_000,
            text: TextLimits::default(),
            redaction: RedactionOptions::default(),
        }
    }
}

impl Options {
    /// Checks every bound. Error: names the setting.
    pub fn checked(self) -> Result<Self, Invalid> {
        let bounds = [
            ("max_report_bytes", self.max_report_bytes, 1, 4 << 30),
            (
                "max_buffered_bytes",
                self.max_buffered_bytes,
                self.max_report_bytes,
                64 << 30,
            ),
            ("max_readers", self.max_readers, 1, 256),
            ("max_report_events", self.max_report_events, 1, 100_000_000),
            ("batch_events", self.batch_events, 1, limits::COMMIT_EVENTS),
            // One event more may come on top before a batch counts as full.
            (
                "batch_bytes",
                self.batch_bytes,
                1,
                limits::COMMIT_BYTES - (4 << 20),
            ),
            ("max_refusals", self.max_refusals, 1, 10_000),
            ("text.trace_bytes", self.text.trace_bytes, 256, 256 << 10),
            ("text.output_bytes", self.text.output_bytes, 256, 128 << 10),
            (
                "text.file_diff_bytes",
                self.text.file_diff_bytes,
                256,
                512 << 10,
            ),
            (
                "text.commit_diff_bytes",
                self.text.commit_diff_bytes,
                256,
                512 << 10,
            ),
            ("text.json_bytes", self.text.json_bytes, 1, 1 << 30),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                return Err(Invalid::new(
                    name,
                    format!("expected {least} to {most}, found {value}"),
                ));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_a_wrong_setting_is_named() {
        assert!(Options::default().checked().is_ok());
        let wrong = Options {
            batch_events: 0,
            ..Options::default()
        };
        assert_eq!(wrong.checked().unwrap_err().field, "batch_events");
        let error = serde_json::from_str::<Options>(r#"{"batch_event": 3}"#).unwrap_err();
        assert!(error.to_string().contains("batch_event"), "{error}");
    }
}
