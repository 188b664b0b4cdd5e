//! What the journal counts.

use std::time::Duration;

use commonplace_telemetry::{Metrics, latency_buckets};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::JournalError;
use crate::store::Written;

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// `written`, `duplicate` when all was there already, `refused`.
    outcome: &'static str,
}

/// The journal's counters and durations. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    appends: Family<Outcome, Counter>,
    events: Counter,
    duplicates: Counter,
    duration: Histogram,
    group: Histogram,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        Self {
            appends: Family::default(),
            events: Counter::default(),
            duplicates: Counter::default(),
            duration: Histogram::new(latency_buckets()),
            group: Histogram::new((0..11).map(|power| f64::from(1_u32 << power))),
        }
    }

    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register(
                "journal_appends",
                "Appends, by what became of them",
                self.appends.clone(),
            );
            registry.register("journal_events", "Events written", self.events.clone());
            registry.register(
                "journal_duplicates",
                "Events that were there already",
                self.duplicates.clone(),
            );
            registry.register(
                "journal_append_duration_seconds",
                "From an append's arrival in the queue until it is on disk",
                self.duration.clone(),
            );
            registry.register(
                "journal_group_size",
                "Requests written with one sync to disk",
                self.group.clone(),
            );
        });
    }

    /// A request was answered.
    pub(crate) fn answered(&self, answer: &Result<Written, JournalError>, took: Duration) {
        let outcome = match answer {
            Ok(Written::Ref(_)) => return,
            Ok(Written::Appended(appended)) => {
                let duplicates = appended
                    .events
                    .iter()
                    .filter(|event| event.duplicate)
                    .count();
                let new = appended.events.len() - duplicates;
                self.events.inc_by(new as u64);
                self.duplicates.inc_by(duplicates as u64);
                self.duration.observe(took.as_secs_f64());
                if new == 0 { "duplicate" } else { "written" }
            }
            Err(_) => "refused",
        };
        self.appends.get_or_create(&Outcome { outcome }).inc();
    }

    /// So many requests were written at once.
    pub(crate) fn grouped(&self, requests: usize) {
        self.group.observe(requests as f64);
    }
}
