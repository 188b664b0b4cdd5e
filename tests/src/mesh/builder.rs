//! From what a mesh is to be to one that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commonplace_node::{Node, NodeOptions, Role, default_model_dir};
use commonplace_rpc::Tls;
use commonplace_types::SystemClock;
use futures::future::LocalBoxFuture;

use super::certificates::Certificates;
use super::process::{Process, copy};
use super::{Arrow, Mesh, PATIENCE, Target, ports};
use crate::proxy::Proxy;

/// The role that tests call as.
const CLIENT: &str = "operator";

/// In which processes the services run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// In the test's own.
    Embedded,
    /// All in one.
    OneProcess,
    /// Each in its own.
    PerRole,
}

/// What a mesh is to be. Without more: one replica of each role, SQLite, local vectors, plaintext, no model.
#[derive(Debug, Clone)]
pub struct MeshBuilder {
    form: Form,
    replicas: BTreeMap<Role, usize>,
    database: Option<String>,
    vectors: Vec<String>,
    settings: Vec<(Option<Role>, String, String)>,
    model: bool,
    tls: bool,
    proxied: bool,
    seeds: Vec<(Role, PathBuf)>,
    places: Vec<(Role, usize, PathBuf)>,
    asleep: BTreeSet<(Role, usize)>,
    core: Option<u32>,
}

