//! Bounds: calls, streams, sizes, time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_rpc::{Channel, Code, Layered, Limits, context};
use commonplace_telemetry::Metrics;
use http::{Request, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::common::{READ, TAIL, call, endless, message, options, request, until};

type Answer = std::pin::Pin<
    Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>,
>;

fn layered(
    limits: Limits,
    serve: impl Fn(Request<Body>) -> Answer + Clone + Send + Sync + 'static,
) -> Layered<
    impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = std::convert::Infallible,
        Future = Answer,
    > + Clone
    + Send
    + Sync,
> {
    Layered::new(tower::service_fn(serve), limits, Metrics::new())
}

fn by_path(request: Request<Body>) -> Answer {
    Box::pin(async move {
        Ok(if request.uri().path() == TAIL {
            endless()
        } else {
            message()
        })
    })
}

#[tokio::test]
async fn streams_cannot_keep_calls_out() {
    let limits = Limits {
        concurrent_calls: 1,
        concurrent_streams: 2,
        ..Limits::default()
    };
    let service = layered(limits, by_path);
    let channel = Channel::in_process(service.clone());
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(channel.clone().oneshot(request(TAIL)).await.unwrap());
    }
    assert_eq!(service.room(), (1, 0));
    let refused = call(&channel, TAIL, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "TOO_MANY_CALLS")
    );
    assert!(refused.retry_after.is_some());
    for _ in 0..10 {
        call(&channel, READ, Duration::from_secs(5)).await.unwrap();
    }
    streams.pop();
    assert_eq!(service.room(), (1, 1));
    drop(streams);
    assert_eq!(service.room(), (1, 2));
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_not_queued() {
    let hang = |_: Request<Body>| -> Answer { Box::pin(std::future::pending()) };
    let limits = Limits {
        concurrent_calls: 3,
        ..Limits::default()
    };
    let service = layered(limits, hang);
    let channel = Channel::in_process(service.clone());
    let hanging: Vec<_> = (0..3)
        .map(|_| tokio::spawn(channel.clone().oneshot(request(READ))))
        .collect();
    until("the limit is reached", async || service.room().0 == 0).await;
    let refused = call(&channel, READ, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(refused.reason, "TOO_MANY_CALLS");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    until("the permits come back", async || service.room().0 == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_deadline_of_its_call_on_both_sides() {
    let service = layered(Limits::default(), by_path);
    let server = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    server.open(service.clone());
    let remote = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    for channel in [Channel::in_process(service.clone()), remote] {
        let started = Instant::now();
        let time = Duration::from_millis(300);
        let failed = call(&channel, TAIL, time).await.unwrap_err();
        assert_eq!(failed.code, Code::DeadlineExceeded);
        assert!(
            started.elapsed() < time + Duration::from_millis(250),
            "{:?}",
            started.elapsed()
        );
        until("the permit comes back", async || service.room().1 == 256).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_shrinks_at_each_hop() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let inner = {
        let seen = seen.clone();
        layered(Limits::default(), move |_| {
            let seen = seen.clone();
            Box::pin(async move {
                seen.lock().unwrap().push(context::remaining().unwrap());
                Ok(message())
            })
        })
    };
    let server = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    server.open(inner);
    let next = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    let outer = {
        let seen = seen.clone();
        layered(Limits::default(), move |_| {
            let (seen, next) = (seen.clone(), next.clone());
            Box::pin(async move {
                seen.lock().unwrap().push(context::remaining().unwrap());
                Ok(next.oneshot(request(READ)).await.unwrap())
            })
        })
    };
    let channel = Channel::in_process(outer);
    call(&channel, READ, Duration::from_secs(5)).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    let margin = Duration::from_millis(10);
    assert!(seen[0] <= Duration::from_secs(5) - margin, "{seen:?}");
    assert!(seen[1] <= seen[0] - margin, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_refused_by_name() {
    let server = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    server.open(tower::service_fn(async |_: Request<Body>| {
        let chunk = bytes::Bytes::from(vec![0_u8; 1 << 20]);
        let chunks =
            (0..70).map(move |_| Ok::<_, tonic::Status>(http_body::Frame::data(chunk.clone())));
        Ok(Response::new(Body::new(http_body_util::StreamBody::new(
            tokio_stream::iter(chunks),
        ))))
    }));
    let channel = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    let failed = call(&channel, READ, Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_is_served_too_and_refused_politely_before_the_start() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    stream
        .write_all(b"GET /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("STARTING"),
        "{answer}"
    );
    let body = Body::empty().collect().await.unwrap();
    assert!(body.to_bytes().is_empty());
}
