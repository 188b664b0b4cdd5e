use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, EventId, Invalid, RecordId, Timestamp};

/// What an event does to its record.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// States the record's content.
    #[default]
    Assert,
    /// Withdraws the record.
    Retract,
}

/// How far an event is meant to be seen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// By everyone with access to the project.
    #[default]
    Global,
    /// By one session.
    Session,
    /// By one task.
    Task,
}

/// The kind of thing an event holds: `diff`, `decision`, `policy`, `test`, `runlog`, `bug`, `spec`,
/// `flake`, or any other word of a-z, 0-9 and `_`, at most 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactType(String);

impl ArtifactType {
    /// Checks and wraps.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if is_word(&text, 32, b"_") {
            return Ok(Self(text));
        }
        Err(Invalid::new(
            "artifact_type",
            format!(
                "expected a word of a-z, 0-9 and `_`, at most 32 bytes, found `{}`",
                text.escape_debug()
            ),
        ))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for ArtifactType {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl From<ArtifactType> for String {
    fn from(word: ArtifactType) -> String {
        word.0
    }
}

fn is_word(text: &str, longest: usize, extra: &[u8]) -> bool {
    text.len() <= longest
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.contains(&b))
}

/// How much an event matters, 0 to 1, kept in millionths so that it is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Importance(u32);

impl Importance {
    /// The most there is.
    pub const MAX: Self = Self(1_000_000);

    /// From 0 to 1; rounded to millionths. Error: outside, or not a number.
    pub fn new(value: f64) -> Result<Self, Invalid> {
        if (0.0..=1.0).contains(&value) {
            return Ok(Self((value * 1e6).round() as u32));
        }
        Err(Invalid::new(
            "importance",
            format!("expected 0 to 1, found {value}"),
        ))
    }

    /// From millionths, 0 to 1,000,000.
    pub fn from_millionths(value: u32) -> Result<Self, Invalid> {
        if value <= Self::MAX.0 {
            return Ok(Self(value));
        }
        Err(Invalid::new(
            "importance",
            format!("expected 0 to 1000000 millionths, found {value}"),
        ))
    }

    /// 0 to 1,000,000.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Default for Importance {
    fn default() -> Self {
        Self(500_000)
    }
}

/// A typed edge from an event to something it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// `file`, `test`, `commit`, `bug`, `url`, or another word.
    pub relation: String,
    /// What it points at.
    pub target: String,
}

impl Link {
    /// An edge; checked with the event it belongs to.
    pub fn new(relation: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            relation: relation.into(),
            target: target.into(),
        }
    }
}

/// A named fact about an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attribute {
    /// `[a-z][a-z0-9_.]*`, at most 64 bytes; unique within an event.
    pub key: String,
    /// At most 4,096 bytes.
    pub value: String,
}

impl Attribute {
    /// A fact; checked with the event it belongs to.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// An event as a writer states it. [`Draft::checked`] brings it into its one canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Given by the writer, or derived from the content.
    pub id: Option<EventId>,
    /// Absent: the event is its own record.
    pub record_id: Option<RecordId>,
    /// Assert or retract.
    pub operation: Operation,
    /// What kind of thing it holds.
    pub artifact_type: ArtifactType,
    /// One line.
    pub title: String,
    /// The content.
    pub text: String,
    /// Sorted and without repeats once checked.
    pub links: Vec<Link>,
    /// Sorted and without repeats once checked.
    pub tags: Vec<String>,
    /// 0.5 unless said otherwise.
    pub importance: Importance,
    /// Always a candidate.
    pub pinned: bool,
    /// Global unless said otherwise.
    pub scope: Scope,
    /// Absent: when it is recorded.
    pub event_time: Option<Timestamp>,
    /// Holds from here on.
    pub valid_from: Option<Timestamp>,
    /// Holds until here.
    pub valid_to: Option<Timestamp>,
    /// Events that this one replaces. Sorted and without repeats once checked.
    pub supersedes: Vec<EventId>,
    /// Also replaces the record's visible heads.
    pub supersede_heads: bool,
    /// Which agent acted.
    pub agent: String,
    /// On whose behalf.
    pub author: String,
    /// Through which system or file.
    pub source: String,
    /// Ties events of one piece of work together.
    pub correlation_id: String,
    /// What brought this event about.
    pub causation_id: String,
    /// Sorted by key once checked.
    pub attributes: Vec<Attribute>,
}

