//! Private keys in PEM form: whole or cut off, plain, quoted, with escaped line ends, or within a diff.

use regex::Regex;

use super::rules::Span;

/// The line that opens or closes a private key.
pub(super) const MARKER: &str =
    r"-----(?P<side>BEGIN|END) (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----";

/// A run of characters of at least this length is key material by itself.
const MATERIAL_BYTES: usize = 16;
/// Most characters between two runs: a line end, an indent, quotes, a diff's mark.
const GAP_BYTES: usize = 40;
/// Longest header line within a key.
const HEADER_BYTES: usize = 200;
/// What the header lines within a key start with.
const HEADERS: &[&str] = &["Proc-Type", "DEK-Info", "Version", "Comment", "Hash"];

/// The keys to mask, in order: from marker to marker, or as much as there is of a key that was cut.
pub(super) fn spans(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for found in finder.captures_iter(text) {
        let Some(marker) = found.get(0) else { continue };
        let taken = spans.last().map_or(0, |span| span.end);
        if marker.start() < taken {
            continue;
        }
        let opens = found
            .name("side")
            .is_some_and(|side| side.as_str() == "BEGIN");
        let key = if opens {
            forward(text, marker.end(), finder).map(|end| marker.start()..end)
        } else {
            backward(text, marker.start(), taken).map(|start| start..marker.end())
        };
        spans.extend(key);
    }
    spans
}

/// Where the key that begins at `at` ends; nothing when no key material follows.
fn forward(text: &str, at: usize, finder: &Regex) -> Option<usize> {
    let mut at = at;
    let mut end = None;
    loop {
        at += gap(&text.as_bytes()[at..]);
        let rest = &text[at..];
        if rest.starts_with("-----END") {
            let closing = finder
                .find_at(text, at)
                .filter(|marker| marker.start() == at);
            return end.and(closing.map(|marker| marker.end())).or(end);
        }
        if HEADERS.iter().any(|header| rest.starts_with(header)) {
            let line = rest
                .as_bytes()
                .iter()
                .take(HEADER_BYTES)
                .position(|b| b"\n\\".contains(b))?;
            at += line;
            continue;
        }
        let run = rest.bytes().take_while(|b| is_material(*b)).count();
        if run >= MATERIAL_BYTES {
            at += run;
            end = Some(at);
            continue;
        }
        // The short last line of a key counts only when the key is closed after it.
        let closed = at + run + gap(&text.as_bytes()[at + run..]);
        if run == 0 || end.is_none() || !text[closed..].starts_with("-----END") {
            return end;
        }
        at = closed;
    }
}

/// Where the key that is closed at `at` begins, not before `limit`; nothing when no key material precedes.
fn backward(text: &str, at: usize, limit: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut start, mut last) = (at, None, true);
    loop {
        let separators = bytes[limit..at]
            .iter()
            .rev()
            .take(GAP_BYTES)
            .take_while(|b| is_separator(**b))
            .count();
        let run_end = at - separators;
        let run = bytes[limit..run_end]
            .iter()
            .rev()
            .take_while(|b| is_material(**b))
            .count();
        // An escaped line end leaves its letter at the run's start: `\nMIIE…`.
        let escaped = run > 1 && run_end - run > limit && bytes[run_end - run - 1] == b'\\';
        if run < MATERIAL_BYTES && !(last && run > 0) {
            return start;
        }
        at = run_end - run + usize::from(escaped);
        if run >= MATERIAL_BYTES {
            start = Some(at);
        }
        at -= usize::from(escaped);
        last = false;
    }
}

/// How many bytes of separators there are, at most a few.
fn gap(bytes: &[u8]) -> usize {
    let mut count = 0;
    while count < GAP_BYTES.min(bytes.len()) {
        let rest = &bytes[count..];
        if rest.starts_with(b"\\n") || rest.starts_with(b"\\r") {
            count += 2;
        } else if is_separator(rest[0]) && !rest.starts_with(b"-----END") {
            count += 1;
        } else {
            break;
        }
    }
    count
}

fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'|>,*#\\+-".contains(&byte)
}

fn is_material(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}
