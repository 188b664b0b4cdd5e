//! `com metrics` and `com top`: what is measured, for people.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use commonplace_proto::telemetry::{GetMetricsRequest, GetMetricsResponse, Process, Series};
use commonplace_rpc::Channel;
use commonplace_telemetry::samples::quantile;

use super::trace::{client, complain_of_missing, needs_server};
use crate::cli::Global;
use crate::cli::sight::Top;
use crate::{output, session, tree};

/// The metric of calls served.
const SERVED: &str = "commonplace_rpc_server_call_duration_seconds";

/// Prints what calls there were since the start, and where the stores stand.
pub async fn run(global: &Global) -> anyhow::Result<()> {
    needs_server(global, "metrics")?;
    session::with(global, async |session| {
        let answer = ask(&session.channels.telemetry).await?;
        if global.json {
            return output::message(&answer);
        }
        let calls = Calls::of(&answer);
        output::table(&calls.rows(None));
        output::line("");
        output::table(&gauges(&answer));
        missing(&answer);
        Ok(())
    })
    .await
}

/// Shows again and again what happened since the last look.
pub async fn top(global: &Global, arguments: Top) -> anyhow::Result<()> {
    needs_server(global, "top")?;
    let period = Duration::from_millis(arguments.interval_ms);
    session::with(global, async |session| {
        let mut before = (
            Instant::now(),
            Calls::of(&ask(&session.channels.telemetry).await?),
        );
        loop {
            tokio::time::sleep(period).await;
            let answer = ask(&session.channels.telemetry).await?;
            let now = (Instant::now(), Calls::of(&answer));
            let (span, calls) = (now.0 - before.0, now.1.since(&before.1));
            show(global, arguments.once, &calls, span, &answer);
            if arguments.once {
                return Ok(());
            }
            before = now;
        }
    })
    .await
}

fn show(global: &Global, once: bool, calls: &Calls, span: Duration, answer: &GetMetricsResponse) {
    if global.json {
        return output::json(&calls.as_json(span));
    }
    if !once && std::io::stdout().is_terminal() {
        // From the top left, over what was there.
        output::line("\x1b[H\x1b[2J");
    }
    output::table(&calls.rows(Some(span)));
    output::line("");
    output::table(&gauges(answer));
    missing(answer);
}

async fn ask(channel: &Channel) -> anyhow::Result<GetMetricsResponse> {
    let request = GetMetricsRequest { local: false };
    Ok(client(channel).get_metrics(request).await?.into_inner())
}

fn missing(answer: &GetMetricsResponse) {
    let processes = answer.processes.iter();
    let processes: Vec<Process> = processes.filter_map(|told| told.process.clone()).collect();
    complain_of_missing(&processes);
}

/// Calls served, by method; those of all processes together.
#[derive(Debug, Default, PartialEq)]
struct Calls {
    methods: BTreeMap<String, Method>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Method {
    calls: u64,
    failed: u64,
    buckets: Vec<(f64, u64)>,
}

impl Calls {
    fn of(answer: &GetMetricsResponse) -> Self {
        let mut calls = Self::default();
        let metrics = answer.processes.iter().flat_map(|told| &told.metrics);
        for series in metrics
            .filter(|metric| metric.name == SERVED)
            .flat_map(|m| &m.series)
        {
            let method = calls.methods.entry(label(series, "rpc_method").to_owned());
            method.or_default().add(series);
        }
        calls
    }

    /// What came in between.
    fn since(&self, before: &Self) -> Self {
        let fresh = Method::default();
        let methods = self.methods.iter().map(|(name, now)| {
            let before = before.methods.get(name).unwrap_or(&fresh);
            (name.clone(), now.since(before))
        });
        Self {
            methods: methods.filter(|(_, method)| method.calls > 0).collect(),
        }
    }

    /// `span`: how long the calls took to come in; nothing for all since the start.
    fn rows(&self, span: Option<Duration>) -> Vec<Vec<String>> {
        let calls = if span.is_some() { "CALLS/S" } else { "CALLS" };
        let heading = ["METHOD", calls, "FAILED", "P50", "P95", "P99"];
        let mut rows = vec![heading.map(String::from).to_vec()];
        for (name, method) in &self.methods {
            let short = name
                .rsplit_once(".v1.")
                .map_or(name.as_str(), |(_, short)| short);
            let share = 100.0 * method.failed as f64 / method.calls.max(1) as f64;
            let quantile = |q| match quantile(&method.buckets, q) {
                Some(seconds) => tree::duration((seconds * 1e9) as u64),
                None => "-".into(),
            };
            rows.push(vec![
                short.to_owned(),
                match span {
                    Some(span) => format!("{:.1}", method.calls as f64 / span.as_secs_f64()),
                    None => method.calls.to_string(),
                },
                if method.failed == 0 {
                    "0".into()
                } else {
                    format!("{share:.2} %")
                },
                quantile(0.5),
                quantile(0.95),
                quantile(0.99),
            ]);
        }
        if self.methods.is_empty() {
            rows.push(vec!["no calls".into()]);
        }
        rows
    }

