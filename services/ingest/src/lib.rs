//! Ingest: brings what other tools say into the journal.
//!
//! CI servers, test runners and repositories already know what happened; this crate reads their own reports,
//! so that nobody has to retell them and no language model is needed. An adapter turns a report into drafts
//! ([`adapter`]), secrets are masked ([`redact`]), each draft is checked and gets an id from its content
//! ([`intake`]), and batches are appended through the journal's contract ([`service`]).
//!
//! What always holds:
//! - The same input twice adds nothing: ids come from content, never from file names, times of ingest or the
//!   order of files. An observation adds nothing even after it was superseded, so an old report can be sent
//!   again; a test result without a time is one too, since nothing tells it from the same report sent again. A
//!   state (a node of Jenkins, a draft with `supersede_heads` and no time) is what was last said of its
//!   record: sent again it adds nothing, but it may return after something else was said. Only a file that takes a record through
//!   several states and is appended in several batches adds its states anew when it is sent again.
//! - The same input adds cleanly to another branch, from whatever source it comes there.
//! - Nothing unmasked reaches the journal, and no id is derived from anything unmasked.
//! - A report that cannot be read leaves no trace; a piece of a report that cannot be taken is refused with
//!   its place, its field and a reason, and the rest is taken.
//! - Memory is bounded: a report by a limit, all reports by a budget that is held until reading ends, batches
//!   by a queue that waits for the journal. So is work: few reports are read at once, and reading ends soon
//!   after its call does.
//!
//! Left out: fetching reports from their tools (the command line and webhooks do that), and judging what the
//! events mean.

#![allow(clippy::result_large_err)]

pub mod adapter;
pub mod cancel;
mod client;
pub mod config;
mod convert;
pub mod error;
pub mod intake;
pub mod redact;
pub mod samples;
pub mod service;

pub use adapter::git::{GIT_LOG_ARGUMENTS, parts as git_parts};
pub use config::Options;
pub use error::IngestError;
pub use service::{Ingest, start};
