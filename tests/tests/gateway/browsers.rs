//! Web pages: none calls unless its origin is allowed, and only under names that are ours.

use crate::common::Served;

const EVENT: &[u8] = br#"{"events":[{"artifact_type":"bug","title":"from a page"}]}"#;
const JSON: &str = "content-type: application/json";

async fn check(served: &Served, line: &str, headers: &[&str], status: u16, word: &str) {
    let answer = served.call(line, headers, EVENT).await;
    assert_eq!(answer.status(), status, "{line} {headers:?}: {answer:?}");
    assert!(answer.0.contains(word), "{line} {headers:?}: {answer:?}");
}

#[tokio::test]
async fn a_foreign_page_writes_nothing() {
    let served = Served::start().await;
    let evil = "origin: http://evil.example";
    let refused = "ORIGIN_NOT_ALLOWED";
    let grpc_web = "content-type: application/grpc-web+proto";
    let rpc = "POST /commonplace.ingest.v1.IngestService/IngestEvents";
    check(
        &served,
        "POST /events",
        &[evil, "content-type: text/plain"],
        403,
        refused,
    )
    .await;
    check(&served, "POST /events", &[evil, JSON], 403, refused).await;
    check(&served, "POST /ingest/jsonl", &[evil], 403, refused).await;
    check(&served, "GET /events", &["origin: null"], 403, refused).await;
    // How gRPC says it: 7 is PERMISSION_DENIED.
    check(&served, rpc, &[evil, grpc_web], 200, "grpc-status: 7").await;

    let form = "content-type: application/x-www-form-urlencoded";
    let same_site = "sec-fetch-site: same-origin";
    check(
        &served,
        "POST /events",
        &[form, same_site],
        415,
        "content-type",
    )
    .await;
    check(
        &served,
        "POST /events",
        &["content-type: text/plain"],
        415,
        "application/json",
    )
    .await;
    let events = served.get("/events").await;
    assert_eq!(events.reason(), "PROJECT_NOT_FOUND", "{events:?}");

    check(&served, "POST /events", &[form], 200, "added").await;
    check(&served, "POST /events", &[], 200, "duplicates").await;
}

#[tokio::test]
async fn an_allowed_page_calls_with_json() {
    let console = "https://console.example";
    let allow = |options: &mut commonplace_node::NodeOptions| {
        options.gateway.allowed_origins = vec![console.into()];
    };
    let served = Served::with(allow).await;
    let origin = format!("origin: {console}");
    let form = "content-type: application/x-www-form-urlencoded";
    check(
        &served,
        "POST /events",
        &[&origin, JSON],
        200,
        "access-control-allow-origin",
    )
    .await;
    check(
        &served,
        "POST /events",
        &[&origin, form],
        415,
        "content-type",
    )
    .await;
    check(
        &served,
        "POST /events",
        &["origin: https://other.example", JSON],
        403,
        "origin",
    )
    .await;
}

#[tokio::test]
async fn a_server_on_loopback_answers_to_its_own_names() {
    let served =
        Served::with(|options| options.gateway.allowed_hosts = vec!["mine.test".into()]).await;
    for host in ["localhost:1", "127.0.0.1", "[::1]:8083", "mine.test:8083"] {
        let header = format!("host: {host}");
        check(&served, "GET /info", &[&header], 200, "version").await;
    }
    for host in [
        "evil.example",
        "evil.example:8083",
        "localhost.evil.example",
        "192.168.0.1",
    ] {
        let header = format!("host: {host}");
        check(&served, "GET /info", &[&header], 403, "HOST_NOT_ALLOWED").await;
        check(
            &served,
            "POST /events",
            &[&header, JSON],
            403,
            "allowed_hosts",
        )
        .await;
    }
    check(
        &served,
        "GET http://evil.example/info",
        &[],
        403,
        "HOST_NOT_ALLOWED",
    )
    .await;
}

#[tokio::test]
async fn a_server_on_other_addresses_takes_any_name() {
    let served = Served::with(|options| {
        options.listen = "0.0.0.0:0".into();
        options.access.mode = commonplace_access::Mode::Required;
    })
    .await;
    check(
        &served,
        "GET /health",
        &["host: memory.example"],
        200,
        "SERVING",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_nobody_is_not_reached_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = commonplace_node::NodeOptions {
        data_dir: folder.path().to_owned(),
        listen: "0.0.0.0:0".into(),
        ..Default::default()
    };
    let surroundings = commonplace_node::Surroundings::new(&options).unwrap();
    let refused = commonplace_node::Ports::bind(&options, &surroundings).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("access.mode=required"), "{text}");
    options.access.mode = commonplace_access::Mode::Required;
    options.service_listen = "127.0.0.1:0".into();
    let refused = commonplace_node::Ports::bind(&options, &surroundings).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("tls.certificate"), "{text}");
}
