//! Prints ids and hashes without going through each digit as a character: a search prints hundreds.

/// `prefix` and 32 lower-case hex digits.
pub(crate) fn hex_text(prefix: &str, bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let mut text = String::with_capacity(prefix.len() + digits.len());
    text.push_str(prefix);
    // The digits are ASCII, so nothing is ever replaced.
    text.push_str(&String::from_utf8_lossy(&digits));
    text
}

#[cfg(test)]
mod tests {
    use commonplace_types::EventId;

    use super::hex_text;

    #[test]
    fn prints_like_an_event_id() {
        let id = EventId::derive(&[b"x"]);
        assert_eq!(hex_text("ev_", *id.as_bytes()), id.to_string());
        assert_eq!(hex_text("", *id.as_bytes()), hex::encode(id.as_bytes()));
    }
}
