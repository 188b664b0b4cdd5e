//! Bounds of an event's parts, in bytes or in number.

/// Longest title.
pub const TITLE_BYTES: usize = 1_024;
/// Longest text.
pub const TEXT_BYTES: usize = 1 << 20;
/// Most links of an event.
pub const LINKS: usize = 1_024;
/// Longest link target.
pub const LINK_TARGET_BYTES: usize = 1_024;
/// Most tags of an event.
pub const TAGS: usize = 64;
/// Longest tag.
pub const TAG_BYTES: usize = 128;
/// Most attributes of an event.
pub const ATTRIBUTES: usize = 64;
/// Longest attribute value.
pub const ATTRIBUTE_BYTES: usize = 4_096;
/// Longest agent, author or source.
pub const ACTOR_BYTES: usize = 256;
/// Longest correlation or causation id.
pub const CORRELATION_BYTES: usize = 128;
/// Most events an event may supersede by name.
pub const SUPERSEDES: usize = 1_024;
/// Most events of one commit.
pub const COMMIT_EVENTS: usize = 5_000;
/// Most bytes of one commit's events together.
pub const COMMIT_BYTES: usize = 16 << 20;
