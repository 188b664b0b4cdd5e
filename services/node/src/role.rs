//! The roles that a process may play.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use commonplace_proto::gateway::gateway_service_server::SERVICE_NAME as GATEWAY;
use commonplace_proto::index::index_service_server::SERVICE_NAME as INDEX;
use commonplace_proto::ingest::ingest_service_server::SERVICE_NAME as INGEST;
use commonplace_proto::journal::journal_service_server::SERVICE_NAME as JOURNAL;
use commonplace_proto::policy::access_service_server::SERVICE_NAME as ACCESS;
use commonplace_proto::policy::audit_service_server::SERVICE_NAME as AUDIT;
use commonplace_proto::policy::limits_service_server::SERVICE_NAME as LIMITS;
use commonplace_proto::policy::policy_service_server::SERVICE_NAME as POLICY;
use commonplace_proto::retrieval::retrieval_service_server::SERVICE_NAME as RETRIEVAL;
use commonplace_types::Invalid;
use serde::{Deserialize, Serialize};

/// One service of the mesh. Ordered as services start: whoever is called before its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Retrieval policies, who may do what, and the audit log.
    Policy,
    /// The record of truth.
    Journal,
    /// Reading reports.
    Ingest,
    /// Finding passages.
    Index,
    /// Making packs.
    Retrieval,
    /// The port for everybody.
    Gateway,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Policy,
        Self::Journal,
        Self::Ingest,
        Self::Index,
        Self::Retrieval,
        Self::Gateway,
    ];

    /// Its name in settings, certificates and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Policy => "policy",
            Self::Ingest => "ingest",
            Self::Index => "index",
            Self::Retrieval => "retrieval",
            Self::Gateway => "gateway",
        }
    }

    /// The full name of its service, for example `commonplace.journal.v1.JournalService`.
    pub fn service(self) -> &'static str {
        match self {
            Self::Journal => JOURNAL,
            Self::Policy => POLICY,
            Self::Ingest => INGEST,
            Self::Index => INDEX,
            Self::Retrieval => RETRIEVAL,
            Self::Gateway => GATEWAY,
        }
    }

    /// The full names of all that it answers, the one above first.
    pub fn services(self) -> &'static [&'static str] {
        match self {
            Self::Journal => &[JOURNAL],
            Self::Policy => &[POLICY, ACCESS, LIMITS, AUDIT],
            Self::Ingest => &[INGEST],
            Self::Index => &[INDEX],
            Self::Retrieval => &[RETRIEVAL],
            Self::Gateway => &[GATEWAY],
        }
    }

    /// Whom it calls: the arrows of ARCHITECTURE.md. Everybody asks the policy service who may do what.
    pub fn calls(self) -> &'static [Self] {
        match self {
            Self::Policy => &[],
            Self::Journal => &[Self::Policy],
            Self::Ingest | Self::Index => &[Self::Policy, Self::Journal],
            Self::Retrieval => &[Self::Policy, Self::Index],
            Self::Gateway => &[
                Self::Policy,
                Self::Journal,
                Self::Ingest,
                Self::Index,
                Self::Retrieval,
            ],
        }
    }

    /// Every role, to play all of them in one process.
    pub fn all() -> BTreeSet<Self> {
        Self::ALL.into_iter().collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            let problem = format!("expected some of {known}, found `{}`", text.escape_debug());
            Invalid::new("roles", problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_starts_after_those_it_calls() {
        for role in Role::ALL {
            assert!(role.calls().iter().all(|called| *called < role), "{role}");
            assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        }
        let error = "router".parse::<Role>().unwrap_err();
        assert!(error.problem.contains("policy, journal"), "{error}");
    }

    #[test]
    fn certificates_let_roles_call_as_the_arrows_go() {
        let list = commonplace_rpc::AllowList::mesh();
        for caller in Role::ALL {
            for called in Role::ALL {
                let peer = commonplace_rpc::PeerIdentity {
                    roles: [caller.to_string()].into(),
                    ..Default::default()
                };
                let may =
                    |service: &&str| list.check(&format!("/{service}/Any"), Some(&peer)).is_ok();
                let allowed = called.services().iter().any(may);
                let arrow = caller.calls().contains(&called)
                    || caller == Role::Gateway && called == Role::Gateway;
                assert_eq!(allowed, arrow, "{caller} -> {called}");
            }
        }
    }
}
