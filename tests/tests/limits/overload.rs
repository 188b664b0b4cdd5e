//! Three times the load that a process can bear. The figures are printed; what is asserted holds on a busy machine too
//! (`commonplace-bench --only overload` measures them).

use std::time::{Duration, Instant};

use commonplace_node::Role;
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::telemetry::GetMetricsRequest;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_rpc::{Code, Failure, context};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::overload::{Outcome, Overload, quantile};

const EVENTS: usize = 3_000;
const WORDS: [&str; 16] = [
    "retry", "timeout", "login", "checkout", "flaky", "queue", "deadline", "cache", "index",
    "merge", "branch", "lease", "token", "driver", "socket", "budget",
];

fn words(number: usize, count: usize) -> String {
    let word = |place: usize| WORDS[(number * 7 + place * place + place * number) % WORDS.len()];
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

async fn fill(mesh: &Mesh) {
    let mut ingest = IngestServiceClient::new(mesh.channels().ingest);
    for first in (0..EVENTS).step_by(500) {
        let event = |number: usize| EventDraft {
            artifact_type: "bug".into(),
            title: format!("{number} {}", words(number, 6)),
            text: words(number + 1, 60),
            ..Default::default()
        };
        let request = IngestEventsRequest {
            project: "storm".into(),
            events: (first..first + 500).map(event).collect(),
            ..Default::default()
        };
        let call = context::with_deadline(Duration::from_secs(30), ingest.ingest_events(request));
        call.await.unwrap();
    }
}

fn tell(outcome: &Outcome) {
    println!(
        "capacity {:.0}/s, offered {:.0}/s, goodput {:.0}/s ({:.0} %), admitted p50 {:?} p99 {:?}, {} refused p50 {:?}, \
         {} left out, cheap p99 {:?} ({} of {} failed)",
        outcome.capacity,
        outcome.offered,
        outcome.goodput,
        100.0 * outcome.goodput / outcome.capacity,
        quantile(&outcome.answered, 0.5),
        quantile(&outcome.answered, 0.99),
        outcome.refused.len(),
        quantile(&outcome.refused_after, 0.5),
        outcome.left_out,
        quantile(&outcome.cheap, 0.99),
        outcome.cheap_failed.len(),
        outcome.cheap.len() + outcome.cheap_failed.len(),
    );
}

/// Calls that the gateway refused at the door.
async fn turned_away(mesh: &Mesh) -> f64 {
    let mut client = TelemetryServiceClient::new(mesh.channels().telemetry);
    let answer = client.get_metrics(GetMetricsRequest { local: false }).await;
    let processes = answer.unwrap().into_inner().processes;
    let metrics = processes.into_iter().flat_map(|told| told.metrics);
    let counters =
        metrics.filter(|metric| metric.name == "commonplace_admission_turned_away_total");
    let series = counters.flat_map(|counter| counter.series);
    series.map(|series| series.value).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_what_can_be_served_is_refused_in_order_and_the_rest_is_served() {
    let mesh = Mesh::builder(Form::OneProcess).start().await;
    fill(&mesh).await;
    let overload = Overload {
        project: "storm".into(),
        queries: (0..64).map(|number| words(number * 3, 4)).collect(),
        clients: 16,
        calm: Duration::from_secs(4),
        storm: Duration::from_secs(8),
        rounds: 1,
        times: 3.0,
        deadline: Duration::from_secs(5),
        foreign: Vec::new(),
    };
    overload.call(&mesh.channels()).await.unwrap();
    let before = mesh.rss(Role::Gateway, 0).unwrap();
    let outcome = overload.run(|| mesh.channels()).await;
    let grown = mesh.rss(Role::Gateway, 0).unwrap().saturating_sub(before);
    tell(&outcome);
    println!("memory grew by {} MB", grown / 1_000_000);

    assert!(outcome.refused.len() > 100, "it is more than can be served");
    for refused in &outcome.refused {
        assert_eq!(refused.code, Code::ResourceExhausted, "{refused:?}");
        assert_eq!(refused.reason, "OVERLOADED", "{refused:?}");
        let wait = refused.retry_after.unwrap();
        assert!(wait >= Duration::from_millis(50) && wait <= Duration::from_secs(10));
    }
    let by_caller = |failure: &&Failure| failure.metadata.contains_key("refused_by");
    let by_caller = outcome.refused.iter().filter(by_caller).count();
    let by_server = (outcome.refused.len() - by_caller) as f64;
    let cheaply = turned_away(&mesh).await / by_server;
    println!("{by_caller} refused by the caller, {cheaply:.2} of the others at the door");
    assert!(cheaply > 0.3 && by_caller > 0);
    // Whoever calls shares the machine with whoever serves.
    assert!(outcome.goodput > 0.4 * outcome.capacity, "the work goes on");
    assert!(quantile(&outcome.answered, 0.99) < Duration::from_secs(3));
    assert!(
        outcome.cheap_failed.is_empty(),
        "{:?}",
        outcome.cheap_failed
    );
    assert!(outcome.cheap.len() > 10 && quantile(&outcome.cheap, 0.9) < Duration::from_secs(1));
    // As much as runs and waits at once, however long it lasts.
    assert!(grown < 512 << 20, "{grown} bytes");

    let calm = Instant::now();
    while overload.call(&mesh.channels()).await.is_err() {
        assert!(
            calm.elapsed() < Duration::from_secs(5),
            "it does not recover"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..20 {
        overload.call(&mesh.channels()).await.unwrap();
    }
    mesh.shutdown().await;
}
