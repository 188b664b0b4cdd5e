//! Settings of the vector store.

use std::fmt;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Settings of the Qdrant cluster. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QdrantOptions {
    /// Where its gRPC is served, for example `http://10.0.0.1:6334`; `https` for TLS. When one fails the next is
    /// asked.
    pub addresses: Vec<String>,
    /// Sent with every call; empty for none.
    pub api_key: Secret,
    /// A file of certificates, PEM, of the authority that signed the servers'; empty for those of the system.
    pub authority: String,
    /// Collections are named by this and a hash of the embedder's fingerprint.
    pub collection_prefix: String,
    /// Copies of each shard; counts when the collection is made.
    pub replication_factor: u32,
    /// Copies that must have a write before it is acknowledged.
    pub write_consistency_factor: u32,
    /// Shards; 0 leaves it to the cluster.
    pub shard_number: u32,
    /// How the cluster makes vectors smaller.
    pub quantization: Quantization,
    /// Ask for exact search, and for more until the candidates are provably those of a scan of everything.
    pub exact: bool,
    /// Candidates asked for beyond those wanted.
    pub margin: u32,
    /// Most candidates asked for at once.
    pub most_candidates: u32,
    /// Points written at once.
    pub batch_points: u32,
    /// Vectors of a project held in memory while the cluster has not acknowledged them; more are read from disk.
    pub held_vectors: usize,
    /// Until a connection counts as failed.
    pub connect_timeout_ms: u64,
    /// Until a search counts as failed.
    pub read_timeout_ms: u64,
    /// Until a write counts as failed.
    pub write_timeout_ms: u64,
    /// Shortest and longest wait before a failed write, or a cluster that is down, is tried again.
    pub retry_ms: (u64, u64),
    /// Calls in a row that failed at every address before the cluster counts as down.
    pub failures: u32,
    /// How often a cluster that is asked nothing is asked how it is.
    pub probe_ms: u64,
}

impl Default for QdrantOptions {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            api_key: Secret::default(),
            authority: String::new(),
            collection_prefix: "commonplace".into(),
            replication_factor: 1,
            write_consistency_factor: 1,
            shard_number: 0,
            quantization: Quantization::None,
            exact: true,
            margin: 32,
            most_candidates: 10_000,
            batch_points: 256,
            held_vectors: 16_384,
            connect_timeout_ms: 1_000,
            read_timeout_ms: 2_000,
            write_timeout_ms: 30_000,
            retry_ms: (100, 5_000),
            failures: 2,
            probe_ms: 2_000,
        }
    }
}

impl QdrantOptions {
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms.max(1))
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms.max(1))
    }

    /// How long to wait before attempt number `attempt`, from 0: twice as long each time, up to the most.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let (shortest, longest) = self.retry_ms;
        let doubled = shortest.max(1).saturating_mul(1 << attempt.min(20));
        Duration::from_millis(doubled.min(longest.max(1)))
    }
}

/// How the cluster makes vectors smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// Not at all: 4 bytes a dimension.
    #[default]
    None,
    /// To 1 byte a dimension, held in memory. Exact searches read the floats.
    Int8,
}

/// A text that is never shown, not even in an error about it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Reads a text; an environment variable of nothing but digits arrives as a number.
struct Reader;

impl Visitor<'_> for Reader {
    type Value = Secret;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }
}

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text; empty for none.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        match self.0.is_empty() {
            true => "",
            false => "***",
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_shown() {
        let options = QdrantOptions {
            api_key: Secret::new("hush-hush"),
            ..QdrantOptions::default()
        };
        let shown = format!("{options:?} {}", serde_json::to_string(&options).unwrap());
        assert!(
            !shown.contains("hush") && shown.contains("\"***\""),
            "{shown}"
        );
        let read: QdrantOptions = serde_json::from_str(r#"{"api_key":"hush-hush"}"#).unwrap();
        assert_eq!(read.api_key.reveal(), "hush-hush");
        let digits: QdrantOptions = serde_json::from_str(r#"{"api_key":4711}"#).unwrap();
        assert_eq!(digits.api_key.reveal(), "4711");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<QdrantOptions>(r#"{"adresses":[]}"#).is_err());
    }

    #[test]
    fn waits_grow_up_to_the_most() {
        let options = QdrantOptions {
            retry_ms: (100, 1_000),
            ..QdrantOptions::default()
        };
        let waits = [0, 1, 3, 4, 63].map(|attempt| options.delay(attempt).as_millis());
        assert_eq!(waits, [100, 200, 800, 1_000, 1_000]);
    }
}
