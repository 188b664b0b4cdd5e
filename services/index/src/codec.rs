//! The byte form of what the index keeps on disk: little-endian, length-prefixed, without padding.

use commonplace_types::{Digest, EventId};

/// Bytes that are not what this version writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes are not in the expected form")]
pub(crate) struct Malformed;

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// An unsigned number in groups of seven bits, lowest first.
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.fixed(text.as_bytes());
    }
}

/// Reads values in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.fixed::<1>()?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(crate) fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.small()? as usize;
        std::str::from_utf8(self.slice(length)?).map_err(|_| Malformed)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Malformed> {
        Ok(Digest::from_bytes(self.fixed()?))
    }

    pub(crate) fn event_id(&mut self) -> Result<EventId, Malformed> {
        Ok(EventId::from_bytes(self.fixed()?))
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Error: something is left over.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_what_was_written(numbers: Vec<u64>, text: String, bytes: [u8; 16]) {
            let mut encoder = Encoder::default();
            numbers.iter().for_each(|&number| encoder.number(number));
            encoder.text(&text);
            encoder.fixed(&bytes);
            let written = encoder.finish();
            let mut decoder = Decoder::new(&written);
            for number in numbers {
                prop_assert_eq!(decoder.number(), Ok(number));
            }
            prop_assert_eq!(decoder.text(), Ok(text.as_str()));
            prop_assert_eq!(decoder.fixed(), Ok(bytes));
            prop_assert_eq!(decoder.end(), Ok(()));
            let mut short = Decoder::new(&written[..written.len() - 1]);
            while short.number().is_ok() {}
            prop_assert!(Decoder::new(&[0x80]).number().is_err());
        }

        #[test]
        fn never_panics_on_garbage(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            let _ = (decoder.number(), decoder.text(), decoder.digest(), decoder.event_id(), decoder.end());
        }
    }
}
