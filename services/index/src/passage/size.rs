//! How long passages of a text should be.
//!
//! The embedder reads about 256 word pieces and no more, and a word piece is five bytes of prose but
//! not even three of a log. So the length to aim at follows from the text: its pieces are estimated
//! from its words, numbers and marks.

/// Pieces to aim at; the rest of the embedder's 256 is for titles and for the estimate's error.
const TARGET_PIECES: usize = 230;

/// The length to aim at stays within these, in bytes: shorter passages lose to longer ones in a
/// search by words, and longer ones are about more than one thing.
const LEAST_TARGET: usize = 800;
const MOST_TARGET: usize = 1_100;

/// Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The length to aim at.
    pub target: usize,
    /// A text or rest up to this length is not cut, and no passage is longer where it can be helped.
    pub single: usize,
    /// Passages are at least this long where it can be helped.
    pub least: usize,
}

impl Size {
    /// The lengths for `text`.
    pub fn of(text: &str) -> Self {
        let fitting = TARGET_PIECES * text.len() / estimated_pieces(text).max(1);
        let target = fitting.clamp(LEAST_TARGET, MOST_TARGET);
        Self {
            target,
            single: target * 4 / 3,
            least: target / 3,
        }
    }
}

/// Word pieces by rule of thumb: one for every seven letters of a word, every two digits of a
/// number and every other character; within an eighth of the true number on prose, code and logs.
fn estimated_pieces(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut pieces, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let run = |belongs: fn(&u8) -> bool| bytes[at..].iter().take_while(|b| belongs(b)).count();
        let (length, per_piece) = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => (run(u8::is_ascii_alphabetic), 7),
            b'0'..=b'9' => (run(u8::is_ascii_digit), 2),
            _ => (1, 1),
        };
        // White space is no piece, nor are the later bytes of a character.
        if !byte.is_ascii_whitespace() && byte & 0xc0 != 0x80 {
            pieces += length.div_ceil(per_piece);
        }
        at += length;
    }
    pieces
}