impl Draft {
    /// A draft with nothing but a type, a title and a text.
    pub fn new(
        artifact_type: ArtifactType,
        title: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            id: None,
            record_id: None,
            operation: Operation::Assert,
            artifact_type,
            title: title.into(),
            text: text.into(),
            links: Vec::new(),
            tags: Vec::new(),
            importance: Importance::default(),
            pinned: false,
            scope: Scope::Global,
            event_time: None,
            valid_from: None,
            valid_to: None,
            supersedes: Vec::new(),
            supersede_heads: false,
            agent: String::new(),
            author: String::new(),
            source: String::new(),
            correlation_id: String::new(),
            causation_id: String::new(),
            attributes: Vec::new(),
        }
    }

    /// Checks every bound and sorts what has no order of its own. Error: names the field.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        use crate::limits::*;
        at_most("title", &self.title, TITLE_BYTES)?;
        at_most("text", &self.text, TEXT_BYTES)?;
        if self.title.is_empty() && self.text.is_empty() && self.operation == Operation::Assert {
            return Err(Invalid::new(
                "text",
                "expected a title or a text, found neither",
            ));
        }
        for (field, value) in [
            ("agent", &self.agent),
            ("author", &self.author),
            ("source", &self.source),
        ] {
            at_most(field, value, ACTOR_BYTES)?;
        }
        at_most("correlation_id", &self.correlation_id, CORRELATION_BYTES)?;
        at_most("causation_id", &self.causation_id, CORRELATION_BYTES)?;
        if let (Some(from), Some(to)) = (self.valid_from, self.valid_to)
            && to < from
        {
            return Err(Invalid::new(
                "valid_to",
                "expected a time not before `valid_from`",
            ));
        }
        if self.operation == Operation::Retract
            && self.record_id.is_none()
            && self.supersedes.is_empty()
        {
            return Err(Invalid::new(
                "record_id",
                "a retract needs `record_id` or `supersedes`",
            ));
        }
        self.check_lists()?;
        self.links.sort();
        self.links.dedup();
        self.tags.sort();
        self.tags.dedup();
        self.supersedes.sort();
        self.supersedes.dedup();
        self.attributes.sort();
        Ok(self)
    }

    fn check_lists(&self) -> Result<(), Invalid> {
        use crate::limits::*;
        count("links", self.links.len(), LINKS)?;
        for (place, link) in self.links.iter().enumerate() {
            if !is_word(&link.relation, 32, b"_") {
                let problem = format!(
                    "expected a word of a-z, 0-9 and `_`, found `{}`",
                    link.relation.escape_debug()
                );
                return Err(Invalid::new(format!("links[{place}].relation"), problem));
            }
            within(
                &format!("links[{place}].target"),
                &link.target,
                LINK_TARGET_BYTES,
            )?;
        }
        count("tags", self.tags.len(), TAGS)?;
        for (place, tag) in self.tags.iter().enumerate() {
            within(&format!("tags[{place}]"), tag, TAG_BYTES)?;
        }
        count("supersedes", self.supersedes.len(), SUPERSEDES)?;
        count("attributes", self.attributes.len(), ATTRIBUTES)?;
        let mut keys: Vec<&str> = Vec::with_capacity(self.attributes.len());
        for (place, attribute) in self.attributes.iter().enumerate() {
            let field = format!("attributes[{place}]");
            if !is_word(&attribute.key, 64, b"_.") {
                let problem = format!(
                    "expected a name of a-z, 0-9, `_` and `.`, found `{}`",
                    attribute.key.escape_debug()
                );
                return Err(Invalid::new(format!("{field}.key"), problem));
            }
            at_most(&format!("{field}.value"), &attribute.value, ATTRIBUTE_BYTES)?;
            keys.push(&attribute.key);
        }
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Invalid::new(
                "attributes",
                format!("key `{}` is given twice", pair[0]),
            ));
        }
        Ok(())
    }

    /// The content in canonical form: equal content gives equal bytes, on every machine. The id, and the
    /// traces of how it came in (`supersede_heads`), are not part of it.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.title.len() + self.text.len() + 256);
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        put(b"commonplace event v1");
        put(self
            .record_id
            .as_ref()
            .map_or("", |record| record.as_str())
            .as_bytes());
        put(&[
            self.operation as u8,
            self.scope as u8,
            u8::from(self.pinned),
        ]);
        put(self.artifact_type.as_str().as_bytes());
        put(self.title.as_bytes());
        put(self.text.as_bytes());
        put(&(self.links.len() as u32).to_le_bytes());
        for link in &self.links {
            put(link.relation.as_bytes());
            put(link.target.as_bytes());
        }
        put(&(self.tags.len() as u32).to_le_bytes());
        for tag in &self.tags {
            put(tag.as_bytes());
        }
        put(&self.importance.millionths().to_le_bytes());
        for time in [self.event_time, self.valid_from, self.valid_to] {
            put(&time.map_or(-1, Timestamp::as_micros).to_le_bytes());
        }
        put(&(self.supersedes.len() as u32).to_le_bytes());
        for id in &self.supersedes {
            put(id.as_bytes());
        }
        for text in [
            &self.agent,
            &self.author,
            &self.source,
            &self.correlation_id,
            &self.causation_id,
        ] {
            put(text.as_bytes());
        }
        put(&(self.attributes.len() as u32).to_le_bytes());
        for attribute in &self.attributes {
            put(attribute.key.as_bytes());
            put(attribute.value.as_bytes());
        }
        out
    }

    /// SHA-256 of the canonical content.
    pub fn checksum(&self) -> Digest {
        Digest::of(&[&self.canonical_bytes()])
    }

    /// The id it has: the given one, or one derived from the content.
    pub fn event_id(&self) -> EventId {
        self.id
            .unwrap_or_else(|| EventId::derive(&[b"content", &self.canonical_bytes()]))
    }
}

