//! Spans as the exporter of `opentelemetry-otlp` takes them.
//!
//! A process plays several services, and a resource is the exporter's: each service has one, all over one connection.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tonic::transport::Channel;

use crate::names::CONVENTIONS;
use crate::span::{Kind, Span, Value};

/// What the process says of itself with every batch.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Names the process among others.
    pub(crate) instance: String,
    /// Of the program.
    pub(crate) version: String,
}

/// The exporters of a process, made when they are first needed.
pub(crate) struct Exporters {
    channel: Channel,
    about: About,
    timeout: Duration,
    scope: InstrumentationScope,
    by_service: BTreeMap<&'static str, SpanExporter>,
}

impl Exporters {
    /// `timeout`: how long a batch may take, with all that is sent again.
    pub(crate) fn new(channel: Channel, about: About, timeout: Duration) -> Self {
        let scope = InstrumentationScope::builder("commonplace")
            .with_version(about.version.clone())
            .with_schema_url(CONVENTIONS)
            .build();
        Self {
            channel,
            about,
            timeout,
            scope,
            by_service: BTreeMap::new(),
        }
    }

    /// A batch by service, each with how many spans that are.
    pub(crate) fn apart(&self, batch: &[Arc<Span>]) -> BTreeMap<&'static str, Vec<SpanData>> {
        let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for span in batch {
            let of_service = services.entry(span.service).or_default();
            of_service.push(data(span, &self.scope));
        }
        services
    }

    /// Sends the spans of one service. Error: in words; none of them was taken, as far as is known.
    pub(crate) async fn send(
        &mut self,
        service: &'static str,
        spans: Vec<SpanData>,
    ) -> Result<(), String> {
        let exporter = self.of(service).map_err(|error| error.to_string())?;
        let sent = exporter.export(spans).await;
        sent.map_err(|error| error.to_string())
    }

    fn of(&mut self, service: &'static str) -> Result<&SpanExporter, ExporterBuildError> {
        let free = match self.by_service.entry(service) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(free) => free,
        };
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(self.channel.clone())
            .with_compression(Compression::Gzip)
            .with_timeout(self.timeout)
            .build()?;
        exporter.set_resource(&resource(&self.about, service));
        Ok(free.insert(exporter))
    }
}

fn resource(about: &About, service: &str) -> Resource {
    let name = match service {
        "" => "commonplace".to_owned(),
        service => format!("commonplace-{service}"),
    };
    let attributes = [
        KeyValue::new("service.name", name),
        KeyValue::new("service.namespace", "commonplace"),
        KeyValue::new("service.instance.id", about.instance.clone()),
        KeyValue::new("service.version", about.version.clone()),
    ];
    Resource::builder_empty()
        .with_schema_url(attributes, CONVENTIONS)
        .build()
}

fn data(span: &Span, scope: &InstrumentationScope) -> SpanData {
    let start = UNIX_EPOCH + Duration::from_nanos(span.start);
    let mut links = SpanLinks::default();
    let followed = span.links.iter();
    links
        .links
        .extend(followed.map(|(trace, span)| Link::with_context(context(*trace, *span))));
    SpanData {
        span_context: context(span.trace.trace(), span.trace.span()),
        parent_span_id: SpanId::from(span.parent),
        parent_span_is_remote: span.is_local_root && span.parent != 0,
        span_kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: span.name.clone(),
        start_time: start,
        end_time: start + Duration::from_nanos(span.duration),
        attributes: span.attributes.iter().map(said).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: match span.failed {
            true => Status::error(""),
            false => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

fn context(trace: u128, span: u64) -> SpanContext {
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

fn said((name, value): &(&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(*name, text.to_string()),
        Value::Number(number) => KeyValue::new(*name, *number),
        Value::Flag(flag) => KeyValue::new(*name, *flag),
        Value::Real(real) => KeyValue::new(*name, *real),
    }
}
