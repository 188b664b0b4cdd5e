//! The principal of a call between services: a header that only a port for services believes.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use commonplace_proto::common as proto;
use commonplace_types::{Actor, Invalid, Principal, PrincipalKind, Subject, TenantName};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use prost::Message;

use crate::audit::Hop;
use crate::convert::{timestamp_from_proto, timestamp_to_proto};
use crate::tls::PeerIdentity;
use crate::{Code, Failure};

/// Carries a principal between services. Taken away from whatever comes in, unless a service sent it.
const HEADER: HeaderName = HeaderName::from_static("x-commonplace-principal-bin");

/// Puts the principal of a call on a request to another process. To be used over a connection that shows our
/// certificate only.
pub(crate) fn send_on(principal: &Principal, headers: &mut HeaderMap) {
    let text = STANDARD_NO_PAD.encode(to_proto(principal).encode_to_vec());
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(HEADER, value);
    }
}

/// Takes away what a caller claims to be.
pub(crate) fn strip<B>(request: &mut Request<B>) {
    request.headers_mut().remove(HEADER);
    request.extensions_mut().remove::<Arc<Principal>>();
    Hop::strip(request);
}

/// Takes a principal from a service that showed its certificate. One that names none passes on a call that
/// nobody is known to have made: it must say so to call in its own name.
/// Error: UNAUTHENTICATED if what it sent is no principal, or another service's name.
pub(crate) fn receive<B>(request: &mut Request<B>) -> Result<(), Failure> {
    let sent = request.headers().get(HEADER).cloned();
    let peer = request.extensions().get::<PeerIdentity>().cloned();
    let hop = peer
        .as_ref()
        .map(|peer| Hop::receive(request.headers(), peer));
    strip(request);
    if let Some(hop) = hop {
        request.extensions_mut().insert(hop);
    }
    let (Some(sent), Some(peer)) = (sent, peer) else {
        return Ok(());
    };
    let principal = read(sent.as_bytes()).map_err(|invalid| wrong(&invalid.to_string()))?;
    if principal.is_service() && !peer.roles.contains(principal.subject.as_str()) {
        let text = format!("the peer is not the service `{}`", principal.subject);
        return Err(wrong(&text));
    }
    request.extensions_mut().insert(Arc::new(principal));
    Ok(())
}

fn wrong(problem: &str) -> Failure {
    Failure::new(Code::Unauthenticated, "PRINCIPAL_INVALID").message(format!(
        "the principal of the call cannot be taken: {problem}"
    ))
}

fn read(bytes: &[u8]) -> Result<Principal, Invalid> {
    let unreadable = || Invalid::new("principal", "expected a principal as services send it");
    let bytes = STANDARD_NO_PAD.decode(bytes).map_err(|_| unreadable())?;
    from_proto(proto::Principal::decode(bytes.as_slice()).map_err(|_| unreadable())?)
}

/// Writes a principal.
pub fn to_proto(principal: &Principal) -> proto::Principal {
    let scopes = principal.scopes.as_ref().map(|scopes| proto::Scopes {
        scopes: scopes.iter().map(ToString::to_string).collect(),
    });
    let actor = |actor: &Actor| proto::Actor {
        kind: kind_to_proto(actor.kind).into(),
        subject: actor.subject.to_string(),
    };
    proto::Principal {
        tenant: principal.tenant.to_string(),
        kind: kind_to_proto(principal.kind).into(),
        subject: principal.subject.to_string(),
        roles: principal.roles.iter().cloned().collect(),
        scopes,
        actors: principal.actors.iter().map(actor).collect(),
        credential: principal.credential.clone(),
        expire_time: principal.expires.map(timestamp_to_proto),
    }
}

/// Reads a principal. Error: names the field.
pub fn from_proto(principal: proto::Principal) -> Result<Principal, Invalid> {
    let kind = principal.kind();
    let scopes = principal.scopes.map(|scopes| {
        let read = scopes.scopes.iter().map(|scope| scope.parse());
        read.collect::<Result<BTreeSet<_>, Invalid>>()
    });
    let actor = |actor: proto::Actor| {
        Ok(Actor {
            kind: kind_from_proto(actor.kind())?,
            subject: Subject::new(actor.subject)?,
        })
    };
    let actors: Result<Vec<Actor>, Invalid> = principal.actors.into_iter().map(actor).collect();
    let expires = principal.expire_time.as_ref();
    Principal {
        tenant: TenantName::new(principal.tenant)?,
        kind: kind_from_proto(kind)?,
        subject: Subject::new(principal.subject)?,
        roles: principal.roles.into_iter().collect(),
        scopes: scopes.transpose()?,
        actors: actors?,
        credential: principal.credential,
        expires: expires
            .map(|time| timestamp_from_proto(time, "expire_time"))
            .transpose()?,
    }
    .checked()
}

