//! `POST /ingest/{format}`: a report as a plain HTTP body, for CI systems that have nothing but `curl`.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{IngestReportRequest, ReportHeader};
use commonplace_rpc::{Channel, Code, Failure};
use prost::{Message, Name};
use tokio::sync::oneshot;

use crate::Backends;
use crate::body::Pieces;
use crate::http_error::HttpError;
use crate::json::{self, Shared};
use crate::query;
use crate::surroundings::within;

#[derive(Clone)]
struct Intake {
    channel: Channel,
    shared: Shared,
}

pub(crate) fn routes(backends: &Backends, shared: &Shared) -> Router {
    let Some(channel) = backends.get("commonplace.ingest.v1.IngestService") else {
        return Router::new();
    };
    let intake = Intake {
        channel: channel.clone(),
        shared: shared.clone(),
    };
    Router::new().route("/ingest/{format}", post(take).with_state(intake))
}

async fn take(
    State(intake): State<Intake>,
    in_path: Result<Path<std::collections::BTreeMap<String, String>>, PathRejection>,
    RawQuery(query): RawQuery,
    request: http::Request<Body>,
) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    within(&parts, intake.shared.timeout, async {
        let mut in_path = json::path_parameters(in_path)?;
        let format = in_path.remove("format").unwrap_or_default();
        let header = read_header(format, query.as_deref().unwrap_or_default())?;
        let pieces = intake.shared.intake.pieces(body);
        send(intake.channel, header, pieces).await
    })
    .await
}

/// What goes along with the report. Error: names the parameter.
fn read_header(format: String, query: &str) -> Result<ReportHeader, HttpError> {
    let unreadable =
        |text: String| HttpError(Failure::new(Code::Internal, "GATEWAY").message(text));
    let input = commonplace_proto::pool()
        .get_message_by_name(&ReportHeader::full_name())
        .ok_or_else(|| unreadable("the contracts lack the header of reports".into()))?;
    let wire = query::read(&input, query, &["format".into()])?;
    let header = ReportHeader::decode(wire.as_slice());
    let header = header.map_err(|error| unreadable(error.to_string()))?;
    Ok(ReportHeader { format, ..header })
}

async fn send(
    channel: Channel,
    header: ReportHeader,
    pieces: Pieces,
) -> Result<Response, HttpError> {
    let (tell, gave_up) = oneshot::channel();
    let mut client = IngestServiceClient::new(channel);
    let answer = tokio::select! {
        biased;
        Ok(failure) = gave_up => return Err(HttpError(failure)),
        answer = client.ingest_report(parts(header, pieces, tell)) => answer,
    };
    let answer = answer.map_err(as_http_says)?.into_inner();
    let json = commonplace_proto::to_json(&answer).map_err(|error| {
        HttpError(Failure::new(Code::Internal, "GATEWAY").message(error.to_string()))
    })?;
    let text = json.to_string() + "\n";
    Ok(([("content-type", "application/json")], text).into_response())
}

/// The report as the call takes it. A body that breaks off must not look like one that ended: the stream
/// then stands still, and the call is given up from outside.
fn parts(
    header: ReportHeader,
    pieces: Pieces,
    tell: oneshot::Sender<Failure>,
) -> impl futures::Stream<Item = IngestReportRequest> + Send {
    let part = |part| IngestReportRequest { part: Some(part) };
    let first = futures::stream::iter([part(Part::Header(header))]);
    let rest = futures::stream::unfold(
        (pieces, Some(tell)),
        move |(mut pieces, mut tell)| async move {
            match pieces.next().await {
                Ok(piece) => piece.map(|bytes| (part(Part::Chunk(bytes)), (pieces, tell))),
                Err(failure) => {
                    let _ = tell.take().map(|tell| tell.send(failure));
                    std::future::pending().await
                }
            }
        },
    );
    futures::StreamExt::chain(first, rest)
}

/// The call's fields by the names that HTTP callers know: the body, and parameters without a prefix.
fn as_http_says(status: tonic::Status) -> HttpError {
    let mut failure = Failure::from_status(&status);
    for wrong in &mut failure.fields {
        if wrong.field == "chunk" {
            wrong.field = "body".into();
        } else if let Some(name) = wrong.field.strip_prefix("header.") {
            wrong.field = name.to_owned();
        }
    }
    failure.message = failure.message.replace("`chunk`", "`body`");
    failure.message = failure.message.replace("`header.", "`");
    HttpError(failure)
}
