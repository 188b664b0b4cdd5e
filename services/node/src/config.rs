//! All settings of a node, as one tree.

use std::collections::BTreeSet;
use std::path::PathBuf;

use commonplace_rpc::{TlsOptions, TransportOptions};
use serde::{Deserialize, Serialize};

use crate::{Peers, Role};

/// Everything that can be set. Each part's own documentation says what its fields mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeOptions {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the embedding model lies, as `com model pull` puts it.
    pub model_dir: PathBuf,
    /// Which services this process runs; all of them by default. The others are called at `peers`.
    #[serde(deserialize_with = "commonplace_config::list")]
    pub roles: BTreeSet<Role>,
    /// Address and port that `com serve` listens on: for everybody where the gateway runs, else for other
    /// services.
    pub listen: String,
    /// Where a process that runs the gateway listens for other services; empty: nowhere.
    pub service_listen: String,
    /// Plaintext address for operators: `grpc.health.v1`, `GET /health`, `GET /live` and `GET /metrics`; empty: none.
    pub health_listen: String,
    /// Seconds that running calls get to end when the server stops.
    pub drain_seconds: u64,
    /// Calls that each service serves at the same time. The gateway lets in as many of them as are served in time.
    pub concurrent_calls: usize,
    /// Addresses of the services that run elsewhere.
    pub peers: Peers,
    /// Certificates for calls between services, on both sides; empty: plaintext.
    pub tls: TlsOptions,
    /// The certificate of the gateway's port for everybody; empty: plaintext.
    pub gateway_tls: TlsOptions,
    /// Calls between services.
    pub transport: TransportOptions,
    /// The database of every store; without one, files in the data folder.
    pub database: commonplace_storage::Options,
    /// Logs and traces.
    pub telemetry: commonplace_telemetry::Options,
    /// Who may call.
    pub access: commonplace_access::Options,
    /// What is recorded of calls, and how surely.
    pub audit: commonplace_rpc::audit::Options,
    /// The port's own settings.
    pub gateway: commonplace_gateway::Options,
    /// Reading reports.
    pub ingest: commonplace_ingest::Options,
    /// Keeping events.
    pub journal: commonplace_journal::Options,
    /// Finding passages.
    pub index: commonplace_index::Options,
    /// Keeping policies.
    pub policy: commonplace_policy::Options,
    /// Making packs.
    pub retrieval: commonplace_retrieval::Options,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir(),
            model_dir: default_model_dir(),
            roles: Role::all(),
            listen: "127.0.0.1:8083".into(),
            service_listen: String::new(),
            health_listen: String::new(),
            drain_seconds: 10,
            concurrent_calls: 1_024,
            peers: Default::default(),
            tls: Default::default(),
            gateway_tls: Default::default(),
            transport: Default::default(),
            database: Default::default(),
            telemetry: Default::default(),
            access: Default::default(),
            audit: Default::default(),
            gateway: Default::default(),
            ingest: Default::default(),
            journal: Default::default(),
            index: Default::default(),
            policy: Default::default(),
            retrieval: Default::default(),
        }
    }
}

/// `$XDG_DATA_HOME/commonplace`, else `~/.local/share/commonplace`, else `./commonplace-data`.
pub fn default_data_dir() -> PathBuf {
    user_dir("XDG_DATA_HOME", ".local/share")
        .map_or_else(|| "commonplace-data".into(), |dir| dir.join("commonplace"))
}

/// `$XDG_CACHE_HOME/commonplace/models/all-MiniLM-L6-v2`, else the same under `~/.cache`.
pub fn default_model_dir() -> PathBuf {
    let cache = user_dir("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| ".cache".into());
    cache.join("commonplace/models/all-MiniLM-L6-v2")
}

fn user_dir(variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set(variable).or_else(|| set("HOME").map(|home| home.join(under_home)))
}
