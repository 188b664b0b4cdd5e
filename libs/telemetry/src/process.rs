//! What the system says of this process: memory, processor time, open files.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A look at the process. What the system does not tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Memory in use.
    pub resident_bytes: Option<u64>,
    /// Processor time used, by all threads.
    pub processor: Option<Duration>,
    /// Open files and connections.
    pub open_files: Option<u64>,
    /// How many may be open.
    pub most_files: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Usage {
    /// Looks now; on Linux, from `/proc`.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let most_files = limits.lines().find_map(|line| {
            let rest = line.strip_prefix("Max open files")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let open = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            resident_bytes: line("VmRSS:").map(|kibibytes| kibibytes << 10),
            processor: processor(&stat),
            // The folder that is being read is one of them.
            open_files: open.map(|open| (open.count() as u64).saturating_sub(1)),
            most_files,
            threads: line("Threads:"),
        }
    }
}

/// Fields 14 and 15 of `/proc/self/stat`, in ticks of 10 ms, counted behind the program's name.
fn processor(stat: &str) -> Option<Duration> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Tells [`Usage`] with the metrics.
#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let usage = Usage::now();
        let mut gauge = |name: &str, help: &str, value: Option<u64>| match value {
            None => Ok(()),
            Some(value) => {
                let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
            }
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory in use",
            usage.resident_bytes,
        )?;
        gauge(
            "process_open_files",
            "Open files and connections",
            usage.open_files,
        )?;
        gauge(
            "process_max_files",
            "How many files may be open",
            usage.most_files,
        )?;
        gauge("process_threads", "Threads", usage.threads)?;
        if let Some(processor) = usage.processor {
            let value = ConstCounter::new(processor.as_secs_f64());
            let help = "Processor time used by all threads";
            let encoder = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?;
            value.encode(encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        let usage = Usage::now();
        assert!(
            usage.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{usage:?}"
        );
        assert!(usage.open_files.is_some_and(|open| open > 2), "{usage:?}");
        assert!(usage.most_files > usage.open_files, "{usage:?}");
        assert!(
            usage.processor.is_some() && usage.threads.is_some(),
            "{usage:?}"
        );
    }
}
