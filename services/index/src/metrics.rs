//! What the index tells about itself: how far it lags, what it holds, what waits for vectors.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::projects::Projects;

/// All projects of this process together; which project it is the status tells, not the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) projects: u64,
    pub(crate) open: u64,
    /// Commits that the journal has and the index has not, of the project that lags most.
    pub(crate) lag: u64,
    pub(crate) passages: u64,
    /// Passages whose vectors are still to be made.
    pub(crate) waiting: u64,
}

/// Looks at the projects when somebody asks.
pub(crate) struct IndexMetrics(pub(crate) Arc<Projects>);

impl fmt::Debug for IndexMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IndexMetrics")
    }
}

impl Collector for IndexMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = self.0.totals();
        let gauges = [
            (
                "index_projects",
                "Projects that are followed",
                totals.projects,
            ),
            (
                "index_open_projects",
                "Projects whose index is open",
                totals.open,
            ),
            (
                "index_lag_commits",
                "Commits of the journal that are not searched yet, of the project that lags most",
                totals.lag,
            ),
            (
                "index_passages",
                "Passages held by open projects",
                totals.passages,
            ),
            (
                "index_vectors_waiting",
                "Passages of open projects whose vectors are still to be made",
                totals.waiting,
            ),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