/// Writes what kind of somebody a principal is.
pub fn kind_to_proto(kind: PrincipalKind) -> proto::PrincipalKind {
    match kind {
        PrincipalKind::User => proto::PrincipalKind::User,
        PrincipalKind::Agent => proto::PrincipalKind::Agent,
        PrincipalKind::Service => proto::PrincipalKind::Service,
    }
}

/// Reads what kind of somebody a principal is. Error: unspecified.
pub fn kind_from_proto(kind: proto::PrincipalKind) -> Result<PrincipalKind, Invalid> {
    match kind {
        proto::PrincipalKind::User => Ok(PrincipalKind::User),
        proto::PrincipalKind::Agent => Ok(PrincipalKind::Agent),
        proto::PrincipalKind::Service => Ok(PrincipalKind::Service),
        proto::PrincipalKind::Unspecified => Err(Invalid::new(
            "kind",
            "expected a user, an agent or a service",
        )),
    }
}

#[cfg(test)]
mod tests {
    use commonplace_types::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn peer(role: &str) -> PeerIdentity {
        PeerIdentity {
            roles: [role.to_owned()].into(),
            ..PeerIdentity::default()
        }
    }

    fn sent(principal: &Principal, peer: Option<PeerIdentity>) -> Request<()> {
        let mut request = Request::new(());
        send_on(principal, request.headers_mut());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request
    }

    fn alice() -> Principal {
        Principal {
            scopes: Some(["write:shop".parse().unwrap()].into()),
            actors: vec![Actor {
                kind: PrincipalKind::Agent,
                subject: Subject::new("fixer").unwrap(),
            }],
            expires: Some(Timestamp::from_micros(1_900_000_000_000_000).unwrap()),
            ..Principal::developer()
        }
    }

    #[test]
    fn a_principal_survives_the_way_between_services() {
        let mut request = sent(&alice(), Some(peer("gateway")));
        receive(&mut request).unwrap();
        let received = request.extensions().get::<Arc<Principal>>().unwrap();
        assert_eq!(**received, alice());
        assert!(request.headers().is_empty());
    }

    #[test]
    fn nobody_but_a_service_says_who_it_is() {
        let mut request = sent(&alice(), None);
        request.extensions_mut().insert(Arc::new(alice()));
        receive(&mut request).unwrap();
        assert!(request.extensions().get::<Arc<Principal>>().is_none());
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a_service_calls_in_its_own_name_and_in_no_other() {
        let journal = Principal::service("journal", TenantName::default_tenant());
        let mut request = sent(&journal, Some(peer("index")));
        assert_eq!(
            receive(&mut request).unwrap_err().reason,
            "PRINCIPAL_INVALID"
        );
        let mut request = sent(&journal, Some(peer("journal")));
        receive(&mut request).unwrap();
        let own = request.extensions().get::<Arc<Principal>>().unwrap();
        assert!(own.is_service() && own.subject.as_str() == "journal");
    }

    proptest! {
        #[test]
        fn what_is_sent_as_a_principal_is_one_or_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), encoded in any::<bool>()) {
            let text = match encoded {
                true => STANDARD_NO_PAD.encode(&bytes).into_bytes(),
                false => bytes,
            };
            let Ok(value) = HeaderValue::from_bytes(&text) else {
                return Ok(());
            };
            let mut request = Request::new(());
            request.headers_mut().insert(HEADER, value);
            request.extensions_mut().insert(peer("gateway"));
            let received = receive(&mut request);
            let principal = request.extensions().get::<Arc<Principal>>();
            prop_assert_eq!(received.is_ok(), principal.is_some());
            prop_assert!(principal.is_none_or(|principal| !principal.is_service()));
            prop_assert!(request.headers().is_empty());
        }
    }

    #[test]
    fn a_call_that_nobody_made_is_not_made_by_the_service_that_passes_it_on() {
        let mut request = Request::new(());
        request.extensions_mut().insert(peer("gateway"));
        receive(&mut request).unwrap();
        assert!(request.extensions().get::<Arc<Principal>>().is_none());
    }
}
