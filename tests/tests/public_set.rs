//! A public retrieval set ranks the same with vectors in Qdrant as with vectors of one's own: every item, every score.
//!
//! The sets are no part of the repository. `PUBLIC_SETS` names the folder that holds them, `../shared/data` beside the
//! repository by default; without it this test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stores;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use commonplace_node::{Channels, default_model_dir};
use commonplace_proto::Timestamp;
use commonplace_proto::common::EventDraft;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::index::{GetStatusRequest, ProjectIndex};
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::retrieval::SearchRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{context, server};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::repository;
use stores::Cluster;

const SET: &str = "cranfield";
/// Of 1,400: embedding them twice is what takes the time.
const DOCUMENTS: usize = 600;
const QUERIES: usize = 60;
const LIMIT: u32 = 100;
/// 2026-11-21T00:00:00Z.
const CLOCK: Timestamp = Timestamp {
    seconds: 1_795_219_200,
    nanos: 0,
};

fn folder() -> Option<PathBuf> {
    let set = std::env::var_os("PUBLIC_SETS").map(PathBuf::from);
    let folder = set.unwrap_or_else(|| repository().join("../shared/data"));
    let folder = folder.join(SET);
    if !folder.join("corpus.jsonl").is_file() {
        eprintln!("SKIPPED: {} holds no public set", folder.display());
        return None;
    }
    if !default_model_dir().join("model.safetensors").is_file() {
        eprintln!(
            "SKIPPED: without the embedding model there are no vectors; run `com model pull`"
        );
        return None;
    }
    Some(folder)
}

fn lines(file: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.split('\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text(value: &serde_json::Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

async fn take_in(channels: &Channels, corpus: &[serde_json::Value]) {
    let mut client = IngestServiceClient::new(channels.ingest.clone())
        .max_encoding_message_size(server::MESSAGE_BYTES);
    let event = |document: &serde_json::Value| EventDraft {
        record_id: text(document, "_id"),
        artifact_type: "document".into(),
        title: format!("{} {}", text(document, "_id"), text(document, "title")),
        text: text(document, "text"),
        event_time: Some(CLOCK),
        ..Default::default()
    };
    for part in corpus.chunks(500) {
        let request = IngestEventsRequest {
            events: part.iter().map(event).collect(),
            ..Default::default()
        };
        let answer = client.ingest_events(request).await.unwrap().into_inner();
        assert_eq!(answer.event_ids.len(), part.len());
    }
    let mut index = IndexServiceClient::new(channels.index.clone());
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        let status = index.get_status(GetStatusRequest::default()).await;
        // The project may not be known to the index yet.
        let status = status.unwrap().into_inner().projects.pop();
        let through = |status: &ProjectIndex| {
            status.journal_commit > 0 && status.dense_commit >= status.journal_commit
        };
        if status.as_ref().is_some_and(through) {
            return;
        }
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything that a query's ranking says.
async fn ranking(channels: &Channels, query: &str) -> Vec<String> {
    let mut client = RetrievalServiceClient::new(channels.retrieval.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES);
    let request = SearchRequest {
        query: query.into(),
        limit: LIMIT,
        clock: Some(CLOCK),
        wait_for_dense: true,
        ..Default::default()
    };
    let call = client.search(request);
    let answer = context::with_deadline(Duration::from_secs(300), call).await;
    let answer = answer.unwrap().into_inner();
    let manifest = answer.manifest.unwrap();
    assert!(
        !manifest.embedder.is_empty(),
        "{}",
        manifest.dense_off_reason
    );
    answer
        .items
        .iter()
        .map(|item| format!("{item:?}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_set_ranks_the_same_with_vectors_in_qdrant() {
    let Some(folder) = folder() else { return };
    let corpus = lines(&folder.join("corpus.jsonl"));
    let queries = lines(&folder.join("queries.jsonl"));
    let cluster = Cluster::start(3).await;
    let local = Mesh::builder(Form::Embedded).model().start().await;
    let outside = Mesh::builder(Form::Embedded)
        .model()
        .qdrant(&cluster.urls());
    let outside = outside.start().await;
    let corpus = &corpus[..corpus.len().min(DOCUMENTS)];
    for mesh in [&local, &outside] {
        take_in(&mesh.channels(), corpus).await;
    }
    for query in queries.iter().take(QUERIES) {
        let query = text(query, "text");
        let expected = ranking(&local.channels(), &query).await;
        assert_eq!(expected.len(), LIMIT as usize, "{query}");
        assert_eq!(
            ranking(&outside.channels(), &query).await,
            expected,
            "{query}"
        );
    }
    assert!(
        cluster.searches() >= QUERIES as u64,
        "candidates came from there"
    );
    for mesh in [local, outside] {
        mesh.shutdown().await;
    }
}
