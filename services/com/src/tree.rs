//! A trace as a tree for people: who called whom, when, for how long, and what failed.

use std::collections::{BTreeMap, BTreeSet};

use commonplace_proto::telemetry::{Span, SpanKind};

use crate::output::{self, paint};

/// Cells of the time line.
const CELLS: usize = 32;
/// Most lines that are drawn. Whoever makes calls decides how deep a trace is.
const MOST: usize = 500;
/// From this depth on lines are set in no further.
const DEEPEST: usize = 40;
/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// One line of the tree.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Whose span it is.
    pub service: String,
    /// With the branches of the tree before it.
    pub name: String,
    /// When it ran, on a line that is as long as the trace.
    pub bar: String,
    /// How long it took.
    pub took: String,
    /// What there is to say besides: where it was sent, what failed.
    pub remark: String,
    /// Whether it failed.
    pub failed: bool,
}

/// Spans as a tree, line by line. `trace`: whose spans they are; those of others follow from them across a queue.
pub fn shown(trace: &str, spans: &[Span]) -> Vec<String> {
    let (from, to) = bounds(trace, spans);
    let processes: BTreeSet<&str> = spans.iter().map(|span| span.process.as_str()).collect();
    let failed = spans.iter().filter(|span| span.failed).count();
    let failures = if failed > 0 {
        format!(", {failed} failed")
    } else {
        String::new()
    };
    let (took, count, places) = (duration((to - from) as u64), spans.len(), processes.len());
    let told = format!("trace {trace}: {took}, {count} spans, {places} processes{failures}");
    let lines = lines(trace, spans);
    let width = |of: fn(&Line) -> &str| {
        let widths = lines.iter().map(|line| of(line).chars().count());
        widths.max().unwrap_or(0)
    };
    let widths = (width(|line| &line.service), width(|line| &line.name));
    let mut shown = vec![paint(output::BOLD, &told)];
    shown.extend(lines.iter().map(|line| line.shown(widths)));
    if lines.len() == MOST {
        shown.push(format!(
            "… only {MOST} lines are drawn; --json has all spans"
        ));
    }
    shown
}

impl Line {
    /// `widths`: of the columns for services and names.
    fn shown(&self, widths: (usize, usize)) -> String {
        let pad = |text: &str, to: usize| " ".repeat(to - text.chars().count());
        let (bar, remark) = match self.failed {
            true => (output::RED, output::RED),
            false => (output::GREEN, output::DIM),
        };
        let text = format!(
            "{}{}  {}{}  ▕{}▏ {:>9}  {}",
            paint(output::DIM, &self.service),
            pad(&self.service, widths.0),
            self.name,
            pad(&self.name, widths.1),
            paint(bar, &self.bar),
            self.took,
            paint(remark, &self.remark),
        );
        text.trim_end().to_owned()
    }
}

/// The first lines of a tree, parents before children, children in order of their start.
pub fn lines(trace: &str, spans: &[Span]) -> Vec<Line> {
    let (from, to) = bounds(trace, spans);
    let tree = Tree::new(trace, spans);
    let mut lines = Vec::new();
    // What is still to be drawn, the next one last: a span, what stands before it, and before what lies under it.
    let mut waiting: Vec<(usize, String, String)> = Vec::new();
    let roots = tree.roots.iter().rev();
    waiting.extend(roots.map(|root| (*root, String::new(), String::new())));
    while lines.len() < MOST
        && let Some((place, branch, indent)) = waiting.pop()
    {
        let shown = tree.served(place).unwrap_or(place);
        let span = &spans[shown];
        let bar = bar(
            start(span) - from,
            i128::from(span.duration_nanos),
            (to - from).max(1),
        );
        lines.push(tree.line(place, &branch, bar));
        let below = tree.below(shown).iter().enumerate().rev();
        let last = tree.below(shown).len();
        waiting.extend(below.map(|(number, child)| {
            let (branch, deeper) = match number + 1 == last {
                true => ("└ ", "  "),
                false => ("├ ", "│ "),
            };
            (*child, format!("{indent}{branch}"), set_in(&indent, deeper))
        }));
    }
    lines
}

