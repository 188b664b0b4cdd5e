//! `POST /ingest/{format}`: a report as a plain HTTP body, for CI systems that have nothing but `curl`.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{IngestReportRequest, ReportHeader};
use commonplace_rpc::{Channel, Code, Failure};
use futures::StreamExt;
use serde::Deserialize;

use crate::Backends;
use crate::http_error::HttpError;

/// What goes along with the report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Parameters {
    project: String,
    branch: String,
    name: String,
    author: String,
    validate_only: bool,
}

pub(crate) fn routes(backends: &Backends) -> Router {
    match backends.get("commonplace.ingest.v1.IngestService") {
        Some(channel) => {
            Router::new().route("/ingest/{format}", post(take).with_state(channel.clone()))
        }
        None => Router::new(),
    }
}

async fn take(
    State(channel): State<Channel>,
    Path(format): Path<String>,
    Query(parameters): Query<Parameters>,
    body: Body,
) -> Result<Response, HttpError> {
    let header = ReportHeader {
        project: parameters.project,
        branch: parameters.branch,
        format,
        name: parameters.name,
        author: parameters.author,
        validate_only: parameters.validate_only,
    };
    let first = futures::stream::once(async { part(Part::Header(header)) });
    // A body that breaks off must not look like one that ended: the stream then stands still, and the
    // call is given up from outside.
    let (broken_off, gave_up) = tokio::sync::oneshot::channel();
    let mut broken_off = Some(broken_off);
    let chunks = body.into_data_stream().filter_map(move |chunk| {
        if chunk.is_err() {
            let _ = broken_off.take().map(|tell| tell.send(()));
        }
        async move {
            match chunk {
                Ok(bytes) => Some(part(Part::Chunk(bytes))),
                Err(_) => std::future::pending().await,
            }
        }
    });
    let mut client = IngestServiceClient::new(channel);
    let answer = tokio::select! {
        biased;
        Ok(()) = gave_up => {
            let text = "the body broke off; send the whole report again";
            return Err(HttpError(Failure::new(Code::InvalidArgument, "BODY_BROKEN_OFF").message(text)));
        }
        answer = client.ingest_report(first.chain(chunks)) => answer?.into_inner(),
    };
    let json = commonplace_proto::to_json(&answer).map_err(|error| {
        HttpError(Failure::new(Code::Internal, "GATEWAY").message(error.to_string()))
    })?;
    Ok((
        [("content-type", "application/json")],
        json.to_string() + "\n",
    )
        .into_response())
}

fn part(part: Part) -> IngestReportRequest {
    IngestReportRequest { part: Some(part) }
}
