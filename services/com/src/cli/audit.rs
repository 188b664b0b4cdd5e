//! What can be said about the audit log.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use commonplace_access::audit::Head;
use commonplace_types::Timestamp;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// It was let in
    Allowed,
    /// It was refused
    Denied,
    /// Its record could not be taken
    Lost,
}

/// `com audit …`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List what was changed and what was refused, the newest first
    List(List),
    /// Print one record, with all that it says
    Show {
        /// Its number
        sequence: u64,
    },
    /// Walk the chain and report the first break: of the log itself, or of an export
    Verify {
        /// An export, checked without a server; without one, the log itself is
        file: Option<PathBuf>,
        /// A head that `com audit head` printed earlier: nothing up to it was changed or taken away
        #[arg(long, value_name = "HEAD")]
        checkpoint: Option<Head>,
    },
    /// Write the whole log as JSON lines
    Export {
        /// File to write to
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print number and hash of the newest record, to be kept elsewhere and compared later
    Head,
}

/// Arguments of `com audit list`.
#[derive(Debug, Args)]
pub struct List {
    /// From this moment on, for example 2026-11-21T08:00:00Z
    #[arg(long, value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Before this moment
    #[arg(long, value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only calls of this user, agent or service, or where it acted
    #[arg(long)]
    pub subject: Option<String>,
    /// Only this call, for example AccessService/CreateKey
    #[arg(long)]
    pub method: Option<String>,
    /// Only calls about this project
    #[arg(long = "in", value_name = "PROJECT")]
    pub in_project: Option<String>,
    /// Only what ended so
    #[arg(long, value_enum)]
    pub decision: Option<Decision>,
    /// Only the call of this request id
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|invalid| invalid.problem)
}