impl MeshBuilder {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            replicas: BTreeMap::new(),
            database: None,
            vectors: Vec::new(),
            settings: Vec::new(),
            model: false,
            tls: false,
            proxied: false,
            seeds: Vec::new(),
            places: Vec::new(),
            asleep: BTreeSet::new(),
            core: None,
        }
    }

    /// So many processes of a role; with one process per role only.
    pub fn replicas(mut self, role: Role, count: usize) -> Self {
        self.replicas.insert(role, count);
        self
    }

    /// Every process on one core, by its number, as if the machine had no more. Needs `taskset`.
    pub fn core(mut self, core: u32) -> Self {
        self.core = Some(core);
        self
    }

    /// Every store in the PostgreSQL database of this URL, used as the role `service` of a test's server, which the
    /// wall between tenants binds.
    pub fn postgres(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// Vectors in the Qdrant cluster at these addresses, such as `http://127.0.0.1:6334`.
    pub fn qdrant(mut self, addresses: &[String]) -> Self {
        self.vectors = addresses.to_vec();
        self
    }

    /// A setting of every process.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((None, key.to_owned(), value.to_owned()));
        self
    }

    /// A setting of the processes of one role.
    pub fn set_for(mut self, role: Role, key: &str, value: &str) -> Self {
        self.settings
            .push((Some(role), key.to_owned(), value.to_owned()));
        self
    }

    /// With the real embedding model, if it has been fetched; without it dense search stays off.
    pub fn model(mut self) -> Self {
        self.model = true;
        self
    }

    /// Mutual TLS between services, TLS at the gateway.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A fault proxy on every way between two processes, and to the stores.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// A copy of a folder is what a role's own folder holds at first.
    pub fn seed(mut self, role: Role, folder: &Path) -> Self {
        self.seeds.push((role, folder.to_owned()));
        self
    }

    /// Where a process keeps its data, in place of a folder of the mesh.
    pub fn place(mut self, role: Role, replica: usize, folder: &Path) -> Self {
        self.places.push((role, replica, folder.to_owned()));
        self
    }

    /// Everybody knows this process's address, but it is started later, by [`Mesh::start`].
    pub fn asleep(mut self, role: Role, replica: usize) -> Self {
        self.asleep.insert((role, replica));
        self
    }

    /// Starts it and waits until every process serves.
    pub fn start(self) -> LocalBoxFuture<'static, Mesh> {
        Box::pin(self.started())
    }

    async fn started(self) -> Mesh {
        let folder = tempfile::Builder::new()
            .prefix("commonplace-mesh-")
            .tempdir()
            .expect("a temporary folder can be made");
        match self.form {
            Form::Embedded => self.embedded(folder).await,
            Form::OneProcess | Form::PerRole => self.processes(folder).await,
        }
    }

    async fn embedded(self, folder: tempfile::TempDir) -> Mesh {
        let data = folder.path().join("data");
        self.plant(&data, &Role::all());
        let mut settings = self.settings_of(&Role::all(), &data);
        settings.extend(self.stores(&|target| self.direct(target)));
        let options: NodeOptions =
            commonplace_config::load(None, &settings).expect("the settings are settings");
        let node = Node::start(&options, Arc::new(SystemClock))
            .await
            .expect("the node starts");
        Mesh {
            form: self.form,
            node: Some(node),
            processes: BTreeMap::new(),
            proxies: BTreeMap::new(),
            gateways: Vec::new(),
            certificates: None,
            client_tls: None,
            folder,
        }
    }

    async fn processes(self, folder: tempfile::TempDir) -> Mesh {
        let plan = Plan::new(&self);
        let proxies = match self.proxied {
            true => self.proxies(&plan).await,
            false => BTreeMap::new(),
        };
        let certificates = self.tls.then(|| self.certificates(folder.path()));
        let mut mesh = Mesh {
            form: self.form,
            node: None,
            processes: BTreeMap::new(),
            gateways: self.addresses(None, Role::Gateway, &plan, &proxies),
            client_tls: certificates.as_ref().map(|all| {
                Tls::start(&all.options(CLIENT), None).expect("the certificates were made for it")
            }),
            proxies,
            certificates: certificates.map(Arc::new),
            folder,
        };
        for (role, replica) in plan.ports.keys() {
            let process = self.process(*role, *replica, &plan, &mesh);
            mesh.processes.insert((*role, *replica), process);
        }
        let members = mesh.processes.iter_mut();
        let mut awake: Vec<&mut Process> = members
            .filter(|(member, _)| !self.asleep.contains(*member))
            .map(|(_, process)| process)
            .collect();
        // All at once: whoever is called by another may well be there later.
        awake.iter_mut().for_each(|process| process.spawn());
        for process in awake {
            process.serving(PATIENCE).await;
        }
        mesh
    }

    fn certificates(&self, folder: &Path) -> Certificates {
        let folder = folder.join("certificates");
        std::fs::create_dir_all(&folder).expect("folders can be made");
        let certificates = Certificates::new(&folder);
        let roles = Role::ALL.map(Role::as_str);
        for role in roles.into_iter().chain([CLIENT]) {
            certificates.issue(role);
        }
        certificates
    }

    /// One proxy for each arrow of the drawing, and to each store that a role has.
    async fn proxies(&self, plan: &Plan) -> BTreeMap<Arrow, Proxy> {
        let mut arrows: Vec<Arrow> = Vec::new();
        for called in plan.ports.keys() {
            let callers = plan.ports.keys().map(|(caller, _)| *caller);
            let callers: BTreeSet<Role> = callers.collect();
            let of_role =
                |caller: &&Role| self.form == Form::PerRole && caller.calls().contains(&called.0);
            let target = Target::Role(called.0, called.1);
            arrows.extend(
                callers
                    .iter()
                    .filter(of_role)
                    .map(|caller| (Some(*caller), target)),
            );
            if called.0 == Role::Gateway {
                arrows.push((None, target));
            }
        }
        for role in plan
            .ports
            .keys()
            .map(|(role, _)| *role)
            .collect::<BTreeSet<_>>()
        {
            if self.database.is_some() {
                arrows.push((Some(role), Target::Database));
            }
            let vectors = 0..self.vectors.len();
            arrows.extend(vectors.map(|number| (Some(role), Target::Vectors(number))));
        }
        let mut proxies = BTreeMap::new();
        for arrow in arrows {
            let target = match arrow.1 {
                Target::Role(role, replica) => plan.address(role, replica),
                store => self.direct(store),
            };
            let proxy = Proxy::start(target).await.expect("a port can be had");
            proxies.insert(arrow, proxy);
        }
        proxies
    }

    /// Where a store is, without a proxy.
    fn direct(&self, store: Target) -> SocketAddr {
        let address = match store {
            Target::Database => self.database.as_deref().and_then(host_of),
            Target::Vectors(number) => self
                .vectors
                .get(number)
                .map(String::as_str)
                .and_then(host_of),
            Target::Role(..) => None,
        };
        let address = address.unwrap_or_else(|| panic!("{store:?} has no address"));
        address.parse().expect("stores of tests have numbers")
    }

    /// The settings of the stores, with the addresses that `address` gives.
    fn stores(&self, address: &dyn Fn(Target) -> SocketAddr) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        if let Some(url) = &self.database {
            let from = host_of(url).expect("the URL names a host");
            let to = address(Target::Database).to_string();
            settings.push(("database.url".into(), url.replacen(from, &to, 1)));
            settings.push(("database.role".into(), "service".into()));
        }
        if !self.vectors.is_empty() {
            let numbers = 0..self.vectors.len();
            let quoted = |number| format!("\"http://{}\"", address(Target::Vectors(number)));
            let all = numbers.map(quoted).collect::<Vec<_>>().join(",");
            settings.push(("index.vectors".into(), "qdrant".into()));
            settings.push(("index.qdrant.addresses".into(), format!("[{all}]")));
        }
        settings
    }

    /// The addresses of a role as a caller is told them.
    fn addresses(
        &self,
        caller: Option<Role>,
        role: Role,
        plan: &Plan,
        proxies: &BTreeMap<Arrow, Proxy>,
    ) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let replicas = 0..plan.count(role);
        let address = |replica| {
            let proxy = proxies.get(&(caller, Target::Role(role, replica)));
            let address = proxy.map_or_else(|| plan.address(role, replica), Proxy::address);
            format!("{scheme}://{address}")
        };
        replicas.map(address).collect()
    }

    fn process(&self, role: Role, replica: usize, plan: &Plan, mesh: &Mesh) -> Process {
        let roles = plan.roles(role);
        let name = format!("{role}-{replica}");
        let folder = mesh.folder.path().join(&name);
        let place = self
            .places
            .iter()
            .find(|place| (place.0, place.1) == (role, replica));
        let data = place.map_or_else(|| folder.join("data"), |place| place.2.clone());
        self.plant(&data, &roles);
        let health = format!("127.0.0.1:{}", plan.ports[&(role, replica)].1);
        let mut settings = self.settings_of(&roles, &data);
        settings.push(("health_listen".into(), health.clone()));
        for called in role.calls().iter().filter(|called| !roles.contains(called)) {
            let addresses = self.addresses(Some(role), *called, plan, &mesh.proxies);
            settings.push((format!("peers.{called}"), addresses.join(",")));
        }
        settings.extend(self.stores(&|store| {
            let proxy = mesh.proxies.get(&(Some(role), store));
            proxy.map_or_else(|| self.direct(store), Proxy::address)
        }));
        if let Some(certificates) = &mesh.certificates {
            let files = |options: commonplace_rpc::TlsOptions, under: &str| {
                [
                    (format!("{under}.certificate"), options.certificate),
                    (format!("{under}.key"), options.key),
                    (format!("{under}.authority"), options.authority),
                ]
            };
            let mut all = files(certificates.options(role.as_str()), "tls").to_vec();
            if role == Role::Gateway {
                // Everybody may call the gateway; it asks for no certificate.
                let public = files(certificates.options(role.as_str()), "gateway_tls");
                all.extend(public.into_iter().take(2));
            }
            settings.extend(
                all.into_iter()
                    .map(|(key, path)| (key, path.display().to_string())),
            );
        }
        let mut arguments = vec!["--json".to_owned()];
        for (key, value) in settings {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let listen = plan.address(role, replica).to_string();
        for part in ["serve", "--roles", &names.join(","), "--listen", &listen] {
            arguments.push(part.to_owned());
        }
        Process::new(name, arguments, folder, [listen, health]).on_core(self.core)
    }

    fn settings_of(&self, roles: &BTreeSet<Role>, data: &Path) -> Vec<(String, String)> {
        let model = match self.model {
            true => default_model_dir(),
            false => "/nonexistent".into(),
        };
        let mut settings = vec![
            ("data_dir".to_owned(), data.display().to_string()),
            ("model_dir".to_owned(), model.display().to_string()),
        ];
        for (role, key, value) in &self.settings {
            if role.is_none_or(|role| roles.contains(&role)) {
                settings.push((key.clone(), value.clone()));
            }
        }
        settings
    }

    fn plant(&self, data: &Path, roles: &BTreeSet<Role>) {
        for (role, seed) in self.seeds.iter().filter(|(role, _)| roles.contains(role)) {
            copy(seed, &data.join(role.as_str())).expect("folders can be copied");
        }
    }
}

