//! Measurements of the process as a whole: what it is, what it plays, what room it has.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use commonplace_rpc::Tls;
use commonplace_rpc::server::Readiness;
use commonplace_telemetry::process::ProcessMetrics;
use commonplace_telemetry::{Metrics, Spans};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use super::checks::space;
use crate::VERSION;

/// Registers what is measured of every process.
pub(crate) fn register(
    metrics: &Metrics,
    spans: &Spans,
    readiness: &Readiness,
    folder: PathBuf,
    gateway_tls: Option<Tls>,
) {
    spans.register(metrics);
    let readiness = readiness.clone();
    metrics.register(|registry| {
        let build = Info::new([("version", VERSION)]);
        registry.register("build", "The program", build);
        registry.register_collector(Box::new(ProcessMetrics));
        registry.register_collector(Box::new(Room {
            folder,
            readiness,
            gateway_tls,
        }));
    });
}

/// Looked at when somebody asks.
#[derive(Debug)]
struct Room {
    folder: PathBuf,
    readiness: Readiness,
    /// That of the port for services is told where it is kept.
    gateway_tls: Option<Tls>,
}

impl Collector for Room {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some((free, total)) = space(&self.folder) {
            for (name, help, bytes) in [
                (
                    "data_free_bytes",
                    "Room left where the data folder lies",
                    free,
                ),
                (
                    "data_size_bytes",
                    "All room where the data folder lies",
                    total,
                ),
            ] {
                let value = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        let help =
            "Whether a service of this process serves: 1, or 0 while it starts, stands by or ends";
        let mut ready =
            encoder.encode_descriptor("service_ready", help, None, MetricType::Gauge)?;
        for (service, serves) in self.readiness.all() {
            let labels = [("service", service)];
            ConstGauge::new(i64::from(serves)).encode(ready.encode_family(&labels)?)?;
        }
        let Some(tls) = &self.gateway_tls else {
            return Ok(());
        };
        let end = tls.not_after().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = end.map_or(0, |end| end.as_secs());
        let value = ConstGauge::new(i64::try_from(seconds).unwrap_or(i64::MAX));
        let name = "gateway_tls_certificate_not_after_seconds";
        let help = "When the certificate of the port for everybody ends, in seconds since 1970";
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
