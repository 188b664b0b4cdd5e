//! Private keys in PEM form: whole or cut off, plain, quoted, with escaped line ends, within a diff, within a
//! log whose lines carry a time or a number, encoded once more; and the private part of PuTTY's keys.
//!
//! A log puts the same kind of thing before each line, so what stands before the opening line is learnt as a
//! shape, and every further line may begin with something of that shape. The work is linear: what a marker
//! makes us look at is either bounded or becomes part of the key that is masked.

use regex::Regex;

use super::rules::Span;

/// The line that opens or closes a private key, the line before a PuTTY key's private part, or the first line
/// of anything in PEM form, encoded in base64.
pub(super) const MARKER: &str = concat!(
    r"----- ?(?P<side>BEGIN|END) (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    r"|(?P<putty>Private-Lines:[ \t]{0,4}\d{1,4})",
    r"|(?P<encoded>LS0tLS1CRUdJTi[A-Za-z0-9+/]{16,200})",
);

/// A run of characters of at least this length is key material by itself.
const MATERIAL_BYTES: usize = 16;
/// Most characters between two runs: a line end, an indent, quotes, a diff's mark.
const GAP_BYTES: usize = 40;
/// Longest header line within a key, and most of them.
const HEADER_BYTES: usize = 200;
const HEADERS_MOST: usize = 8;
/// What the header lines within a key start with.
const HEADERS: &[&str] = &["Proc-Type", "DEK-Info", "Version", "Comment", "Hash"];
/// Longest beginning of a line that is learnt, and that is compared with it.
const PREFIX_BYTES: usize = 96;
/// Line ends as a web page or a string in code writes them.
const WRITTEN_LINE_ENDS: &[&str] = &[
    "\\n", "\\r", "<br>", "<br/>", "<br />", "&#10;", "&#13;", "&#xA;",
];

/// The keys to mask, in order: from marker to marker, or as much as there is of a key that was cut.
pub(super) fn spans(finder: &Regex, text: &str) -> Vec<Span> {
    counted(finder, text).0
}

/// [`spans`], and how many characters were looked at, some twice.
pub(super) fn counted(finder: &Regex, text: &str) -> (Vec<Span>, usize) {
    let mut spans: Vec<Span> = Vec::new();
    let mut reader = Reader {
        text,
        finder,
        prefix: Vec::new(),
        steps: 0,
    };
    for found in finder.captures_iter(text) {
        let Some(marker) = found.get(0) else { continue };
        let taken = spans.last().map_or(0, |span| span.end);
        if marker.start() < taken {
            continue;
        }
        reader.learn(marker.start(), taken);
        let closes = found
            .name("side")
            .is_some_and(|side| side.as_str() == "END");
        let encoded = found.name("encoded");
        let key = if closes {
            reader
                .backward(marker.start(), taken)
                .map(|start| start..marker.end())
        } else if let Some(encoded) = encoded {
            let end = || reader.forward(marker.end()).unwrap_or(marker.end());
            is_encoded_key(encoded.as_str())
                .then(end)
                .map(|end| marker.start()..end)
        } else {
            reader.forward(marker.end()).map(|end| marker.start()..end)
        };
        spans.extend(key);
    }
    (spans, reader.steps)
}

/// A piece of the shape of a line's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Digits,
    Letters,
    Spaces,
    Exactly(u8),
}

