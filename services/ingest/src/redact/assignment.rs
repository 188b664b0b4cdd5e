//! Secrets by the name they are assigned to: `password = "…"`, `"api_key": "…"`, `TOKEN=…`, `--secret …`.
//!
//! An expression finds the word; from there plain code reads the whole name, the sign and the value, and
//! decides. What stands in quotes is a value; what does not may be code, so it has to look like a secret.

use regex::Regex;

use super::rules::Span;
use super::shape;

/// The words that name a secret, anywhere in a name.
pub(super) const KEYWORD: &str = r"(?i-u:pass|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|auth[_-]?key|account[_-]?key|shared[_-]?key|master[_-]?key|credential|connection[_-]?string|session[_-]?id|sessid)";

/// Longest name and longest quoted value that are looked at. What is looked at for a name that turns out
/// harmless is looked at again for the next, so these bound the work.
const NAME_BYTES: usize = 80;
const VALUE_BYTES: usize = 1_024;
/// By how much of a value without quotes it is judged.
const BARE_BYTES: usize = 200;
/// Longest line, before and after, that counts as a setting on its own.
const LINE_BYTES: usize = 96;

/// How a value was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In quotes.
    Quoted,
    /// In quotes, after a name in quotes: `"password", "…"`. Lists of names look the same.
    Pair,
    /// `NAME=value`, without spaces.
    Tight,
    /// `name: value` or `name = value`.
    Loose,
    /// `--name value`.
    Flag,
    /// `setName("…")`.
    Call,
    /// `<name>…</name>`.
    Element,
}

/// The values to mask, in order.
pub(super) fn spans(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for found in finder.find_iter(text) {
        if spans.last().is_some_and(|last| found.start() < last.end) {
            continue;
        }
        spans.extend(value_after(text, found.start(), found.end()));
    }
    spans
}

/// The value that the name around `start..end` is given, if it should be masked.
fn value_after(text: &str, start: usize, end: usize) -> Option<Span> {
    let bytes = text.as_bytes();
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let before = bytes[start.saturating_sub(NAME_BYTES)..start]
        .iter()
        .rev()
        .take_while(|b| in_name(b))
        .count();
    let after = bytes[end..]
        .iter()
        .take(NAME_BYTES)
        .take_while(|b| in_name(b))
        .count();
    let (name_start, name_end) = (start - before, end + after);
    let name = &text[name_start..name_end];
    if !shape::names_a_secret(name.trim_end_matches('.')) {
        return None;
    }
    let (form, value) = read_value(text, name_start..name_end)?;
    if !is_secret(text, name_start..name_end, form, value.clone()) {
        return None;
    }
    let more = if matches!(form, Form::Quoted | Form::Pair | Form::Call | Form::Element) {
        0
    } else {
        text[value.end..]
            .find(ends_value)
            .unwrap_or(text.len() - value.end)
    };
    Some(value.start..value.end + more)
}

/// What cannot be part of a value without quotes.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || "\"'`,;&|<>".contains(c)
}

/// The sign after a name and the value after the sign.
fn read_value(text: &str, at: Span) -> Option<(Form, Span)> {
    let (name, before) = (&text[at.clone()], &text[..at.start]);
    let mut cursor = Cursor { text, at: at.end };
    if before.ends_with(['<', ':']) && cursor.skip_one_of(&[">"]).is_some() {
        let near = cursor.near(BARE_BYTES);
        let length = near
            .find('<')
            .filter(|end| near[*end..].starts_with("</"))?;
        return Some((Form::Element, cursor.at..cursor.at + length));
    }
    let closed = cursor.skip_one_of(&["\\\"", "\"", "'", "`"]).is_some();
    let spaces = cursor.skip_spaces();
    let sign = cursor.skip_one_of(&["=>", ":=", "==", "!=", "::", "=", ":", ",", "value=", "("]);
    let form = match sign {
        Some("==" | "!=" | "::") => return None,
        // `"password", "…"`: arguments and pairs, only between quotes.
        Some("," | "value=") if !closed => return None,
        Some("(") if closed || spaces > 0 => return None,
        Some("=") if spaces == 0 && !cursor.at_space() => Form::Tight,
        Some(_) => Form::Loose,
        None if name.starts_with("--") && spaces > 0 => Form::Flag,
        None => return None,
    };
    cursor.skip_spaces();
    // Prefixes of string literals: b"…", r"…", f"…".
    let literal = cursor.literal_prefix();
    if let Some(quote) = cursor.skip_quote() {
        let near = cursor.near(VALUE_BYTES);
        let length = near
            .find(quote)
            .filter(|length| !near[..*length].contains('\n'))?;
        // PHP defines constants like a pair.
        let defines = before.ends_with("define('") || before.ends_with("define(\"");
        let form = match sign {
            Some(",") if !defines => Form::Pair,
            Some("(") => Form::Call,
            _ => Form::Quoted,
        };
        return Some((form, cursor.at..cursor.at + length));
    }
    if literal || matches!(sign, Some("," | "value=" | "(")) {
        return None;
    }
    let near = cursor.near(BARE_BYTES);
    let length = near.find(ends_value).unwrap_or(near.len());
    Some((form, cursor.at..cursor.at + length))
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// That much of what follows.
    fn near(&self, bytes: usize) -> &'t str {
        &self.rest()[..self.rest().floor_char_boundary(bytes)]
    }

    fn at_space(&self) -> bool {
        self.rest().starts_with(char::is_whitespace)
    }

    /// Skips spaces and tabs, at most a few.
    fn skip_spaces(&mut self) -> usize {
        let count = self
            .rest()
            .bytes()
            .take(16)
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        self.at += count;
        count
    }

    fn skip_one_of(&mut self, choices: &[&'static str]) -> Option<&'static str> {
        let found = choices
            .iter()
            .find(|choice| self.rest().starts_with(**choice))?;
        self.at += found.len();
        Some(found)
    }

    fn literal_prefix(&mut self) -> bool {
        let rest = self.rest().as_bytes();
        let letters = rest
            .iter()
            .take(2)
            .take_while(|b| b"bBrRfFuUL".contains(b))
            .count();
        let quoted = matches!(rest.get(letters), Some(b'"' | b'\''));
        if letters > 0 && quoted {
            self.at += letters;
        }
        letters > 0 && quoted
    }

    /// Skips an opening quote and gives the closing one.
    fn skip_quote(&mut self) -> Option<&'static str> {
        self.skip_one_of(&["\\\"", "\"\"\"", "\"", "'''", "'", "`"])
    }
}

