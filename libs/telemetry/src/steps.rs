//! How long the steps inside services take, by the spans that are around them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::Metadata;

use crate::metrics::latency_buckets;
use crate::recorder::Told;
use crate::span::Kind;

/// A step by the name of its span: few, since they are written in our sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    service: &'static str,
    step: &'static str,
}

/// A statement or transaction by what few words tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabaseLabels {
    db_system_name: String,
    db_namespace: String,
    /// `read` and `write` for transactions, `query` for single statements.
    db_operation_name: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The durations of steps and of what databases do.
#[derive(Debug)]
pub(crate) struct Steps {
    steps: Durations<StepLabels>,
    database: Durations<DatabaseLabels>,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            steps: Family::new_with_constructor(|| Histogram::new(latency_buckets())),
            database: Family::new_with_constructor(|| Histogram::new(latency_buckets())),
        }
    }
}

impl Steps {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "step_duration_seconds",
            "How long the steps inside services took, by service and step",
            self.steps.clone(),
        );
        registry.register(
            "db_client_operation_duration_seconds",
            "How long transactions and statements took, by database and operation",
            self.database.clone(),
        );
    }

    /// Counts an ended span, whether its trace is recorded or not.
    pub(crate) fn observe(
        &self,
        metadata: &'static Metadata<'static>,
        service: &'static str,
        told: &Told,
        took: Duration,
    ) {
        if metadata.target() == "commonplace::db" {
            let text = |name| told.text(name).unwrap_or_default().to_owned();
            let operation = match told.text("db.operation.name") {
                Some("read") => "read",
                Some("write") => "write",
                _ => "query",
            };
            let labels = DatabaseLabels {
                db_system_name: text("db.system.name"),
                db_namespace: text("db.namespace"),
                db_operation_name: operation,
            };
            self.database
                .get_or_create(&labels)
                .observe(took.as_secs_f64());
        } else if matches!(told.kind, Kind::Internal | Kind::Consumer) {
            let labels = StepLabels {
                service,
                step: metadata.name(),
            };
            self.steps
                .get_or_create(&labels)
                .observe(took.as_secs_f64());
        }
    }
}
