//! Which roles may call which service: the arrows of ARCHITECTURE.md, enforced where calls come in.

use std::collections::{BTreeMap, BTreeSet};

use crate::tls::PeerIdentity;
use crate::{Code, Failure};

/// Services that anybody may call who showed a certificate at all.
const OPEN: [&str; 2] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
];

/// Which roles may call which service, by the service's full name. What is not named is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    callers: BTreeMap<String, BTreeSet<String>>,
}

impl AllowList {
    /// The mesh: each service is called by those that ARCHITECTURE.md draws an arrow from, and all of them by
    /// the gateway and by the role `operator`, which people call as.
    pub fn mesh() -> Self {
        let arrows: [(&str, &[&str]); 10] = [
            (
                "commonplace.journal.v1.JournalService",
                &["ingest", "index"],
            ),
            ("commonplace.index.v1.IndexService", &["retrieval"]),
            ("commonplace.policy.v1.PolicyService", &["retrieval"]),
            (
                "commonplace.policy.v1.AccessService",
                &["journal", "ingest", "index", "retrieval"],
            ),
            ("commonplace.policy.v1.LimitsService", &["journal"]),
            (
                "commonplace.policy.v1.AuditService",
                &["journal", "ingest", "index", "retrieval"],
            ),
            ("commonplace.retrieval.v1.RetrievalService", &[]),
            ("commonplace.ingest.v1.IngestService", &[]),
            ("commonplace.gateway.v1.GatewayService", &[]),
            // Every process serves it; the gateway gathers.
            ("commonplace.telemetry.v1.TelemetryService", &[]),
        ];
        let mut list = Self::default();
        for (service, callers) in arrows {
            for caller in callers.iter().chain(&["gateway", "operator"]) {
                list = list.allow(service, caller);
            }
        }
        list
    }

    /// Lets a role call a service.
    pub fn allow(mut self, service: &str, role: &str) -> Self {
        self.callers
            .entry(service.to_owned())
            .or_default()
            .insert(role.to_owned());
        self
    }

    /// Error: UNAUTHENTICATED without a certificate, PERMISSION_DENIED with that of a role without an arrow.
    pub fn check(&self, path: &str, peer: Option<&PeerIdentity>) -> Result<(), Failure> {
        let service = path.split('/').nth(1).unwrap_or_default();
        let Some(peer) = peer else {
            return Err(Failure::new(Code::Unauthenticated, "PEER_UNKNOWN")
                .message("this port is for services; call with a client certificate"));
        };
        let callers = self.callers.get(service);
        if OPEN.contains(&service)
            || callers.is_some_and(|callers| !callers.is_disjoint(&peer.roles))
        {
            return Ok(());
        }
        let ids = peer
            .ids
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" and ");
        let may = callers.map_or_else(
            || "nobody".to_owned(),
            |callers| {
                callers
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        );
        Err(Failure::new(Code::PermissionDenied, "PEER_NOT_ALLOWED")
            .metadata("peer", &ids)
            .message(format!("{ids} may not call {service}; it is for: {may}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_the_way_of_the_arrows_only() {
        let list = AllowList::mesh();
        let may = |role: &str, service: &str| {
            let peer = PeerIdentity {
                roles: [role.to_owned()].into(),
                ..PeerIdentity::default()
            };
            list.check(&format!("/{service}/Any"), Some(&peer)).is_ok()
        };
        let journal = "commonplace.journal.v1.JournalService";
        let index = "commonplace.index.v1.IndexService";
        for (role, service, allowed) in [
            ("ingest", journal, true),
            ("index", journal, true),
            ("retrieval", journal, false),
            ("retrieval", index, true),
            ("ingest", index, false),
            ("gateway", index, true),
            ("operator", journal, true),
            ("gateway", "commonplace.telemetry.v1.TelemetryService", true),
            (
                "retrieval",
                "commonplace.telemetry.v1.TelemetryService",
                false,
            ),
            ("index", "grpc.health.v1.Health", true),
            ("gateway", "made.up.Service", false),
        ] {
            assert_eq!(may(role, service), allowed, "{role} -> {service}");
        }
        let nobody = list
            .check("/grpc.health.v1.Health/Check", None)
            .unwrap_err();
        assert_eq!(nobody.reason, "PEER_UNKNOWN");
    }
}
