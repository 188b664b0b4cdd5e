//! A mesh of real `com` processes, or its other forms, for tests.
//!
//! The same suite runs over an embedded node, one process, and one process per role with any number of replicas,
//! in plaintext or with mutual TLS, over whatever stores the settings name. What always holds: each process has a
//! data folder of its own and keeps its ports over restarts; ports lie below those that the system hands out, so
//! that nobody takes one while its owner is down; what a process says goes to a file, which is printed when the
//! test fails; no process outlives the test's, however that one ends.
//!
//! Left out: building `com`. It must lie beside the test program, where `make test` puts it.

mod builder;
mod certificates;
mod guard;
mod ports;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_node::{Channels, Node, Role};
use commonplace_rpc::{Channel, RemoteOptions, Tls, TransportOptions};
use futures::future::BoxFuture;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::proxy::{Proxy, Rule};
pub use builder::{Form, MeshBuilder};
pub use certificates::Certificates;
pub use ports::reserve as reserve_port;
use process::Process;
pub use process::program;

/// How long a process may take to serve or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a role may be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A replica of a role.
    Role(Role, usize),
    /// The PostgreSQL server.
    Database,
    /// A server of the vector store.
    Vectors(usize),
}

/// Who calls, and whom; the test itself is nobody.
type Arrow = (Option<Role>, Target);

/// A running mesh; ends with this.
pub struct Mesh {
    form: Form,
    /// The embedded form has one, and no processes.
    node: Option<Node>,
    processes: BTreeMap<(Role, usize), Process>,
    proxies: BTreeMap<Arrow, Proxy>,
    gateways: Vec<String>,
    certificates: Option<Arc<Certificates>>,
    client_tls: Option<Tls>,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Says what the mesh is to be.
    pub fn builder(form: Form) -> MeshBuilder {
        MeshBuilder::new(form)
    }

    /// The form it was built in.
    pub fn form(&self) -> Form {
        self.form
    }

    /// New channels through the gateways, with connections of their own, as a client of the mesh has them.
    pub fn channels(&self) -> Channels {
        match &self.node {
            Some(node) => node.channels().clone(),
            None => Channels::all(self.client()),
        }
    }

    /// A channel to one process, past the gateways: what its callers in the mesh see.
    pub fn replica(&self, role: Role, replica: usize) -> Channel {
        let options = RemoteOptions {
            tls: self.client_tls.clone(),
            peer_role: self.client_tls.as_ref().map(|_| role.to_string()),
            ..TransportOptions::default().remote()
        };
        Channel::remote(&[self.address(role, replica)], &options).expect("the address is ours")
    }

    /// Where a process takes calls of services.
    pub fn address(&self, role: Role, replica: usize) -> String {
        let process = self.processes.get(&(role, replica));
        let process = process.unwrap_or_else(|| panic!("there is no {role} {replica}"));
        let scheme = if self.client_tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", process.listen)
    }

    fn client(&self) -> Channel {
        let options = RemoteOptions {
            tls: self.client_tls.clone(),
            health_service: Some(Role::Gateway.service().to_owned()),
            ..TransportOptions::default().remote()
        };
        Channel::remote(&self.gateways, &options).expect("the gateways' addresses are ours")
    }

    /// Each process: its main role and its number.
    pub fn members(&self) -> Vec<(Role, usize)> {
        self.processes.keys().copied().collect()
    }

    /// kill -9; nothing else happens until [`Mesh::start`].
    pub fn kill9(&mut self, role: Role, replica: usize) {
        self.process(role, replica).kill();
    }

