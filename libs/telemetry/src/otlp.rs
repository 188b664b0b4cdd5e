//! Spans as OTLP has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value as Said,
};
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as Sent, Status, span, status::StatusCode,
};

use crate::names::CONVENTIONS;
use crate::span::{Kind, Span, Value};

/// What the process says of itself with every batch.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// Names the process among others.
    pub(crate) instance: String,
    /// Of the program.
    pub(crate) version: String,
}

/// A batch as one message: the spans of each service under its own name.
pub(crate) fn request(resource: &Resource, batch: &[Arc<Span>]) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<&str, Vec<Sent>> = BTreeMap::new();
    for span in batch {
        services.entry(span.service).or_default().push(sent(span));
    }
    let services = services.into_iter();
    ExportTraceServiceRequest {
        resource_spans: services
            .map(|(service, spans)| of_service(resource, service, spans))
            .collect(),
    }
}

fn of_service(resource: &Resource, service: &str, spans: Vec<Sent>) -> ResourceSpans {
    let name = match service {
        "" => "commonplace".to_owned(),
        service => format!("commonplace-{service}"),
    };
    ResourceSpans {
        resource: Some(resource::Resource {
            attributes: vec![
                text("service.name", name),
                text("service.namespace", "commonplace".to_owned()),
                text("service.instance.id", resource.instance.clone()),
                text("service.version", resource.version.clone()),
            ],
            ..Default::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "commonplace".to_owned(),
                version: resource.version.clone(),
                ..Default::default()
            }),
            spans,
            schema_url: CONVENTIONS.to_owned(),
        }],
        schema_url: CONVENTIONS.to_owned(),
    }
}

fn sent(span: &Span) -> Sent {
    let attributes = span.attributes.iter();
    let links = span.links.iter();
    let link = |(trace, span): &(u128, u64)| span::Link {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: span.to_be_bytes().to_vec(),
        ..Default::default()
    };
    let parent = match span.parent {
        0 => Vec::new(),
        parent => parent.to_be_bytes().to_vec(),
    };
    Sent {
        trace_id: span.trace.trace().to_be_bytes().to_vec(),
        span_id: span.trace.span().to_be_bytes().to_vec(),
        parent_span_id: parent,
        name: span.name.to_string(),
        kind: match span.kind {
            Kind::Internal => span::SpanKind::Internal,
            Kind::Server => span::SpanKind::Server,
            Kind::Client => span::SpanKind::Client,
            Kind::Consumer => span::SpanKind::Consumer,
        } as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.start + span.duration,
        attributes: attributes.map(|(name, value)| said(name, value)).collect(),
        links: links.map(link).collect(),
        status: Some(Status {
            message: String::new(),
            code: match span.failed {
                true => StatusCode::Error,
                false => StatusCode::Unset,
            } as i32,
        }),
        ..Default::default()
    }
}

fn said(name: &str, value: &Value) -> KeyValue {
    key_value(
        name,
        match value {
            Value::Text(text) => Said::StringValue(text.to_string()),
            Value::Number(number) => Said::IntValue(*number),
            Value::Flag(flag) => Said::BoolValue(*flag),
            Value::Real(real) => Said::DoubleValue(*real),
        },
    )
}

fn text(name: &str, text: String) -> KeyValue {
    key_value(name, Said::StringValue(text))
}

fn key_value(name: &str, value: Said) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}
