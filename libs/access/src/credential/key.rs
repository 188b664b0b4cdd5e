//! Keys: `com_`, a public id, `_`, a secret of 256 bits. Kept as the id and the secret's hash.

use std::fmt;

use commonplace_types::{Digest, Invalid, Principal};
use ring::rand::{SecureRandom, SystemRandom};

/// What every key begins with, so that one in the wrong place is seen as one.
const PREFIX: &str = "com_";
/// The digits of ids and secrets: RFC 4648's base 32 in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_DIGITS: usize = 16;
/// 260 bits, of which the last four are zero.
const SECRET_DIGITS: usize = 52;

/// The public id of a key: 16 of `a-z2-7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Error: not 16 of `a-z2-7`.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.len() == ID_DIGITS && text.bytes().all(|byte| DIGITS.contains(&byte)) {
            return Ok(Self(text));
        }
        Err(Invalid::new("id", "expected a key's id: 16 of a-z and 2-7"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A key that was just made: its secret is here and nowhere else.
pub struct NewKey {
    /// The public id.
    pub id: KeyId,
    /// The whole key, to be given to its owner.
    pub secret: String,
    /// What is kept of it.
    pub hash: Digest,
}

/// Where ids and secrets come from.
pub trait Randomness: Send + Sync {
    /// Fills the bytes. Error: the system has no randomness to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Invalid>;
}

/// The system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Invalid> {
        SystemRandom::new()
            .fill(bytes)
            .map_err(|_| Invalid::new("secret", "the system has no randomness to give"))
    }
}

impl NewKey {
    /// Makes a key, with a given id if it gets a new secret. Error: no randomness.
    pub fn make(id: Option<KeyId>, randomness: &dyn Randomness) -> Result<Self, Invalid> {
        let id = match id {
            Some(id) => id,
            None => {
                let mut bytes = [0; ID_DIGITS * 5 / 8];
                randomness.fill(&mut bytes)?;
                KeyId(digits(&bytes))
            }
        };
        let mut bytes = [0; 32];
        randomness.fill(&mut bytes)?;
        let secret = digits(&bytes);
        Ok(Self {
            hash: Digest::of(&[secret.as_bytes()]),
            secret: format!("{PREFIX}{id}_{secret}"),
            id,
        })
    }
}

/// Writes bytes in base 32, without padding.
fn digits(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0_u32, 0);
    let mut put = |held: u32| text.push(char::from(DIGITS[(held & 31) as usize]));
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            put(held >> bits);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        put(held << (5 - bits));
    }
    text
}

/// A key as a caller shows it.
pub struct ShownKey {
    /// The public id.
    pub id: KeyId,
    hash: Digest,
}

impl ShownKey {
    /// Nothing if the text is not of the form of a key.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits =
            secret.len() == SECRET_DIGITS && secret.bytes().all(|byte| DIGITS.contains(&byte));
        let id = KeyId::new(id).ok().filter(|_| fits)?;
        Some(Self {
            id,
            hash: Digest::of(&[secret.as_bytes()]),
        })
    }
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Who shows it.
    pub principal: Principal,
    /// SHA-256 of each secret that is good at present.
    pub secret_hashes: Vec<Digest>,
}

impl KeyRecord {
    /// Whether the shown secret is good. Takes the same time however much of it fits.
    pub fn has(&self, shown: &ShownKey) -> bool {
        let same = |hash: &Digest| {
            let pairs = hash.as_bytes().iter().zip(shown.hash.as_bytes());
            pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
        };
        self.secret_hashes
            .iter()
            .fold(false, |found, hash| found | same(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), Invalid> {
            (0_u8..).zip(bytes).for_each(|(count, byte)| *byte = count);
            Ok(())
        }
    }

    #[test]
    fn base_32_is_that_of_the_standard() {
        // Source: RFC 4648, section 10, in lower case and without padding.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "my"),
            (b"fo", "mzxq"),
            (b"foo", "mzxw6"),
            (b"foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(digits(bytes), text);
        }
    }

    #[test]
    fn a_key_is_found_good_by_its_secret_alone() {
        let key = NewKey::make(None, &Counting).unwrap();
        let other = NewKey::make(Some(key.id.clone()), &SystemRandomness).unwrap();
        let record = KeyRecord {
            principal: Principal::developer(),
            secret_hashes: vec![key.hash],
        };
        assert!(record.has(&ShownKey::parse(&key.secret).unwrap()));
        assert!(!record.has(&ShownKey::parse(&other.secret).unwrap()));
        assert_ne!(key.secret, other.secret);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = NewKey::make(None, &Counting).unwrap().secret;
        assert!(ShownKey::parse(&key).is_some());
        for wrong in [
            "",
            "com_",
            "com_a_b",
            &key[1..],
            &key.to_uppercase(),
            &format!("{key}a"),
        ] {
            assert!(ShownKey::parse(wrong).is_none(), "{wrong}");
        }
    }
}
