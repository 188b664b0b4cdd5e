//! Which endpoints there are: a fixed list, the system's DNS, or a list that somebody else keeps.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use commonplace_types::Invalid;
use tokio::sync::watch;

use super::Endpoint;

/// Finds the endpoints of a service.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// The endpoints there are now, in any order. Error: they cannot be found at the moment; those known
    /// before are kept.
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>>;

    /// Returns when it is worth resolving before the next turn; never, unless the resolver is told of changes.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// Endpoints that are written down. A host name in one is looked up each time it is dialled.
#[derive(Debug, Clone)]
pub struct FixedList(pub Vec<Endpoint>);

#[async_trait]
impl Resolver for FixedList {
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>> {
        Ok(self.0.clone())
    }
}

/// Endpoints that somebody else keeps and may change at any time.
#[derive(Debug)]
pub struct WatchedList(Mutex<watch::Receiver<Vec<Endpoint>>>);

impl WatchedList {
    /// Follows a list.
    pub fn new(list: watch::Receiver<Vec<Endpoint>>) -> Self {
        Self(Mutex::new(list))
    }
}

#[async_trait]
impl Resolver for WatchedList {
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(list.borrow_and_update().clone())
    }

    async fn changed(&self) {
        // The copy remembers what `resolve` saw, so that no change in between is missed.
        let mut list = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if list.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Every address of a name (of a headless service, for example), by the system's resolver.
#[derive(Debug, Clone)]
pub struct SystemDns {
    /// Whether the endpoints speak TLS.
    pub secure: bool,
    /// The name.
    pub host: String,
    /// The port of every endpoint.
    pub port: u16,
}

#[async_trait]
impl Resolver for SystemDns {
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.map(|address| self.endpoint(address)).collect())
    }
}

impl SystemDns {
    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        Endpoint {
            secure: self.secure,
            host: address.ip().to_string(),
            port: address.port(),
            name: Some(self.host.clone()),
        }
    }
}

/// What an address in the settings means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http://host:port` or `https://host:port`.
    One(Endpoint),
    /// `http+dns://name:port` or `https+dns://name:port`: every address of the name.
    Every {
        secure: bool,
        host: String,
        port: u16,
    },
}

impl Address {
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Self::One(endpoint) => endpoint.secure,
            Self::Every { secure, .. } => *secure,
        }
    }
}

/// Reads an address. Error: names the address and what was expected.
pub(crate) fn parse(address: &str) -> Result<Address, Invalid> {
    let wrong = || {
        let problem = format!(
            "expected an address like http://127.0.0.1:8083, https://host:8443 or https+dns://name:8443, \
             found `{address}`"
        );
        Invalid::new("server", problem)
    };
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let (secure, every) = match scheme {
        "http" => (false, false),
        "https" => (true, false),
        "http+dns" => (false, true),
        "https+dns" => (true, true),
        _ => return Err(wrong()),
    };
    let authority: http::uri::Authority =
        rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = match authority.port_u16() {
        Some(port) => port,
        None if rest.contains('@') || authority.as_str() != authority.host() => return Err(wrong()),
        None => {
            if secure {
                443
            } else {
                80
            }
        }
    };
    if host.is_empty() || rest.contains('@') {
        return Err(wrong());
    }
    Ok(if every {
        Address::Every { secure, host, port }
    } else {
        Address::One(Endpoint {
            secure,
            host,
            port,
            name: None,
        })
    })
}

/// Several addresses at once: all endpoints of all of them.
pub(crate) struct Several(pub(crate) Vec<Address>);

#[async_trait]
impl Resolver for Several {
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>> {
        let mut found = Vec::new();
        for address in &self.0 {
            match address {
                Address::One(endpoint) => found.push(endpoint.clone()),
                Address::Every { secure, host, port } => {
                    let dns = SystemDns {
                        secure: *secure,
                        host: host.clone(),
                        port: *port,
                    };
                    found.extend(dns.resolve().await?);
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let one = |secure, host: &str, port| {
            Address::One(Endpoint {
                secure,
                host: host.into(),
                port,
                name: None,
            })
        };
        let every = |secure, host: &str, port| Address::Every {
            secure,
            host: host.into(),
            port,
        };
        for (text, meant) in [
            ("http://127.0.0.1:8083", one(false, "127.0.0.1", 8083)),
            (
                "https://journal.example:8443/",
                one(true, "journal.example", 8443),
            ),
            ("http://[::1]:9", one(false, "::1", 9)),
            ("https://journal.example", one(true, "journal.example", 443)),
            ("http+dns://index:7003", every(false, "index", 7003)),
            (
                "https+dns://index.ns.svc:7003",
                every(true, "index.ns.svc", 7003),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), meant, "{text}");
        }
        for wrong in [
            "localhost:1",
            "",
            "http://",
            "ftp://a:1",
            "http://a:99999",
            "http://a:",
            "http://u@a:1",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:8083"), "{wrong}: {error}");
        }
    }

    #[tokio::test]
    async fn a_name_gives_all_its_addresses() {
        let dns = SystemDns {
            secure: false,
            host: "localhost".into(),
            port: 7,
        };
        let found = dns.resolve().await.unwrap();
        assert!(
            found
                .iter()
                .any(|endpoint| endpoint.to_string() == "http://127.0.0.1:7"),
            "{found:?}"
        );
    }
}
