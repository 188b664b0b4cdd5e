//! Databases as a whole, on real files and a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;
mod postgres;
mod wall;
