//! How much callers may do: the same limits in every process, counted where it is cheapest to be right.
//!
//! - [`rules`] is what limits say: rates (a token bucket for each tenant, project or principal) and quotas (what may
//!   be stored).
//! - [`bucket`] is the token bucket.
//! - [`Limiter`] fetches a tenant's limits from the policy service, no older than `access.refresh_ms`, and counts.
//!   Gateways count requests and bytes and share their buckets (`share.rs`); the journal, which alone writes, counts
//!   events and what is stored by itself, and so exactly.
//!
//! What always holds: a call takes all the tokens that it needs or none; what is kept is bounded; no call waits for
//! another process but to learn the limits of its tenant once in a while. Who cannot ask for limits goes on with what
//! it knows: limits protect the service, they do not decide who may do what. Left out: keeping limits (the policy
//! service does), and how many calls can be served at all (`commonplace_rpc::Admission`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod bucket;
mod buckets;
mod convert;
mod limiter;
pub mod rules;
mod share;
mod source;

pub use convert::{limits_from_proto, limits_to_proto};
pub use limiter::Limiter;
pub use rules::{Limits, Methods, Per, Quota, Rate, Room, Unit};
pub use share::Sharing;
pub use source::{Fetched, Granted, LeaseAsk, PolicySource, Source};
