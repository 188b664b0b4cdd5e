//! A Qdrant cluster as the store that proposes dense candidates.
//!
//! It exists because an exact scan of everything in memory ends at some hundred thousand passages; a cluster holds
//! more, on several machines. What always holds:
//! - The store only proposes. Every score is computed here, from the whole numbers in the log on disk, and equal
//!   scores are ordered by event id and passage; the store's scores, fusion and order never reach an answer.
//!   So the numbers live in the local log and not in the points: a pack is checked, and a rebuilt store filled,
//!   without trusting or reaching the store.
//! - An answer is complete at the commit that it names. Rows that the store has not acknowledged are scanned here,
//!   and so are older rows whose visibility changed since; with exact search, more is asked for until
//!   what was not proposed provably scores lower.
//! - Writes are idempotent: a point's id follows from tenant, project, event and passage, and a point built
//!   from fewer commits never replaces one built from more. So they are repeated freely.
//! - Nothing waits in memory for the store: what is to be written is read from the columns and the log, a batch
//!   at a time, however long the store is away.
//! - While the store is down a search does not wait for it: the dense signal is off and the answer says so.
//!
//! Left out: fusion and lexical search in the store, sharding by tenant, and moving shards.

mod check;
mod client;
mod convert;
mod options;
mod outside;
mod point;
mod store;
mod sync;
mod watermark;

pub(crate) use check::{Findings, check, repair};
pub use options::{QdrantOptions, Quantization, Secret};
pub(crate) use outside::{Outside, OutsideScan, Unranked};
pub(crate) use point::{Owner, key_of};
pub(crate) use store::Store;
pub use store::StoreError;
pub(crate) use sync::Syncer;
pub(crate) use watermark::read as read_watermark;
