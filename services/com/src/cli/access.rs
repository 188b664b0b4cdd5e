//! What can be said about who may do what.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// What kind of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A person
    User,
    /// A program that works for somebody
    Agent,
}

/// A right that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Right {
    /// To see what is there
    Read,
    /// To add to it
    Write,
    /// To change how it works, and for whom
    Admin,
}

/// `com keys …`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key; it is printed once and kept nowhere
    Create(KeysCreate),
    /// Give a key a new secret; the old one is good for the overlap
    Rotate {
        /// Its public id
        id: String,
        /// How long the old secret is good, for example 1d; 0s ends it at once
        #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "1d")]
        overlap: Duration,
        /// How long the key is good from now; without it, as long as before
        #[arg(long, value_name = "SPAN", value_parser = parse_span)]
        expires_in: Option<Duration>,
    },
    /// End a key for good
    Revoke {
        /// Its public id
        id: String,
    },
    /// List keys, ended ones too
    List,
}

/// Arguments of `com keys create`.
#[derive(Debug, Args)]
pub struct KeysCreate {
    /// Who shows it: a name within the tenant
    #[arg(long)]
    pub subject: String,
    /// What kind of somebody
    #[arg(long, value_enum, default_value_t = Kind::Agent)]
    pub kind: Kind,
    /// A role that it gives: reader, writer, admin, or a name that policies use; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// At most what it may be used for, for example read or write:shop; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// What it is for
    #[arg(long, default_value = "")]
    pub description: String,
    /// How long it is good, for example 90d
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "90d")]
    pub expires_in: Duration,
}

/// `com grants …`
#[derive(Debug, Subcommand)]
pub enum Grants {
    /// Let somebody read, write or administer a part of the tenant
    Create(GrantsCreate),
    /// Take a grant back
    Delete {
        /// Its id
        id: String,
    },
    /// List grants
    List,
}

/// Arguments of `com grants create`.
#[derive(Debug, Args)]
pub struct GrantsCreate {
    /// To whom
    #[command(flatten)]
    pub to: Grantee,
    /// Which right, with those before it
    #[arg(long, value_enum)]
    pub right: Right,
    /// Over what
    #[command(flatten)]
    pub over: Over,
    /// Only events of this type
    #[arg(
        long = "type",
        value_name = "TYPE",
        requires = "in_project",
        conflicts_with = "author"
    )]
    pub artifact_type: Option<String>,
    /// Only events of this author
    #[arg(long, requires = "in_project")]
    pub author: Option<String>,
}

/// To whom a right is granted.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Grantee {
    /// To a person
    #[arg(long)]
    pub user: Option<String>,
    /// To an agent
    #[arg(long)]
    pub agent: Option<String>,
    /// To everybody with a role
    #[arg(long)]
    pub role: Option<String>,
}

/// Over what a right is granted.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Over {
    /// Over a project
    #[arg(long = "in", value_name = "PROJECT")]
    pub in_project: Option<String>,
    /// Over the whole tenant
    #[arg(long)]
    pub everywhere: bool,
}

/// `com authz …`
#[derive(Debug, Subcommand)]
pub enum Authz {
    /// Say whether a call is allowed, and why
    Explain(Explain),
    /// Authorization policies in Cedar
    #[command(subcommand)]
    Policies(Policies),
}

/// Arguments of `com authz explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The call, for example JournalService/Append; `--project` says where
    pub method: String,
    /// About this person instead of yourself
    #[arg(long, conflicts_with = "agent")]
    pub user: Option<String>,
    /// About this agent instead of yourself
    #[arg(long)]
    pub agent: Option<String>,
    /// A role of theirs; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// A scope of their credential; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// An agent that acts for them, the nearest first; may be repeated
    #[arg(long = "through", value_name = "AGENT")]
    pub through: Vec<String>,
}

/// `com authz policies …`
#[derive(Debug, Subcommand)]
pub enum Policies {
    /// List policies, the shipped ones first
    List,
    /// Print a policy
    Get {
        /// Its id
        id: String,
    },
    /// Print the schema that policies are checked against
    Schema,
    /// Store a policy in place of the one of its id
    Put {
        /// Its id
        id: String,
        /// Cedar file, or `-` for standard input
        file: PathBuf,
    },
    /// Say what is wrong with a policy, and store nothing
    Check {
        /// Its id
        id: String,
        /// Cedar file, or `-` for standard input
        file: PathBuf,
    },
    /// Remove a policy
    Delete {
        /// Its id
        id: String,
    },
}

/// `com token …`
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Sign a token with an Ed25519 key of your own
    Mint(Mint),
    /// Show what a token says, without believing it
    Inspect {
        /// The token, or `-` for standard input
        #[arg(value_name = "TOKEN")]
        text: String,
    },
}

/// Arguments of `com token mint`.
#[derive(Debug, Args)]
pub struct Mint {
    /// The key, Ed25519 as PKCS #8 in PEM
    #[arg(long, value_name = "FILE", default_value = "issuer.key")]
    pub signing_key: PathBuf,
    /// Make the key, and its public half beside it for `access.issuers`, if they are not there
    #[arg(long)]
    pub init: bool,
    /// The claim `iss`, as `access.issuers` has it
    #[arg(long)]
    pub issuer: String,
    /// The claim `aud`, as `access.issuers` has it
    #[arg(long, default_value = "commonplace")]
    pub audience: String,
    /// Whom it is about
    #[arg(long)]
    pub subject: String,
    /// What kind of somebody
    #[arg(long, value_enum, default_value_t = Kind::User)]
    pub kind: Kind,
    /// A role; may be repeated. Taken where `access.issuers` names the claim
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The claim that holds the roles
    #[arg(long, default_value = "roles")]
    pub roles_claim: String,
    /// At most what it may be used for, for example read or write:shop; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// An agent that acts for the subject, the nearest first; may be repeated
    #[arg(long = "through", value_name = "AGENT")]
    pub through: Vec<String>,
    /// How long it is good, for example 1h
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "1h")]
    pub expires_in: Duration,
}

/// A number and s, m, h or d.
fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a span like 90d, 12h, 30m or 0s, found `{text}`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text
        .strip_suffix(unit)
        .and_then(|n| n.parse().ok())
        .ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_units() {
        for (text, seconds) in [("0s", 0), ("90d", 7_776_000), ("12h", 43_200), ("5m", 300)] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "d",
            "1",
            "-1d",
            "1w",
            "1.5h",
            "99999999999999999999d",
            "9999999999999999d",
        ] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
