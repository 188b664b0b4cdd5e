//! Log lines: one for each event, with the call that it happened in.

use std::fmt::{Debug, Write as _};
use std::io::{IsTerminal, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::options::LogFormat;
use crate::recorder::{is_ours, place_of};

/// Where lines go.
pub type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Writes lines.
pub(crate) struct Lines {
    format: LogFormat,
    colours: bool,
    sink: Sink,
}

/// Standard error; a reader that is gone is no reason to fail.
pub(crate) fn standard_error() -> Sink {
    Box::new(|line| {
        let _ = std::io::stderr().lock().write_all(line);
    })
}

impl Lines {
    pub(crate) fn new(format: LogFormat, sink: Sink) -> Self {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            format,
            colours,
            sink,
        }
    }

    fn text(&self, event: &Event<'_>, told: Told, place: &[(&str, String)]) -> String {
        let level = level(event.metadata().level());
        let time = jiff::Timestamp::now();
        let mut line = match self.colours {
            true => format!("\x1b[2m{time:.3}\x1b[0m {} ", coloured(level)),
            false => format!("{time:.3} {level:>5} "),
        };
        line.push_str(&one_line(&told.message));
        for (name, value) in told.fields {
            let _ = write!(line, " {name}={}", one_line(&value.to_string()));
        }
        for (name, value) in place {
            let _ = write!(line, " {name}={}", one_line(value));
        }
        line
    }
}

fn json(event: &Event<'_>, told: Told, place: &[(&str, String)]) -> String {
    let mut line = serde_json::Map::new();
    let time = format!("{:.6}", jiff::Timestamp::now());
    line.insert("timestamp".into(), time.into());
    line.insert("level".into(), level(event.metadata().level()).into());
    line.insert("target".into(), event.metadata().target().into());
    line.insert("message".into(), told.message.into());
    for (name, value) in told.fields {
        line.insert(name.into(), value);
    }
    // Last, so that no field of an event can pass for them.
    for (name, value) in place {
        line.insert((*name).into(), value.as_str().into());
    }
    serde_json::Value::Object(line).to_string()
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut told);
        let mut place = Vec::new();
        if let Some((trace, request)) = place_of(&context) {
            place.push(("trace_id", trace.trace_id()));
            place.push(("span_id", format!("{:016x}", trace.span())));
            if let Some(request) = request {
                place.push(("request_id", request.into()));
            }
        }
        let mut line = match self.format {
            LogFormat::Text => self.text(event, told, &place),
            LogFormat::Json => json(event, told, &place),
        };
        line.push('\n');
        (self.sink)(line.as_bytes());
    }
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn coloured(level: &str) -> String {
    let colour = match level {
        "ERROR" => 31,
        "WARN" => 33,
        "INFO" => 32,
        _ => 34,
    };
    format!("\x1b[{colour}m{level:>5}\x1b[0m")
}

/// Text that cannot begin a line of its own, nor steer a terminal.
fn one_line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => clean.extend(character.escape_default()),
            false => clean.push(character),
        }
    }
    clean
}

/// The message and the fields of an event.
#[derive(Default)]
struct Told {
    message: String,
    fields: Vec<(&'static str, serde_json::Value)>,
}

impl Told {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.put(field, text.into());
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        self.put(field, number.into());
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.put(field, number.into());
    }

    fn record_bool(&mut self, field: &Field, flag: bool) {
        self.put(field, flag.into());
    }

    fn record_f64(&mut self, field: &Field, real: f64) {
        self.put(field, real.into());
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// Which events are written. Spans of ours always pass, so that a line knows its call at every level.
pub(crate) struct Chosen(pub(crate) Targets);

impl<S> Filter<S> for Chosen {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        is_ours(metadata) || self.0.would_enable(metadata.target(), metadata.level())
    }

    fn callsite_enabled(
        &self,
        metadata: &'static Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        match is_ours(metadata) || self.0.would_enable(metadata.target(), metadata.level()) {
            true => tracing::subscriber::Interest::always(),
            false => tracing::subscriber::Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let events = self.0.iter().map(|(_, level)| level).max();
        let events = events.max(self.0.default_level());
        events.map(|events| events.max(LevelFilter::INFO))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Options, Recorder, Spans, trace_of};
    use tracing_subscriber::layer::SubscriberExt;

    fn logged(log: &str, format: LogFormat, work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let sink = Box::new(move |line: &[u8]| {
            into.lock()
                .unwrap()
                .push(String::from_utf8(line.to_vec()).unwrap());
        });
        let layer = Lines::new(format, sink).with_filter(Chosen(log.parse().unwrap()));
        let recorder = Recorder::new(Spans::new(&Options::default()), 1.0);
        let subscriber = tracing_subscriber::registry().with(recorder).with(layer);
        tracing::subscriber::with_default(subscriber, work);
        Arc::into_inner(lines).unwrap().into_inner().unwrap()
    }

    #[test]
    fn every_line_within_a_call_names_it_at_every_level() {
        let mut trace = None;
        let lines = logged("warn", LogFormat::Json, || {
            let call = tracing::info_span!(target: "commonplace::rpc", "call", commonplace.request_id = "r-1");
            trace = trace_of(&call);
            let _in_call = call.enter();
            let _step = tracing::info_span!(target: "commonplace_index", "step").entered();
            tracing::warn!(trace_id = "forged", count = 3, "odd\nnews");
            tracing::info!("not chosen");
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], trace.unwrap().trace_id());
        assert_eq!(
            (&line["request_id"], &line["count"]),
            (&"r-1".into(), &3.into())
        );
        assert_ne!(line["span_id"], format!("{:016x}", trace.unwrap().span()));
    }

    #[test]
    fn text_stays_on_its_line() {
        let lines = logged("info", LogFormat::Text, || {
            tracing::info!(what = "a\nERROR b\u{1b}[2J", "news");
        });
        assert!(
            lines[0].ends_with(" INFO news what=\"a\\nERROR b\\u001b[2J\"\n"),
            "{lines:?}"
        );
    }
}
