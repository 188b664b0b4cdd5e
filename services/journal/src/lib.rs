//! The journal: the record of truth that every other store is derived from.
//!
//! Agents and CI systems append events; nothing is ever changed. A commit groups the events of one append
//! and is named by a hash over its content and its parents, so a history can be cited, compared and
//! checked. Branches are cheap: one is a name until its first commit gives it a *lane*, a run of dense
//! positions. What a commit sees is a short list of intervals, one for each lane, whatever the number of
//! events; reading the past is a filter, not a copy.
//!
//! What always holds:
//! - An append that was answered is on disk. Appends that wait together share one transaction and one
//!   sync (the `writer` module); each succeeds or fails on its own.
//! - Positions in a lane and commit numbers in a project are dense, so a gap is an error and never a race.
//! - Every hash can be recomputed from what is stored ([`Journal::verify`]). Content enters the chain only
//!   through a salted hash: an erased body leaves the chain intact.
//! - The same request id, or the same observation twice, changes nothing. A state (how a record stands now)
//!   may return after something else was said; then it is a new event. The `append` module has the rule.
//! - A tail tells whole commits in order, can be resumed anywhere, and says when its cursor fits no longer.
//!
//! - What exceeds a quota is refused before anything of it is written (the `quota` module).
//! - Of several journals on one PostgreSQL database one leads; the others stand by and take over (the
//!   `leader` module). One that was overtaken cannot write.
//!
//! Left out so far: merging, erasure, and proofs for single events.
//!
//! Where to read: `append` decides, `store` keeps, `query` and `tail` read, `verify` checks, `service`
//! speaks gRPC.

mod append;
mod body;
mod commit;
mod config;
mod convert;
mod credits;
mod entropy;
mod error;
mod journal;
mod lane;
mod leader;
mod merkle;
mod metrics;
mod query;
mod quota;
mod service;
mod state;
mod store;
mod tail;
mod token;
mod verify;
mod writer;

pub use append::{Append, Appended, AppendedEvent, Origin, RequestId};
pub use commit::Commit;
pub use config::Options;
pub use entropy::{Entropy, SystemEntropy};
pub use error::JournalError;
pub use journal::{Journal, migrate, schema_state, start, start_with, wall_state};
pub use query::{Page, Point, ProjectEntry, Selection};
pub use service::Service;
pub use store::{CreateRef, Frame, RefEntry, RefName};
pub use tail::{TailItem, TailStream, Tailed};
pub use verify::Report;
