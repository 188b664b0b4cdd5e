//! A real server under three times the load that it can bear. It has one core, and whoever calls the others: on the
//! same cores, three times the calls would take three times as much from the server as when its capacity was measured.

use std::path::Path;
use std::time::Duration;

use commonplace_node::Role;
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::overload::{Overload, leave_first_core, quantile};
use tonic::transport::Endpoint;

use crate::corpus;
use crate::mesh::{filled, filled_folder, seeded};
use crate::report::Report;

const GROUP: &str = "overload";
const QUERIES: usize = 64;
/// Of generated clients.
const CONNECTIONS: usize = 8;

/// Capacity, then goodput, latency, refusals and memory at three times that.
pub async fn measure(report: &mut Report, seconds: u64, keep: Option<&Path>) -> anyhow::Result<()> {
    let (data, _temporary) = filled_folder(keep).await?;
    let builder = match leave_first_core() {
        true => Mesh::builder(Form::OneProcess).core(0),
        false => {
            eprintln!("the server shares its cores with its callers: expect less goodput");
            Mesh::builder(Form::OneProcess)
        }
    };
    let mesh = seeded(builder, &data).start().await;
    filled(&mesh.channels()).await?;
    let overload = Overload {
        project: "bench".into(),
        queries: (0..QUERIES).map(corpus::query).collect(),
        clients: 16,
        calm: Duration::from_secs(4),
        storm: Duration::from_secs(seconds),
        rounds: 6,
        times: 3.0,
        deadline: Duration::from_secs(5),
        foreign: Vec::new(),
    };
    let outcome = overload.run(|| mesh.channels()).await;
    eprintln!("answers in each second: {:?}", outcome.by_second);
    let after_one = mesh.rss(Role::Gateway, 0);
    let mut foreign = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(mesh.address(Role::Gateway, 0))?;
        foreign.push(endpoint.connect().await?);
    }
    let again = Overload {
        foreign,
        ..overload
    };
    let impolite = again.run(|| mesh.channels()).await;
    eprintln!("with generated clients: {:?}", impolite.by_second);
    let after_two = mesh.rss(Role::Gateway, 0);
    let share = 100.0 * outcome.goodput / outcome.capacity;
    report.more(
        GROUP,
        "capacity, 16 clients",
        outcome.capacity,
        "calls/s",
        None,
    );
    report.more(GROUP, "offered", outcome.offered, "calls/s", None);
    report.more(GROUP, "goodput", outcome.goodput, "calls/s", None);
    report.more(GROUP, "goodput of the capacity", share, "%", Some(90.0));
    let generated = 100.0 * impolite.goodput / impolite.capacity;
    report.more(
        GROUP,
        "the same, generated clients alone",
        generated,
        "%",
        Some(90.0),
    );
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let admitted = quantile(&outcome.answered, share).as_secs_f64() * 1e3;
        report.less(GROUP, &format!("admitted, {name}"), admitted, "ms", None);
        let refused = quantile(&outcome.refused_after, share).as_secs_f64() * 1e3;
        report.less(
            GROUP,
            &format!("refused after, {name}"),
            refused,
            "ms",
            None,
        );
        let cheap = quantile(&outcome.cheap, share).as_secs_f64() * 1e3;
        report.less(GROUP, &format!("cheap reads, {name}"), cheap, "ms", None);
    }
    let failed = outcome.cheap_failed.len() as f64;
    report.less(GROUP, "cheap reads that failed", failed, "calls", Some(0.0));
    let refused = |well: bool| {
        let formed = |failure: &&commonplace_rpc::Failure| {
            (failure.reason == "OVERLOADED" && failure.retry_after.is_some()) == well
        };
        outcome.refused.iter().filter(formed).count() as f64
    };
    report.more(
        GROUP,
        "refused with the time to wait",
        refused(true),
        "calls",
        None,
    );
    report.less(
        GROUP,
        "failed otherwise",
        refused(false),
        "calls",
        Some(0.0),
    );
    let left_out = outcome.left_out as f64;
    report.less(
        GROUP,
        "not begun by the bench itself",
        left_out,
        "calls",
        None,
    );
    if let Some((one, two)) = after_one.zip(after_two) {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        report.less(GROUP, "resident memory after", megabytes(one), "MB", None);
        let grown = megabytes(two.saturating_sub(one));
        report.less(GROUP, "grown by the same again", grown, "MB", Some(32.0));
    }
    mesh.shutdown().await;
    Ok(())
}
