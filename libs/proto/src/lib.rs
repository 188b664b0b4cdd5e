//! The contracts of `proto/` as Rust, generated and nothing else.
//!
//! One module per package. [`DESCRIPTORS`] holds the same contracts as data, for reflection, for the
//! JSON surface and for tests; [`to_json`] prints any message the way that surface does.

#![allow(missing_docs, clippy::all)]

macro_rules! packages {
    ($($name:ident),*) => {
        $(pub mod $name {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/commonplace.", stringify!($name), ".v1.rs"));
            }
        })*
    };
}

pub mod commonplace {
    packages!(
        common, ingest, journal, index, retrieval, policy, gateway, telemetry
    );
}

pub use commonplace::{
    common::v1 as common, gateway::v1 as gateway, index::v1 as index, ingest::v1 as ingest,
    journal::v1 as journal, policy::v1 as policy, retrieval::v1 as retrieval,
    telemetry::v1 as telemetry,
};

mod json;

pub use json::{JsonError, from_json, pool, to_json};
/// The well-known moment in time, as the contracts use it.
pub use prost_types::Timestamp;

/// Every contract as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
