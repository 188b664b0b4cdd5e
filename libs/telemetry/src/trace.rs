//! Logs and traces.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// What is logged and where traces go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What to log, as `level` or `target=level,…`; for example `info` or `warn,commonplace=debug`.
    pub log: String,
    /// `text` for people, `json` for machines.
    pub log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC, for example `http://127.0.0.1:4317`. Empty: nowhere.
    pub otlp_endpoint: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: "info".into(),
            log_format: LogFormat::Text,
            otlp_endpoint: String::new(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line for each entry.
    #[default]
    Text,
    /// One JSON object for each entry.
    Json,
}

/// Logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error("`telemetry.log` is not a log filter: {0}; try `info`")]
    Filter(String),
    /// The exporter refused its settings.
    #[error("`telemetry.otlp_endpoint` cannot be used: {0}")]
    Otlp(String),
    /// The thread that sends traces could not be started.
    #[error("cannot start the trace exporter")]
    Thread(#[source] std::io::Error),
    /// Something else is set up already.
    #[error("telemetry is set up twice")]
    Twice,
}

/// Keeps traces flowing; what is still held is sent when this is dropped.
#[derive(Debug, Default)]
pub struct Guard {
    exporter: Option<(SdkTracerProvider, tokio::runtime::Runtime)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((provider, runtime)) = self.exporter.take() {
            let _ = provider.shutdown_with_timeout(Duration::from_secs(2));
            runtime.shutdown_background();
        }
    }
}

/// Sets logs and traces up for the whole process. Keep the guard until the end.
pub fn start(options: &Options, service: &'static str) -> Result<Guard, TelemetryError> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    let lines = match options.log_format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let exporter = exporter(options, service)?;
    let traces = exporter.as_ref().map(|(provider, _)| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_filter(EnvFilter::new("info"))
    });
    tracing_subscriber::registry()
        .with(traces)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    Ok(Guard { exporter })
}

type Exporter = (SdkTracerProvider, tokio::runtime::Runtime);

fn exporter(options: &Options, service: &'static str) -> Result<Option<Exporter>, TelemetryError> {
    if options.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otlp")
        .enable_all()
        .build()
        .map_err(TelemetryError::Thread)?;
    let entered = runtime.enter();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_compression(opentelemetry_otlp::Compression::Gzip)
        .with_endpoint(&options.otlp_endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| TelemetryError::Otlp(error.to_string()))?;
    drop(entered);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    Ok(Some((provider, runtime)))
}

/// Makes a span the child of a caller's, given as a `traceparent`. Call it before the span is entered.
pub fn adopt(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// A span's own place in its trace as a `traceparent`; nothing when traces go nowhere.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}