fn set_in(indent: &str, deeper: &str) -> String {
    match indent.chars().count() < 2 * DEEPEST {
        true => format!("{indent}{deeper}"),
        false => indent.to_owned(),
    }
}

/// When the trace began and ended; spans that follow from it may run later.
fn bounds(trace: &str, spans: &[Span]) -> (i128, i128) {
    let own = || spans.iter().filter(|span| span.trace_id == trace);
    let from = own().map(start).min().unwrap_or(0);
    let to = own()
        .map(|span| start(span) + i128::from(span.duration_nanos))
        .max();
    (from, to.unwrap_or(0))
}

fn start(span: &Span) -> i128 {
    let start = span.start.unwrap_or_default();
    i128::from(start.seconds) * SECOND + i128::from(start.nanos)
}

struct Tree<'a> {
    spans: &'a [Span],
    roots: Vec<usize>,
    children: BTreeMap<usize, Vec<usize>>,
    trace: &'a str,
}

impl<'a> Tree<'a> {
    fn new(trace: &'a str, spans: &'a [Span]) -> Self {
        let places = spans.iter().enumerate();
        let places: BTreeMap<&str, usize> = places
            .map(|(place, span)| (span.span_id.as_str(), place))
            .collect();
        let (mut roots, mut children) = (Vec::new(), BTreeMap::<usize, Vec<usize>>::new());
        for (place, span) in spans.iter().enumerate() {
            let own = span.trace_id == trace;
            let linked = span.links.iter().filter(|link| link.trace_id == trace);
            let above = match own {
                true => places.get(span.parent_span_id.as_str()),
                // Across a queue: under the span that it follows from.
                false => linked
                    .filter_map(|link| places.get(link.span_id.as_str()))
                    .next(),
            };
            match above.filter(|above| **above != place) {
                Some(above) => children.entry(*above).or_default().push(place),
                None => roots.push(place),
            }
        }
        Self {
            spans,
            roots,
            children,
            trace,
        }
    }

    fn below(&self, place: usize) -> &[usize] {
        self.children.get(&place).map_or(&[], Vec::as_slice)
    }

    /// A call made and the same call served are told as one.
    fn served(&self, place: usize) -> Option<usize> {
        let span = &self.spans[place];
        let [only] = self.below(place) else {
            return None;
        };
        let inner = &self.spans[*only];
        let pair = span.kind() == SpanKind::Client && inner.kind() == SpanKind::Server;
        (pair && span.name == inner.name && span.trace_id == inner.trace_id).then_some(*only)
    }

    fn line(&self, place: usize, branch: &str, bar: String) -> Line {
        let made = &self.spans[place];
        let served = self.served(place).map(|place| &self.spans[place]);
        let span = served.unwrap_or(made);
        Line {
            service: span.service.clone(),
            name: format!("{branch}{}", name(span, self.trace)),
            bar,
            took: duration(span.duration_nanos),
            remark: remark(made, served),
            failed: span.failed || made.failed,
        }
    }
}

/// Without what every name of ours begins with.
fn name(span: &Span, trace: &str) -> String {
    let across = if span.trace_id == trace { "" } else { "⇢ " };
    let short = match span.name.rsplit_once(".v1.") {
        Some((_, short)) if span.name.starts_with("commonplace.") => short,
        _ => span.name.as_str(),
    };
    format!("{across}{}", output::short(short, 60))
}

