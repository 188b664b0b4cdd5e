//! Who a peer is: the SPIFFE ids in its certificate, and the roles they name.

use std::collections::BTreeSet;

use commonplace_types::Digest;
use rustls::pki_types::CertificateDer;

/// A peer that proved who it is by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerIdentity {
    /// Every SPIFFE id in the certificate, for example `spiffe://commonplace.local/journal`.
    pub ids: BTreeSet<String>,
    /// The roles that they name in our trust domain, for example `journal`.
    pub roles: BTreeSet<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

/// How SPIFFE ids of our trust domain are made from roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naming {
    before: String,
    after: String,
}

impl Naming {
    /// `path` holds `{role}` once, for example `ns/prod/sa/{role}`. Nothing if it does not.
    pub(crate) fn new(trust_domain: &str, path: &str) -> Option<Self> {
        let (before, after) = path.split_once("{role}")?;
        (!after.contains("{role}")).then(|| Self {
            before: format!("spiffe://{trust_domain}/{before}"),
            after: after.to_owned(),
        })
    }

    /// The id of a role.
    pub(crate) fn id(&self, role: &str) -> String {
        format!("{}{role}{}", self.before, self.after)
    }

    fn role<'a>(&self, id: &'a str) -> Option<&'a str> {
        let role = id.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        (!role.is_empty() && !role.contains('/')).then_some(role)
    }

    /// Who a certificate belongs to. The chain must have been checked before.
    pub(crate) fn identity(&self, certificate: &CertificateDer<'_>) -> PeerIdentity {
        let ids = spiffe_ids(certificate);
        let roles = ids
            .iter()
            .filter_map(|id| self.role(id))
            .map(str::to_owned)
            .collect();
        PeerIdentity {
            ids,
            roles,
            fingerprint: *Digest::of(&[certificate.as_ref()]).as_bytes(),
        }
    }
}

/// The SPIFFE ids among the URI names of a certificate.
pub(crate) fn spiffe_ids(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return BTreeSet::new();
    };
    let names = certificate.valid_uri_names();
    names
        .filter(|name| name.starts_with("spiffe://"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_ids_of_our_naming_only() {
        let plain = Naming::new("commonplace.local", "{role}").unwrap();
        assert_eq!(plain.id("journal"), "spiffe://commonplace.local/journal");
        let mesh = Naming::new("cluster.local", "ns/prod/sa/com-{role}").unwrap();
        for (naming, id, role) in [
            (
                &plain,
                "spiffe://commonplace.local/journal",
                Some("journal"),
            ),
            (&plain, "spiffe://commonplace.local/ns/journal", None),
            (&plain, "spiffe://commonplace.local/", None),
            (&plain, "spiffe://elsewhere/journal", None),
            (&plain, "spiffe://commonplace.local.evil/journal", None),
            (
                &mesh,
                "spiffe://cluster.local/ns/prod/sa/com-index",
                Some("index"),
            ),
            (&mesh, "spiffe://cluster.local/ns/test/sa/com-index", None),
        ] {
            assert_eq!(naming.role(id), role, "{id}");
        }
        assert_eq!(Naming::new("a", "no role"), None);
        assert_eq!(Naming::new("a", "{role}/{role}"), None);
    }
}
