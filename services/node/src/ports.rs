//! The ports of a process: for everybody, for other services, and for probes.
//!
//! A process that plays the gateway listens for everybody on `listen`, and for other services on
//! `service_listen` if that is set. Any other process listens for services on `listen`. With certificates the
//! ports for services take calls of services only, and of each only what its role may call.

use std::net::SocketAddr;
use std::time::Duration;

use commonplace_access::Mode;
use commonplace_rpc::AllowList;
use commonplace_rpc::server::{HealthPort, Server, ServerError, ServerOptions};
use futures::future::BoxFuture;

use crate::node::{Node, NodeError, Surroundings};
use crate::{NodeOptions, Role};

/// A port cannot be had, or its certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The port cannot be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Others could reach the port, and would be asked for nothing.
    #[error(
        "others can reach {address}, and `access.mode` is `development`, in which whoever calls may do everything; \
         set `access.mode=required` and make a key with `com keys create`, or listen on 127.0.0.1"
    )]
    Open {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// Services could not tell each other who calls.
    #[error(
        "with `access.mode=required` services show each other certificates, and {address} has none; set \
         `tls.certificate`, `tls.key` and `tls.authority` (`com certs dev` makes them)"
    )]
    Unsecured {
        /// Where it would listen.
        address: SocketAddr,
    },
}

/// Bound ports. Until [`Ports::open`] calls are answered with UNAVAILABLE.
#[derive(Debug)]
pub struct Ports {
    public: Option<Server>,
    services: Option<Server>,
    health: Option<HealthPort>,
}

impl Ports {
    /// Takes the ports. Error: one of them cannot be had, or the gateway's certificate cannot be used.
    pub fn bind<'a>(
        options: &'a NodeOptions,
        surroundings: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Self, PortError>> {
        Box::pin(Self::bound(options, surroundings))
    }

    async fn bound(options: &NodeOptions, surroundings: &Surroundings) -> Result<Self, PortError> {
        let gateway = options.roles.contains(&Role::Gateway);
        let service_address = match gateway {
            true => Some(&options.service_listen).filter(|address| !address.is_empty()),
            false => Some(&options.listen),
        };
        let mut ports = Self {
            public: None,
            services: None,
            health: None,
        };
        if !options.health_listen.is_empty() {
            let (readiness, metrics) = (&surroundings.readiness, &surroundings.metrics);
            let port = HealthPort::bind(&options.health_listen, readiness, metrics).await?;
            ports.health = Some(port);
        }
        if gateway {
            let settings = ServerOptions {
                tls: surroundings.gateway_tls.clone(),
                allow: None,
                readiness: surroundings.readiness.clone(),
                max_connections: options.gateway.max_connections,
                compress_from: Some(options.gateway.compress_from_bytes).filter(|bytes| *bytes > 0),
            };
            ports.public = Some(Server::bind_with(&options.listen, settings).await?);
        }
        if let Some(address) = service_address {
            let settings = ServerOptions {
                allow: surroundings.tls.as_ref().map(|_| AllowList::mesh()),
                tls: surroundings.tls.clone(),
                readiness: surroundings.readiness.clone(),
                max_connections: options.gateway.max_connections,
                compress_from: Some(options.transport.compress_from_bytes),
            };
            ports.services = Some(Server::bind_with(address, settings).await?);
        }
        match ports.unguarded(options) {
            Some(error) => Err(error),
            None => Ok(ports),
        }
    }

    /// A port that is less guarded than its address or the settings ask for.
    fn unguarded(&self, options: &NodeOptions) -> Option<PortError> {
        let secured = options.tls.is_on();
        match options.access.mode {
            Mode::Development => {
                let services = self.service_address().filter(|_| !secured);
                let public = self.public.as_ref().map(Server::address);
                let mut exposed = public.into_iter().chain(services);
                exposed
                    .find(|address| !address.ip().is_loopback())
                    .map(|address| PortError::Open { address })
            }
            Mode::Required => self
                .service_address()
                .filter(|_| !secured)
                .map(|address| PortError::Unsecured { address }),
        }
    }

    /// The address that `listen` led to.
    pub fn address(&self) -> Option<SocketAddr> {
        let main = self.public.as_ref().or(self.services.as_ref());
        main.map(Server::address)
    }

    /// The address for other services.
    pub fn service_address(&self) -> Option<SocketAddr> {
        self.services.as_ref().map(Server::address)
    }

    /// The address for probes.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(HealthPort::address)
    }

    /// Lets calls in.
    pub fn open(&self, node: &Node) {
        if let Some(server) = &self.public {
            node.open(server);
        }
        if let Some(server) = &self.services {
            server.record_denials(node.recorder().clone());
            server.open(node.service_routes());
        }
    }

    /// Lets running calls end, at the latest after `cap`. Says whether all of them did. Probes are answered to
    /// the end.
    pub fn drain(self, cap: Duration) -> BoxFuture<'static, bool> {
        Box::pin(self.drained(cap))
    }

    async fn drained(self, cap: Duration) -> bool {
        let drain = async |server: Option<Server>| match server {
            Some(server) => server.drain(cap).await,
            None => true,
        };
        let (public, services) = tokio::join!(drain(self.public), drain(self.services));
        if let Some(health) = self.health {
            health.close().await;
        }
        public && services
    }
}