impl Shape {
    fn of(byte: u8) -> Self {
        match byte {
            b'0'..=b'9' => Self::Digits,
            b'a'..=b'z' | b'A'..=b'Z' => Self::Letters,
            b' ' | b'\t' => Self::Spaces,
            other => Self::Exactly(other),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    finder: &'t Regex,
    /// What the lines of this key begin with; empty for nothing.
    prefix: Vec<Shape>,
    steps: usize,
}

impl Reader<'_> {
    /// Learns what stands before a marker on its line, not looking before `limit`.
    fn learn(&mut self, marker: usize, limit: usize) {
        let from = marker.saturating_sub(PREFIX_BYTES).max(limit);
        let before = &self.text.as_bytes()[from..marker];
        self.steps += before.len();
        let line_end = before.iter().rposition(|b| *b == b'\n');
        // A line that begins too far back has no beginning of interest.
        let whole = line_end.is_some() || from == limit;
        let start = line_end.map_or(0, |end| end + 1);
        self.prefix.clear();
        if !whole {
            return;
        }
        for byte in &before[start..] {
            let shape = Shape::of(*byte);
            if matches!(shape, Shape::Exactly(_)) || self.prefix.last() != Some(&shape) {
                self.prefix.push(shape);
            }
        }
        // What a gap takes anyway needs no shape; letters and digits alone would take key material.
        let skipped = self
            .prefix
            .iter()
            .take_while(|shape| is_gap(**shape))
            .count();
        self.prefix.drain(..skipped);
        let is_plain = |shape: &Shape| matches!(shape, Shape::Digits | Shape::Letters);
        if self.prefix.iter().all(is_plain) {
            self.prefix.clear();
        }
    }

    /// Where the key that begins at `at` ends; nothing when no key material follows.
    fn forward(&mut self, at: usize) -> Option<usize> {
        let (mut at, mut end, mut headers) = (at, None, 0);
        loop {
            at = self.skip(at);
            let rest = &self.text[at..];
            if rest.starts_with("-----END") || rest.starts_with("----- END") {
                let near = &rest[..rest.floor_char_boundary(HEADER_BYTES)];
                let closing = self.finder.find(near).filter(|marker| marker.start() == 0);
                return end.and(closing.map(|marker| at + marker.end())).or(end);
            }
            if HEADERS.iter().any(|header| rest.starts_with(header)) {
                headers += 1;
                let near = &rest[..rest.floor_char_boundary(HEADER_BYTES)];
                self.steps += near.len();
                let line = near.find(['\n', '\\'])?;
                if headers > HEADERS_MOST || near[..line].contains("-----") {
                    return end;
                }
                at += line;
                continue;
            }
            let run = self.run(at);
            if run >= MATERIAL_BYTES {
                at += run;
                end = Some(at);
                continue;
            }
            // The short last line of a key counts only when the key is closed after it.
            let closed = self.skip(at + run);
            if run == 0 || end.is_none() || !self.text[closed..].starts_with("-----END") {
                return end;
            }
            at = closed;
        }
    }

    /// Skips what lies between two runs: separators and the beginning of a line.
    fn skip(&mut self, at: usize) -> usize {
        let after = at + self.gap(at);
        match self.beginning(after) {
            0 => after,
            beginning => after + beginning + self.gap(after + beginning),
        }
    }

    /// How many bytes of separators there are, at most a few.
    fn gap(&mut self, at: usize) -> usize {
        let bytes = &self.text.as_bytes()[at..];
        let mut count = 0;
        while count < GAP_BYTES.min(bytes.len()) {
            let rest = &bytes[count..];
            let written = WRITTEN_LINE_ENDS
                .iter()
                .find(|end| rest.starts_with(end.as_bytes()));
            if let Some(written) = written {
                count += written.len();
            } else if is_separator(rest[0])
                && !rest.starts_with(b"-----END")
                && !rest.starts_with(b"----- END")
            {
                count += 1;
            } else {
                break;
            }
        }
        self.steps += count + 1;
        count
    }

    /// How many bytes of what is here have the shape that was learnt; 0 when not all of it is here.
    fn beginning(&mut self, at: usize) -> usize {
        let rest = &self.text.as_bytes()[at..];
        let rest = &rest[..rest.len().min(2 * PREFIX_BYTES)];
        let mut count = 0;
        for shape in &self.prefix {
            let same = match shape {
                Shape::Exactly(byte) => usize::from(rest.get(count) == Some(byte)),
                shape => rest[count..]
                    .iter()
                    .take_while(|b| Shape::of(**b) == *shape)
                    .count(),
            };
            self.steps += same + 1;
            // The spaces at the end may be missing where a line is empty.
            if same == 0 && *shape != Shape::Spaces {
                return 0;
            }
            count += same;
        }
        count
    }

    /// The length of the run of key material here.
    fn run(&mut self, at: usize) -> usize {
        let run = self.text.as_bytes()[at..]
            .iter()
            .take_while(|b| is_material(**b))
            .count();
        self.steps += run + 1;
        run
    }

    /// Where the key that is closed at `at` begins, not before `limit`; nothing when no key material precedes.
    fn backward(&mut self, at: usize, limit: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let (mut at, mut start, mut last) = (at, None, true);
        loop {
            at = self.before_beginning(at, limit);
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
            self.steps += separators + run + 1;
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

    /// Goes back over the beginning of the line, where what stands before `at` has the shape that was learnt.
    fn before_beginning(&mut self, at: usize, limit: usize) -> usize {
        if self.prefix.is_empty() {
            return at;
        }
        let from = at.saturating_sub(2 * PREFIX_BYTES).max(limit);
        let before = &self.text.as_bytes()[from..at];
        self.steps += before.len();
        let Some(line_end) = before.iter().rposition(|b| *b == b'\n') else {
            return at;
        };
        let start = from + line_end + 1;
        let indent = before[line_end + 1..]
            .iter()
            .take_while(|b| is_gap(Shape::of(**b)))
            .count();
        let beginning = self.beginning(start + indent);
        match beginning > 0 && start + indent + beginning >= at {
            true => start,
            false => at,
        }
    }
}

/// Whether base64 holds the first line of a private key.
fn is_encoded_key(encoded: &str) -> bool {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut decoded = Vec::with_capacity(48);
    for four in encoded.as_bytes().chunks_exact(4).take(16) {
        let bits = four.iter().fold(0, |bits, byte| bits << 6 | sextet(*byte));
        decoded.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    decoded.windows(11).any(|window| window == b"PRIVATE KEY")
}

fn is_gap(shape: Shape) -> bool {
    match shape {
        Shape::Spaces => true,
        Shape::Exactly(byte) => is_separator(byte),
        Shape::Digits | Shape::Letters => false,
    }
}

fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'|>,*#\\+-".contains(&byte)
}

fn is_material(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}
