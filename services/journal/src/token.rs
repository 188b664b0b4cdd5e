//! Page tokens and cursors: opaque to callers, and unforgeable.
//!
//! A token is its kind and its content's length (1 byte each), its content, and 16 bytes of keyed BLAKE3
//! over all of that, in hex. The content is hidden: it names rows of the database, which count the projects of all
//! tenants. The key is made once for each journal and kept with it.
//!
//! Source: hiding under the MAC of what is hidden is the synthetic initialization vector of RFC 5297.

use commonplace_types::Invalid;

use crate::JournalError;

const MAC_BYTES: usize = 16;
/// Marks a kind whose content is hidden. Earlier tokens show theirs; they are still taken.
const HIDDEN: u8 = 0x80;
/// What a stream that hides begins with, and no token.
const STREAM: u8 = 0;

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
        let mut bytes = vec![HIDDEN | kind as u8, content.len() as u8];
        bytes.extend_from_slice(content);
        let mac = self.mac(&bytes);
        self.hide(&mac[..MAC_BYTES], &mut bytes[2..]);
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        hex::encode(bytes)
    }

    pub(crate) fn open(&self, kind: Kind, token: &str) -> Result<Vec<u8>, Refused> {
        let mut bytes = hex::decode(token).map_err(|_| Refused::Malformed)?;
        let (content, mac) = bytes
            .len()
            .checked_sub(MAC_BYTES)
            .and_then(|length| bytes.split_at_mut_checked(length))
            .ok_or(Refused::Malformed)?;
        match content {
            [found, length, rest @ ..]
                if *found & !HIDDEN == kind as u8 && rest.len() == *length as usize =>
            {
                if *found & HIDDEN != 0 {
                    self.hide(mac, rest);
                }
            }
            _ => return Err(Refused::Malformed),
        }
        // Comparing BLAKE3 hashes takes the same time wherever they differ.
        let mut given = [0; 32];
        given[..MAC_BYTES].copy_from_slice(mac);
        let expected = self.mac(content);
        if blake3::Hash::from_bytes(given) != blake3::Hash::from_bytes(expected) {
            return Err(Refused::Foreign);
        }
        Ok(content[2..].to_vec())
    }

    /// The first bytes of a keyed hash; the others are zero.
    fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = *blake3::keyed_hash(&self.key, bytes).as_bytes();
        mac[MAC_BYTES..].fill(0);
        mac
    }

    /// Hides content under its MAC, or shows what is hidden.
    fn hide(&self, mac: &[u8], content: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[STREAM]).update(mac);
        let mut stream = vec![0; content.len()];
        hasher.finalize_xof().fill(&mut stream);
        for (byte, mask) in content.iter_mut().zip(stream) {
            *byte ^= mask;
        }
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
        assert_eq!(
            sealer.open(Kind::Tail, &token.replacen("81", "01", 1)),
            Err(Refused::Foreign)
        );
        let mut changed = hex::decode(&token).unwrap();
        changed[2] ^= 1;
        assert_eq!(
            sealer.open(Kind::Tail, &hex::encode(changed)),
            Err(Refused::Foreign)
        );
    }
    #[test]
    fn a_token_tells_nothing_of_its_content() {
        let sealer = Sealer::new([1; 32]);
        let (one, other) = (7_i64.to_le_bytes(), 8_i64.to_le_bytes());
        let tokens = [one, other].map(|content| sealer.seal(Kind::Tail, &content));
        assert!(!tokens[0].contains(&hex::encode(one)));
        // Not even that two contents are much the same.
        let bytes = tokens.map(|token| hex::decode(token).unwrap());
        let same = bytes[0][2..].iter().zip(&bytes[1][2..]);
        assert!(same.filter(|(a, b)| a == b).count() < 6);
    }

    #[test]
    fn a_token_from_before_contents_were_hidden_is_taken() {
        let token = "01046865726519c4c7bb8b915e5b6204afde0b9df28e";
        let sealer = Sealer::new([1; 32]);
        assert_eq!(sealer.open(Kind::Tail, token).unwrap(), b"here");
    }
}