/// Whether a name's value should be masked.
fn is_secret(text: &str, name: Span, form: Form, value: Span) -> bool {
    let (name_start, value_end) = (name.start, value.end);
    let (name, given) = (&text[name], &text[value]);
    // What is masked already does not count, and does not hide what stands beside it.
    let value = &*shape::without_masks(given);
    if value.len() < given.len() && value.trim().len() < 6 || shape::is_placeholder(value) {
        return false;
    }
    let password = shape::names_a_password(name);
    if value.chars().any(char::is_whitespace) {
        return password && matches!(form, Form::Quoted | Form::Element) && is_passphrase(value);
    }
    if shape::is_uuid(value) && names_a_handle(name) {
        return false;
    }
    if shape::is_short_password(name) {
        return is_short_secret(name, form, value);
    }
    match form {
        Form::Quoted | Form::Element if password => !is_prose(value) && !is_reference(value),
        Form::Call if password && sets(name) => !is_prose(value) && !is_reference(value),
        Form::Quoted | Form::Element | Form::Pair | Form::Call => {
            shape::looks_random(value) && !is_reference(value)
        }
        // `Token<'_>` is a type.
        _ if looks_like_code(value) || text[value_end..].starts_with('<') => false,
        Form::Tight if is_environment(name) => {
            password || has_digit_and_letter(value) || value.len() >= 20
        }
        Form::Tight | Form::Flag if password && name.starts_with("--") => is_argument(value),
        Form::Tight if password && in_connection(text, name_start) => !follows_name(name, value),
        Form::Tight if follows_name(name, value) => shape::looks_random(value),
        Form::Tight => {
            let name_like = shape::is_path_of_names(value) && (!password || value.contains('.'));
            has_digit_and_letter(value) && !name_like || shape::looks_random(value)
        }
        Form::Flag => has_digit_and_letter(value) && value.len() >= 6,
        Form::Loose if password && stands_alone(text, name_start, value_end) => {
            has_digit_and_letter(value) || has_symbol(value)
        }
        Form::Loose => shape::looks_random(value),
    }
}

/// The value of a name that ends in `pass`, which is also a verdict and a step of a compiler.
fn is_short_secret(name: &str, form: Form, value: &str) -> bool {
    let telling = has_digit_and_letter(value) || has_symbol(value);
    match form {
        Form::Tight if is_environment(name) => !looks_like_code(value) && value.len() >= 4,
        Form::Quoted | Form::Element if is_environment(name) => {
            !is_prose(value) && !is_reference(value) && value.len() >= 4
        }
        Form::Quoted | Form::Element => telling && !is_prose(value) && !is_reference(value),
        Form::Call if sets(name) => telling && !is_prose(value),
        Form::Loose | Form::Pair | Form::Call => {
            shape::looks_random(value) && !looks_like_code(value)
        }
        Form::Tight | Form::Flag => {
            telling && !looks_like_code(value) && !shape::is_numbered_word(value)
        }
    }
}

/// `setPassword`, `withPassword`, `password`: a call that is given the value.
fn sets(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    ["set", "with", "password", "passwd", "passphrase"]
        .iter()
        .any(|start| last.starts_with(start))
}

