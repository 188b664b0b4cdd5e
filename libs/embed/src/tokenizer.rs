//! BERT's WordPiece tokenizer, uncased, as all-MiniLM-L6-v2 was trained with.
//!
//! Ours rather than the `tokenizers` crate: that one parses the whole `tokenizer.json` at every
//! start, allocates for every word (16 µs for a short query; ours takes half a microsecond) and
//! brings dozens of crates; it stays the oracle of our tests. The Unicode tables
//! come from two crates that are frozen, at the Unicode versions that the oracle uses, so ids do
//! not change with a dependency. What still follows the Rust toolchain (lower case, white space)
//! is fixed by a golden test over every character.
//!
//! Left out: offsets, pairs of sequences, decoding.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

const UNKNOWN: u32 = 100;
const START: u32 = 101;
const END: u32 = 102;

/// Written in a text, these stand for themselves.
const SPECIAL: [(&str, u32); 5] = [
    ("[PAD]", 0),
    ("[UNK]", UNKNOWN),
    ("[CLS]", START),
    ("[SEP]", END),
    ("[MASK]", 103),
];

/// Words of more characters than this are unknown without a search.
const LONGEST_WORD: usize = 100;

/// The vocabulary, ready to search.
pub(crate) struct Tokenizer {
    /// Pieces that start a word.
    initial: Pieces,
    /// Pieces that continue one, without their `##`.
    continuing: Pieces,
}

/// One side of the vocabulary.
#[derive(Default)]
struct Pieces {
    ids: HashMap<Box<str>, u32, BuildHasherDefault<Fnv>>,
    /// Bytes of the longest piece: no search starts further ahead.
    longest: usize,
}

/// The Fowler–Noll–Vo hash (1a, 64 bits): short for short keys, and the keys are fixed.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        // The table picks buckets by low bits and tags by high ones; both must depend on all.
        self.0 ^ (self.0 >> 29)
    }
}

impl Pieces {
    fn insert(&mut self, piece: &str, id: u32) {
        self.longest = self.longest.max(piece.len());
        self.ids.insert(piece.into(), id);
    }

    /// Gives the longest piece that `text` starts with: its id and its bytes.
    fn longest_prefix(&self, text: &str) -> Option<(u32, usize)> {
        let mut end = text.floor_char_boundary(self.longest);
        while end > 0 {
            if let Some(id) = self.ids.get(&text[..end]) {
                return Some((*id, end));
            }
            end = text.floor_char_boundary(end - 1);
        }
        None
    }
}

impl Tokenizer {
    /// Builds the search tables from the vocabulary in order of ids.
    pub(crate) fn new<'a>(vocabulary: impl Iterator<Item = &'a str>) -> Self {
        let (mut initial, mut continuing) = (Pieces::default(), Pieces::default());
        for (id, piece) in (0..).zip(vocabulary) {
            match piece.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => continuing.insert(rest, id),
                _ => initial.insert(piece, id),
            }
        }
        Tokenizer {
            initial,
            continuing,
        }
    }

    /// Replaces `tokens` by the ids of `text` between the start and end tokens.
    ///
    /// `limit`: most ids, the two included, at least 2; the text's surplus is cut off.
    /// `scratch`: reused memory, whose contents do not matter.
    pub(crate) fn encode(
        &self,
        text: &str,
        limit: usize,
        scratch: &mut String,
        tokens: &mut Vec<u32>,
    ) {
        tokens.clear();
        tokens.push(START);
        for word in text.split(separates) {
            if tokens.len() >= limit {
                break;
            }
            self.push_raw(word, scratch, tokens);
        }
        tokens.truncate(limit - 1);
        tokens.push(END);
    }

    /// Takes special tokens out of a word and normalises the rest.
    fn push_raw(&self, mut word: &str, scratch: &mut String, tokens: &mut Vec<u32>) {
        while let Some((at, name, id)) = first_special(word) {
            self.push_plain(&word[..at], scratch, tokens);
            tokens.push(id);
            word = &word[at + name.len()..];
        }
        self.push_plain(word, scratch, tokens);
    }

    fn push_plain(&self, word: &str, scratch: &mut String, tokens: &mut Vec<u32>) {
        scratch.clear();
        normalize(word, scratch);
        // Normalising sets ideographs apart with spaces.
        for part in scratch.split(char::is_whitespace) {
            let mut rest = part;
            while let Some(at) = rest.find(is_punctuation) {
                self.push_word(&rest[..at], tokens);
                let after = rest.ceil_char_boundary(at + 1);
                self.push_word(&rest[at..after], tokens);
                rest = &rest[after..];
            }
            self.push_word(rest, tokens);
        }
    }

    /// Adds the pieces of one word, longest first from the left, or one unknown token.
    fn push_word(&self, word: &str, tokens: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        if word.len() > LONGEST_WORD && word.chars().count() > LONGEST_WORD {
            return tokens.push(UNKNOWN);
        }
        let before = tokens.len();
        let mut pieces = &self.initial;
        let mut rest = word;
        while !rest.is_empty() {
            let Some((id, bytes)) = pieces.longest_prefix(rest) else {
                tokens.truncate(before);
                return tokens.push(UNKNOWN);
            };
            tokens.push(id);
            rest = &rest[bytes..];
            pieces = &self.continuing;
        }
    }
}

fn first_special(word: &str) -> Option<(usize, &'static str, u32)> {
    let mut from = 0;
    while let Some(at) = word[from..].find('[') {
        let at = from + at;
        let found = SPECIAL
            .iter()
            .find(|(name, _)| word[at..].starts_with(name));
        if let Some((name, id)) = found {
            return Some((at, name, *id));
        }
        from = at + 1;
    }
    None
}

/// Writes the word cleaned, without accents and in lower case.
fn normalize(word: &str, to: &mut String) {
    if word.is_ascii() {
        let bytes = word.bytes().filter(|byte| !byte.is_ascii_control());
        return to.extend(bytes.map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    let clean = word.chars().filter(|character| !is_removed(*character));
    let apart = clean.flat_map(|character| set_apart(character).into_iter().flatten());
    let unaccented = apart.nfd().map(|(character, _)| character);
    let unaccented = unaccented.filter(|character| !character.is_mark_nonspacing());
    to.extend(unaccented.flat_map(char::to_lowercase));
}

fn separates(character: char) -> bool {
    character.is_whitespace() && !is_removed(character)
}

/// Says whether a character is dropped: control, format and private use, except white space.
fn is_removed(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        ' '..='~' => false,
        _ => character.is_other(),
    }
}

/// Puts spaces around an ideograph, which is a word of its own.
fn set_apart(character: char) -> [Option<char>; 3] {
    let space = is_ideograph(character).then_some(' ');
    [space, Some(character), space]
}

/// The blocks of unified and compatibility ideographs that BERT names.
fn is_ideograph(character: char) -> bool {
    matches!(u32::from(character),
        0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x20000..=0x2A6DF
        | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF
        | 0x2F800..=0x2FA1F)
}

fn is_punctuation(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_punctuation(),
        false => character.is_punctuation(),
    }
}

#[cfg(test)]
mod tests;
