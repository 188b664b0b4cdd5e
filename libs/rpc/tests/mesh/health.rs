//! Readiness, as health clients, probes and channels see it.

use std::time::Duration;

use commonplace_rpc::server::{HealthPort, Readiness, Server, ServerOptions};
use commonplace_rpc::{Channel, RemoteOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::common::{Act, JOURNAL, Peer, live, options, read, until};

fn watching() -> RemoteOptions {
    RemoteOptions {
        health_service: Some(JOURNAL.into()),
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_leaves_out_endpoints_that_do_not_serve() {
    let (one, other) = (
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
    );
    one.server.readiness().set(JOURNAL, false);
    let channel = Channel::remote(&[one.url(), other.url()], &watching()).unwrap();
    live(&channel, vec![other.endpoint()]).await;
    for _ in 0..20 {
        read(&channel).await.unwrap();
    }
    assert_eq!(one.seen(), 0);
    one.server.readiness().set(JOURNAL, true);
    live(&channel, vec![one.endpoint(), other.endpoint()]).await;
    other.server.readiness().drain();
    live(&channel, vec![one.endpoint()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_is_waited_for() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    let running = tokio::spawn(async move { crate::common::write(&channel).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!running.is_finished());
    server.open(tower::service_fn(async |_| Ok(crate::common::message())));
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_before_the_server_is_open() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    server.readiness().set(JOURNAL, false);
    let channel = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    let mut client = HealthClient::new(channel);
    let mut ask = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        client
            .check(request)
            .await
            .map(|answer| answer.into_inner().status)
            .map_err(|status| status.code())
    };
    assert_eq!(ask(JOURNAL).await, Ok(2));
    assert_eq!(ask("").await, Ok(2));
    assert_eq!(ask("nothing").await, Err(tonic::Code::NotFound));
    server.readiness().set(JOURNAL, true);
    assert_eq!((ask(JOURNAL).await, ask("").await), (Ok(1), Ok(1)));
}

async fn get(port: &HealthPort, path: &str) -> String {
    let mut stream = TcpStream::connect(port.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_on_a_port_of_their_own() {
    let readiness = Readiness::new();
    readiness.set(JOURNAL, false);
    let metrics = commonplace_telemetry::Metrics::new();
    let port = HealthPort::bind("127.0.0.1:0", &readiness, &metrics)
        .await
        .unwrap();
    metrics.call_refused("a.B/C");
    let page = get(&port, "/metrics").await;
    for part in [
        "application/openmetrics-text",
        "commonplace_rpc_server_refused_total{rpc_method=\"a.B/C\"} 1",
        "# EOF",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(get(&port, "/health").await.starts_with("HTTP/1.1 503"));
    assert!(get(&port, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&port, "/other").await.starts_with("HTTP/1.1 404"));
    readiness.set(JOURNAL, true);
    let answer = get(&port, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.ends_with(&format!(
            "{{\"status\":\"serving\",\"services\":{{\"{JOURNAL}\":\"serving\"}}}}"
        )),
        "{answer}"
    );
    let channel = Channel::remote(&[format!("http://{}", port.address())], &options()).unwrap();
    let mut client = HealthClient::new(channel.clone());
    let request = HealthCheckRequest {
        service: JOURNAL.into(),
    };
    assert_eq!(client.check(request).await.unwrap().into_inner().status, 1);
    port.close().await;
    until("the port is closed", async || {
        channel.endpoints().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_said() {
    let server = Server::bind_with("127.0.0.1:0", ServerOptions::default())
        .await
        .unwrap();
    let error = Server::bind(&server.address().to_string())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--listen"), "{error}");
}
