//! Every name that a span of ours may carry, in one table, with the conventions that they follow.
//!
//! A field that is not here is recorded nowhere: text of events cannot slip out by a field that somebody adds
//! for a log line. A test reads the sources and finds span fields that are missing here.

/// The OpenTelemetry conventions that the names follow; those for RPC are a release candidate in it.
pub const CONVENTIONS: &str = "https://opentelemetry.io/schemas/1.39.0";

/// An attribute: its name as exported, and what it says.
pub type Named = (&'static str, &'static str);

/// The attributes of spans, sorted by name.
pub const ATTRIBUTES: [Named; 33] = [
    (
        "commonplace.batch.size",
        "requests or commits that were done together",
    ),
    ("commonplace.candidates", "passages that ranking considered"),
    ("commonplace.commit", "number of the commit in its project"),
    ("commonplace.commits", "commits in a batch"),
    ("commonplace.dense", "whether meanings were compared"),
    ("commonplace.events", "events in a batch"),
    ("commonplace.items", "passages in the pack"),
    ("commonplace.pack", "id of the pack"),
    ("commonplace.passages", "passages asked for or found"),
    (
        "commonplace.request_id",
        "names the call in logs, in every service",
    ),
    ("commonplace.reused", "an earlier pack answered"),
    (
        "commonplace.stream",
        "the answer is a stream; the span ends when it begins",
    ),
    ("commonplace.tokens", "tokens used of the budget"),
    ("commonplace.vectors", "vectors compared or made"),
    ("db.collection.name", "the table"),
    ("db.namespace", "the service whose data it is"),
    (
        "db.operation.name",
        "SELECT, or `read` and `write` for a transaction",
    ),
    ("db.query.summary", "operation and table, never values"),
    ("db.system.name", "sqlite or postgresql"),
    ("error.type", "what failed; a span that has it failed"),
    ("http.request.method", "GET, POST, …"),
    ("http.response.status_code", "200, …"),
    ("http.route", "the path with names in place of values"),
    ("messaging.batch.message_count", "commits taken in together"),
    ("messaging.destination.name", "what is followed"),
    (
        "messaging.operation.name",
        "what was done with the messages",
    ),
    ("messaging.system", "commonplace"),
    ("rpc.method", "package.Service/Method, or _OTHER"),
    ("rpc.response.status_code", "name of the gRPC status"),
    ("rpc.system.name", "grpc"),
    ("server.address", "host of the endpoint that was chosen"),
    ("server.port", "its port"),
    ("url.scheme", "http or https"),
];

/// Fields that say where a span belongs and become no attribute, sorted.
///
/// `link`: traces that it follows from, parted by spaces; `parent`: a `traceparent` that it continues; `service`:
/// the role whose span it is, and `tenant`: whose data it is about; both are inherited by the spans in it.
pub const PLACES: [&str; 6] = [
    "link",
    "otel.kind",
    "otel.name",
    "parent",
    "service",
    "tenant",
];

/// The exported name, if the field is an attribute.
pub fn attribute(field: &str) -> Option<&'static str> {
    let found = ATTRIBUTES.binary_search_by(|(name, _)| (*name).cmp(field));
    found.ok().map(|place| ATTRIBUTES[place].0)
}

/// Names of the gRPC status codes, by code.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a gRPC status code.
pub fn status_code(code: i32) -> &'static str {
    let found = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    found.copied().unwrap_or("UNKNOWN")
}

/// Whether a status is the server's fault, by the conventions for RPC: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
/// INTERNAL, UNAVAILABLE, DATA_LOSS. The caller of a call failed by every other code too.
pub fn is_server_fault(code: i32) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_found_in() {
        assert!(ATTRIBUTES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(PLACES.is_sorted());
        assert_eq!(attribute("rpc.method"), Some("rpc.method"));
        assert_eq!(attribute("text"), None);
        assert_eq!((status_code(5), status_code(99)), ("NOT_FOUND", "UNKNOWN"));
    }
}
