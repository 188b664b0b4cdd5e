//! The layer that makes a [`Span`] of every `tracing` span of ours.
//!
//! A span gets its place in its trace when it is created, so that calls made in it carry the same place that is
//! recorded; nothing is sent or written here.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::export::Outlet;
use crate::names;
use crate::span::{Attribute, Kind, Link, Span, Value};
use crate::spans::Spans;
use crate::trace::Trace;

/// Most attributes and links of one span; further ones are left out.
const MOST: usize = 32;

/// Whether a span is one of ours that traces are made of.
pub(crate) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && metadata.target().starts_with("commonplace")
}

/// Makes records of spans.
#[derive(Debug)]
pub struct Recorder {
    spans: Arc<Spans>,
    outlet: Option<Outlet>,
    share: f64,
    started: Clock,
}

/// Both clocks at one moment: spans are timed by the steady one, and dated by what it says since.
#[derive(Debug, Clone, Copy)]
struct Clock {
    steady: Instant,
    nanos: u64,
}

impl Clock {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            steady: Instant::now(),
            nanos: since.map_or(0, |since| since.as_nanos() as u64),
        }
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        self.nanos + at.saturating_duration_since(self.steady).as_nanos() as u64
    }
}

/// A span that has not ended.
#[derive(Debug)]
struct Live {
    trace: Trace,
    parent: u64,
    is_local_root: bool,
    service: &'static str,
    started: Instant,
    told: Told,
}

/// What the fields of a span said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    name: Option<Box<str>>,
    pub(crate) kind: Kind,
    parent: Option<Trace>,
    service: Option<&'static str>,
    tenant: Option<Arc<str>>,
    failed: bool,
    attributes: Vec<Attribute>,
    links: Vec<Link>,
}

impl Recorder {
    /// `share`: of the traces that begin here, from 0 to 1.
    pub fn new(spans: Arc<Spans>, share: f64) -> Self {
        Self {
            spans,
            outlet: None,
            share,
            started: Clock::now(),
        }
    }

    pub(crate) fn with_outlet(self, outlet: Option<Outlet>) -> Self {
        Self { outlet, ..self }
    }
}

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut told = Told::default();
        attributes.record(&mut told);
        // The parent as `tracing` sees it: named, or the span that is entered, or none.
        let outer = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let live = extensions.get::<Live>()?;
            Some((live.trace, live.service, live.told.tenant.clone()))
        });
        let above = told.parent.or(outer.as_ref().map(|outer| outer.0));
        let trace = match above {
            Some(above) => above.child(),
            None => Trace::start().within_share(self.share),
        };
        let is_local_root = outer.is_none();
        let (_, service, tenant) = outer.unwrap_or((trace, "", None));
        told.tenant = told.tenant.or(tenant);
        span.extensions_mut().insert(Live {
            trace,
            parent: above.map_or(0, |above| above.span()),
            is_local_root,
            service: told.service.unwrap_or(service),
            started: Instant::now(),
            told,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(live) = span.extensions_mut().get_mut::<Live>() {
            values.record(&mut live.told);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(live) = span.extensions_mut().remove::<Live>() else {
            return;
        };
        let took = live.started.elapsed();
        self.spans
            .steps
            .observe(span.metadata(), live.service, &live.told, took);
        if !live.trace.is_sampled() {
            return;
        }
        let name = live.told.name.map(String::from);
        let record = Arc::new(Span {
            trace: live.trace,
            parent: live.parent,
            is_local_root: live.is_local_root,
            service: live.service,
            tenant: live.told.tenant,
            name: name.map_or(Cow::Borrowed(span.name()), Cow::Owned),
            kind: live.told.kind,
            start: self.started.nanos_at(live.started),
            duration: took.as_nanos() as u64,
            failed: live.told.failed,
            attributes: live.told.attributes,
            links: live.told.links,
        });
        if let Some(outlet) = &self.outlet {
            outlet.offer(&record);
        }
        self.spans.add(record);
    }
}

impl Told {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        match found {
            Some((_, Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        let Some(name) = names::attribute(field.name()) else {
            return;
        };
        self.failed |= name == "error.type";
        if let Some(known) = self.attributes.iter_mut().find(|known| known.0 == name) {
            known.1 = value;
        } else if self.attributes.len() < MOST {
            self.attributes.push((name, value));
        }
    }

    fn link(&mut self, traces: &str) {
        let traces = traces.split(' ').filter_map(Trace::parse);
        for trace in traces {
            let link = (trace.trace(), trace.span());
            if self.links.len() < MOST && !self.links.contains(&link) {
                self.links.push(link);
            }
        }
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, text: &str) {
        match field.name() {
            "otel.name" => self.name = Some(text.into()),
            "otel.kind" => self.kind = Kind::of(text),
            "parent" => self.parent = Trace::parse(text),
            "link" => self.link(text),
            "service" => self.service = service(text),
            "tenant" => self.tenant = Some(text.into()),
            _ => self.put(field, Value::Text(text.into())),
        }
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        self.put(field, Value::Number(number));
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.put(field, Value::Number(number));
    }

    fn record_bool(&mut self, field: &Field, flag: bool) {
        self.put(field, Value::Flag(flag));
    }

    fn record_f64(&mut self, field: &Field, real: f64) {
        self.put(field, Value::Real(real));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "otel.name" | "parent" | "link" => self.record_str(field, &format!("{value:?}")),
            name if names::attribute(name).is_some() => {
                self.put(field, Value::Text(format!("{value:?}").into()));
            }
            _ => {}
        }
    }
}

/// The roles, so that a span names its service without owning the word.
fn service(name: &str) -> Option<&'static str> {
    const SERVICES: [&str; 9] = [
        "journal",
        "policy",
        "ingest",
        "index",
        "retrieval",
        "gateway",
        "telemetry",
        "com",
        "test",
    ];
    SERVICES.into_iter().find(|known| *known == name)
}

/// A span's own place in its trace; nothing when it is not recorded by a [`Recorder`].
pub fn trace_of(span: &tracing::Span) -> Option<Trace> {
    with_live(span, |live| live.trace)
}

/// Says that a span follows from another trace, across a queue.
pub fn follows(span: &tracing::Span, from: Trace) {
    with_live(span, |live| {
        let link = (from.trace(), from.span());
        if live.told.links.len() < MOST && !live.told.links.contains(&link) {
            live.told.links.push(link);
        }
    });
}

fn with_live<T>(span: &tracing::Span, work: impl FnOnce(&mut Live) -> T) -> Option<T> {
    let found = span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let span = registry.span(id)?;
        let mut extensions = span.extensions_mut();
        extensions.get_mut::<Live>().map(work)
    });
    found.flatten()
}

/// The place of the span that an event lies in, for log lines: its trace, and the request's id.
pub(crate) fn place_of<S>(context: &Context<'_, S>) -> Option<(Trace, Option<Box<str>>)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let current = context.lookup_current()?;
    let mut place = None;
    for span in current.scope() {
        let extensions = span.extensions();
        let Some(live) = extensions.get::<Live>() else {
            continue;
        };
        let known = live.told.attributes.iter();
        let id = known
            .clone()
            .find(|(name, _)| *name == "commonplace.request_id");
        let id = id.and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        });
        let trace = place.map_or(live.trace, |(trace, _): (Trace, Option<Box<str>>)| trace);
        let found = id.is_some();
        place = Some((trace, id));
        if found {
            break;
        }
    }
    place
}
