//! The newest spans of the process, within a bound of memory.
//!
//! Two rings: what is new, and what was pushed out of it although its trace failed or was slow. So a trace that
//! somebody will ask for outlives the thousands that nobody will.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::metrics::Metrics;
use crate::options::Options;
use crate::span::Span;
use crate::steps::Steps;
use crate::trace::new_id;

/// Most traces that are known to have failed or been slow.
const MARKED: usize = 4_096;

/// The newest spans of the process.
#[derive(Debug)]
pub struct Spans {
    process: String,
    /// Bytes for what is new, and for what is kept longer.
    limits: (usize, usize),
    slow: Duration,
    rings: Mutex<Rings>,
    /// How long the steps took that spans are around.
    pub(crate) steps: Steps,
    /// Spans recorded since the start.
    pub recorded: Counter,
    /// Spans that a collector took.
    pub sent: Counter,
    /// Spans that were not sent, since too many waited.
    pub dropped: Counter,
    /// Spans that a collector did not take.
    pub failed: Counter,
}

#[derive(Debug, Default)]
struct Rings {
    new: Ring,
    kept: Ring,
    marked: HashSet<u128>,
    marked_order: VecDeque<u128>,
}

#[derive(Debug, Default)]
struct Ring {
    spans: VecDeque<Arc<Span>>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, span: Arc<Span>) {
        self.bytes += span.bytes();
        self.spans.push_back(span);
    }

    fn pop_beyond(&mut self, limit: usize) -> Option<Arc<Span>> {
        if self.bytes <= limit {
            return None;
        }
        let span = self.spans.pop_front()?;
        self.bytes -= span.bytes();
        Some(span)
    }
}

/// A trace as far as it went through this process.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Which trace.
    pub trace: u128,
    /// What was done: the span here that contains the others.
    pub root: Arc<Span>,
    /// Spans of it that are remembered here.
    pub spans: usize,
    /// One of them failed.
    pub failed: bool,
}

impl Spans {
    /// An empty memory of the size that the settings give.
    pub fn new(options: &Options) -> Arc<Self> {
        let bytes = options.trace_mebibytes << 20;
        Arc::new(Self {
            process: format!("{:016x}", new_id()),
            limits: (bytes - bytes / 4, bytes / 4),
            slow: Duration::from_millis(options.slow_ms),
            rings: Mutex::default(),
            steps: Steps::default(),
            recorded: Counter::default(),
            sent: Counter::default(),
            dropped: Counter::default(),
            failed: Counter::default(),
        })
    }

