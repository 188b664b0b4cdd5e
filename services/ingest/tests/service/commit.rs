//! Commits of a caller's own: all events or none, masked first, safe to repeat.

use commonplace_ingest::Options;
use commonplace_proto::ingest::*;
use commonplace_rpc::{Code, Failure};

use super::{Fixture, draft};

async fn commit(fixture: &mut Fixture, request: CommitRequest) -> Result<CommitResponse, Failure> {
    let answer = fixture.ingest.commit(request).await;
    answer
        .map(|answer| answer.into_inner())
        .map_err(|status| Failure::from_status(&status))
}

#[tokio::test]
async fn a_commit_is_masked_and_repeated_safely() {
    let mut fixture = Fixture::new(Options::default()).await;
    let mut secret = draft("login");
    secret.text = "password = \"hunter2hunter2\"".into();
    let request = CommitRequest {
        request_id: "6d7a1c1e-5a0b-4a63-9c57-0e3a7f3c4b11".into(),
        message: "token ghp_0123456789abcdefghijklmnopqrstuvwxyz".into(),
        events: vec![secret.clone(), draft("logout"), secret],
        ..Default::default()
    };
    let first = commit(&mut fixture, request.clone()).await.unwrap();
    assert_eq!(first.events.len(), 3);
    assert_eq!(first.events[0], first.events[2]);
    assert!(!first.redactions.is_empty(), "{first:?}");
    let made = first.commit.clone().unwrap();
    assert_eq!(made.last_position - made.first_position + 1, 2);
    assert!(!made.message.contains("ghp_0123"), "{}", made.message);
    let kept = fixture.held().await;
    assert!(!format!("{kept:?}").contains("hunter2"), "{kept:?}");
    let again = commit(&mut fixture, request).await.unwrap();
    assert_eq!(again.commit.unwrap().hash, made.hash);
    assert_eq!(again.events, first.events);
}

#[tokio::test]
async fn a_commit_is_taken_whole_or_not_at_all() {
    let mut fixture = Fixture::new(Options::default()).await;
    let mut wrong = draft("second");
    wrong.importance = Some(7.0);
    let request = CommitRequest {
        events: vec![draft("first"), wrong],
        ..Default::default()
    };
    let failure = commit(&mut fixture, request).await.unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument);
    assert_eq!(failure.fields[0].field, "events[1].importance");
    let none = commit(&mut fixture, CommitRequest::default())
        .await
        .unwrap_err();
    assert_eq!(none.fields[0].field, "events");
    let alone = CommitRequest {
        events: vec![draft("first")],
        ..Default::default()
    };
    let head = commit(&mut fixture, alone)
        .await
        .unwrap()
        .commit
        .unwrap()
        .hash;
    let on_head = |record: &str, head: &str| CommitRequest {
        expected_head: head.into(),
        events: vec![draft(record)],
        ..Default::default()
    };
    let second = commit(&mut fixture, on_head("third", &head)).await.unwrap();
    let lost = commit(&mut fixture, on_head("fourth", &head))
        .await
        .unwrap_err();
    assert_eq!(
        (lost.code, lost.reason.as_str()),
        (Code::Aborted, "HEAD_MOVED")
    );
    assert_eq!(lost.metadata["head"], second.commit.unwrap().hash);
    assert_eq!(fixture.held().await.len(), 2);
}
