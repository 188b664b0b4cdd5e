//! Spoils what is right.

use commonplace_tests::dice::Dice;

/// Changes bytes in a few places: flips, cuts, repeats, puts in what parsers stumble over.
pub fn bytes(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"\0",
        b"\xff\xfe",
        b"\xc3\x28",
        b"{",
        b"[",
        b"\"",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"-0",
        b"\r\n\r\n",
        b"%n",
    ];
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => {
                let piece = dice.pick(&PIECES).to_vec();
                drop(bytes.splice(at..at, piece));
            }
            3 => {
                let piece: Vec<u8> = bytes[at..].iter().take(64).copied().collect();
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let random = dice.below(8);
                let piece = dice.bytes(random);
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}

/// A text that something may stumble over.
pub fn text(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => String::new(),
        1 => "\0".into(),
        2 => "a".repeat(dice.below(70_000)),
        3 => "../../etc/passwd".into(),
        4 => "\u{202e}\u{10ffff}é\u{301}".into(),
        5 => format!("ev_{}", dice.hex(32)),
        6 => format!("blake3:{}", dice.hex(64)),
        7 => dice.hex(64),
        8 => "9".repeat(400),
        9 => "2026-02-30T25:61:61Z".into(),
        10 => "'; DROP TABLE event; --".into(),
        _ => dice.word(),
    }
}