    fn as_json(&self, span: Duration) -> serde_json::Value {
        let methods = self.methods.iter().map(|(name, method)| {
            serde_json::json!({
                "method": name,
                "calls": method.calls,
                "failed": method.failed,
                "per_second": method.calls as f64 / span.as_secs_f64(),
                "p50_seconds": quantile(&method.buckets, 0.5),
                "p95_seconds": quantile(&method.buckets, 0.95),
                "p99_seconds": quantile(&method.buckets, 0.99),
            })
        });
        let methods: Vec<_> = methods.collect();
        serde_json::json!({"seconds": span.as_secs_f64(), "methods": methods})
    }
}

impl Method {
    fn add(&mut self, series: &Series) {
        const FAULTS: [&str; 6] = [
            "UNKNOWN",
            "DEADLINE_EXCEEDED",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
        ];
        let count = series.value as u64;
        self.calls += count;
        if FAULTS.contains(&label(series, "rpc_response_status_code")) {
            self.failed += count;
        }
        let bounds = series
            .buckets
            .iter()
            .map(|bucket| (bucket.upper_bound, bucket.count));
        let bounds: Vec<_> = bounds.chain([(f64::INFINITY, count)]).collect();
        if self.buckets.is_empty() {
            self.buckets = bounds;
            return;
        }
        for (sum, (_, count)) in self.buckets.iter_mut().zip(bounds) {
            sum.1 += count;
        }
    }

    /// A process that was started anew counts from nothing: what is less than before is all that there is.
    fn since(&self, before: &Self) -> Self {
        if self.calls < before.calls || before.buckets.is_empty() {
            return self.clone();
        }
        let pairs = self.buckets.iter().zip(&before.buckets);
        Self {
            calls: self.calls - before.calls,
            failed: self.failed.saturating_sub(before.failed),
            buckets: pairs
                .map(|(now, before)| (now.0, now.1.saturating_sub(before.1)))
                .collect(),
        }
    }
}

/// Counters and gauges of each process, without those of calls.
fn gauges(answer: &GetMetricsResponse) -> Vec<Vec<String>> {
    let mut rows = vec![["PROCESS", "METRIC", "VALUE"].map(String::from).to_vec()];
    for told in &answer.processes {
        let roles = told
            .process
            .as_ref()
            .map_or(&[][..], |process| &process.roles);
        let roles = if roles.len() > 3 {
            "all".to_owned()
        } else {
            roles.join(",")
        };
        let single = told.metrics.iter().filter(|metric| {
            matches!(metric.kind.as_str(), "counter" | "gauge") && !metric.name.contains("_rpc_")
        });
        for metric in single {
            let name = metric.name.trim_start_matches("commonplace_");
            for series in &metric.series {
                let labels = series.labels.iter();
                let labels: Vec<String> =
                    labels.map(|l| format!("{}={}", l.name, l.value)).collect();
                let labels = match labels.is_empty() {
                    true => String::new(),
                    false => format!("{{{}}}", labels.join(",")),
                };
                rows.push(vec![
                    roles.clone(),
                    format!("{name}{labels}"),
                    number(name, series.value),
                ]);
            }
        }
    }
    rows
}

fn number(name: &str, value: f64) -> String {
    match name {
        _ if name.ends_with("_bytes") => format!("{:.0} MiB", value / f64::from(1 << 20)),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn label<'a>(series: &'a Series, name: &str) -> &'a str {
    let found = series.labels.iter().find(|label| label.name == name);
    found.map_or("", |label| &label.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonplace_proto::telemetry::{Attribute, Bucket, Metric, ProcessMetrics};

    fn answer(calls: u64) -> GetMetricsResponse {
        let label = |name: &str, value: &str| Attribute {
            name: name.into(),
            value: value.into(),
        };
        let series = |status: &str, calls: u64| Series {
            labels: vec![
                label("rpc_method", "commonplace.journal.v1.JournalService/Append"),
                label("rpc_response_status_code", status),
            ],
            value: calls as f64,
            sum: 1.0,
            buckets: vec![Bucket {
                upper_bound: 0.001,
                count: calls,
            }],
        };
        let metric = Metric {
            name: SERVED.into(),
            series: vec![series("OK", calls), series("UNAVAILABLE", 1)],
            ..Metric::default()
        };
        let told = ProcessMetrics {
            process: None,
            metrics: vec![metric],
        };
        GetMetricsResponse {
            processes: vec![told.clone(), told],
        }
    }

    #[test]
    fn calls_of_all_processes_are_told_together() {
        let rows = Calls::of(&answer(9)).rows(None);
        assert_eq!(rows[1][..3], ["JournalService/Append", "20", "10.00 %"]);
        assert_eq!(rows[1][3], "500 µs");
    }

    #[test]
    fn a_look_shows_what_came_since_the_last() {
        let since = Calls::of(&answer(14)).since(&Calls::of(&answer(9)));
        let rows = since.rows(Some(Duration::from_secs(2)));
        assert_eq!(rows[1][..3], ["JournalService/Append", "5.0", "0"]);
        let restarted = Calls::of(&answer(2)).since(&Calls::of(&answer(9)));
        assert_eq!(restarted.methods.values().next().unwrap().calls, 6);
        assert!(
            Calls::of(&answer(9))
                .since(&Calls::of(&answer(9)))
                .methods
                .is_empty()
        );
    }
}