/// `host:port` of a URL.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    Some(authority.rsplit('@').next().unwrap_or(authority))
}

/// Who runs where.
struct Plan {
    form: Form,
    /// The port for calls and the port for probes of each process.
    ports: BTreeMap<(Role, usize), (u16, u16)>,
}

impl Plan {
    fn new(builder: &MeshBuilder) -> Self {
        let mut ports = BTreeMap::new();
        let mut add = |role, replica| {
            ports.insert((role, replica), (ports::reserve(), ports::reserve()));
        };
        match builder.form {
            Form::PerRole => {
                for role in Role::ALL {
                    let count = builder.replicas.get(&role).copied().unwrap_or(1);
                    (0..count).for_each(|replica| add(role, replica));
                }
            }
            Form::Embedded | Form::OneProcess => add(Role::Gateway, 0),
        }
        Self {
            form: builder.form,
            ports,
        }
    }

    fn count(&self, role: Role) -> usize {
        self.ports
            .keys()
            .filter(|(other, _)| *other == role)
            .count()
    }

    /// The roles of the process that is named after one.
    fn roles(&self, role: Role) -> BTreeSet<Role> {
        match self.form {
            Form::PerRole => [role].into(),
            Form::Embedded | Form::OneProcess => Role::all(),
        }
    }

    fn address(&self, role: Role, replica: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[&(role, replica)].0).into()
    }
}
