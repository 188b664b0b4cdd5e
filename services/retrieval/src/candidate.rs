//! What the index found, as plain values.

use std::sync::Arc;

use commonplace_types::{CommitHash, EventId, Timestamp};

/// A whole, in the unit of scores and weights: one million millionths.
pub const ONE: u32 = 1_000_000;

/// One indexed piece of an event. Orders by event, then passage: the order that breaks ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassageKey {
    /// The event.
    pub event: EventId,
    /// Its piece, from 0.
    pub passage: u32,
}

/// Whether the index lets a candidate into a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
    /// It may be packed.
    Eligible,
    /// A later event replaces it.
    Superseded,
    /// It fails the filter.
    Filtered,
}

/// A passage that may be packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which passage.
    pub key: PassageKey,
    /// What its event is about; empty unless the plan was [named](crate::plan::Plan::named).
    pub record: String,
    /// The kind of its event.
    pub artifact_type: Arc<str>,
    /// When it happened.
    pub event_time: Timestamp,
    /// In millionths.
    pub importance: u32,
    /// Whether its event is pinned.
    pub pinned: bool,
    /// Of its event; empty unless the plan was named.
    pub tags: Vec<String>,
    /// BM25, at least 0.
    pub lexical_score: f64,
    /// From 1; 0 when not among the best by words.
    pub lexical_rank: u32,
    /// Cosine; none when it has no vector.
    pub dense_score: Option<f64>,
    /// From 1; 0 when not among the best by meaning.
    pub dense_rank: u32,
    /// Tokens of title and text.
    pub tokens: u32,
    /// Equal for equal title and text.
    pub content: [u8; 16],
    /// Whether it may be packed.
    pub eligibility: Eligibility,
    /// Packed before anything else.
    pub always: bool,
}

/// What lexical scores were computed from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Visible passages.
    pub passages: u64,
    /// Sum of their lengths in terms.
    pub total_length: u64,
    /// Each term of the query and how many passages hold it, in the order scored.
    pub terms: Vec<(String, u64)>,
    /// The analyser that made the terms.
    pub analyzer: String,
}

/// Whether meanings were compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dense {
    /// They were.
    On {
        /// Fingerprint of the embedder.
        embedder: String,
        /// Vectors of commits up to this number.
        through: u64,
        /// The candidates came from a vector store: a check scores them again and does not look for others.
        recorded: bool,
    },
    /// They were not.
    Off {
        /// Why not.
        reason: Off,
    },
}

/// Why meanings were not compared: a closed set, so that a pack can say nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// The policy gives them no weight.
    NoWeight,
    /// There is no embedding model.
    NoModel,
    /// No commit that the search sees has all its vectors.
    NotReady,
    /// The external vector store cannot be reached.
    StoreDown,
}

impl Off {
    const ALL: [Self; 4] = [
        Self::NoWeight,
        Self::NoModel,
        Self::NotReady,
        Self::StoreDown,
    ];

    /// The word in a pack.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoWeight => "no_weight",
            Self::NoModel => "no_model",
            Self::NotReady => "not_ready",
            Self::StoreDown => "store_down",
        }
    }

    /// The reason of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|off| off.as_str() == word)
    }

    /// What people are told.
    pub fn told(self) -> &'static str {
        match self {
            Self::NoWeight => "the policy gives it no weight",
            Self::NoModel => "no embedding model; fetch it with `com model pull`",
            Self::NotReady => "the vectors are still being made",
            Self::StoreDown => "the vector store cannot be reached",
        }
    }
}

/// The answer of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The commit searched.
    pub commit: CommitHash,
    /// Its number.
    pub commit_number: u64,
    /// What lexical scores were computed from.
    pub statistics: Statistics,
    /// Whether meanings were compared.
    pub dense: Dense,
    /// In any order.
    pub candidates: Vec<Candidate>,
}

/// The text of a passage and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Which passage.
    pub key: PassageKey,
    /// What its event is about.
    pub record: String,
    /// The kind of its event.
    pub artifact_type: String,
    /// Its event's title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its bytes in the event's text.
    pub start: u64,
    /// Past the last byte.
    pub end: u64,
    /// When its event happened.
    pub event_time: Timestamp,
    /// The system it came through.
    pub source: String,
    /// On whose behalf.
    pub author: String,
    /// `sha256:` of its event.
    pub checksum: String,
    /// Tokens of title and text.
    pub tokens: u32,
}
