//! Writes canonical JSON (RFC 8785), straight into bytes: sorted keys, no spaces, whole numbers and texts only.
//!
//! Keys are written by hand in their sorted order; a debug build checks that they are.

const HEX: &[u8; 16] = b"0123456789abcdef";

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Writes an object, its members by `members`.
    pub fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        self.out.push(b'{');
        members(&mut Object {
            writer: self,
            last: None,
        });
        self.out.push(b'}');
    }

    /// Writes a list, each entry by `entry`.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut entry: impl FnMut(&mut Self, T),
    ) {
        self.out.push(b'[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            entry(self, item);
        }
        self.out.push(b']');
    }

    /// Writes a value that another writer wrote.
    pub fn written(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// Writes a text. Escaped are `"`, `\` and what is below U+0020, nothing else; the short forms
    /// where there are some, else `\u00xx` in lower case.
    pub fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        // Blocks are checked whole, which the compiler turns into a few wide instructions.
        while let Some((block, after)) = rest.split_first_chunk::<32>() {
            if block
                .iter()
                .fold(false, |any, byte| any | needs_escape(*byte))
            {
                self.bytewise(block);
            } else {
                self.out.extend_from_slice(block);
            }
            rest = after;
        }
        self.bytewise(rest);
        self.out.push(b'"');
    }

    fn bytewise(&mut self, mut bytes: &[u8]) {
        while let Some(place) = bytes.iter().position(|byte| needs_escape(*byte)) {
            self.out.extend_from_slice(&bytes[..place]);
            self.escape(bytes[place]);
            bytes = &bytes[place + 1..];
        }
        self.out.extend_from_slice(bytes);
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => {
                self.out.extend_from_slice(b"\\u00");
                self.out.push(HEX[usize::from(byte >> 4)]);
                self.out.push(HEX[usize::from(byte & 0xf)]);
                return;
            }
        };
        self.out.extend_from_slice(&[b'\\', short]);
    }

    /// Writes a text that needs no escapes, from bytes as lower-case hex after a prefix.
    pub fn hex<const N: usize>(&mut self, prefix: &str, bytes: &[u8; N]) {
        self.out.push(b'"');
        self.out.extend_from_slice(prefix.as_bytes());
        let mut digits = hex::Buffer::<N>::new();
        self.out.extend_from_slice(digits.format(bytes).as_bytes());
        self.out.push(b'"');
    }

    /// Writes a whole number. Canonical JSON knows them up to 2^53.
    pub fn number(&mut self, number: u64) {
        let mut digits = [0_u8; 20];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[start..]);
    }

    /// Writes `true` or `false`.
    pub fn flag(&mut self, flag: bool) {
        self.out
            .extend_from_slice(if flag { b"true" } else { b"false" });
    }
}

/// An object being written.
#[derive(Debug)]
pub struct Object<'a> {
    writer: &'a mut Writer,
    last: Option<&'static str>,
}

impl Object<'_> {
    /// Writes a key; its value must follow. Keys must come sorted and need no escapes.
    pub fn key(&mut self, key: &'static str) -> &mut Writer {
        debug_assert!(
            self.last.is_none_or(|last| last < key),
            "{:?} before {key}",
            self.last
        );
        if self.last.is_some() {
            self.writer.out.push(b',');
        }
        self.last = Some(key);
        self.writer.out.push(b'"');
        self.writer.out.extend_from_slice(key.as_bytes());
        self.writer.out.extend_from_slice(b"\":");
        self.writer
    }

    /// A text member.
    pub fn text(&mut self, key: &'static str, text: &str) {
        self.key(key).text(text);
    }

    /// A whole number member.
    pub fn number(&mut self, key: &'static str, number: impl Into<u64>) {
        self.key(key).number(number.into());
    }

    /// An object member.
    pub fn object(&mut self, key: &'static str, members: impl FnOnce(&mut Object<'_>)) {
        self.key(key).object(members);
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(&mut self, key: &'static str, texts: &[T]) {
        self.key(key)
            .list(texts, |writer, text| writer.text(text.as_ref()));
    }
}

#[cfg(test)]
mod tests;