    /// SIGTERM, and waits for the end. Panics unless it ends well.
    pub fn stop(&mut self, role: Role, replica: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.process(role, replica).stop(PATIENCE).await })
    }

    /// Starts a process that was stopped or killed, and waits until it serves; a journal may stand by for another that
    /// leads. Gives how long that took.
    pub fn start(&mut self, role: Role, replica: usize) -> BoxFuture<'_, Duration> {
        Box::pin(self.started(role, replica))
    }

    async fn started(&mut self, role: Role, replica: usize) -> Duration {
        let started = Instant::now();
        let process = self.process(role, replica);
        process.spawn();
        process.serving(PATIENCE).await;
        while !self.ready(role, replica).await && !self.stands_by(role).await {
            assert!(
                started.elapsed() < PATIENCE,
                "{role} {replica} is not ready"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    }

    /// Stops a process and starts it again.
    pub fn restart(&mut self, role: Role, replica: usize) -> BoxFuture<'_, Duration> {
        Box::pin(async move {
            self.stop(role, replica).await;
            self.start(role, replica).await
        })
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&mut self, role: Role, replica: usize) {
        self.process(role, replica).signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&mut self, role: Role, replica: usize) {
        self.process(role, replica).signal("CONT");
    }

    /// Whether `grpc.health.v1` says, on the port for probes, that the role serves there.
    pub async fn ready(&self, role: Role, replica: usize) -> bool {
        let Some(process) = self.processes.get(&(role, replica)) else {
            return self.node.is_some();
        };
        process.serves(role).await
    }

    /// Whether another journal leads, so that one that was started has nothing to do but to wait.
    async fn stands_by(&self, role: Role) -> bool {
        let journals = self.members().into_iter();
        for (_, replica) in journals.filter(|(other, _)| role == Role::Journal && *other == role) {
            if self.ready(role, replica).await {
                return true;
            }
        }
        false
    }

    /// Resident memory of a process in bytes. The embedded form has none of its own.
    pub fn rss(&self, role: Role, replica: usize) -> Option<u64> {
        self.processes.get(&(role, replica))?.rss()
    }

    /// How long a process took from its start until it served, the last time.
    pub fn start_up(&self, role: Role, replica: usize) -> Option<Duration> {
        self.processes.get(&(role, replica))?.start_up
    }

    /// Where a process keeps its data; embedded: where all services do.
    pub fn data(&self, role: Role, replica: usize) -> PathBuf {
        match self.processes.get(&(role, replica)) {
            Some(process) => process.folder.join("data"),
            None => self.folder.path().join("data"),
        }
    }

    /// What happens between a caller (nobody is the test) and a target. Panics unless built with
    /// [`MeshBuilder::proxied`].
    pub fn fault(&self, caller: Option<Role>, target: Target, rule: Rule) {
        let proxy = self.proxies.get(&(caller, target));
        proxy
            .unwrap_or_else(|| panic!("nobody stands between {caller:?} and {target:?}"))
            .set(rule);
    }

    /// The same on every way that leads to a target.
    pub fn fault_before(&self, target: Target, rule: Rule) {
        let on_the_way = self.proxies.iter().filter(|((_, to), _)| *to == target);
        on_the_way.for_each(|(_, proxy)| proxy.set(rule));
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.proxies
            .values()
            .for_each(|proxy| proxy.set(Rule::Pass));
    }

    /// The certificates of the mesh, if it has any.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// Ends every process well, callers first, so that its data can be used by another mesh. Gives the folder.
    pub fn shutdown(self) -> BoxFuture<'static, tempfile::TempDir> {
        Box::pin(self.ended())
    }

    async fn ended(mut self) -> tempfile::TempDir {
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
        let mut members = self.members();
        members.sort_by_key(|(role, replica)| std::cmp::Reverse((*role, *replica)));
        for (role, replica) in members {
            self.process(role, replica).stop(PATIENCE).await;
        }
        let empty = tempfile::tempdir().expect("a temporary folder can be made");
        std::mem::replace(&mut self.folder, empty)
    }

    fn process(&mut self, role: Role, replica: usize) -> &mut Process {
        self.processes
            .get_mut(&(role, replica))
            .unwrap_or_else(|| panic!("there is no {role} {replica}"))
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.processes.values().for_each(Process::print_log);
        }
    }
}

/// Asks `grpc.health.v1` on a plaintext port.
async fn healthy(address: &str, role: Role) -> bool {
    let options = RemoteOptions {
        patience: Duration::from_millis(500),
        ..RemoteOptions::default()
    };
    let address = format!("http://{address}");
    let Ok(channel) = Channel::remote(&[address], &options) else {
        return false;
    };
    let request = HealthCheckRequest {
        service: role.service().to_owned(),
    };
    let call = async { HealthClient::new(channel).check(request).await };
    let answer = commonplace_rpc::context::with_deadline(Duration::from_secs(2), call).await;
    answer.is_ok_and(|answer| answer.into_inner().status == ServingStatus::Serving as i32)
}
