//! The main job in one process: reports in, a cited pack out, and the proof of it after everything changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use commonplace_ingest::samples;
use commonplace_node::{Node, NodeOptions};
use commonplace_proto::common::EventDraft;
use commonplace_proto::index::RebuildRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{
    IngestEventsRequest, IngestReportRequest, IngestSummary, ReportHeader,
};
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::policy::{GetPolicyRequest, PutPolicyRequest};
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{
    ContextPack, GetPackRequest, PackView, RetrieveRequest, VerifyPackRequest, VerifyPackResponse,
};
use commonplace_rpc::context;
use commonplace_types::SystemClock;

async fn start(folder: &tempfile::TempDir) -> Node {
    let options = NodeOptions {
        data_dir: folder.path().to_owned(),
        ..NodeOptions::default()
    };
    Node::start(&options, Arc::new(SystemClock)).await.unwrap()
}

async fn send(node: &Node, format: &str, name: &str, text: &str) -> IngestSummary {
    let part = |part| IngestReportRequest { part: Some(part) };
    let header = ReportHeader {
        format: format.into(),
        name: name.into(),
        ..Default::default()
    };
    let mut parts = vec![part(Part::Header(header))];
    // Odd pieces, so that reading never depends on how the report was cut.
    parts.extend(
        text.as_bytes()
            .chunks(777)
            .map(|chunk| part(Part::Chunk(chunk.to_vec().into()))),
    );
    let mut ingest = IngestServiceClient::new(node.channels().ingest.clone());
    let answer = ingest
        .ingest_report(futures::stream::iter(parts))
        .await
        .unwrap();
    answer.into_inner().summary.unwrap()
}

async fn take_samples_in(node: &Node) -> (u64, u64) {
    let (mut added, mut duplicates) = (0, 0);
    for (format, files) in [
        ("junit", samples::junit(7)),
        ("jenkins", samples::jenkins(7)),
    ] {
        for (name, text) in files {
            let summary = send(node, format, &name, &text).await;
            assert!(
                summary.refusals.is_empty(),
                "{name}: {:?}",
                summary.refusals
            );
            added += summary.added;
            duplicates += summary.duplicates;
        }
    }
    (added, duplicates)
}

async fn retrieve(node: &Node) -> ContextPack {
    let mut retrieval = RetrievalServiceClient::new(node.channels().retrieval.clone());
    let request = RetrieveRequest {
        task: "flaky_triage".into(),
        query: "which test fails now and then, and why?".into(),
        budget_tokens: 1_200,
        wait_for_dense: true,
        durable: true,
        view: PackView::Full.into(),
        ..Default::default()
    };
    context::with_deadline(Duration::from_secs(120), retrieval.retrieve(request))
        .await
        .unwrap()
        .into_inner()
        .pack
        .unwrap()
}

async fn verify(node: &Node, id: &str, content: &[u8]) -> VerifyPackResponse {
    let mut retrieval = RetrievalServiceClient::new(node.channels().retrieval.clone());
    let request = VerifyPackRequest {
        id: id.into(),
        content: content.to_vec().into(),
    };
    retrieval.verify_pack(request).await.unwrap().into_inner()
}

async fn append_more(node: &Node, count: usize) {
    let event = |number: usize| EventDraft {
        artifact_type: "test".into(),
        title: format!("a later test {number} fails now and then"),
        text: "which test fails now and then, and why? this one, later".into(),
        pinned: number.is_multiple_of(50),
        ..Default::default()
    };
    let mut ingest = IngestServiceClient::new(node.channels().ingest.clone());
    for first in (0..count).step_by(100) {
        let events = (first..first + 100).map(event).collect();
        ingest
            .ingest_events(IngestEventsRequest {
                events,
                ..Default::default()
            })
            .await
            .unwrap();
    }
}

async fn change_policy(node: &Node, id: &str) {
    let mut policies = PolicyServiceClient::new(node.channels().policy.clone());
    let before = policies
        .get_policy(GetPolicyRequest {
            id: id.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .policy
        .unwrap();
    let source =
        "description: something else entirely\nweights:\n  lexical: 0.1\n  recency: 5\n".to_owned();
    let put = PutPolicyRequest {
        id: id.into(),
        source,
        activate: true,
        ..Default::default()
    };
    let after = policies
        .put_policy(put)
        .await
        .unwrap()
        .into_inner()
        .policy
        .unwrap();
    assert!(after.version > before.version && after.hash != before.hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_made_again_after_everything_changed() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder).await;
    let (added, _) = take_samples_in(&node).await;
    assert!(added > 20, "{added}");
    assert_eq!(
        take_samples_in(&node).await,
        (0, added),
        "the same input twice adds nothing"
    );

    let pack = retrieve(&node).await;
    assert!(!pack.items.is_empty() && pack.used_tokens <= 1_200);
    assert!(verify(&node, &pack.id, &pack.content).await.verified);

    append_more(&node, 1_000).await;
    change_policy(&node, &pack.policy).await;
    let mut index = IndexServiceClient::new(node.channels().index.clone());
    index.rebuild(RebuildRequest::default()).await.unwrap();
    let answer = context::with_deadline(
        Duration::from_secs(300),
        verify(&node, &pack.id, &pack.content),
    )
    .await;
    assert!(answer.verified, "{:?}", answer.differences);
    assert_eq!(answer.id, pack.id);
    assert!(answer.commits_since >= 10, "{}", answer.commits_since);
    let now = retrieve(&node).await;
    assert_ne!(now.id, pack.id, "a new pack sees the new events");
    node.shutdown().await;

    let node = start(&folder).await;
    let mut retrieval = RetrievalServiceClient::new(node.channels().retrieval.clone());
    let kept = retrieval
        .get_pack(GetPackRequest {
            id: pack.id.clone(),
        })
        .await
        .unwrap()
        .into_inner()
        .pack
        .unwrap();
    assert_eq!(kept.content, pack.content, "kept over a restart");
    assert!(verify(&node, &pack.id, &pack.content).await.verified);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder).await;
    take_samples_in(&node).await;
    let pack = retrieve(&node).await;
    let step = (pack.content.len() / 97).max(1);
    for place in (0..pack.content.len()).step_by(step) {
        let mut content = pack.content.to_vec();
        content[place] ^= 1;
        let answer = verify(&node, &pack.id, &content).await;
        assert!(!answer.verified, "byte {place}");
        assert!(
            !answer.differences.is_empty(),
            "byte {place} is not said to differ"
        );
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_makes_the_same_bytes() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = start(&here).await;
    take_samples_in(&node).await;
    let pack = retrieve(&node).await;
    node.shutdown().await;
    // The journal travels; index, vectors and packs are made anew.
    std::fs::create_dir_all(there.path().join("journal")).unwrap();
    for entry in std::fs::read_dir(here.path().join("journal")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(
            entry.path(),
            there.path().join("journal").join(entry.file_name()),
        )
        .unwrap();
    }
    let node = start(&there).await;
    let answer = verify(&node, &pack.id, &pack.content).await;
    assert!(answer.verified, "{:?}", answer.differences);
    node.shutdown().await;
}
