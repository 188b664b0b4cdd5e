//! Spans and measurements as the contract has them.

use commonplace_proto::Timestamp;
use commonplace_proto::telemetry as proto;
use commonplace_telemetry::samples::{Metric, Series};
use commonplace_telemetry::{Kind, Span, Summary};
use commonplace_types::Invalid;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Error: not 32 hex digits.
pub(super) fn trace_id(text: &str) -> Result<u128, Invalid> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_hex
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten();
    id.filter(|id| *id != 0).ok_or_else(|| {
        let problem = format!(
            "expected the 32 hex digits that `com` prints with every failure, found `{}`",
            text.escape_debug()
        );
        Invalid::new("trace_id", problem)
    })
}

/// Nanoseconds since 1970 as a timestamp.
pub(super) fn time(nanos: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        nanos: (nanos % SECOND) as i32,
    }
}

pub(super) fn span(span: &Span, process: &str) -> proto::Span {
    let parent = match span.parent {
        0 => String::new(),
        parent => format!("{parent:016x}"),
    };
    let attributes = span.attributes.iter();
    let links = span.links.iter();
    proto::Span {
        trace_id: span.trace.trace_id(),
        span_id: format!("{:016x}", span.trace.span()),
        parent_span_id: parent,
        name: span.name.to_string(),
        kind: match span.kind {
            Kind::Internal => proto::SpanKind::Internal,
            Kind::Server => proto::SpanKind::Server,
            Kind::Client => proto::SpanKind::Client,
            Kind::Consumer => proto::SpanKind::Consumer,
        } as i32,
        service: span.service.to_owned(),
        tenant: span.tenant.as_deref().unwrap_or_default().to_owned(),
        process: process.to_owned(),
        start: Some(time(span.start)),
        duration_nanos: span.duration,
        failed: span.failed,
        attributes: attributes
            .map(|(name, value)| attribute(name, &value.to_string()))
            .collect(),
        links: links
            .map(|(trace, span)| proto::Link {
                trace_id: format!("{trace:032x}"),
                span_id: format!("{span:016x}"),
            })
            .collect(),
    }
}

pub(super) fn summary(summary: &Summary) -> proto::TraceSummary {
    proto::TraceSummary {
        trace_id: format!("{:032x}", summary.trace),
        name: summary.root.name.to_string(),
        service: summary.root.service.to_owned(),
        start: Some(time(summary.root.start)),
        duration_nanos: summary.root.duration,
        failed: summary.failed,
        spans: u32::try_from(summary.spans).unwrap_or(u32::MAX),
    }
}

pub(super) fn metric(metric: Metric) -> proto::Metric {
    proto::Metric {
        name: metric.name,
        kind: metric.kind,
        help: metric.help,
        series: metric.series.into_iter().map(series).collect(),
    }
}

fn series(series: Series) -> proto::Series {
    let labels = series.labels.iter();
    let finite = series.buckets.iter().filter(|(bound, _)| bound.is_finite());
    proto::Series {
        labels: labels.map(|(name, value)| attribute(name, value)).collect(),
        value: series.value,
        sum: series.sum,
        buckets: finite
            .map(|(upper_bound, count)| proto::Bucket {
                upper_bound: *upper_bound,
                count: *count,
            })
            .collect(),
    }
}

fn attribute(name: &str, value: &str) -> proto::Attribute {
    proto::Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
