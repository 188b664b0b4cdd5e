//! Calls that are given up at any moment leave nothing behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use commonplace_rpc::server::{Server, ServerOptions};
use commonplace_rpc::{Channel, Layered, Limits};
use commonplace_telemetry::Metrics;
use tower::ServiceExt;

use crate::common::{Act, Peer, READ, TAIL, options, read, request, until};

/// Delays in microseconds that reach every stage of a call, by a fixed sequence.
fn delays(count: u64) -> impl Iterator<Item = Duration> {
    (0..count).map(|number| Duration::from_micros(number.wrapping_mul(0x9e37_79b9) % 2_500))
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_leave_no_task_and_no_permit() {
    let peer = Peer::start(Act::After(Duration::from_millis(1))).await;
    let server = Server::bind_with("127.0.0.1:0", ServerOptions::default())
        .await
        .unwrap();
    let inner = Channel::remote(&[peer.url()], &options()).unwrap();
    let service = Layered::new(
        tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let inner = inner.clone();
            async move {
                let answer = inner.oneshot(request).await;
                Ok(answer.unwrap_or_else(|error| tonic::Status::from_error(error).into_http()))
            }
        }),
        Limits {
            concurrent_calls: 64,
            concurrent_streams: 64,
            ..Limits::default()
        },
        Metrics::new(),
    );
    server.open(service.clone());
    let channel = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    read(&channel).await.unwrap();
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    for (number, delay) in delays(3_000).enumerate() {
        let path = if number % 3 == 0 { TAIL } else { READ };
        let call = channel.clone().oneshot(request(path));
        let _ = tokio::time::timeout(delay, call).await;
    }
    until("every permit is back", async || service.room() == (64, 64)).await;
    until("no handler runs", async || {
        peer.running.load(Ordering::SeqCst) == 0
    })
    .await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    until("no task is left", async || tasks() <= before).await;
    read(&channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_channel_ends_its_tasks() {
    let peer = Peer::start(Act::Answer).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for _ in 0..20 {
        let addresses = [peer.url(), "http://127.0.0.1:1".into()];
        let channel = Channel::remote(&addresses, &options()).unwrap();
        read(&channel).await.unwrap();
    }
    until("the tasks have ended", async || tasks() <= before).await;
}
