//! Quotas: what would go beyond is refused whole, and leaves nothing half done.

use std::time::Duration;

use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{CommitRequest, CommitResponse};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{ListProjectsRequest, VerifyChainRequest};
use commonplace_rpc::{Channel, Code, Failure, context};

use super::common::{House, Person, REFRESH_MS};
use super::put;

/// Commits events, under a request id made of a number.
async fn commit(
    channel: &Channel,
    project: &str,
    events: std::ops::Range<usize>,
    id: usize,
) -> Result<CommitResponse, Failure> {
    let event = |number: usize| EventDraft {
        artifact_type: "note".into(),
        title: format!("note {number}"),
        text: "y".repeat(1_000),
        ..Default::default()
    };
    let request = CommitRequest {
        request_id: format!("{id:08x}-0000-4000-8000-000000000000"),
        project: project.into(),
        events: events.map(event).collect(),
        ..Default::default()
    };
    let mut client = IngestServiceClient::new(channel.clone());
    let call = context::with_deadline(Duration::from_secs(10), client.commit(request));
    let answer = call.await.map_err(|status| Failure::from_status(&status))?;
    Ok(answer.into_inner())
}

/// The events of each project that there is.
async fn stored(channel: &Channel) -> Vec<(String, u64)> {
    let mut journal = JournalServiceClient::new(channel.clone());
    let call = journal.list_projects(ListProjectsRequest::default());
    let answer = context::with_deadline(Duration::from_secs(5), call).await;
    let projects = answer.unwrap().into_inner().projects;
    projects
        .into_iter()
        .map(|project| (project.name, project.event_count))
        .collect()
}

async fn writer(house: &House, limits: &str) -> Channel {
    let person = Person {
        name: "writer",
        roles: &["admin"],
        scopes: None,
    };
    let key = house.key("acme", &person).await.1;
    put(&house.operator.policy, "acme", limits).await;
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
    house.channel(Some(&key))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_beyond_a_quota_is_refused_whole() {
    let house = House::new().await;
    let limits = r#"{"quotas": [
        {"per": "project", "unit": "events", "most": 10},
        {"per": "project", "name": "archive", "unit": "events", "most": 1000},
        {"per": "tenant", "unit": "events", "most": 25}
    ]}"#;
    let channel = writer(&house, limits).await;
    let first = commit(&channel, "shop", 0..8, 1).await.unwrap();
    let refused = commit(&channel, "shop", 8..11, 2).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    assert_eq!(refused.metadata["quota_subject"], "project:acme/shop");
    assert_eq!(refused.retry_after, None, "waiting does not help");
    assert_eq!(refused.metadata["stored"], "8");
    assert_eq!(stored(&channel).await, [("shop".to_owned(), 8)]);

    // What was acknowledged is acknowledged again, and what is there already adds nothing.
    commit(&channel, "shop", 8..10, 3).await.unwrap();
    assert_eq!(commit(&channel, "shop", 0..8, 1).await.unwrap(), first);
    commit(&channel, "shop", 0..10, 4).await.unwrap();
    // A refused request is not remembered: it is taken as soon as there is room.
    assert!(commit(&channel, "shop", 8..11, 2).await.is_err());

    commit(&channel, "archive", 0..14, 5).await.unwrap();
    let refused = commit(&channel, "archive", 14..16, 6).await.unwrap_err();
    assert_eq!(refused.metadata["quota_subject"], "tenant:acme");
    let fresh = commit(&channel, "fresh", 0..5, 6).await.unwrap_err();
    assert_eq!(fresh.reason, "QUOTA_EXCEEDED");
    let expected = [("archive".to_owned(), 14), ("shop".to_owned(), 10)];
    assert_eq!(stored(&channel).await, expected, "no project was begun");

    let mut journal = JournalServiceClient::new(channel.clone());
    let request = VerifyChainRequest {
        project: "shop".into(),
    };
    assert!(
        journal
            .verify_chain(request)
            .await
            .unwrap()
            .into_inner()
            .intact
    );
    put(&house.operator.policy, "acme", "{}").await;
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
    commit(&channel, "shop", 8..11, 2).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_and_appends_at_once_do_not_slip_through() {
    let house = House::new().await;
    let limits = r#"{"quotas": [{"per": "tenant", "unit": "bytes", "most": 40000}]}"#;
    let channel = writer(&house, limits).await;
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..20_usize {
        let channel = channel.clone();
        let project = if number < 10 { "left" } else { "right" };
        appends.spawn(async move {
            let events = 3 * number..3 * number + 3;
            commit(&channel, project, events, number).await
        });
    }
    let mut taken = 0;
    while let Some(answer) = appends.join_next().await {
        match answer.unwrap() {
            Ok(_) => taken += 1,
            Err(refused) => assert_eq!(refused.reason, "QUOTA_EXCEEDED", "{refused:?}"),
        }
    }
    // Three events of a little more than 1,000 bytes each.
    assert!((8..=13).contains(&taken), "{taken} appends fit");
    let all: u64 = stored(&channel).await.iter().map(|(_, count)| count).sum();
    assert_eq!(all, 3 * taken);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_at_a_rate() {
    let house = House::new().await;
    let limits = r#"{"rates": [
        {"per": "principal", "unit": "events", "per_second": 1, "burst": 10}
    ]}"#;
    let channel = writer(&house, limits).await;
    commit(&channel, "shop", 0..10, 1).await.unwrap();
    let refused = commit(&channel, "shop", 10..15, 2).await.unwrap_err();
    assert_eq!(refused.reason, "RATE_LIMITED", "{refused:?}");
    assert_eq!(refused.metadata["unit"], "events");
    assert!(refused.retry_after.is_some());
    assert_eq!(stored(&channel).await, [("shop".to_owned(), 10)]);
    house.close().await;
}