fn at_most(field: &str, text: &str, bytes: usize) -> Result<(), Invalid> {
    if text.len() <= bytes {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("expected at most {bytes} bytes, found {}", text.len()),
    ))
}

fn within(field: &str, text: &str, bytes: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(
            field,
            format!("expected 1 to {bytes} bytes, found none"),
        ));
    }
    at_most(field, text, bytes)
}

fn count(field: &str, found: usize, most: usize) -> Result<(), Invalid> {
    if found <= most {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("expected at most {most} entries, found {found}"),
    ))
}

/// An immutable record of the journal: a checked draft and what the journal added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id, unique in the project.
    pub id: EventId,
    /// What it is about; its own id when the draft named none.
    pub record_id: RecordId,
    /// The content as recorded; `supersedes` holds the heads it replaced too.
    pub draft: Draft,
    /// When it was recorded.
    pub recorded_time: Timestamp,
    /// SHA-256 of the draft's canonical content, as the writer stated it.
    pub checksum: Digest,
    /// W3C trace context of the call that wrote it; may be empty.
    pub traceparent: String,
}

impl Event {
    /// When it happened: the stated time, else when it was recorded.
    pub fn event_time(&self) -> Timestamp {
        self.draft.event_time.unwrap_or(self.recorded_time)
    }

    /// The checksum as it is shown: `sha256:` and 64 hex digits.
    pub fn checksum_text(&self) -> String {
        format!("sha256:{}", self.checksum)
    }
}

#[cfg(test)]
mod tests;
