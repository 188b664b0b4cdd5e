//! What goes along with a call from service to service, so that it is recorded once and as it came.

use std::net::IpAddr;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};

use crate::context::Call;
use crate::tls::PeerIdentity;

/// Where whoever called the gateway is.
const CALLER: HeaderName = HeaderName::from_static("x-commonplace-caller");
/// The call is part of one that is recorded.
const WITHIN: HeaderName = HeaderName::from_static("x-commonplace-within");

/// Roles that take calls from outside, or make them for people: a call of theirs is never part of another.
const OUTER_ROLES: [&str; 2] = ["gateway", OPERATOR];
/// The role that people call as who run the mesh.
pub(super) const OPERATOR: &str = "operator";

/// Where the other end of a connection is; among the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Where a call comes from. Taken away from whatever comes in, unless a service sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hop {
    /// Where whoever called the gateway is.
    pub(crate) caller: Option<IpAddr>,
    /// The call is part of one that is recorded.
    pub(crate) within: bool,
}

impl Hop {
    /// What goes along with a call that is made while another is served, or passed on.
    pub(crate) fn next(call: Option<&Call>, extensions: &Extensions) -> Self {
        if let Some(call) = call {
            return Self {
                caller: call.peer,
                within: call.method.is_some_and(|method| method.mutates()),
            };
        }
        Self::of(extensions)
    }

    /// What a request brings along.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        if let Some(hop) = extensions.get::<Self>() {
            return *hop;
        }
        let peer = extensions.get::<PeerAddress>();
        Self {
            caller: peer.map(|peer| peer.0),
            within: false,
        }
    }

    /// Puts it on a request to another process. To be used over a connection that shows our certificate only.
    pub(crate) fn send_on(self, headers: &mut HeaderMap) {
        let caller = self.caller.map(|caller| caller.to_string());
        if let Some(Ok(caller)) = caller.map(|caller| HeaderValue::from_str(&caller)) {
            headers.insert(CALLER, caller);
        }
        if self.within {
            headers.insert(WITHIN, HeaderValue::from_static("1"));
        }
    }

    /// Takes away what a caller claims.
    pub(crate) fn strip<B>(request: &mut Request<B>) {
        request.headers_mut().remove(CALLER);
        request.headers_mut().remove(WITHIN);
        request.extensions_mut().remove::<Self>();
    }

    /// Reads what a service sent that showed its certificate.
    pub(crate) fn receive(headers: &HeaderMap, peer: &PeerIdentity) -> Self {
        let caller = headers.get(CALLER).and_then(|value| value.to_str().ok());
        let inner = |role: &String| !OUTER_ROLES.contains(&role.as_str());
        Self {
            caller: caller.and_then(|caller| caller.parse().ok()),
            within: headers.contains_key(WITHIN) && peer.roles.iter().any(inner),
        }
    }
}
