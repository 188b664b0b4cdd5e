//! Page tokens and cursors: opaque to callers, and unforgeable.
//!
//! A token is its kind and its content's length (1 byte each), its content, and 16 bytes of keyed BLAKE3
//! over all of that, in hex. The key is made once for each journal and kept with it.

use commonplace_types::Invalid;

use crate::JournalError;

const MAC_BYTES: usize = 16;

/// What a token is for; one of another kind is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tail = 1,
    Events = 2,
    Commits = 3,
    Projects = 4,
    Tenants = 5,
}

/// Why a token was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It does not look like a token of that kind.
    Malformed,
    /// It does, but this journal did not make it.
    Foreign,
}

/// Makes and reads tokens.
#[derive(Clone)]
pub(crate) struct Sealer {
    key: [u8; 32],
}

impl Sealer {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// `content`: at most 255 bytes.
    pub(crate) fn seal(&self, kind: Kind, content: &[u8]) -> String {
        let mut bytes = vec![kind as u8, content.len() as u8];
        bytes.extend_from_slice(content);
        let mac = blake3::keyed_hash(&self.key, &bytes);
        bytes.extend_from_slice(&mac.as_bytes()[..MAC_BYTES]);
        hex::encode(bytes)
    }

    pub(crate) fn open(&self, kind: Kind, token: &str) -> Result<Vec<u8>, Refused> {
        let bytes = hex::decode(token).map_err(|_| Refused::Malformed)?;
        let (content, mac) = bytes
            .len()
            .checked_sub(MAC_BYTES)
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or(Refused::Malformed)?;
        match content {
            [found, length, rest @ ..]
                if *found == kind as u8 && rest.len() == *length as usize => {}
            _ => return Err(Refused::Malformed),
        }
        // Comparing BLAKE3 hashes takes the same time wherever they differ.
        let mut given = [0; 32];
        given[..MAC_BYTES].copy_from_slice(mac);
        let mut expected = *blake3::keyed_hash(&self.key, content).as_bytes();
        expected[MAC_BYTES..].fill(0);
        if blake3::Hash::from_bytes(given) != blake3::Hash::from_bytes(expected) {
            return Err(Refused::Foreign);
        }
        Ok(content[2..].to_vec())
    }

    /// Reads a page token; any refusal is a wrong `page_token`.
    pub(crate) fn open_page(&self, kind: Kind, token: &str) -> Result<Vec<u8>, JournalError> {
        self.open(kind, token)
            .map_err(|_| page_token_error("is not one of this journal's"))
    }
}

/// A wrong `page_token`.
pub(crate) fn page_token_error(problem: &str) -> JournalError {
    Invalid::new("page_token", problem).into()
}

/// The first 16 bytes of a BLAKE3 over what a page token is bound to.
pub(crate) fn fingerprint(arguments: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(arguments.as_bytes()).as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_opens() {
        let sealer = Sealer::new([1; 32]);
        let token = sealer.seal(Kind::Tail, b"here");
        assert_eq!(sealer.open(Kind::Tail, &token).unwrap(), b"here");
        assert_eq!(sealer.open(Kind::Events, &token), Err(Refused::Malformed));
        assert_eq!(
            Sealer::new([2; 32]).open(Kind::Tail, &token),
            Err(Refused::Foreign)
        );
        for wrong in [
            "",
            "zz",
            "01",
            "0102",
            &token[2..],
            &token[..token.len() - 2],
        ] {
            assert_eq!(
                sealer.open(Kind::Tail, wrong),
                Err(Refused::Malformed),
                "{wrong}"
            );
        }
        let mut changed = hex::decode(&token).unwrap();
        changed[2] ^= 1;
        assert_eq!(
            sealer.open(Kind::Tail, &hex::encode(changed)),
            Err(Refused::Foreign)
        );
    }
}
