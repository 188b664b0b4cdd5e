//! Text of other tools, made plain and bounded.

use std::borrow::Cow;
use std::fmt::Write as _;

use commonplace_types::RecordId;

use super::Place;

/// Turns a byte offset into line and column. An offset past the end means the end.
pub(crate) fn place_of(text: &[u8], offset: usize) -> Place {
    let before = &text[..offset.min(text.len())];
    let start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |p| p + 1);
    Place {
        line: before.iter().filter(|b| **b == b'\n').count() + 1,
        column: String::from_utf8_lossy(&before[start..]).chars().count() + 1,
    }
}

/// Line ends become `\n`; terminal escapes and control characters other than tab go.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => {
                rest.next_if_eq(&'\n');
                out.push('\n');
            }
            '\x1b' => skip_escape(&mut rest),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Skips a terminal escape after its ESC: `[ … letter`, or `] … BEL`, or one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            while rest
                .next_if(|c| c.is_ascii_digit() || ";?<=>:".contains(*c))
                .is_some()
            {}
            rest.next_if(|c| ('@'..='~').contains(c));
        }
        Some(']') => {
            while rest.next_if(|c| *c != '\x07' && *c != '\n').is_some() {}
            rest.next_if_eq(&'\x07');
        }
        _ => {}
    }
}

/// The text as one line of at most `bytes`: runs of white space become one space, an over-long end is cut.
pub(crate) fn cut_line(text: &str, bytes: usize) -> String {
    let mut out = String::new();
    for word in plain(text).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > bytes {
            break;
        }
    }
    if out.len() > bytes {
        let end = out.floor_char_boundary(bytes.saturating_sub('…'.len_utf8()));
        out.truncate(end);
        out.push('…');
    }
    out
}

/// The text in at most about `bytes` (a marker is added): one third from the start, the rest from the end,
/// because failures are told at the end. Cuts between lines, or between words, where there are any near.
pub(crate) fn cut_middle(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let head = end_before(text, bytes / 3);
    let tail = start_after(text, text.len() - (bytes - bytes / 3));
    let mut out = String::with_capacity(bytes + 64);
    out.push_str(text[..head].trim_end());
    let _ = write!(out, "\n[… {} bytes cut …]\n", tail - head);
    out.push_str(text[tail..].trim_start_matches('\n'));
    Cow::Owned(out)
}

fn end_before(text: &str, limit: usize) -> usize {
    let limit = text.floor_char_boundary(limit);
    let near = &text[text.floor_char_boundary(limit / 2)..limit];
    let start = limit - near.len();
    let cut = near.rfind('\n').or_else(|| near.rfind(char::is_whitespace));
    cut.map_or(limit, |found| start + found)
}

fn start_after(text: &str, limit: usize) -> usize {
    let limit = text.ceil_char_boundary(limit);
    let near_end = text.ceil_char_boundary(limit + (text.len() - limit) / 2);
    let near = &text[limit..near_end];
    let line = near.find('\n').map(|found| found + 1);
    let cut = line.or_else(|| near.find(char::is_whitespace));
    cut.map_or(limit, |found| limit + found)
}

/// `kind:` and the parts that are not empty, joined by `::`, as a record id. A part that repeats the one
/// before is left out. What does not fit, or holds control characters, is told apart by a digest at the end.
pub(crate) fn record_id(kind: &str, parts: &[&str]) -> RecordId {
    let mut kept: Vec<&str> = Vec::new();
    for part in parts {
        if !part.is_empty() && kept.last() != Some(part) {
            kept.push(part);
        }
    }
    let full = format!("{kind}:{}", kept.join("::"));
    if let Ok(id) = RecordId::new(full.as_str()) {
        return id;
    }
    let readable: String = full
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let end = readable.floor_char_boundary(440);
    let digest = blake3::hash(full.as_bytes()).to_hex();
    let short = format!("{}~{}", &readable[..end], &digest[..16]);
    RecordId::new(short)
        .unwrap_or_else(|_| unreachable!("cut to fit and without control characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "ab\näö!\n".as_bytes();
        assert_eq!(place_of(text, 0), Place { line: 1, column: 1 });
        assert_eq!(place_of(text, 7), Place { line: 2, column: 3 });
        assert_eq!(place_of(text, 99), Place { line: 3, column: 1 });
    }

    #[test]
    fn terminal_escapes_and_carriage_returns_go() {
        assert_eq!(plain("a\x1b[31;1mred\x1b[0m\r\nb\rc\0"), "ared\nb\nc");
        assert_eq!(plain("\x1b]8;;http://x\x07link\x1b"), "link");
        assert!(matches!(plain("as is\n\t"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_text_is_cut_between_lines() {
        let text: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
        let cut = cut_middle(&text, 300);
        assert!(cut.len() < 360, "{}", cut.len());
        assert!(
            cut.starts_with("line 0\n") && cut.ends_with("line 999\n"),
            "{cut}"
        );
        assert!(cut.contains("bytes cut …]\nline "), "{cut}");
    }

    #[test]
    fn cutting_never_splits_a_character() {
        let text = "ä".repeat(1_000);
        for bytes in 0..40 {
            assert!(cut_middle(&text, bytes).contains("bytes cut"));
            assert!(cut_line(&text, bytes).len() <= bytes.max(3));
        }
    }

    #[test]
    fn record_ids_skip_repeats_and_always_fit() {
        assert_eq!(
            record_id("test", &["a.B", "a.B", "c"]).as_str(),
            "test:a.B::c"
        );
        assert_eq!(record_id("test", &["", "x y"]).as_str(), "test:x y");
        let long = "é".repeat(600);
        let (a, b) = (
            record_id("test", &[&long, "a"]),
            record_id("test", &[&long, "b"]),
        );
        assert_ne!(a, b);
        assert_ne!(record_id("t", &["a\nb"]), record_id("t", &["a b"]));
    }
}
