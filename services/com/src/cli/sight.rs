//! What can be said about traces and measurements, and what commands are called in traces.

use clap::Args;

use super::Command;

/// Arguments of `com trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// Its 32 hex digits, as every failure tells them, or a header `traceparent`; without it, a list
    pub id: Option<String>,
    /// Show the newest one
    #[arg(long, conflicts_with = "id")]
    pub last: bool,
    /// Only those in which something failed
    #[arg(long, conflicts_with = "id")]
    pub failed: bool,
    /// Only those that took at least so many milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "id")]
    pub slow: Option<u64>,
    /// How many to list
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

/// Arguments of `com top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Milliseconds between two looks
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub interval_ms: u64,
    /// Look once, then end
    #[arg(long)]
    pub once: bool,
}

impl Command {
    /// As its trace is named.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "com demo",
            Self::Serve(_) => "com serve",
            Self::Ingest(_) => "com ingest",
            Self::Events(_) => "com events",
            Self::Log(_) => "com log",
            Self::Branch(_) => "com branch",
            Self::Tag(_) => "com tag",
            Self::Search(_) => "com search",
            Self::Retrieve(_) => "com retrieve",
            Self::Pack(_) => "com pack",
            Self::Verify(_) => "com verify",
            Self::Policy(_) => "com policy",
            Self::Index(_) => "com index",
            Self::Journal(_) => "com journal",
            Self::Model(_) => "com model",
            Self::Keys(_) => "com keys",
            Self::Grants(_) => "com grants",
            Self::Authz(_) => "com authz",
            Self::Audit(_) => "com audit",
            Self::Token(_) => "com token",
            Self::Certs(_) => "com certs",
            Self::Migrate(_) => "com migrate",
            Self::Config(_) => "com config",
            Self::Health => "com health",
            Self::Limits(_) => "com limits",
            Self::Trace(_) => "com trace",
            Self::Metrics => "com metrics",
            Self::Top(_) => "com top",
            Self::Doctor => "com doctor",
        }
    }
}