/// Names that hand out a name for something as often as a secret.
fn names_a_handle(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = ["token", "id", "credential", "credentials"];
    !is_environment(name) && ends.iter().any(|end| lower.ends_with(end))
}

/// Several words that are a password: told from labels and messages by a digit or a sign, and by having none
/// of the words that sentences are made of.
fn is_passphrase(value: &str) -> bool {
    const OF_SENTENCES: &[&str] = &[
        "a",
        "an",
        "and",
        "are",
        "at",
        "be",
        "by",
        "cannot",
        "change",
        "character",
        "characters",
        "confirm",
        "current",
        "does",
        "enter",
        "expected",
        "for",
        "forgot",
        "found",
        "from",
        "has",
        "if",
        "in",
        "incorrect",
        "invalid",
        "is",
        "it",
        "least",
        "match",
        "minimum",
        "missing",
        "most",
        "must",
        "new",
        "no",
        "not",
        "of",
        "old",
        "on",
        "or",
        "password",
        "please",
        "required",
        "reset",
        "should",
        "than",
        "that",
        "the",
        "this",
        "to",
        "too",
        "too.",
        "was",
        "wrong",
        "with",
        "you",
        "your",
    ];
    let telling = |c: char| c.is_ascii_digit() || "!@#$%^*+~?&".contains(c);
    value.len() <= 128
        && value
            .trim_end_matches(['.', '!', '?', ':'])
            .contains(telling)
        && !value.ends_with(['.', ':'])
        && !value
            .split(|c: char| !c.is_alphabetic())
            .any(|word| OF_SENTENCES.contains(&word.to_lowercase().as_str()))
}

/// What stands after `--password`: told from a help text's words and names.
fn is_argument(value: &str) -> bool {
    const OF_HELP: &[&str] = &[
        "option", "flag", "argument", "must", "will", "with", "when", "from", "then", "that",
        "this", "file", "stdin", "prompt", "instead", "cannot", "should", "sets", "used", "using",
    ];
    value.len() >= 4
        && value
            .bytes()
            .any(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && !OF_HELP.contains(&value)
}

/// Whether a setting before it ends right before the name: `Uid=sa;Pwd=…`.
fn in_connection(text: &str, name_start: usize) -> bool {
    let before = &text[text.floor_char_boundary(name_start.saturating_sub(LINE_BYTES))..name_start];
    let before = before.trim_end_matches(' ');
    before.ends_with(';')
        && before
            .trim_end_matches(';')
            .rsplit([';', '\n'])
            .next()
            .is_some_and(|s| s.contains('='))
}

/// Words with the marks of a sentence or of a path in code, not a password.
fn is_prose(value: &str) -> bool {
    value.len() > 128
        || value.contains("://")
        || value.starts_with('/')
        || value.starts_with('.')
        || value.ends_with(':')
}

/// Names another place where the secret is: `vault:…`, `secrets.NAME`, `env.NAME`, a path, an address.
fn is_reference(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    [
        "vault:",
        "env:",
        "env.",
        "secrets.",
        "file:",
        "arn:",
        "ref:",
        "projects/",
        "ssm:",
        "op://",
        "http://",
        "https://",
    ]
    .iter()
    .any(|start| lower.starts_with(start))
}

/// Brackets, paths and operators belong to code.
fn looks_like_code(value: &str) -> bool {
    value.starts_with([
        '$', '&', '*', '@', '<', '%', '-', '!', '?', '.', '/', '\\', '^', '~',
    ]) || value.contains(['(', ')', '[', ']', '{', '}'])
        || value.contains("::")
        || value.contains("->")
}

/// `GITHUB_TOKEN`, `DB_PASSWORD`: all capitals.
fn is_environment(name: &str) -> bool {
    name.len() >= 3
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_.-".contains(&b))
}

fn has_digit_and_letter(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.len() >= 5
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic)
}

fn has_symbol(value: &str) -> bool {
    value.len() >= 6
        && value.bytes().any(|b| b"!@#$%^*+~?".contains(&b))
        && value.bytes().any(|b| b.is_ascii_alphabetic())
}

/// `token=token2`: a variable named after the name.
fn follows_name(name: &str, value: &str) -> bool {
    let name = name
        .rsplit(['.', '-', '_'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    value.to_ascii_lowercase().starts_with(&name)
}

/// Whether name and value are all there is on the line, but for a list's or a diff's mark: a setting.
fn stands_alone(text: &str, name_start: usize, value_end: usize) -> bool {
    let before = &text[text.floor_char_boundary(name_start.saturating_sub(LINE_BYTES))..name_start];
    let before = before.rsplit('\n').next().unwrap_or_default();
    let after = &text[value_end..text.floor_char_boundary(value_end + LINE_BYTES)];
    let after = after.split('\n').next().unwrap_or_default();
    let marks = |c: char| c.is_whitespace() || "+-\"'".contains(c);
    before.len() < LINE_BYTES && before.chars().all(marks) && after.trim().is_empty()
}
