//! The journal as clients call it, through the generated client.

use commonplace_proto::common::{EventDraft, Reference, reference::Point};
use commonplace_proto::journal as proto;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::{Channel, Code, Failure};

use crate::common::Fixture;

async fn client() -> (Fixture, JournalServiceClient<Channel>) {
    let fixture = Fixture::new(commonplace_testkit::Backend::Sqlite).await;
    let channel = Channel::in_process(fixture.journal.service());
    let client = JournalServiceClient::new(channel).max_decoding_message_size(32 << 20);
    (fixture, client.max_encoding_message_size(32 << 20))
}

fn draft(title: &str) -> EventDraft {
    EventDraft {
        artifact_type: "spec".into(),
        title: title.into(),
        ..EventDraft::default()
    }
}

fn append(events: Vec<EventDraft>) -> proto::AppendRequest {
    proto::AppendRequest {
        events,
        ..proto::AppendRequest::default()
    }
}

fn at_commit(hash: &str) -> Option<Reference> {
    Some(Reference {
        point: Some(Point::Commit(hash.into())),
    })
}

#[tokio::test]
async fn append_and_read_back() {
    let (_fixture, mut client) = client().await;
    let appended = client
        .append(append(vec![draft("a"), draft("b")]))
        .await
        .unwrap()
        .into_inner();
    let commit = appended.commit.unwrap();
    assert_eq!(
        (commit.project.as_str(), commit.branch.as_str()),
        ("default", "main")
    );
    assert_eq!(
        (commit.number, commit.first_position, commit.last_position),
        (1, 1, 2)
    );
    client.append(append(vec![draft("c")])).await.unwrap();

    let resolved = client
        .resolve(proto::ResolveRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(resolved.commit.unwrap().number, 2);
    assert_eq!(
        (resolved.visible[0].lane, resolved.visible[0].position),
        (1, 3)
    );

    let request = proto::QueryEventsRequest {
        as_of: at_commit(&commit.hash),
        page_size: 1,
        ..proto::QueryEventsRequest::default()
    };
    let page = client
        .query_events(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (page.commit.as_str(), page.events.len()),
        (commit.hash.as_str(), 1)
    );
    let next = proto::QueryEventsRequest {
        page_token: page.next_page_token,
        ..request
    };
    let last = client.query_events(next).await.unwrap().into_inner();
    assert!(last.next_page_token.is_empty());

    let ids: Vec<String> = appended.events.into_iter().map(|event| event.id).collect();
    let request = proto::GetEventsRequest {
        ids: ids.clone(),
        ..proto::GetEventsRequest::default()
    };
    let events = client
        .get_events(request)
        .await
        .unwrap()
        .into_inner()
        .events;
    assert_eq!(
        events
            .iter()
            .map(|event| event.id.clone())
            .collect::<Vec<_>>(),
        ids
    );
    assert!(events[0].checksum.starts_with("sha256:"));

    let listed = client
        .list_commits(proto::ListCommitsRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.into_inner().commits.len(), 3);
    let verified = client
        .verify_chain(proto::VerifyChainRequest::default())
        .await
        .unwrap();
    let verified = verified.into_inner();
    assert!(verified.intact, "{}", verified.first_break);
    assert_eq!((verified.commits_checked, verified.events_checked), (3, 3));
}

#[tokio::test]
async fn branches_tags_and_projects() {
    let (_fixture, mut client) = client().await;
    client.append(append(vec![draft("a")])).await.unwrap();
    let request = proto::CreateBranchRequest {
        branch: "side/one".into(),
        ..proto::CreateBranchRequest::default()
    };
    let made = client
        .create_branch(request)
        .await
        .unwrap()
        .into_inner()
        .r#ref
        .unwrap();
    assert_eq!(
        (made.kind(), made.name.as_str()),
        (proto::RefKind::Branch, "side/one")
    );
    let request = proto::CreateTagRequest {
        tag: "v1".into(),
        ..proto::CreateTagRequest::default()
    };
    client.create_tag(request).await.unwrap();
    let refs = client
        .list_refs(proto::ListRefsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .refs;
    assert_eq!(refs.len(), 3);
    let projects = client
        .list_projects(proto::ListProjectsRequest::default())
        .await
        .unwrap();
    let projects = projects.into_inner().projects;
    assert_eq!(
        (projects[0].name.as_str(), projects[0].event_count),
        ("default", 1)
    );
}

#[tokio::test]
async fn a_tail_over_the_wire() {
    let (_fixture, mut client) = client().await;
    client.append(append(vec![draft("a")])).await.unwrap();
    let tail = client.tail(proto::TailRequest::default()).await.unwrap();
    let mut tail = tail.into_inner();
    let mut seen = Vec::new();
    loop {
        let message = tail.message().await.unwrap().unwrap();
        match message.frame.unwrap() {
            proto::tail_response::Frame::Commit(frame) => {
                let events = frame.events.len();
                seen.push((
                    frame.commit.unwrap().number,
                    frame.previous_hash.len(),
                    events,
                ));
            }
            proto::tail_response::Frame::Heartbeat(beat) => {
                assert_eq!((beat.head_number, beat.head_hash.len()), (1, 64));
                break;
            }
        }
    }
    assert_eq!(seen, [(0, 0, 0), (1, 64, 1)]);
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let (_fixture, mut client) = client().await;
    client.append(append(vec![draft("a")])).await.unwrap();
    let head = client
        .resolve(proto::ResolveRequest::default())
        .await
        .unwrap()
        .into_inner();
    let head = head.commit.unwrap().hash;

    let check = |status: tonic::Status, code: Code, reason: &str, field: &str| {
        let failure = Failure::from_status(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (code, reason));
        if !field.is_empty() {
            assert_eq!(failure.fields[0].field, field);
        }
        failure
    };
    let stale = proto::AppendRequest {
        expected_head: "0".repeat(64),
        ..append(vec![draft("b")])
    };
    let status = client.append(stale).await.unwrap_err();
    let failure = check(status, Code::Aborted, "HEAD_MOVED", "");
    assert_eq!(failure.metadata["head"], head);

    let mut wrong = draft("b");
    wrong.importance = Some(7.0);
    let status = client
        .append(append(vec![draft("x"), wrong]))
        .await
        .unwrap_err();
    check(
        status,
        Code::InvalidArgument,
        "FIELD_INVALID",
        "events[1].importance",
    );

    let status = client
        .append(proto::AppendRequest {
            request_id: "seven".into(),
            ..append(vec![draft("b")])
        })
        .await
        .unwrap_err();
    check(status, Code::InvalidArgument, "FIELD_INVALID", "request_id");

    let request = proto::ResolveRequest {
        project: "nowhere".into(),
        ..proto::ResolveRequest::default()
    };
    let status = client.resolve(request).await.unwrap_err();
    check(status, Code::NotFound, "PROJECT_NOT_FOUND", "");

    let request = proto::GetEventsRequest {
        ids: vec!["ev_1".into()],
        ..proto::GetEventsRequest::default()
    };
    let status = client.get_events(request).await.unwrap_err();
    check(status, Code::InvalidArgument, "FIELD_INVALID", "ids[0]");

    let request = proto::QueryEventsRequest {
        page_size: -1,
        ..proto::QueryEventsRequest::default()
    };
    let status = client.query_events(request).await.unwrap_err();
    check(status, Code::InvalidArgument, "FIELD_INVALID", "page_size");

    let request = proto::TailRequest {
        cursor: "soup".into(),
        ..proto::TailRequest::default()
    };
    let status = client.tail(request).await.unwrap_err();
    check(status, Code::InvalidArgument, "FIELD_INVALID", "cursor");
}

#[tokio::test]
async fn the_largest_append_fits() {
    let (_fixture, mut client) = client().await;
    let large = |number: usize| EventDraft {
        text: "x".repeat(1 << 20),
        ..draft(&number.to_string())
    };
    let appended = client
        .append(append((0..15).map(large).collect()))
        .await
        .unwrap();
    assert_eq!(appended.into_inner().events.len(), 15);
}
