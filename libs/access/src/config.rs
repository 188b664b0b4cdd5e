//! Settings of who may call.

use std::path::PathBuf;

use commonplace_types::Invalid;
use serde::{Deserialize, Serialize};

/// Whether callers must show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Whoever shows nothing may do everything in the tenant `default`. On loopback addresses only.
    #[default]
    Development,
    /// Whoever shows nothing may do nothing.
    Required,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `required`: callers must show a token, a key or a certificate. `development`: whoever shows none may do
    /// everything; refused on addresses that others can reach.
    pub mode: Mode,
    /// Milliseconds after which changed keys, grants and policies hold everywhere, 50 to 60,000.
    pub refresh_ms: u64,
    /// Seconds for which a process goes on with what it knows while it cannot ask the policy service; then it
    /// refuses. 1 to 3,600, and not less than `refresh_ms`.
    pub stale_seconds: u64,
    /// Seconds by which a token's times may miss our clock, 0 to 300.
    pub clock_leeway_seconds: u64,
    /// Longest life of a token in seconds, 60 to 2,592,000.
    pub max_token_seconds: u64,
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerOptions>,
    /// Which client certificates are taken, besides those of services.
    pub certificates: Vec<CertificateOptions>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerOptions {
    /// The claim `iss`, exactly.
    pub issuer: String,
    /// What the claim `aud` must name.
    pub audience: String,
    /// The keys as a JSON Web Key Set, in a file; read again when it changes.
    pub jwks_file: PathBuf,
    /// The same at an `https` address, or `http` on a loopback address; fetched when a token needs it, and again
    /// every five minutes or for a key that is not known, at most every ten seconds.
    pub jwks_url: String,
    /// The tenant of all its tokens; empty: the claim `tenant` says it. An issuer that is trusted with that is
    /// trusted with every tenant.
    pub tenant: String,
    /// The claim that holds the roles; empty: its tokens give no roles.
    pub roles_claim: String,
}

/// A client certificate that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateOptions {
    /// Its SPIFFE id, exactly.
    pub spiffe_id: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The subject that it stands for.
    pub subject: String,
    /// `user` or `agent`.
    pub kind: String,
    /// The roles that it gives.
    pub roles: Vec<String>,
    /// At most what it may be used for, such as `read` or `write:shop`; empty: whatever policies allow.
    pub scopes: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Development,
            refresh_ms: 1_000,
            stale_seconds: 30,
            clock_leeway_seconds: 30,
            max_token_seconds: 86_400,
            issuers: Vec::new(),
            certificates: Vec::new(),
        }
    }
}

impl Options {
    /// Checks the bounds. Error: names the setting.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let problem = format!("expected {least} to {most}, found {value}");
            Err(Invalid::new(format!("access.{name}"), problem))
        };
        within("refresh_ms", self.refresh_ms, 50, 60_000)?;
        let least = self.refresh_ms.div_ceil(1_000).max(1);
        within("stale_seconds", self.stale_seconds, least, 3_600)?;
        within("clock_leeway_seconds", self.clock_leeway_seconds, 0, 300)?;
        within("max_token_seconds", self.max_token_seconds, 60, 2_592_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked_by_name() {
        assert_eq!(Options::default().check(), Ok(()));
        let wrong = Options {
            stale_seconds: 1,
            refresh_ms: 2_000,
            ..Options::default()
        };
        assert_eq!(wrong.check().unwrap_err().field, "access.stale_seconds");
    }
}
