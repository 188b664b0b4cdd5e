//! The nouns that every service shares: names, ids, moments, events.
//!
//! Each type can only hold what is allowed: a [`ProjectName`] is a project name, an [`Importance`] lies
//! in 0 to 1, a [`Timestamp`] in the years 1970 to 9999. What comes from outside is checked once, where it
//! is turned into one of these, and a failure names the field. No wire format and no storage is known here.

mod event;
mod ids;
mod invalid;
pub mod limits;
mod principal;
mod time;
mod visible;

pub use event::{ArtifactType, Attribute, Draft, Event, Importance, Link, Operation, Scope};
pub use ids::{
    BranchName, CommitHash, Digest, EventId, LaneInterval, PolicyId, ProjectName, RecordId,
    Reference, TagName, TenantName,
};
pub use invalid::Invalid;
pub use principal::{AccessScope, Actor, Principal, PrincipalKind, Right, Subject};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use visible::Visible;
