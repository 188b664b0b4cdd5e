//! Where the services run that this process does not play itself.

use std::convert::Infallible;
use std::sync::Arc;

use commonplace_access::Mode;
use commonplace_rpc::{Channel, Code, Failure, RemoteOptions, Tls};
use commonplace_types::Invalid;
use http::Request;
use serde::{Deserialize, Serialize};
use tonic::body::Body;

use crate::Role;
use crate::config::NodeOptions;

/// Addresses of the services that run elsewhere: `https://host:port`, or `https+dns://name:port` for every
/// address of a name; `http` in their place without certificates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Of the journal.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub journal: Vec<String>,
    /// Of the policy service.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub policy: Vec<String>,
    /// Of ingest.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub ingest: Vec<String>,
    /// Of the index; each project is searched at one of them.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub index: Vec<String>,
    /// Of retrieval.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub retrieval: Vec<String>,
}

impl Peers {
    /// The addresses of a role. The gateway is called by nobody.
    pub fn of(&self, role: Role) -> &[String] {
        match role {
            Role::Journal => &self.journal,
            Role::Policy => &self.policy,
            Role::Ingest => &self.ingest,
            Role::Index => &self.index,
            Role::Retrieval => &self.retrieval,
            Role::Gateway => &[],
        }
    }
}

/// Opens a channel to a role that runs elsewhere. Error: an address that is none, or no address although a role
/// of this process calls it.
pub(crate) fn channel(
    options: &NodeOptions,
    role: Role,
    tls: Option<&Tls>,
) -> Result<Channel, Invalid> {
    let addresses = options.peers.of(role);
    if addresses.is_empty() {
        let mut callers = options.roles.iter();
        return match callers.find(|caller| caller.calls().contains(&role)) {
            Some(caller) => {
                let problem = format!(
                    "expected an address, since {caller} runs here and calls it; or add {role} to `roles`"
                );
                Err(Invalid::new(format!("peers.{role}"), problem))
            }
            None => Ok(absent(role)),
        };
    }
    if options.access.mode == Mode::Required && tls.is_none() {
        let problem = "with `access.mode=required` services show each other certificates; set `tls.certificate`, \
                       `tls.key` and `tls.authority` (`com certs dev` makes them)";
        return Err(Invalid::new(format!("peers.{role}"), problem));
    }
    let remote = RemoteOptions {
        tls: tls.cloned(),
        peer_role: tls.map(|_| role.to_string()),
        health_service: Some(role.service().to_owned()),
        ..options.transport.remote()
    };
    Channel::remote(addresses, &remote)
        .map_err(|error| Invalid::new(format!("peers.{role}"), error.problem))
}

/// A channel to a service that nobody here calls.
fn absent(role: Role) -> Channel {
    let answer: Arc<str> =
        format!("{role} does not run here, and `peers.{role}` is not set").into();
    Channel::in_process(tower::service_fn(move |_: Request<Body>| {
        let failure = Failure::new(Code::Unavailable, "PEER_UNREACHABLE").message(&*answer);
        std::future::ready(Ok::<_, Infallible>(failure.into_status().into_http()))
    }))
}
