//! What the layers cost a call: the same call in one process, of the handler alone, through the layers, and through
//! the layers with spans recorded. Who calls and what they may do is not asked here; `libs/access` does that.
//!
//! `cargo run --release -p commonplace-rpc --example call_overhead`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commonplace_rpc::{Channel, Layered, Limits, context};
use commonplace_telemetry::{Identity, Metrics, Options, subscriber};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Service, ServiceExt};

const CALLS: usize = 50_000;

/// A service that does nothing.
#[derive(Clone)]
struct Handler;

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

/// The handler behind both sides of a call, as services of one process call each other.
fn layered() -> Channel {
    let metrics = Metrics::new();
    let layered = Layered::new(Handler, Limits::default(), metrics.clone());
    Channel::in_process(layered).measured(metrics)
}

/// Sorted durations of calls, in nanoseconds.
async fn durations<S>(mut service: S) -> Vec<u64>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: std::fmt::Debug>,
{
    let mut all = Vec::with_capacity(CALLS);
    for number in 0..CALLS + 1_000 {
        let request = Request::builder()
            .uri("/commonplace.journal.v1.JournalService/Append")
            .body(Body::empty())
            .unwrap();
        let started = Instant::now();
        service.ready().await.unwrap().call(request).await.unwrap();
        if number >= 1_000 {
            all.push(started.elapsed().as_nanos() as u64);
        }
    }
    all.sort_unstable();
    all
}

fn run<S>(service: S) -> Vec<u64>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: std::fmt::Debug>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let calls = durations(service);
    runtime.block_on(context::with_deadline(Duration::from_secs(600), calls))
}

fn main() {
    let told = |what: &str, all: &[u64]| {
        let at = |share: f64| all[(all.len() as f64 * share) as usize] as f64 / 1_000.0;
        let (middle, high) = (at(0.5), at(0.99));
        println!("{what:<28} p50 {middle:>7.2} µs  p99 {high:>7.2} µs");
        middle
    };
    let bare = told("the handler alone", &run(Handler));
    let without = told("with the layers", &run(layered()));
    let identity = Identity {
        version: "0".into(),
    };
    let (_guard, subscriber) =
        subscriber(&Options::default(), &identity, Box::new(|_| {})).unwrap();
    let with = tracing::subscriber::with_default(subscriber, || {
        told("with the layers and spans", &run(layered()))
    });
    let (layers, spans) = (without - bare, with - without);
    println!(
        "both sides of a call, at the median: {layers:.2} µs for the layers, {spans:.2} µs for spans"
    );
}
