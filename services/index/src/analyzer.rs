//! Turns text into terms, the same way for documents and queries.
//!
//! A word is a run of letters, digits and underscores. A plain word is lower-cased and stemmed, or
//! dropped when it is a stop word. An identifier (`snake_case`, `camelCase`, `HTTPServer2`) is kept
//! whole, lower-cased and not stemmed, and each of its parts is added like a plain word, so that a
//! search finds it by name and by meaning. Text without spaces between words (Chinese, Japanese,
//! Korean) becomes overlapping pairs of characters.
//!
//! What always holds: terms depend on the text alone, come in the order of the text, are not empty,
//! hold letters, digits and `_` only (a shortened one also `~`) and have at most
//! [`MAX_TERM_BYTES`]. Any change to the terms is a new [`ANALYZER`], which makes every index be
//! built again. It leaves out languages other than English for stems and stop words, and phrases.

mod identifier;
mod stop;
#[cfg(test)]
mod tests;

use identifier::parts;
use rust_stemmers::{Algorithm, Stemmer};
use std::borrow::Cow;
use stop::is_stop_word;
use unicode_normalization::{UnicodeNormalization, is_nfkc};

/// Names the analyser; the number changes with any change to its terms.
pub const ANALYZER: &str = "code-english/1";

/// No term is longer; longer words are cut and end in a hash of the whole.
pub const MAX_TERM_BYTES: usize = 120;

/// A word of more parts than this is kept whole only.
const MAX_PARTS: usize = 32;

/// The terms of `text`, repeated as often as they occur.
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::with_capacity(text.len() / 6);
    analyze(text, |term| terms.push(term.to_owned()));
    terms
}

/// How often a title's terms count: what it says matters more than the same words further down.
pub const TITLE_WEIGHT: usize = 2;

/// A title's terms as every passage of its event has them: [`TITLE_WEIGHT`] times.
pub fn title_terms(title: &str) -> Vec<String> {
    vec![terms(title); TITLE_WEIGHT].concat()
}

/// The terms a passage is indexed by: its event's [`title_terms`], then its own.
pub fn passage_terms(title: &str, passage: &str) -> Vec<String> {
    let mut passage_terms = title_terms(title);
    analyze(passage, |term| passage_terms.push(term.to_owned()));
    passage_terms
}

/// Passes the terms of `text` to `emit`, one after the other; takes time linear in the text.
pub fn analyze(text: &str, mut emit: impl FnMut(&str)) {
    let text = normalized(text);
    let stemmer = Stemmer::create(Algorithm::English);
    let mut buffer = String::new();
    for word in words(&text) {
        match word {
            Word::Spaced(word) => analyze_word(word, &stemmer, &mut buffer, &mut emit),
            Word::Unspaced(run) => analyze_unspaced(run, &mut emit),
        }
    }
}

/// Equal-looking characters made equal (NFKC); ASCII is left as it is.
fn normalized(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfkc(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfkc().collect())
    }
}

/// A run of word characters of one kind of script.
enum Word<'a> {
    Spaced(&'a str),
    Unspaced(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Spaced,
    Unspaced,
}

fn kind(character: char) -> Kind {
    if character.is_ascii() {
        let word = character.is_ascii_alphanumeric() || character == '_';
        return if word { Kind::Spaced } else { Kind::None };
    }
    match character {
        // Kana, Han with its extensions, and Hangul syllables.
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Unspaced,
        // A combining mark belongs to the letter before it.
        '\u{300}'..='\u{36f}' => Kind::Spaced,
        _ if character.is_alphanumeric() => Kind::Spaced,
        _ => Kind::None,
    }
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|character| kind(character) != Kind::None)?;
        rest = &rest[start..];
        let of_run = rest.chars().next().map_or(Kind::None, kind);
        let end = rest
            .find(|character| kind(character) != of_run)
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(match of_run {
            Kind::Unspaced => Word::Unspaced(word),
            _ => Word::Spaced(word),
        })
    })
}

fn analyze_word(word: &str, stemmer: &Stemmer, buffer: &mut String, emit: &mut impl FnMut(&str)) {
    let word = word.trim_matches('_');
    if word.is_empty() {
        return;
    }
    if word.len() > MAX_TERM_BYTES {
        lower_case(word, buffer);
        emit(&shortened(buffer));
        return;
    }
    let mut split = parts(word);
    let single = split.next().is_none_or(|first| first.len() == word.len());
    lower_case(word, buffer);
    if single {
        emit_plain(buffer, stemmer, emit);
        return;
    }
    emit_bounded(buffer, emit);
    if parts(word).nth(MAX_PARTS).is_some() {
        return;
    }
    for part in parts(word) {
        lower_case(part, buffer);
        emit_plain(buffer, stemmer, emit);
    }
}

/// `word` is lower-case and has no parts.
fn emit_plain(word: &str, stemmer: &Stemmer, emit: &mut impl FnMut(&str)) {
    if !is_stop_word(word) {
        emit_bounded(&stemmer.stem(word), emit);
    }
}

fn emit_bounded(term: &str, emit: &mut impl FnMut(&str)) {
    if term.is_empty() {
        return;
    }
    // Lower-casing and stemming can lengthen a word by a few bytes.
    if term.len() > MAX_TERM_BYTES {
        emit(&shortened(term))
    } else {
        emit(term)
    }
}

fn analyze_unspaced(run: &str, emit: &mut impl FnMut(&str)) {
    let mut pairs = run
        .char_indices()
        .zip(run.char_indices().skip(1).map(|(_, c)| c))
        .peekable();
    if pairs.peek().is_none() {
        emit(run);
    }
    for ((start, first), second) in pairs {
        emit(&run[start..start + first.len_utf8() + second.len_utf8()]);
    }
}

fn lower_case(word: &str, buffer: &mut String) {
    buffer.clear();
    if word.is_ascii() {
        buffer.push_str(word);
        buffer.make_ascii_lowercase();
    } else {
        buffer.extend(word.chars().flat_map(char::to_lowercase));
    }
}

/// The beginning of a long word and a hash of all of it, so that equal words stay equal.
fn shortened(word: &str) -> String {
    let mut end = MAX_TERM_BYTES - 17;
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:016x}", &word[..end], fnv1a(word.as_bytes()))
}

/// FNV-1a, 64 bits. Source: Fowler, Noll and Vo.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
