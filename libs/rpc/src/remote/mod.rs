//! Channels that leave the process: which endpoints there are, which of them live, which one a call takes.
//!
//! Each endpoint is dialled by a task of its own, which keeps one HTTP/2 connection and dials again when it
//! breaks. A call takes the one of two endpoints, drawn at random, that has fewer calls running. What may be
//! sent again is decided in [`retry`].

mod bearer;
mod call;
mod connect;
mod member;
mod options;
mod pick;
mod placement;
mod pool;
mod random;
mod replay;
mod resolve;
mod retry;
mod throttle;
mod trimmed;

use std::fmt;

pub use bearer::Bearer;
pub(crate) use call::{NOT_BEGUN, send};
pub use options::{RemoteOptions, RetryOptions, TransportOptions};
pub use placement::placed;
pub(crate) use pool::Pool;
pub(crate) use resolve::{Address, Several, parse};
pub use resolve::{FixedList, Resolver, SystemDns, WatchedList};

/// One address that serves: what is dialled, told apart and named in traces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub secure: bool,
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name that it was found under, if it is not the host; what a certificate may be issued to.
    pub name: Option<String>,
}

impl Endpoint {
    /// Reads `http://host:port` or `https://host:port`.
    pub fn parse(address: &str) -> Result<Self, commonplace_types::Invalid> {
        match resolve::parse(address)? {
            resolve::Address::One(endpoint) => Ok(endpoint),
            resolve::Address::Every { .. } => {
                let problem =
                    format!("expected one endpoint, found the name of several, `{address}`");
                Err(commonplace_types::Invalid::new("server", problem))
            }
        }
    }

    /// `host:port`, as it is dialled.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}
