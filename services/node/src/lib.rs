//! A node: the services of one process, wired together.
//!
//! [`Node::start`] takes the data folder, starts the services of the process's roles with channels to those they
//! call, and nothing else: the same wiring serves `com serve`, every one-shot command, and the tests. A service
//! that does not run here is called where [`Peers`] says. [`Ports`] is where a process listens.
//!
//! Always true: services are started in the order of the call graph (journal and policy first, gateway
//! last) and stopped in reverse; each is reached through its layers only, here or elsewhere; one process holds
//! the data folder. Left out: what decides which process plays which role.

mod channels;
mod config;
mod migrate;
mod node;
mod peers;
mod policy;
mod ports;
mod role;
mod telemetry;

pub use channels::Channels;
pub use config::{NodeOptions, default_data_dir, default_model_dir};
pub use migrate::{Schema, migrate, schemas};
pub use node::{Node, NodeError, Surroundings, VERSION};
pub use peers::Peers;
pub use ports::{PortError, Ports};
pub use role::Role;
pub use telemetry::told_spans;
