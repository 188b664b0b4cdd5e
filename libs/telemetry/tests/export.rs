//! A collector that is away, silent or slow costs the process nothing but its spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_telemetry::{Guard, Identity, Options, Spans, subscriber};

const SPANS: usize = 20_000;
const QUEUE: usize = 1_000;

fn options(endpoint: &str) -> Options {
    Options {
        otlp_endpoint: endpoint.into(),
        otlp_queue: QUEUE,
        ..Options::default()
    }
}

/// Ends many spans on a runtime of one thread, and says how long that took and what became of them.
fn work(endpoint: &str) -> (Duration, Arc<Spans>, Guard) {
    let identity = Identity {
        version: "1".into(),
    };
    let (guard, subscriber) = subscriber(&options(endpoint), &identity, Box::new(|_| {})).unwrap();
    let _set = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let started = Instant::now();
    runtime.block_on(async {
        for number in 0..SPANS {
            drop(tracing::info_span!(
                target: "commonplace::rpc", "call", otel.kind = "server",
                rpc.method = "commonplace.journal.v1.JournalService/Append",
            ));
            if number.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
    });
    (started.elapsed(), guard.spans().clone(), guard)
}

fn is_bounded(endpoint: &str) {
    let (took, spans, guard) = work(endpoint);
    assert!(took < Duration::from_secs(3), "{endpoint}: {took:?}");
    assert_eq!(spans.recorded.get(), SPANS as u64);
    let waiting_at_most = (QUEUE + 512) as u64;
    assert!(
        spans.dropped.get() >= SPANS as u64 - waiting_at_most - 512,
        "{endpoint}: {} were dropped",
        spans.dropped.get()
    );
    let ending = Instant::now();
    drop(guard);
    assert!(
        ending.elapsed() < Duration::from_millis(2_500),
        "{endpoint}: {:?}",
        ending.elapsed()
    );
    assert_eq!(spans.sent.get(), 0);
}

#[test]
fn a_collector_that_is_away_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    is_bounded(&format!("http://{address}"));
}

#[test]
fn a_collector_that_never_takes_a_connection_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    is_bounded(&format!("http://{}", listener.local_addr().unwrap()));
}

#[test]
fn a_collector_that_reads_and_stays_silent_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().take(8).flatten() {
            std::thread::spawn(move || {
                let mut connection = connection;
                let _ = std::io::copy(&mut connection, &mut std::io::sink());
            });
        }
    });
    is_bounded(&format!("http://{address}"));
}

#[test]
fn a_wrong_address_is_refused_with_the_next_step() {
    let identity = Identity {
        version: "1".into(),
    };
    for (endpoint, expected) in [
        ("https://collector:4317", "http://127.0.0.1:4317"),
        ("collector", "http://127.0.0.1:4317"),
    ] {
        let error = subscriber(&options(endpoint), &identity, Box::new(|_| {}))
            .err()
            .unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
