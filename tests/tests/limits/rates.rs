//! Rates at one gateway: who is over one is refused by name, everybody else is served.

use std::time::{Duration, Instant};

use commonplace_proto::journal::QueryEventsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_proto::policy::{GetLimitsRequest, PutLimitsRequest};
use commonplace_rpc::{Channel, Code, Failure, context};

use super::common::{House, Person, REFRESH_MS};
use super::put;

const SLOW: &str = r#"{"rates": [
    {"per": "principal", "unit": "requests", "per_second": 2, "burst": 6},
    {"per": "principal", "name": "fast", "unit": "requests", "per_second": 1000, "burst": 2000}
]}"#;

async fn read(channel: &Channel) -> Result<(), Failure> {
    let request = QueryEventsRequest {
        project: "vault".into(),
        ..QueryEventsRequest::default()
    };
    let mut journal = JournalServiceClient::new(channel.clone());
    let call = context::with_deadline(Duration::from_secs(5), journal.query_events(request));
    call.await
        .map(drop)
        .map_err(|status| Failure::from_status(&status))
}

async fn key(house: &House, tenant: &str, name: &'static str) -> String {
    let person = Person {
        name,
        roles: &["admin"],
        scopes: None,
    };
    house.key(tenant, &person).await.1
}

/// Calls until one is refused: how many were let in, and how that one was.
async fn until_refused(channel: &Channel) -> (usize, Failure) {
    for count in 0..200 {
        if let Err(failure) = read(channel).await {
            return (count, failure);
        }
    }
    panic!("nothing was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_much_is_told_so_and_nobody_else_notices() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let (slow, fast) = (
        key(&house, "acme", "slow").await,
        key(&house, "acme", "fast").await,
    );
    let rival = key(&house, "rival", "slow").await;
    put(&house.operator.policy, "acme", SLOW).await;
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;

    let slow_channel = house.channel(Some(&slow));
    let began = Instant::now();
    let (count, refused) = until_refused(&slow_channel).await;
    // The burst, what came meanwhile, and what a gateway may take in advance.
    let most = 6.0 + 2.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(count >= 5 && count as f64 <= most, "{count} of {most}");
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    assert_eq!(refused.metadata["quota_subject"], "principal:acme/slow");
    assert!(
        refused.metadata["quota_allows"].contains("2 requests per second"),
        "{refused:?}"
    );
    let wait = refused.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(2), "{wait:?}");

    for _ in 0..50 {
        read(&house.channel(Some(&fast))).await.unwrap();
    }
    // Of another tenant, without limits; it finds nothing of the first one's.
    let elsewhere = read(&house.channel(Some(&rival))).await.unwrap_err();
    assert_eq!(elsewhere.reason, "PROJECT_NOT_FOUND");

    let mut answer = String::new();
    for _ in 0..10 {
        // A token may have come meanwhile.
        if !answer.starts_with("HTTP/1.1 429") {
            answer = http(&house, "/events?project=vault", &slow).await;
        }
    }
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nretry-after: "),
        "{answer}"
    );
    assert!(
        answer.contains(r#""quota_subject":"principal:acme/slow""#),
        "{answer}"
    );

    tokio::time::sleep(Duration::from_secs(2)).await;
    read(&slow_channel).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_searches_are_counted_for_themselves() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let somebody = key(&house, "acme", "somebody").await;
    let limits = r#"{"rates": [
        {"per": "project", "unit": "requests", "methods": "searches", "per_second": 1, "burst": 1},
        {"per": "tenant", "unit": "bytes", "per_second": 1000, "burst": 20000}
    ]}"#;
    put(&house.operator.policy, "acme", limits).await;
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
    let channel = house.channel(Some(&somebody));
    for _ in 0..20 {
        read(&channel).await.unwrap();
    }
    let search = async || {
        let request = commonplace_proto::retrieval::SearchRequest {
            project: "vault".into(),
            query: "gold".into(),
            ..Default::default()
        };
        let mut client =
            commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient::new(
                channel.clone(),
            );
        let call = context::with_deadline(Duration::from_secs(10), client.search(request));
        call.await.map_err(|status| Failure::from_status(&status))
    };
    let mut refused = None;
    for _ in 0..4 {
        refused = refused.or(search().await.err());
    }
    let refused = refused.expect("four searches at once are more than one");
    assert_eq!(refused.metadata["quota_subject"], "project:acme/vault");
    read(&channel).await.expect("reads are no searches");

    let event = commonplace_proto::common::EventDraft {
        artifact_type: "note".into(),
        title: "large".into(),
        text: "x".repeat(60_000),
        ..Default::default()
    };
    let commit = async |title: &str| {
        let mut event = event.clone();
        event.title = title.into();
        let request = commonplace_proto::ingest::CommitRequest {
            project: "vault".into(),
            events: vec![event],
            ..Default::default()
        };
        let mut client = commonplace_proto::ingest::ingest_service_client::IngestServiceClient::new(
            channel.clone(),
        );
        let call = context::with_deadline(Duration::from_secs(10), client.commit(request));
        call.await.map_err(|status| Failure::from_status(&status))
    };
    // One that is larger than the burst passes, and what follows pays for it.
    commit("first").await.unwrap();
    let refused = commit("second").await.unwrap_err();
    assert_eq!(refused.metadata["quota_subject"], "tenant:acme");
    assert_eq!(refused.metadata["unit"], "bytes");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_put_by_operators_and_guarded_by_their_etag() {
    let house = House::new().await;
    let admin = house.channel(Some(&key(&house, "acme", "admin").await));
    let get = async |channel: &Channel| {
        let mut client = LimitsServiceClient::new(channel.clone());
        let call = client.get_limits(GetLimitsRequest::default());
        context::with_deadline(Duration::from_secs(5), call)
            .await
            .unwrap()
            .into_inner()
    };
    let before = get(&admin).await;
    assert!(!before.own && before.limits.unwrap().rates.is_empty());
    let mut client = LimitsServiceClient::new(admin.clone());
    let put_own = client.put_limits(PutLimitsRequest::default()).await;
    assert_eq!(put_own.unwrap_err().code(), tonic::Code::PermissionDenied);

    put(&house.operator.policy, "acme", SLOW).await;
    let after = get(&admin).await;
    assert!(after.own && after.etag != before.etag);
    assert_eq!(after.limits.unwrap().rates[0].per_second, 2);
    let stale = PutLimitsRequest {
        expected_etag: before.etag,
        ..Default::default()
    };
    let mut operator = LimitsServiceClient::new(house.operator.policy.clone());
    let call = async { operator.put_limits(stale).await.unwrap_err() };
    let acme = commonplace_types::TenantName::new("acme").unwrap();
    let changed = Failure::from_status(&context::for_tenant(acme, call).await);
    assert_eq!(changed.reason, "LIMITS_CHANGED");
    assert_eq!(changed.metadata["etag"], after.etag);
    house.close().await;
}

/// One HTTP call as `curl` would make it; the whole answer.
async fn http(house: &House, path: &str, key: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = house.server.address();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
