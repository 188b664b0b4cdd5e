//! Channels and servers over real sockets: endpoints that come, go, hang and lie; retries; drains; TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cancel;
mod common;
mod compression;
mod edge;
mod endpoints;
mod forwarding;
mod health;
mod limits;
mod refusals;
mod retries;
mod rolling;
mod tls;
