//! The audit log as a chain: each record's hash is over the hash before and over all that the record says.
//!
//! [`Record`] is a record in its place, [`canonical`] the bytes that are hashed and kept, [`Checker`] walks a
//! chain and tells the first break, [`lines`] is the log as a file, [`PolicySink`] delivers what a process
//! recorded to the policy service, which keeps it.
//!
//! What always holds: equal records have equal bytes; a chain that was checked up to a hash says what it said when
//! that hash was made. A chain alone does not show that its end was cut off together with its head, or that all of
//! it was made anew: a head that was kept elsewhere does.

pub mod canonical;
mod chain;
mod convert;
pub mod lines;
mod sink;
#[cfg(test)]
mod tests;

pub use chain::{Break, Checker, Head, Record};
pub use convert::{
    entry_from_proto, head_from_proto, head_to_proto, record_from_proto, record_to_proto,
};
pub use sink::PolicySink;
