//! What the edge lets in: as many as run, a few that wait, no slow senders; and everything comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use commonplace_rpc::server::{Door, Server};
use commonplace_rpc::{Admission, AdmissionOptions, Channel, Code, Edge, Failure, IntakeOptions};
use commonplace_telemetry::Metrics;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;
use tower::ServiceExt;

use crate::common::{READ, TAIL, WRITE, call, message, request, until};

/// Calls that run at once at least, of one core.
const PLACES: usize = 32;
const TIME: Duration = Duration::from_secs(5);

struct Gate {
    edge: Edge,
    admission: Admission,
    channel: Channel,
    running: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// Before a service that hangs, but for reads.
fn gate(waiting: usize, wait: Duration) -> Gate {
    let metrics = Metrics::new();
    let options = AdmissionOptions {
        concurrent_calls: PLACES,
        waiting_calls: waiting,
        wait,
        cores: 1,
    };
    let admission = Admission::new(&options, &metrics);
    let running: Arc<AtomicUsize> = Arc::default();
    let count = running.clone();
    let behind = Channel::in_process(tower::service_fn(move |request: Request<Body>| {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            if request.uri().path() == WRITE {
                let _request = request;
                std::future::pending::<()>().await;
            }
            Ok::<Response<Body>, std::convert::Infallible>(message())
        }
    }));
    let intake = IntakeOptions {
        calls: 200,
        bytes: 0,
    };
    let edge = Edge::new(admission.clone(), None, metrics.clone(), intake);
    Gate {
        channel: edge.before(&behind),
        edge,
        admission,
        running,
        metrics,
    }
}

