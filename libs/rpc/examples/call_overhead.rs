//! What traces and measurements cost a call: the same call in one process, without and with them.
//!
//! `cargo run --release -p commonplace-rpc --example call_overhead`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use commonplace_rpc::{Channel, Layered, Limits, context};
use commonplace_telemetry::{Identity, Metrics, Options, subscriber};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Service, ServiceExt};

const CALLS: usize = 50_000;

fn channel(measured: bool) -> Channel {
    let answer = tower::service_fn(|_: Request<Body>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    let metrics = Metrics::new();
    let channel = Channel::in_process(Layered::new(answer, Limits::default(), metrics.clone()));
    match measured {
        true => channel.measured(metrics),
        false => channel,
    }
}

/// Sorted durations of calls, in nanoseconds.
async fn durations(mut channel: Channel) -> Vec<u64> {
    let mut all = Vec::with_capacity(CALLS);
    for number in 0..CALLS + 1_000 {
        let request = Request::builder()
            .uri("/commonplace.journal.v1.JournalService/Append")
            .body(Body::empty())
            .unwrap();
        let started = Instant::now();
        channel.ready().await.unwrap().call(request).await.unwrap();
        if number >= 1_000 {
            all.push(started.elapsed().as_nanos() as u64);
        }
    }
    all.sort_unstable();
    all
}

fn run(measured: bool) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let calls = durations(channel(measured));
    runtime.block_on(context::with_deadline(Duration::from_secs(600), calls))
}

fn main() {
    let told = |what: &str, all: &[u64]| {
        let at = |share: f64| all[(all.len() as f64 * share) as usize] as f64 / 1_000.0;
        println!(
            "{what:<34} p50 {:>7.2} µs  p99 {:>7.2} µs",
            at(0.5),
            at(0.99)
        );
        at(0.5)
    };
    let without = told("without spans", &run(false));
    let identity = Identity {
        version: "0".into(),
    };
    let (_guard, subscriber) =
        subscriber(&Options::default(), &identity, Box::new(|_| {})).unwrap();
    let with = tracing::subscriber::with_default(subscriber, || {
        told("with spans and client measurements", &run(true))
    });
    println!(
        "both sides of a call: {:.2} µs more at the median",
        with - without
    );
}
