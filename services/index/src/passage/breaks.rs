//! Finds the places where a text can be cut, and how good each is.

use super::MAX_BYTES;
use super::kind::Kind;
use super::size::Size;
use std::ops::Range;

/// A place to cut: before the byte `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    /// Byte offset, on a character boundary.
    pub at: usize,
    /// Higher is better.
    pub strength: u8,
}

/// Inside a line, where there is nothing better.
const INSIDE: u8 = 0;
/// Before a line that belongs to the one before it.
const HELD: u8 = 1;
/// After a sentence, or before any line.
const LINE: u8 = 2;
/// Before a line that begins something small.
const ITEM: u8 = 3;
/// Between paragraphs or blocks.
const BLOCK: u8 = 4;
/// Before a definition, a hunk, or around a failing region.
const SECTION: u8 = 5;
/// Before a file of a diff, or a heading.
const CHAPTER: u8 = 6;

/// The breaks of `text` within `whole`, in order; no two are further apart than [`MAX_BYTES`].
pub fn breaks(kind: Kind, size: Size, text: &str, whole: Range<usize>) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut before = Before::default();
    let mut at = whole.start;
    for line in text[whole].split_inclusive('\n') {
        let strength = match kind {
            Kind::Prose => prose(line, &before),
            Kind::Code => code(line, &before),
            Kind::Diff => diff(line, &before),
            Kind::Log => log(line, &before),
        };
        breaks.push(Break { at, strength });
        let long = line.len() > size.target;
        if long || kind == Kind::Prose {
            inside(line, long, at, &mut breaks);
        }
        before.note(line);
        at += line.len();
    }
    breaks
}

/// A failing region ends after this many lines that neither fail nor go into detail.
const QUIET: u32 = 4;

/// What the lines before tell.
#[derive(Default)]
struct Before {
    blank: bool,
    failing: bool,
    /// Lines since the last failing one.
    quiet: u32,
}

impl Before {
    fn note(&mut self, line: &str) {
        self.blank = line.trim().is_empty();
        let failing = is_failure(line);
        self.quiet = if failing {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        self.failing = failing || (self.failing && (self.quiet < QUIET || is_detail(line)));
    }
}

fn prose(line: &str, before: &Before) -> u8 {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') || (before.blank && line.trim_end().ends_with(':')) {
        CHAPTER
    } else if before.blank {
        BLOCK
    } else if trimmed.starts_with(['-', '*', '+']) {
        ITEM
    } else {
        LINE
    }
}

fn code(line: &str, before: &Before) -> u8 {
    let indented = line.starts_with([' ', '\t']);
    let closing = line.trim_start().starts_with(['}', ')', ']']);
    match (before.blank, indented, closing) {
        (true, false, false) => SECTION,
        (true, true, false) => BLOCK,
        (false, false, false) => ITEM,
        (_, _, true) => HELD,
        _ => LINE,
    }
}

fn diff(line: &str, before: &Before) -> u8 {
    if line.starts_with("diff ") || line.starts_with("Index: ") {
        CHAPTER
    } else if line.starts_with("@@ ") {
        SECTION
    } else if line.starts_with("--- ") || line.starts_with("+++ ") {
        HELD
    } else if before.blank || line.get(1..).is_none_or(|rest| rest.trim().is_empty()) {
        ITEM
    } else {
        LINE
    }
}

fn log(line: &str, before: &Before) -> u8 {
    match (before.failing, is_failure(line)) {
        _ if is_stage(line) => CHAPTER,
        (false, true) => SECTION,
        // What follows a failure is mostly about it: the next one starts something new only after
        // an empty line.
        (true, true) if before.blank => BLOCK,
        (true, _) if before.blank => ITEM,
        (true, _) => HELD,
        (false, false) if before.blank => BLOCK,
        (false, false) => LINE,
    }
}

/// Whether a log line begins a stage of the build: a command, a fold, a task or a ruler.
fn is_stage(line: &str) -> bool {
    let ruler = |mark| line.len() > 8 && line.trim_end().chars().all(|character| character == mark);
    let openings = [
        "$ ",
        "travis_fold:start",
        "##[group]",
        "> Task ",
        "[INFO] ---",
        "FAILURES",
        "Failures:",
    ];
    ruler('=') || ruler('-') || openings.iter().any(|opening| line.starts_with(opening))
}

/// Whether a log line says that something went wrong.
fn is_failure(line: &str) -> bool {
    const WORDS: [&str; 12] = [
        "error",
        "ERROR",
        "Error",
        "FAIL",
        "failed",
        "Failed",
        "xception",
        "panic",
        "Traceback",
        "fatal",
        "FATAL",
        "assert",
    ];
    WORDS.iter().any(|word| line.contains(word))
}

/// Whether a line can belong to the failure before it: a stack frame or an indented line.
fn is_detail(line: &str) -> bool {
    line.starts_with([' ', '\t']) || line.starts_with("Caused by") || line.starts_with("at ")
}

/// Breaks inside a line: after sentences in prose, and in any line too long to be kept whole.
fn inside(line: &str, long: bool, at: usize, breaks: &mut Vec<Break>) {
    let mut last = at;
    let mut previous = ('\n', '\n');
    for (offset, character) in line.char_indices() {
        let here = at + offset;
        let starts_word = previous.1.is_whitespace() && !character.is_whitespace();
        let sentence = starts_word && matches!(previous.0, '.' | '!' | '?');
        let full = matches!(previous.1, '\u{3002}' | '\u{ff01}' | '\u{ff1f}');
        let strength = if sentence || full { LINE } else { INSIDE };
        // Without white space a cut goes anywhere, but as late as can be.
        let forced = here + character.len_utf8() - last > MAX_BYTES / 4;
        if offset > 0 && (strength == LINE || (long && (starts_word || forced))) {
            breaks.push(Break { at: here, strength });
            last = here;
        }
        previous = (previous.1, character);
    }
}
