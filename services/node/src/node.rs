//! Starts the services of one process, in the order in which they call each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use commonplace_access::Access;
use commonplace_access::credential::key::{Randomness, SystemRandomness};
use commonplace_embed::Model;
use commonplace_gateway::Who;
use commonplace_gateway::service::Info;
use commonplace_limits::{Limiter, PolicySource, Sharing};
use commonplace_policy::Policies;
use commonplace_rpc::audit::Recorder;
use commonplace_rpc::server::{Readiness, Server};
use commonplace_rpc::{
    Admission, AdmissionOptions, Channel, Edge, IntakeOptions, Layered, Limits, Tls, TlsError,
};
use commonplace_storage::{DataFolder, Place, PoolMetrics, StorageError};
use commonplace_telemetry::{Metrics, Spans};
use commonplace_types::{Clock, Invalid};
use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::policy::{self, Policy, TellUses};
use crate::{Channels, NodeOptions, Role, peers, telemetry};

/// The version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node could not be started; the first service that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A setting does not fit the roles.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A service's folder cannot be made.
    #[error("cannot create `{}`; check the permissions of the data folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The journal did not start.
    #[error(transparent)]
    Journal(#[from] commonplace_journal::JournalError),
    /// The policy service did not start.
    #[error(transparent)]
    Policy(#[from] commonplace_policy::PolicyError),
    /// The ingest service did not start.
    #[error(transparent)]
    Ingest(#[from] commonplace_ingest::IngestError),
    /// The index did not start.
    #[error(transparent)]
    Index(#[from] commonplace_index::IndexError),
    /// The retrieval service did not start.
    #[error(transparent)]
    Retrieval(#[from] commonplace_retrieval::RetrievalError),
}

/// What the services of a process share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// What `grpc.health.v1` tells.
    pub readiness: Readiness,
    /// The newest spans; nothing comes in unless the process records them.
    pub spans: Arc<Spans>,
    /// Our certificate for calls between services, when there is one.
    pub tls: Option<Tls>,
    /// The certificate of the port for everybody, when there is one.
    pub gateway_tls: Option<Tls>,
}

impl Surroundings {
    /// Reads the certificates; nothing is ready yet. Error: a file of the certificates cannot be used.
    pub fn new(options: &NodeOptions) -> Result<Self, NodeError> {
        let metrics = Metrics::new();
        let tls = match options.tls.is_on() {
            true => Some(Tls::start(&options.tls, Some(&metrics))?),
            false => None,
        };
        let gateway_tls = match options.gateway_tls.is_on() && plays_gateway(options) {
            true => Some(Tls::start(&options.gateway_tls, None)?),
            false => None,
        };
        let readiness = Readiness::new();
        for role in &options.roles {
            readiness.set(role.service(), false);
        }
        Ok(Self {
            metrics,
            readiness,
            spans: Spans::new(&options.telemetry),
            tls,
            gateway_tls,
        })
    }

    /// The same with the memory that the process records its spans in.
    pub fn with_spans(self, spans: Arc<Spans>) -> Self {
        Self { spans, ..self }
    }

    /// Each certificate with the setting that names it.
    fn certificates(&self) -> Vec<(&'static str, Tls)> {
        let settings = [("tls", &self.tls), ("gateway_tls", &self.gateway_tls)];
        let on = settings.into_iter();
        on.filter_map(|(setting, tls)| Some((setting, tls.clone()?)))
            .collect()
    }
}

/// The running services of this process.
pub struct Node {
    roles: BTreeSet<Role>,
    channels: Channels,
    surroundings: Surroundings,
    gateway: commonplace_gateway::Options,
    edge: Option<Edge>,
    _sharing: Option<Sharing>,
    who: Who,
    uses: TellUses,
    recorder: Recorder,
    retrieval: Option<commonplace_retrieval::Retrieval>,
    index: Option<commonplace_index::Index>,
    policy: Option<commonplace_policy::Policies>,
    journal: Option<commonplace_journal::Journal>,
    // Dropped last: nobody else may take the folder before the services are done with it.
    _folder: Option<DataFolder>,
}

// What starts and stops a node gives a boxed future, so that the engine is compiled here and not in each program
// that awaits it.
impl Node {
    /// Takes the data folder and starts the services of `options.roles`.
    /// Error: the folder is in use or of a newer version, a store in it is damaged, or a peer is missing.
    pub fn start(
        options: &NodeOptions,
        clock: Arc<dyn Clock>,
    ) -> LocalBoxFuture<'_, Result<Self, NodeError>> {
        Box::pin(async move { Self::started(options, clock, Surroundings::new(options)?).await })
    }

    /// [`Node::start`] in given surroundings.
    pub fn start_in(
        options: &NodeOptions,
        clock: Arc<dyn Clock>,
        surroundings: Surroundings,
    ) -> LocalBoxFuture<'_, Result<Self, NodeError>> {
        Box::pin(Self::started(options, clock, surroundings))
    }

    async fn started(
        options: &NodeOptions,
        clock: Arc<dyn Clock>,
        surroundings: Surroundings,
    ) -> Result<Self, NodeError> {
        let folder = lock_folder(options)?;
        let keeps = Policy::start(options, clock.clone(), &surroundings).await?;
        let start = Start {
            folder,
            options,
            clock,
            access: keeps.access,
            limits: keeps.limits,
            recorder: keeps.recorder.clone(),
            surroundings,
        };
        let to_policy = start.policy(&keeps.channel, keeps.policies.as_ref());
        let (to_journal, journal) = start.journal().await?;
        let to_ingest = start.ingest(&to_journal).await?;
        let (to_index, index) = start.index(&to_journal).await?;
        let (to_retrieval, retrieval) = start.retrieval(&to_index, &to_policy).await?;
        let to_gateway = start.gateway()?;
        start.measure(
            journal.as_ref(),
            keeps.policies.as_ref(),
            index.as_ref(),
            retrieval.as_ref(),
        );
        let others = [
            &to_journal,
            &to_policy,
            &to_ingest,
            &to_index,
            &to_retrieval,
        ];
        let telemetry = start.telemetry(others, index.as_ref());
        let (edge, sharing) = match start.plays(Role::Gateway) {
            true => Some(start.edge()?).unzip(),
            false => (None, None),
        };
        Ok(Self {
            roles: options.roles.clone(),
            channels: Channels {
                ingest: to_ingest,
                journal: to_journal,
                index: to_index,
                policy: to_policy,
                retrieval: to_retrieval,
                gateway: to_gateway,
                telemetry,
            },
            gateway: options.gateway.clone(),
            edge,
            _sharing: sharing,
            who: Who::new(
                keeps.authenticator.clone(),
                start.access,
                keeps.recorder.clone(),
            ),
            recorder: keeps.recorder,
            uses: TellUses::start(keeps.authenticator),
            retrieval,
            index,
            policy: keeps.policies,
            journal,
            surroundings: start.surroundings,
            _folder: start.folder,
        })
    }

    /// A channel to each service.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Which services run here.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    /// What records denials.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Lets calls in at the port for everybody, to the gateway over all services, and to reflection.
    pub fn open(&self, public: &Server) {
        let metrics = self.surroundings.metrics.clone();
        let (mut backends, who) = (self.backends(&Role::all()), self.who.clone());
        // Whoever calls from outside is let in here; services that call each other are not asked again.
        if let Some(edge) = &self.edge {
            backends
                .values_mut()
                .for_each(|channel| *channel = edge.before(channel));
        }
        let gateway = commonplace_gateway::start(&self.gateway, backends, metrics, who);
        if let Some(edge) = &self.edge {
            public.guard(Arc::new(gateway.door(edge.clone())));
        }
        public.open(with_reflection(Routes::from(gateway.routes)));
    }

    /// What the port for other services offers: the services of this process, as they are, and reflection.
    pub fn service_routes(&self) -> Routes {
        let own = self.backends(&self.roles);
        with_reflection(Routes::from(commonplace_gateway::services(own)))
    }

    /// The channel to every service of some roles, and to what the process tells about itself, by the service's
    /// name.
    fn backends(&self, roles: &BTreeSet<Role>) -> BTreeMap<String, Channel> {
        let services = roles.iter().flat_map(|role| {
            let names = role.services().iter();
            names.map(|name| ((*name).to_owned(), self.channels.to(*role).clone()))
        });
        let telemetry = self.channels.telemetry.clone();
        services
            .chain([(telemetry::SERVICE.to_owned(), telemetry)])
            .collect()
    }

    /// Stops every service, callers first. What was acknowledged is on disk when this returns.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }

    async fn end(self) {
        self.uses.end().await;
        if let Some(retrieval) = self.retrieval
            && let Err(error) = retrieval.shutdown().await
        {
            tracing::error!(%error, "not every pack could be kept");
        }
        if let Some(index) = self.index {
            index.shutdown().await;
        }
        // Everybody who is answered has stopped to call; what was recorded goes to the policy service.
        self.recorder.end().await;
        if let Some(policy) = self.policy
            && let Err(error) = policy.shutdown().await
        {
            tracing::error!(%error, "the policy service did not stop well");
        }
        if let Some(journal) = self.journal
            && let Err(error) = journal.shutdown().await
        {
            tracing::error!(%error, "the journal did not stop well");
        }
    }
}

/// A node being started. One function for each role: it runs here, or is called elsewhere.
struct Start<'a> {
    options: &'a NodeOptions,
    clock: Arc<dyn Clock>,
    access: Access,
    limits: Arc<PolicySource>,
    recorder: Recorder,
    surroundings: Surroundings,
    folder: Option<DataFolder>,
}

