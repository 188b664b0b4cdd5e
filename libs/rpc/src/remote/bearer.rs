//! A token or key that a caller shows with every call.

use std::fmt;
use std::net::IpAddr;

use commonplace_types::Invalid;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::{Address, Endpoint};
use crate::{Code, Failure};

/// Longest token or key in bytes.
const LONGEST: usize = 16 << 10;

/// A token or key, never shown in logs.
#[derive(Clone)]
pub struct Bearer(HeaderValue);

impl Bearer {
    /// Error: it cannot be a token or a key.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let wrong = |problem| Invalid::new("credential", problem);
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong(
                "expected a token or a key: visible ASCII without spaces",
            ));
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| wrong("expected a token or a key"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Checks that nobody on the way can read it. Error: the address is plaintext and not of this machine.
    pub(crate) fn check(&self, address: &Address) -> Result<(), Invalid> {
        let safe = match address {
            Address::One(endpoint) => is_safe(endpoint),
            Address::Every { secure, .. } => *secure,
        };
        if safe {
            return Ok(());
        }
        Err(Invalid::new("server", OPEN))
    }

    /// Puts it on a call to an endpoint. Error: everybody on the way could read it; nothing was sent.
    pub(crate) fn show(&self, to: &Endpoint, headers: &mut HeaderMap) -> Result<(), Failure> {
        if !is_safe(to) {
            return Err(
                Failure::new(Code::FailedPrecondition, "CREDENTIALS_EXPOSED").message(OPEN),
            );
        }
        headers.insert(AUTHORIZATION, self.0.clone());
        Ok(())
    }
}

const OPEN: &str = "a token or key is sent over TLS, or to this machine; expected an https address";

/// Over TLS, or without leaving the machine.
fn is_safe(endpoint: &Endpoint) -> bool {
    let host = endpoint.host.trim_matches(['[', ']']);
    let loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    endpoint.secure || loopback || host.eq_ignore_ascii_case("localhost")
}

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bearer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_credential_never_leaves_in_the_open() {
        let bearer = Bearer::new(" com_abc_def\n").unwrap();
        assert!(!format!("{bearer:?}").contains("abc"));
        for (address, safe) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("https://host:1", true),
            ("https+dns://host:1", true),
            ("http://host:1", false),
            ("http://10.0.0.1:1", false),
            ("http://localhost.example:1", false),
            ("http+dns://localhost:1", false),
        ] {
            assert_eq!(
                bearer.check(&parse(address).unwrap()).is_ok(),
                safe,
                "{address}"
            );
        }
        let mut headers = HeaderMap::new();
        let far = Endpoint::parse("http://host:1").unwrap();
        assert_eq!(
            bearer.show(&far, &mut headers).unwrap_err().reason,
            "CREDENTIALS_EXPOSED"
        );
        assert!(headers.is_empty());
        let near = Endpoint::parse("http://127.0.0.1:1").unwrap();
        bearer.show(&near, &mut headers).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer com_abc_def");
        assert!(headers[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn what_is_no_credential_is_refused_without_repeating_it() {
        for wrong in ["", " ", "a b", "ä", &"a".repeat(LONGEST + 1)] {
            let invalid = Bearer::new(wrong).unwrap_err();
            assert_eq!(invalid.field, "credential");
            assert!(wrong.len() < 2 || !invalid.problem.contains(wrong));
        }
    }
}
