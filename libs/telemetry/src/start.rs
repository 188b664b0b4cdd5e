//! Sets everything up for the process.

use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::export::Exporter;
use crate::lines::{Chosen, Lines, Sink, standard_error};
use crate::options::{Options, TelemetryError};
use crate::otlp::About;
use crate::recorder::{Recorder, is_ours};
use crate::spans::Spans;

/// What the process says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Version of the program.
    pub version: String,
}

/// Keeps logs and traces flowing; what still waits for a collector is sent when this is dropped, for 2 s at most.
#[derive(Debug)]
pub struct Guard {
    spans: Arc<Spans>,
    _exporter: Option<Exporter>,
}

impl Guard {
    /// The newest spans of the process.
    pub fn spans(&self) -> &Arc<Spans> {
        &self.spans
    }
}

/// Sets logs and traces up for the whole process. Keep the guard until the end.
pub fn start(options: &Options, identity: &Identity) -> Result<Guard, TelemetryError> {
    let (guard, subscriber) = made(options, identity, standard_error())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

/// The same without touching the process: for tests, which write lines elsewhere.
pub fn subscriber(
    options: &Options,
    identity: &Identity,
    sink: Sink,
) -> Result<(Guard, impl Subscriber + Send + Sync + use<>), TelemetryError> {
    made(options, identity, sink)
}

fn made(
    options: &Options,
    identity: &Identity,
    sink: Sink,
) -> Result<
    (
        Guard,
        impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<>,
    ),
    TelemetryError,
> {
    let targets: Targets =
        options
            .log
            .parse()
            .map_err(|error: tracing_subscriber::filter::ParseError| {
                TelemetryError::Filter(error.to_string())
            })?;
    if !(0.0..=1.0).contains(&options.trace_share) {
        return Err(TelemetryError::Share(options.trace_share));
    }
    let spans = Spans::new(options);
    let (exporter, outlet) = match options.otlp_endpoint.as_str() {
        "" => (None, None),
        endpoint => {
            let about = About {
                instance: spans.process().to_owned(),
                version: identity.version.clone(),
            };
            let started = Exporter::start(endpoint, options.otlp_queue, about, spans.clone())?;
            (Some(started.0), Some(started.1))
        }
    };
    let recorder = Recorder::new(spans.clone(), options.trace_share).with_outlet(outlet);
    let subscriber = tracing_subscriber::registry()
        .with(recorder.with_filter(filter_fn(is_ours)))
        .with(Lines::new(options.log_format, sink).with_filter(Chosen(targets)));
    let guard = Guard {
        spans,
        _exporter: exporter,
    };
    Ok((guard, subscriber))
}