fn remark(made: &Span, served: Option<&Span>) -> String {
    let said = |span: &Span, name: &str| {
        let found = span.attributes.iter().find(|known| known.name == name);
        found.map(|known| known.value.clone())
    };
    let mut remarks = Vec::new();
    for name in ["db.system.name", "commonplace.pack"] {
        remarks.extend(said(made, name));
    }
    if let (Some(host), Some(port)) = (said(made, "server.address"), said(made, "server.port")) {
        remarks.push(format!("at {host}:{port}"));
    }
    if let Some(served) = served {
        let way = made.duration_nanos.saturating_sub(served.duration_nanos);
        if way > 1_000_000 {
            remarks.push(format!("+{} on the way", duration(way)));
        }
    }
    for (name, word) in [
        ("commonplace.candidates", "candidates"),
        ("commonplace.items", "items"),
        ("commonplace.batch.size", "together"),
        ("messaging.batch.message_count", "commits"),
    ] {
        remarks.extend(said(made, name).map(|count| format!("{count} {word}")));
    }
    let failed = said(served.unwrap_or(made), "error.type");
    remarks.extend(failed.or_else(|| said(made, "error.type")));
    remarks.join(", ")
}

/// A span's place on the time line: at least one mark, however short it is.
fn bar(offset: i128, took: i128, whole: i128) -> String {
    let cell = |at: i128| (at.clamp(0, whole) * CELLS as i128 / whole) as usize;
    let first = cell(offset).min(CELLS - 1);
    let last = cell(offset + took).clamp(first + 1, CELLS);
    let short = took * CELLS as i128 * 2 < whole;
    let mark = if short { "▏" } else { "█" };
    " ".repeat(first) + &mark.repeat(last - first) + &" ".repeat(CELLS - last)
}

/// Nanoseconds as people say them.
pub fn duration(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        _ if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        _ if nanos < 1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonplace_proto::Timestamp;
    use commonplace_proto::telemetry::Link;

    fn span(id: &str, parent: &str, kind: SpanKind, name: &str, from: i32, took: u64) -> Span {
        Span {
            trace_id: "a".into(),
            span_id: id.into(),
            parent_span_id: parent.into(),
            name: name.into(),
            kind: kind as i32,
            start: Some(Timestamp {
                seconds: 1,
                nanos: from * 1_000_000,
            }),
            duration_nanos: took * 1_000_000,
            ..Span::default()
        }
    }

    #[test]
    fn a_call_is_one_line_and_what_follows_lies_under_it() {
        let call = "commonplace.journal.v1.JournalService/Append";
        let mut spans = vec![
            span("1", "", SpanKind::Server, "POST /events", 0, 100),
            span("2", "1", SpanKind::Client, call, 10, 80),
            span("3", "2", SpanKind::Server, call, 20, 60),
            span("4", "3", SpanKind::Internal, "write a group", 30, 1),
            span("5", "", SpanKind::Consumer, "process journal", 120, 5),
        ];
        spans[4].trace_id = "b".into();
        spans[4].links = vec![Link {
            trace_id: "a".into(),
            span_id: "3".into(),
        }];
        let lines = lines("a", &spans);
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "POST /events",
                "└ JournalService/Append",
                "  ├ write a group",
                "  └ ⇢ process journal"
            ]
        );
        assert_eq!(lines[1].remark, "+20.00 ms on the way");
        assert_eq!(lines[0].bar, "█".repeat(CELLS));
        assert!(lines.iter().all(|line| line.bar.chars().count() == CELLS));
    }

    #[test]
    fn odd_traces_end_too() {
        let odd = |id: &str, parent: &str| span(id, parent, SpanKind::Internal, "odd", 0, 1);
        assert_eq!(lines("a", &[odd("1", "1")]).len(), 1);
        let chain = (0..20_000).map(|depth| odd(&(depth + 1).to_string(), &depth.to_string()));
        let lines = lines("a", &chain.collect::<Vec<_>>());
        assert_eq!(lines.len(), MOST);
        let longest = lines.iter().map(|line| line.name.chars().count()).max();
        assert!(longest.is_some_and(|width| width < 2 * DEEPEST + 10));
        // Spans that are each other's parents have no beginning.
        assert_eq!(shown("a", &[odd("1", "2"), odd("2", "1")]).len(), 1);
    }

    #[test]
    fn durations_are_told_in_their_unit() {
        let told = [900, 4_200_000, 3_000_000_000].map(duration);
        assert_eq!(told, ["1 µs", "4.20 ms", "3.00 s"]);
    }
}
