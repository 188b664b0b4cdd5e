//! What this process tells about itself, and, at the gateway, what the others tell.
//!
//! Every process serves `TelemetryService` from its own memory. The gateway also asks each process that it can
//! reach, at the same time and within a short deadline, and says whom it could not ask: an answer that lacks a part
//! says so. Left out: other gateways, which no gateway knows.

mod checks;
mod convert;
mod gather;
mod numbers;
mod service;

use std::sync::Arc;

use commonplace_proto::telemetry::telemetry_service_server::TelemetryServiceServer;
use commonplace_rpc::Channel;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_telemetry::{Metrics, Spans};

use crate::Role;
pub(crate) use checks::{Checks, Stores};
pub(crate) use numbers::register;

/// The full name of the service.
pub(crate) const SERVICE: &str =
    commonplace_proto::telemetry::telemetry_service_server::SERVICE_NAME;

/// What the service answers from.
pub(crate) struct Sources {
    /// The newest spans of this process.
    pub(crate) spans: Arc<Spans>,
    /// What is measured here.
    pub(crate) metrics: Arc<Metrics>,
    /// What this process plays, sorted.
    pub(crate) roles: Vec<String>,
    /// The other processes, called in the name of this one; empty but at the gateway.
    pub(crate) peers: Vec<(Role, Channel)>,
    /// What this process needs.
    pub(crate) checks: Checks,
}

/// What a process remembers of a trace, as the contract has it.
pub fn told_spans(spans: &Spans, trace: u128) -> Vec<commonplace_proto::telemetry::Span> {
    let remembered = spans.trace(trace, None);
    let told = remembered
        .iter()
        .map(|span| convert::span(span, spans.process()));
    told.collect()
}

/// The service, to be routed to.
pub(crate) fn server(sources: Sources) -> TelemetryServiceServer<service::Service> {
    TelemetryServiceServer::new(service::Service::new(sources))
        .max_encoding_message_size(MESSAGE_BYTES)
}
