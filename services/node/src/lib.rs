//! A node: the services of one process, wired together.
//!
//! [`Node::start`] takes the data folder, starts each service with channels to those it calls, and nothing
//! else: the same wiring serves `com serve`, every one-shot command, and the tests. [`Node::routes`] is what
//! a port offers.
//!
//! Always true: services are started in the order of the call graph (journal and policy first, gateway
//! last) and stopped in reverse; each is reached through its layers only; one process holds the data
//! folder. Left out: single roles on their own addresses.

mod config;
mod node;

pub use config::{NodeOptions, default_data_dir, default_model_dir};
pub use node::{Channels, Node, NodeError, VERSION};
