//! How databases' connections are used.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::Database;

/// The connections of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// In the middle of something.
    pub used: u32,
    /// Open and waiting.
    pub idle: u32,
    /// How many there may be.
    pub most: u32,
}

/// Tells how the pools of a process are used, each database by the service whose it is.
#[derive(Debug)]
pub struct PoolMetrics(pub Vec<(&'static str, Database)>);

impl Collector for PoolMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let pools = self.0.iter().flat_map(|(service, database)| {
            let pools = database.pools().into_iter();
            pools.map(|(pool, usage)| (*service, pool, usage))
        });
        let pools: Vec<_> = pools.collect();
        if pools.is_empty() {
            return Ok(());
        }
        let help = "Open connections to databases, by service, pool and whether they do something";
        let name = "db_client_connections";
        let mut open = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (service, pool, usage) in &pools {
            for (state, count) in [("used", usage.used), ("idle", usage.idle)] {
                let labels = [("service", *service), ("pool", *pool), ("state", state)];
                ConstGauge::new(i64::from(count)).encode(open.encode_family(&labels)?)?;
            }
        }
        let help = "Connections to databases that there may be, by service and pool";
        let name = "db_client_connections_max";
        let mut most = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (service, pool, usage) in &pools {
            let labels = [("service", *service), ("pool", *pool)];
            ConstGauge::new(i64::from(usage.most)).encode(most.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