impl Start<'_> {
    async fn journal(&self) -> Result<(Channel, Option<commonplace_journal::Journal>), NodeError> {
        if !self.plays(Role::Journal) {
            return Ok((self.elsewhere(Role::Journal)?, None));
        }
        let place = self.own_place("journal")?;
        let options = self.options.journal.clone();
        let journal = commonplace_journal::start(options, place, self.clock.clone()).await?;
        // Nobody else writes, so nobody else need be asked.
        let limiter = Limiter::alone(self.limits.clone(), self.refresh());
        let service = journal.limited_service(limiter);
        let channel = self.here(Role::Journal, Routes::new(service));
        self.follow(Role::Journal, journal.ready());
        Ok((channel, Some(journal)))
    }

    /// A channel to the policy service that asks who may call, where it runs here.
    fn policy(&self, channel: &Channel, policies: Option<&Policies>) -> Channel {
        match policies {
            Some(policies) => self.here(Role::Policy, policy::routes(policies)),
            None => channel.clone(),
        }
    }

    async fn ingest(&self, journal: &Channel) -> Result<Channel, NodeError> {
        if !self.plays(Role::Ingest) {
            return Ok(self.elsewhere(Role::Ingest)?);
        }
        let options = self.options.ingest.clone();
        let journal = journal.in_name_of(&self.name());
        let ingest = commonplace_ingest::start(options, journal).await?;
        Ok(self.here(Role::Ingest, Routes::new(ingest.service())))
    }

    async fn index(
        &self,
        journal: &Channel,
    ) -> Result<(Channel, Option<commonplace_index::Index>), NodeError> {
        if !self.plays(Role::Index) {
            return Ok((self.elsewhere(Role::Index)?, None));
        }
        let model = load_model(self.options).await;
        let (options, folder) = (self.options.index.clone(), &self.options.data_dir);
        let (journal, clock) = (journal.in_name_of(&self.name()), self.clock.clone());
        let index = commonplace_index::start(options, folder, journal, model, clock).await?;
        let channel = self.here(Role::Index, Routes::new(index.service()));
        Ok((channel, Some(index)))
    }

    async fn retrieval(
        &self,
        index: &Channel,
        policy: &Channel,
    ) -> Result<(Channel, Option<commonplace_retrieval::Retrieval>), NodeError> {
        if !self.plays(Role::Retrieval) {
            return Ok((self.elsewhere(Role::Retrieval)?, None));
        }
        let place = self.own_place("retrieval")?;
        let (options, clock) = (self.options.retrieval.clone(), self.clock.clone());
        let name = self.name();
        let (index, policy) = (index.in_name_of(&name), policy.in_name_of(&name));
        let retrieval = commonplace_retrieval::start(options, place, index, policy, clock).await?;
        let channel = self.here(Role::Retrieval, Routes::new(retrieval.service()));
        Ok((channel, Some(retrieval)))
    }

    fn gateway(&self) -> Result<Channel, NodeError> {
        if !self.plays(Role::Gateway) {
            return Ok(self.elsewhere(Role::Gateway)?);
        }
        let roles = Role::ALL.map(Role::service);
        let names = roles.into_iter().chain([telemetry::SERVICE]);
        let names = names.map(ToOwned::to_owned).collect();
        Ok(self.here(Role::Gateway, Routes::new(Info::server(VERSION, names))))
    }

    /// What this process tells about itself; the gateway also tells what the others do.
    fn telemetry(
        &self,
        others: [&Channel; 5],
        index: Option<&commonplace_index::Index>,
    ) -> Channel {
        let (surroundings, name) = (&self.surroundings, self.name());
        let gathers = self.plays(Role::Gateway);
        let roles = [
            Role::Journal,
            Role::Policy,
            Role::Ingest,
            Role::Index,
            Role::Retrieval,
        ];
        let others = roles.into_iter().zip(others);
        let elsewhere = others.filter(|(role, _)| gathers && !self.plays(*role));
        let sources = telemetry::Sources {
            spans: surroundings.spans.clone(),
            metrics: surroundings.metrics.clone(),
            roles: self.options.roles.iter().map(ToString::to_string).collect(),
            peers: elsewhere
                .map(|(role, channel)| (role, channel.in_name_of(&name)))
                .collect(),
            checks: telemetry::Checks {
                options: self.options.clone(),
                readiness: surroundings.readiness.clone(),
                certificates: surroundings.certificates(),
                index: index.map(commonplace_index::Index::watch),
                stores: telemetry::Stores::default(),
            },
        };
        self.layered(Routes::new(telemetry::server(sources)))
    }

    /// Has the process and its services tell what they count.
    fn measure(
        &self,
        journal: Option<&commonplace_journal::Journal>,
        policy: Option<&commonplace_policy::Policies>,
        index: Option<&commonplace_index::Index>,
        retrieval: Option<&commonplace_retrieval::Retrieval>,
    ) {
        let Surroundings {
            metrics,
            readiness,
            spans,
            ..
        } = &self.surroundings;
        let gateway_tls = self.surroundings.gateway_tls.clone();
        let folder = self.options.data_dir.clone();
        telemetry::register(metrics, spans, readiness, folder, gateway_tls);
        let mut databases = Vec::new();
        if let Some(journal) = journal {
            journal.register(metrics);
            databases.push(("journal", journal.database().clone()));
        }
        if let Some(policy) = policy {
            databases.push(("policy", policy.database().clone()));
        }
        if let Some(index) = index {
            index.register(metrics);
        }
        if let Some(retrieval) = retrieval {
            retrieval.register(metrics);
            databases.push(("retrieval", retrieval.database().clone()));
        }
        let pools = Box::new(PoolMetrics(databases));
        metrics.register(|registry| registry.register_collector(pools));
    }

    /// How old limits may be: as old as rules.
    fn refresh(&self) -> Duration {
        Duration::from_millis(self.options.access.refresh_ms)
    }

    /// What lets calls from outside in, and what keeps the account with other gateways.
    fn edge(&self) -> Result<(Edge, Sharing), NodeError> {
        let (limiter, sharing) =
            Limiter::shared(self.limits.clone(), self.refresh(), gateway_name()?);
        let (options, metrics) = (self.options, &self.surroundings.metrics);
        let admission = AdmissionOptions {
            concurrent_calls: options.concurrent_calls,
            waiting_calls: options.gateway.waiting_calls,
            wait: Duration::from_millis(options.gateway.max_wait_ms),
            ..AdmissionOptions::default()
        };
        let admission = Admission::new(&admission, metrics);
        // One caller alone may have as many as run and wait.
        let waiting = options.gateway.waiting_calls.saturating_mul(3);
        let calls = options.concurrent_calls.saturating_add(waiting);
        let intake = IntakeOptions {
            calls: calls.saturating_mul(2),
            bytes: options.gateway.max_message_bytes_in_flight,
        };
        let edge = Edge::new(admission, Some(Arc::new(limiter)), metrics.clone(), intake);
        Ok((edge, sharing))
    }

    fn plays(&self, role: Role) -> bool {
        self.options.roles.contains(&role)
    }

    /// A channel to a service that has started here. From now on it is ready.
    fn here(&self, role: Role, routes: Routes) -> Channel {
        self.surroundings.readiness.set(role.service(), true);
        self.layered(routes)
    }

    fn layered(&self, routes: Routes) -> Channel {
        let limits = Limits {
            concurrent_calls: self.options.concurrent_calls,
            ..Limits::default()
        };
        let metrics = self.surroundings.metrics.clone();
        let layered = Layered::new(routes.prepare(), limits, metrics.clone())
            .authorized(Arc::new(self.access.clone()))
            .audited(self.recorder.clone());
        Channel::in_process(layered).measured(metrics)
    }

    /// The name in which the services of this process call others.
    fn name(&self) -> String {
        policy::own_name(self.options, &self.surroundings)
    }

    fn elsewhere(&self, role: Role) -> Result<Channel, Invalid> {
        let channel = peers::channel(self.options, role, self.surroundings.tls.as_ref())?;
        Ok(channel.measured(self.surroundings.metrics.clone()))
    }

    /// Each service has a folder or a schema of its own, and looks into no other.
    fn own_place(&self, service: &str) -> Result<Place, NodeError> {
        place(self.options, service)
    }

    /// A service that can stand by is ready when it says so.
    fn follow(&self, role: Role, mut ready: watch::Receiver<bool>) {
        let readiness = self.surroundings.readiness.clone();
        readiness.set(role.service(), *ready.borrow_and_update());
        tokio::spawn(async move {
            while ready.changed().await.is_ok() {
                readiness.set(role.service(), *ready.borrow_and_update());
            }
        });
    }
}

