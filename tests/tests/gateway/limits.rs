//! Deadlines, sizes and counts.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::Served;

/// The head of a call whose body does not come.
fn unfinished(line: &str, headers: &str) -> Vec<u8> {
    let head =
        format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: 1000\r\n\r\n{{");
    head.into_bytes()
}

#[tokio::test]
async fn a_deadline_that_passes_is_never_a_success() {
    let served = Served::start().await;
    let headers = "grpc-timeout: 300m\r\ncontent-type: application/json\r\n";
    for line in ["POST /events", "PUT /policies/x", "POST /ingest/junit"] {
        let answer = served.raw(&unfinished(line, headers)).await;
        assert_eq!(answer.status(), 504, "{line}: {answer:?}");
        assert_eq!(answer.reason(), "DEADLINE_EXCEEDED", "{line}");
    }
}

#[tokio::test]
async fn a_grpc_call_whose_deadline_passes_says_so() {
    let served = Served::start().await;
    let line = "POST /commonplace.ingest.v1.IngestService/IngestEvents";
    let headers = "grpc-timeout: 300m\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
                   connection: close\r\n";
    let answer = served.raw(&unfinished(line, headers)).await;
    assert!(answer.0.contains("grpc-status: 4"), "{answer:?}");
    assert!(answer.0.contains("grpc-status-details-bin:"), "{answer:?}");
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let served = Served::start().await;
    for wrong in ["1", "S", "1s", "-1S", "123456789S", "1 S"] {
        let header = format!("grpc-timeout: {wrong}");
        let answer = served.call("GET /projects", &[&header], b"").await;
        assert_eq!(answer.status(), 400, "{wrong}: {answer:?}");
        assert_eq!(answer.field(), "grpc-timeout", "{wrong}");
    }
}

#[tokio::test]
async fn a_body_of_very_many_elements_is_refused() {
    let served = Served::start().await;
    let bomb = format!(r#"{{"events":[{}{{}}]}}"#, "{},".repeat(3_000_000));
    let answer = served.post("/events", &bomb).await;
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert_eq!(answer.field(), "events");
    assert!(answer.0.contains("at most 5000"), "{answer:?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let served = Served::with(|options| options.gateway.max_json_bytes = 100).await;
    let headers = "content-type: application/json\r\n";
    let answer = served.raw(&unfinished("POST /events", headers)).await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (429, "BODY_TOO_LARGE")
    );
}

#[tokio::test]
async fn bodies_find_room_or_are_told_to_come_back() {
    let served = Served::with(|options| options.gateway.max_json_bytes_in_flight = 1_024).await;
    let large = format!(r#"{{"project":"{}"}}"#, "x".repeat(2_000));
    let answer = served.post("/events", &large).await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (429, "BODIES_BUSY")
    );
    assert!(
        answer.0.to_lowercase().contains("retry-after: 1"),
        "{answer:?}"
    );
    assert_eq!(
        served.post("/retrieve", r#"{"query":""}"#).await.field(),
        "query"
    );
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let served = Served::with(|options| options.gateway.body_seconds = 1).await;
    let headers = "content-type: application/json\r\ngrpc-timeout: 99999999H\r\n";
    for line in ["POST /events", "POST /ingest/junit"] {
        let answer = served.raw(&unfinished(line, headers)).await;
        assert_eq!(
            (answer.status(), answer.reason().as_str()),
            (408, "BODY_TOO_SLOW"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let served = Served::with(|options| options.gateway.max_connections = 2).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let ask = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let refused = served.raw(b"").await;
    assert_eq!(
        (refused.status(), refused.reason().as_str()),
        (503, "TOO_MANY_CONNECTIONS")
    );
    kept.pop();
    // The place is free as soon as the server sees that the connection ended.
    while served.get("/health").await.status() != 200 {
        tokio::task::yield_now().await;
    }
}
