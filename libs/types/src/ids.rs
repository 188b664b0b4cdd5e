use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::Invalid;

/// Makes a newtype over a checked string.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Checks and wraps. Error: expected ", $expected, ".")]
            pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    return Ok(Self(text));
                }
                Err(Invalid::new($field, format!(concat!("expected ", $expected, ", found `{}`"), text.escape_debug())))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
    };
}

fn is_label(text: &str, longest: usize, extra: &[u8]) -> bool {
    let allowed =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || extra.contains(byte);
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    starts_well && text.len() <= longest && text.as_bytes().iter().all(allowed)
}

fn is_ref_name(text: &str) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/-".contains(byte);
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts_well && text.len() <= 128 && !text.ends_with('/') && text.as_bytes().iter().all(allowed)
}

name!(
    /// Whose data it is; projects of different tenants never meet.
    TenantName, "tenant", "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_label(text, 63, b"._-")
);
name!(
    /// The unit of isolation inside a tenant.
    ProjectName, "project", "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_label(text, 63, b"._-")
);
name!(
    /// Names a line of work that points at its newest commit.
    BranchName, "branch", "1 to 128 of letters, digits, `.`, `_`, `/`, `-`, starting with a letter or digit",
    is_ref_name
);
name!(
    /// Names a commit for good.
    TagName, "tag", "1 to 128 of letters, digits, `.`, `_`, `/`, `-`, starting with a letter or digit",
    is_ref_name
);
name!(
    /// Names a retrieval policy.
    PolicyId, "policy", "1 to 64 of a-z, 0-9, `_`, starting with a letter or digit",
    |text| is_label(text, 64, b"_")
);
name!(
    /// What successive events are about.
    RecordId, "record_id", "1 to 512 bytes without control characters",
    |text| !text.is_empty() && text.len() <= 512 && !text.chars().any(char::is_control)
);

impl TenantName {
    /// The tenant of a laptop.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

impl ProjectName {
    /// The project used when none is named.
    pub fn default_project() -> Self {
        Self("default".into())
    }
}

impl BranchName {
    /// The branch that every project has.
    pub fn main() -> Self {
        Self("main".into())
    }
}

/// 32 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// All zero: the root of nothing.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of the parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = sha2::Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Wraps 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Wraps a slice. Error: not 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes = bytes
            .try_into()
            .map_err(|_| Invalid::new("", format!("expected 32 bytes, found {}", bytes.len())))?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    /// 64 hex digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(hex::Buffer::<32>::new().format(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        digits(text).map(Self).ok_or_else(|| {
            let found = text.escape_debug();
            Invalid::new("", format!("expected 64 hex digits, found `{found}`"))
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Exactly the digits of `N` bytes: no `0x` before them, which the decoder would skip.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let fits = text.len() == 2 * N && !text.starts_with("0x");
    (fits && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// The hash that names a commit.
pub type CommitHash = Digest;

/// Names an event: 16 bytes, printed as `ev_` and 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Wraps 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Wraps a slice. Error: not 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes = bytes
            .try_into()
            .map_err(|_| Invalid::new("id", format!("expected 16 bytes, found {}", bytes.len())))?;
        Ok(Self(bytes))
    }

    /// An id that depends on the parts alone: equal parts, equal id. Each part is length-prefixed, so
    /// that moving a byte between parts changes the id. Source: BLAKE3 in key derivation mode.
    pub fn derive(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonplace 2026 event id v1");
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ev_")?;
        formatter.write_str(hex::Buffer::<16>::new().format(&self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for EventId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "id",
                format!(
                    "expected `ev_` and 32 hex digits, found `{}`",
                    text.escape_debug()
                ),
            )
        };
        let after = text.strip_prefix("ev_").ok_or_else(wrong)?;
        digits(after).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// All positions of a lane from 1 up to and including `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneInterval {
    /// Dense within a project, from 1; below 2^21.
    pub lane: u32,
    /// Dense within a lane, from 1; 0 sees nothing.
    pub position: u32,
}

/// Names a point in a project's history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// The newest commit of a branch.
    Branch(BranchName),
    /// The commit a tag names.
    Tag(TagName),
    /// A commit by its hash.
    Commit(CommitHash),
    /// A commit by the first 8 to 63 digits of its hash, lower case.
    Prefix(String),
}

impl Reference {
    /// The head of `main`.
    pub fn main() -> Self {
        Self::Branch(BranchName::main())
    }

    /// A commit by its whole hash or by a prefix of at least 8 hex digits.
    pub fn commit(text: &str) -> Result<Self, Invalid> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.len() {
            64 if is_hex => Ok(Self::Commit(
                text.parse()
                    .map_err(|error: Invalid| error.under("commit"))?,
            )),
            8..64 if is_hex => Ok(Self::Prefix(text.to_ascii_lowercase())),
            _ => Err(Invalid::new(
                "commit",
                format!(
                    "expected 8 to 64 hex digits, found `{}`",
                    text.escape_debug()
                ),
            )),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(formatter, "branch `{name}`"),
            Self::Tag(name) => write!(formatter, "tag `{name}`"),
            Self::Commit(hash) => write!(formatter, "commit `{hash}`"),
            Self::Prefix(prefix) => write!(formatter, "commit `{prefix}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_only_what_is_allowed() {
        assert!(ProjectName::new("acme.web-1").is_ok());
        for wrong in ["", "Acme", "-a", "a b", &"a".repeat(64)] {
            let error = ProjectName::new(wrong).unwrap_err();
            assert_eq!(error.field, "project", "{wrong}");
        }
        assert!(BranchName::new("feature/Login-2").is_ok());
        for wrong in ["", "/a", "a/", "a b", "ä"] {
            assert!(BranchName::new(wrong).is_err(), "{wrong}");
        }
        assert!(RecordId::new("test:a::b c").is_ok());
        assert!(RecordId::new("a\nb").is_err());
    }

    #[test]
    fn event_ids_print_and_parse() {
        let id = EventId::derive(&[b"a", b"bc"]);
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        assert_ne!(id, EventId::derive(&[b"ab", b"c"]));
        for wrong in [
            "ev_12",
            &format!("ev_0x{}", "1".repeat(32)),
            &format!("ev_0x{}", "1".repeat(30)),
        ] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
        }
        assert!(format!("0x{}", "1".repeat(62)).parse::<Digest>().is_err());
    }

    #[test]
    fn a_derived_id_never_changes() {
        assert_eq!(
            EventId::derive(&[b"golden"]).to_string(),
            "ev_ff04df21604f9d7e6b33d3b16a956496"
        );
    }

    #[test]
    fn commits_are_named_by_hash_or_prefix() {
        assert!(
            matches!(Reference::commit("ABCDEF01").unwrap(), Reference::Prefix(p) if p == "abcdef01")
        );
        assert!(matches!(
            Reference::commit(&"0".repeat(64)).unwrap(),
            Reference::Commit(_)
        ));
        assert!(Reference::commit("abc").is_err());
        assert!(Reference::commit("xyzxyzxyz").is_err());
    }
}
