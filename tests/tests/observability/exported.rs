//! Every metric is in docs/metrics.md, and every metric named by a rule or a dashboard is really exported.
//! `UPDATE_DOCS=1` for this test writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_proto::telemetry::{GetMetricsRequest, Metric};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::repository;

use crate::common::{retrieve, write};

const HEAD: &str = "# Metrics

What `/metrics` at the `health_listen` of every process, and of a gateway in development mode also at its port for
everybody, exports in the OpenMetrics text form; `com metrics` shows the same.
Durations are in seconds, with buckets from 0.25 ms, doubling, to 8 s; those of calls carry the trace of an observation
in each bucket as an exemplar. Labels have few values each: no tenant, project, agent or event is among them. A test
compares this table with a running mesh, and the names in `observability` with this table.

`commonplace_rpc_server_refused_total` counts at services TOO_MANY_CALLS, and at gateways also OVERLOADED, RATE_LIMITED
and MESSAGES_BUSY.

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
";

/// Everything that a mesh with certificates exports once it has done all kinds of work.
async fn exported() -> BTreeMap<String, Metric> {
    let mesh = Mesh::builder(Form::PerRole).tls().start().await;
    let channels = mesh.channels();
    write(&channels, "a test fails", "now and then")
        .await
        .unwrap();
    retrieve(&channels, "which test fails?").await.unwrap();
    let mut client = TelemetryServiceClient::new(channels.telemetry);
    let answer = client.get_metrics(GetMetricsRequest { local: false }).await;
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for told in answer.unwrap().into_inner().processes {
        let process = told.process.unwrap();
        assert_eq!(process.problem, "", "{process:?}");
        for metric in told.metrics {
            let known = metrics
                .entry(metric.name.clone())
                .or_insert_with(|| Metric {
                    series: Vec::new(),
                    ..metric.clone()
                });
            assert_eq!((&known.kind, &known.help), (&metric.kind, &metric.help));
            known.series.extend(metric.series);
        }
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_is_exported() {
    let metrics = exported().await;
    let mut page = HEAD.to_owned();
    for (name, metric) in &metrics {
        assert!(name.starts_with("commonplace_"), "{name}");
        assert!(!metric.help.is_empty(), "{name} says what it is");
        let labels: BTreeSet<&str> = metric
            .series
            .iter()
            .flat_map(|series| series.labels.iter().map(|label| label.name.as_str()))
            .collect();
        for unbounded in ["tenant", "project", "agent", "event"] {
            assert!(
                !labels.contains(unbounded),
                "{name} has a label {unbounded}"
            );
        }
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(
            page,
            "| `{name}` | {} | {} | {} |",
            metric.kind,
            labels.join(", "),
            metric.help
        )
        .unwrap();
    }
    let file = repository().join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/metrics.md is not as the mesh says: run `UPDATE_DOCS=1 cargo test --workspace --test observability`"
    );

    let mut named = BTreeSet::new();
    for (path, text) in files() {
        let names = names(&text);
        assert!(!names.is_empty(), "{path} names metrics");
        for name in names {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let family = family
                .filter(|family| metrics.contains_key(*family))
                .unwrap_or(&name);
            assert!(
                metrics.contains_key(family),
                "{path} names {name}, which nobody exports"
            );
            named.insert(family.to_owned());
        }
    }
    assert!(named.len() > 20, "{named:?}");
}

/// The rules and dashboards.
pub fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["alerts", "dashboards"] {
        for entry in std::fs::read_dir(repository().join("observability").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            files.push((
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// Words that begin as our metrics do. Recorded series have a colon; they are made by the rules.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let ours = words.filter(|word| word.starts_with("commonplace_") && !word.contains(':'));
    ours.map(ToOwned::to_owned).collect()
}