#[tokio::test]
async fn what_cannot_run_waits_a_little_and_is_told_when_to_come_back() {
    let gate = gate(2, Duration::from_secs(5));
    let hanging: Vec<_> = (0..PLACES)
        .map(|_| tokio::spawn(gate.channel.clone().oneshot(request(WRITE))))
        .collect();
    until("all places are taken", async || {
        gate.admission.numbers().1 == PLACES
    })
    .await;
    // Cheap calls have places of their own.
    call(&gate.channel, READ, TIME).await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(gate.channel.clone().oneshot(request(WRITE))))
        .collect();
    until("two wait", async || gate.admission.numbers().2 == 2).await;
    let refused = call(&gate.channel, WRITE, TIME).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert!(refused.retry_after.unwrap() >= Duration::from_millis(50));
    let told = gate.metrics.text();
    let mut lines = told.lines();
    let counted = |line: &str| line.contains("rpc_server_refused_total") && line.ends_with("} 1");
    assert!(lines.any(counted), "{told}");

    // Whoever goes away, from a place or from the queue, leaves it to the next.
    hanging[0].abort();
    until("one of them runs", async || {
        gate.running.load(Ordering::SeqCst) == PLACES + 2
    })
    .await;
    assert_eq!(gate.admission.numbers().2, 1);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    until("nobody waits", async || gate.admission.numbers().2 == 0).await;
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    until("all places are free", async || {
        gate.admission.numbers().1 == 0
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends() {
    let gate = gate(8, Duration::from_millis(200));
    let hanging: Vec<_> = (0..PLACES)
        .map(|_| tokio::spawn(gate.channel.clone().oneshot(request(WRITE))))
        .collect();
    until("all places are taken", async || {
        gate.admission.numbers().1 == PLACES
    })
    .await;
    let refused = call(&gate.channel, WRITE, TIME).await.unwrap_err();
    assert_eq!(refused.reason, "OVERLOADED");
    assert_eq!(gate.admission.numbers().2, 0);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_slow_sender_takes_no_place_and_a_stream_keeps_none() {
    let gate = gate(2, Duration::from_millis(300));
    let silent =
        futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>();
    let mut slow = request(WRITE);
    *slow.body_mut() = Body::new(http_body_util::StreamBody::new(silent));
    let slow = tokio::spawn(gate.channel.clone().oneshot(slow));
    tokio::task::yield_now().await;
    let stream = gate.channel.clone().oneshot(request(TAIL)).await.unwrap();
    assert_eq!(gate.admission.numbers().1, 0);
    drop(stream);
    slow.abort();
}

#[tokio::test]
async fn places_held_by_calls_that_are_stuck_go_to_the_next() {
    let gate = gate(64, Duration::from_secs(5));
    let stuck: Vec<_> = (0..PLACES + 8)
        .map(|_| tokio::spawn(gate.channel.clone().oneshot(request(WRITE))))
        .collect();
    until("those that waited run too", async || {
        gate.running.load(Ordering::SeqCst) == PLACES + 8
    })
    .await;
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    until("all is given back", async || {
        let (_, running, waiting) = gate.admission.numbers();
        running + waiting == 0
    })
    .await;
}

/// A door before an edge.
#[derive(Debug)]
struct Before(Edge);

impl Door for Before {
    fn turn_away(&self, path: &str, headers: &HeaderMap) -> Option<HeaderMap> {
        self.0.turn_away(path, headers).map(|(_, head)| head)
    }
}

async fn answered(
    client: &tonic::transport::Channel,
    request: Request<Body>,
) -> (String, HeaderMap) {
    let answer = client.clone().oneshot(request).await.unwrap();
    let head = answer.headers().clone();
    let reason = tonic::Status::from_header_map(&head)
        .map_or_else(String::new, |status| Failure::from_status(&status).reason);
    (reason, head)
}

/// Version, trace, span and flags.
fn place(head: &HeaderMap) -> Vec<String> {
    let place = head["traceparent"].to_str().unwrap();
    place.split('-').map(str::to_owned).collect()
}

#[tokio::test]
async fn at_the_door_goes_no_further_what_the_queue_has_no_room_for() {
    let gate = gate(1, Duration::from_secs(30));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    server.guard(Arc::new(Before(gate.edge.clone())));
    let address = server.address();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let client = endpoint.unwrap().connect().await.unwrap();
    let hanging: Vec<_> = (0..=PLACES)
        .map(|_| tokio::spawn(gate.channel.clone().oneshot(request(WRITE))))
        .collect();
    until("the queue is full", async || {
        gate.admission.numbers().2 == 1
    })
    .await;
    let (reason, _) = answered(&client, request(WRITE)).await;
    assert_eq!(reason, "STARTING", "a port that is not open has no door");

    let passed: Arc<AtomicUsize> = Arc::default();
    let count = passed.clone();
    server.open(tower::service_fn(move |_: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, std::convert::Infallible>(message()))
    }));
    let mut followed = request(WRITE);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = followed.headers_mut();
    headers.insert("traceparent", parent.parse().unwrap());
    let (reason, head) = answered(&client, followed).await;
    assert_eq!(
        (reason.as_str(), &head["grpc-status"]),
        ("OVERLOADED", &"8".parse().unwrap())
    );
    let told = place(&head);
    assert_eq!(told[1], "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(told[2], "b7ad6b7169203331");
    assert_eq!(told[3], "00", "nothing is recorded of it");
    let traces = [
        place(&answered(&client, request(WRITE)).await.1),
        place(&answered(&client, request(WRITE)).await.1),
    ];
    assert_ne!(traces[0][1], traces[1][1], "each begins a trace of its own");
    assert_eq!(passed.load(Ordering::SeqCst), 0);

    // What the queue says nothing of: cheap calls, unknown ones, and what is no gRPC over HTTP/2.
    assert_eq!(answered(&client, request(READ)).await.0, "");
    assert_eq!(answered(&client, request("/no.Service/Call")).await.0, "");
    let mut web = request(WRITE);
    let headers = web.headers_mut();
    headers.insert("content-type", "application/grpc-web".parse().unwrap());
    assert_eq!(answered(&client, web).await.0, "");
    let mut old = tokio::net::TcpStream::connect(address).await.unwrap();
    let call = format!(
        "POST {WRITE} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/grpc\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n"
    );
    old.write_all(call.as_bytes()).await.unwrap();
    old.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(passed.load(Ordering::SeqCst), 4);
    let told = gate.metrics.text();
    assert!(told.contains("admission_turned_away_total 3\n"), "{told}");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}