fn plays_gateway(options: &NodeOptions) -> bool {
    options.roles.contains(&Role::Gateway)
}

/// Takes the data folder if a service of this process keeps something in it.
fn lock_folder(options: &NodeOptions) -> Result<Option<DataFolder>, NodeError> {
    let in_files = options.database.url.is_empty();
    let keeps = |role: &Role| match role {
        Role::Gateway | Role::Ingest => false,
        Role::Index => true,
        Role::Journal | Role::Policy | Role::Retrieval => in_files,
    };
    match options.roles.iter().any(keeps) {
        true => Ok(Some(DataFolder::lock(&options.data_dir)?)),
        false => Ok(None),
    }
}

/// Where a service keeps its data: its schema, or a folder of its own, which is made.
pub(crate) fn place(options: &NodeOptions, service: &str) -> Result<Place, NodeError> {
    let place = options
        .database
        .place(service, &options.data_dir.join(service))?;
    if let Place::Folder(path) = &place {
        std::fs::create_dir_all(path).map_err(|cause| NodeError::Folder {
            path: path.clone(),
            cause,
        })?;
    }
    Ok(place)
}

/// Names this gateway, unlike any other.
fn gateway_name() -> Result<String, Invalid> {
    let mut name = [0; 16];
    SystemRandomness.fill(&mut name)?;
    Ok(name.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn with_reflection(routes: Routes) -> Routes {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(commonplace_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => routes.add_service(reflection),
        Err(error) => {
            tracing::warn!(%error, "reflection is off: the contracts cannot be described");
            routes
        }
    }
}

/// Loads the embedding model; without it dense search is off, and the reason is told with every answer.
async fn load_model(options: &NodeOptions) -> Result<Arc<Model>, String> {
    let folder = options.model_dir.clone();
    let loaded = tokio::task::spawn_blocking(move || Model::load(&folder)).await;
    match loaded {
        Ok(Ok(model)) => Ok(Arc::new(model)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the embedding model could not be loaded".into()),
    }
}
