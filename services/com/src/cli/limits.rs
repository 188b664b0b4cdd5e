//! What can be said about how much tenants may do.

use std::path::PathBuf;

use clap::Subcommand;

/// `com limits …`
#[derive(Debug, Subcommand)]
pub enum Limits {
    /// Print the tenant's limits, as `put` takes them
    Get,
    /// Give the tenant limits of its own, for operators
    Put {
        /// TOML with [[rates]] and [[quotas]]; `-` reads standard input
        file: PathBuf,
        /// Only if the limits still have this etag, which `get` tells
        #[arg(long)]
        expected: Option<String>,
    },
    /// Take the tenant's own limits away, so that those of the settings hold, for operators
    Reset,
    /// List the tenants that have limits of their own, for operators
    List,
}