    /// Counts with the metrics of the process.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            self.steps.register(registry);
            let mut count = |name, help, counter: &Counter| {
                registry.register(name, help, counter.clone());
            };
            count("telemetry_spans_recorded", "Spans recorded", &self.recorded);
            count(
                "telemetry_spans_sent",
                "Spans that a collector took",
                &self.sent,
            );
            let help = "Spans that were not sent, since too many waited";
            count("telemetry_spans_dropped", help, &self.dropped);
            let help = "Spans that a collector did not take";
            count("telemetry_spans_failed", help, &self.failed);
        });
    }

    /// Names this process among others.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Remembers a span; the oldest make room.
    pub fn add(&self, span: Arc<Span>) {
        self.recorded.inc();
        let slow = Duration::from_nanos(span.duration) >= self.slow;
        let mark = span.is_local_root && (span.failed || slow);
        let mut rings = self.rings();
        if mark {
            rings.mark(span.trace.trace());
        }
        rings.new.push(span);
        while let Some(old) = rings.new.pop_beyond(self.limits.0) {
            if rings.marked.contains(&old.trace.trace()) {
                rings.kept.push(old);
            }
        }
        while rings.kept.pop_beyond(self.limits.1).is_some() {}
    }

    /// The spans of a trace and those that follow from it across a queue, in order of their start. `tenant`: only
    /// those of one; else of all, and of nobody.
    pub fn trace(&self, trace: u128, tenant: Option<&str>) -> Vec<Arc<Span>> {
        let rings = self.rings();
        let spans = rings.kept.spans.iter().chain(&rings.new.spans);
        let belongs = |span: &&Arc<Span>| {
            let follows = || span.links.iter().any(|link| link.0 == trace);
            (span.trace.trace() == trace || follows()) && span.is_of(tenant)
        };
        let mut found: Vec<_> = spans.filter(belongs).cloned().collect();
        drop(rings);
        found.sort_by_key(|span| (span.start, span.trace.span()));
        found
    }

    /// The newest traces that began or arrived here, newest first, at most `limit`. `tenant`: as its spans alone tell
    /// them; else as all do. `only`: which ones.
    pub fn traces(
        &self,
        limit: usize,
        tenant: Option<&str>,
        only: impl Fn(&Summary) -> bool,
    ) -> Vec<Summary> {
        let rings = self.rings();
        let mut traces: BTreeMap<u128, Summary> = BTreeMap::new();
        let mut counts: BTreeMap<u128, (usize, bool)> = BTreeMap::new();
        let spans = rings.kept.spans.iter().chain(&rings.new.spans);
        for span in spans.filter(|span| span.is_of(tenant)) {
            let trace = span.trace.trace();
            let count = counts.entry(trace).or_default();
            *count = (count.0 + 1, count.1 || span.failed);
            let earlier = traces.get(&trace);
            let first = earlier.is_none_or(|known| span.start < known.root.start);
            if span.is_local_root && first {
                let root = span.clone();
                let (spans, failed) = (0, false);
                traces.insert(
                    trace,
                    Summary {
                        trace,
                        root,
                        spans,
                        failed,
                    },
                );
            }
        }
        drop(rings);
        for (trace, summary) in &mut traces {
            (summary.spans, summary.failed) = counts.get(trace).copied().unwrap_or_default();
        }
        let mut found: Vec<Summary> = traces.into_values().filter(|trace| only(trace)).collect();
        found.sort_by_key(|trace| (std::cmp::Reverse(trace.root.start), trace.trace));
        found.truncate(limit);
        found
    }

    /// Spans and bytes remembered.
    pub fn size(&self) -> (usize, usize) {
        let rings = self.rings();
        (
            rings.new.spans.len() + rings.kept.spans.len(),
            rings.new.bytes + rings.kept.bytes,
        )
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn mark(&mut self, trace: u128) {
        if !self.marked.insert(trace) {
            return;
        }
        self.marked_order.push_back(trace);
        if self.marked_order.len() > MARKED
            && let Some(oldest) = self.marked_order.pop_front()
        {
            self.marked.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::{Kind, Trace};

    fn span(trace: Trace, start: u64, failed: bool) -> Arc<Span> {
        Arc::new(Span {
            trace,
            parent: 0,
            is_local_root: true,
            service: "journal",
            tenant: None,
            name: Cow::Borrowed("test"),
            kind: Kind::Server,
            start,
            duration: 1_000,
            failed,
            attributes: Vec::new(),
            links: Vec::new(),
        })
    }

    #[test]
    fn memory_is_bounded_and_failed_traces_stay_longer() {
        let options = Options {
            trace_mebibytes: 1,
            ..Options::default()
        };
        let spans = Spans::new(&options);
        let (failed, fine) = (Trace::start(), Trace::start());
        spans.add(span(failed, 0, true));
        spans.add(span(fine, 1, false));
        for start in 2..20_000 {
            spans.add(span(Trace::start(), start, false));
            assert!(spans.size().1 <= 1 << 20);
        }
        assert_eq!(spans.trace(failed.trace(), None).len(), 1);
        assert_eq!(spans.trace(fine.trace(), None).len(), 0);
        let newest = spans.traces(3, None, |_| true);
        assert_eq!(
            newest
                .iter()
                .map(|trace| trace.root.start)
                .collect::<Vec<_>>(),
            [19_999, 19_998, 19_997]
        );
        let bad = spans.traces(3, None, |trace| trace.failed);
        assert_eq!(bad.len(), 1);
    }

    #[test]
    fn a_tenant_is_told_of_its_own_spans_though_traces_are_shared() {
        let spans = Spans::new(&Options::default());
        let trace = Trace::start();
        for (start, tenant) in [(1, None), (2, Some("acme")), (3, Some("rival"))] {
            let mut own = Arc::unwrap_or_clone(span(trace.child(), start, tenant.is_none()));
            own.tenant = tenant.map(Arc::from);
            spans.add(Arc::new(own));
        }
        let of = |tenant| {
            let told = spans.trace(trace.trace(), tenant);
            told.iter().map(|span| span.start).collect::<Vec<_>>()
        };
        assert_eq!(of(None), [1, 2, 3]);
        assert_eq!(of(Some("acme")), [2]);
        assert_eq!(of(Some("other")), Vec::<u64>::new());
        let summary = &spans.traces(3, Some("rival"), |_| true)[0];
        assert_eq!(
            (summary.root.start, summary.spans, summary.failed),
            (3, 1, false)
        );
        assert_eq!(spans.traces(3, Some("other"), |_| true), []);
    }

    #[test]
    fn no_memory_keeps_nothing() {
        let options = Options {
            trace_mebibytes: 0,
            ..Options::default()
        };
        let spans = Spans::new(&options);
        spans.add(span(Trace::start(), 0, true));
        assert_eq!(spans.size(), (0, 0));
    }
}
