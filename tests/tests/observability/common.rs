//! Calls whose trace is known.

use std::time::Duration;

use commonplace_node::Channels;
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{
    CommitRequest, CommitResponse, IngestEventsRequest, IngestEventsResponse,
};
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{RetrieveRequest, RetrieveResponse};
use commonplace_rpc::context::{self, Call, Trace};
use tonic::{Response, Status};

/// Makes calls as part of a new trace, and says which.
pub async fn traced<T>(work: impl Future<Output = T>) -> (Trace, T) {
    let call = Call::root(Some(Duration::from_secs(60)));
    let trace = call.trace;
    (trace, context::scope(call, work).await)
}

/// Writes the outcome of a test.
pub async fn write(
    channels: &Channels,
    title: &str,
    text: &str,
) -> Result<Response<IngestEventsResponse>, Status> {
    let request = IngestEventsRequest {
        events: vec![event("test", title, text)],
        ..IngestEventsRequest::default()
    };
    IngestServiceClient::new(channels.ingest.clone())
        .ingest_events(request)
        .await
}

/// Writes one event of any type, or is refused.
pub async fn commit_as(
    channels: &Channels,
    artifact_type: &str,
    title: &str,
    text: &str,
) -> Result<Response<CommitResponse>, Status> {
    let request = CommitRequest {
        events: vec![event(artifact_type, title, text)],
        ..CommitRequest::default()
    };
    IngestServiceClient::new(channels.ingest.clone())
        .commit(request)
        .await
}

fn event(artifact_type: &str, title: &str, text: &str) -> EventDraft {
    EventDraft {
        artifact_type: artifact_type.into(),
        title: title.into(),
        text: text.into(),
        ..EventDraft::default()
    }
}

/// Makes a pack.
pub async fn retrieve(
    channels: &Channels,
    query: &str,
) -> Result<Response<RetrieveResponse>, Status> {
    let request = RetrieveRequest {
        query: query.into(),
        budget_tokens: 1_000,
        durable: true,
        ..RetrieveRequest::default()
    };
    RetrievalServiceClient::new(channels.retrieval.clone())
        .retrieve(request)
        .await
}
