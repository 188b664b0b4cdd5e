//! What was changed and what was refused, on its way to the audit log.
//!
//! The layer around every service records each mutation that it let in, with its outcome, and each denial
//! ([`Watch`]); the gateway records what it refuses by itself ([`Recorder::refused`]). Which call is a mutation its
//! contract says ([`Method::mutates`](crate::methods::Method::mutates)).
//!
//! What always holds: a mutation is let in only if there is room for its record, and its record is queued before
//! it is answered, whatever ends it; with [`Answer::Kept`] it is also kept by then. What is delivered twice is kept
//! once, by its id. Denials never take more room than they are given: what repeats within a window is counted.
//! A mutation is recorded by the first service that it reaches, not again by those that this one calls meanwhile.
//!
//! Left out: keeping records (the policy service does), and what requests say: of a call only who, what, where and
//! how it ended are recorded.

mod denials;
mod entry;
mod hop;
mod options;
mod recorder;
#[cfg(test)]
mod tests;
mod watch;

pub use entry::{Entry, Verdict, Who};
pub use hop::PeerAddress;
pub use options::{Answer, OnFull, Options};
pub use recorder::{Recorder, Sink};

pub(crate) use hop::Hop;
pub(crate) use watch::Watch;
