//! Where a command's calls go: to the services of this process, or to a server.

use std::sync::Arc;
use std::time::Duration;

use commonplace_node::{Channels, Node, NodeError, NodeOptions};
use commonplace_rpc::{Bearer, Channel, RemoteOptions, Tls, Trust, context};
use commonplace_storage::StorageError;
use commonplace_types::{SystemClock, TenantName};

use crate::cli::{Global, Secret};
use crate::failure::{self, Known, Refused};

/// Longest that one call of a command may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3_600);

/// In whose name commands call the services of this process.
const OPERATOR: &str = "operator";

/// Reads the settings that are in force for a command.
pub fn settings(global: &Global) -> anyhow::Result<NodeOptions> {
    let mut flags = global.settings.clone();
    if let Some(folder) = &global.data_dir {
        flags.push(("data_dir".into(), folder.display().to_string()));
    }
    Ok(commonplace_config::load(global.config.as_deref(), &flags)?)
}

/// Says which folder could not be opened, and how to go on when a server holds it.
pub fn explain(error: NodeError, folder: &str) -> anyhow::Error {
    if matches!(error, NodeError::Storage(StorageError::InUse { .. })) {
        let known = Known {
            code: failure::FAILED,
            problem: error.to_string(),
            next_step:
                "if a server holds it, call that: --server and the address it printed when it \
                        started"
                    .into(),
        };
        return known.into();
    }
    anyhow::Error::from(error).context(format!("cannot open the data folder {folder}"))
}

/// Open channels to all services. Must be closed.
pub struct Session {
    /// To each service.
    pub channels: Channels,
    node: Option<Node>,
}

impl Session {
    /// Starts the services in this process, or connects to the server that was named.
    async fn open(global: &Global) -> anyhow::Result<Self> {
        if let Some(server) = &global.server {
            return Ok(Self {
                channels: Channels::all(remote(global, server)?),
                node: None,
            });
        }
        if global.key.is_some() || global.token.is_some() {
            let text = "a key or token is shown to a server; name it with --server, or leave --key and --token out";
            return Err(Refused(text.into()).into());
        }
        Self::start(&settings(global)?).await
    }

    /// Starts the services in this process.
    async fn start(options: &NodeOptions) -> anyhow::Result<Self> {
        let folder = options.data_dir.display().to_string();
        let node = Node::start(options, Arc::new(SystemClock))
            .await
            .map_err(|error| explain(error, &folder))?;
        Ok(Self {
            // Whoever can open the folder may do everything with it.
            channels: node.channels().in_name_of(OPERATOR),
            node: Some(node),
        })
    }

    /// Whether the services run in this process.
    pub fn is_embedded(&self) -> bool {
        self.node.is_some()
    }

    async fn close(self) {
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }
}

/// A channel to a server, which is shown the key, the token or the certificate that there is.
pub fn remote(global: &Global, server: &str) -> anyhow::Result<Channel> {
    let settings = settings(global)?;
    let secure = server.starts_with("https");
    let own = secure && settings.tls.has_certificate();
    let tls = own.then(|| Tls::start(&settings.tls, None)).transpose()?;
    // Who shows a key or a token needs no certificate, only whom to believe.
    let trust = (secure && !own).then(|| Trust::load(&settings.tls.authority));
    let trust = trust.transpose()?;
    let bearer = bearer(global)?;
    // The name of a service is believed of whoever shows its certificate, and counts before no other proof.
    let roles = tls.as_ref().map(|tls| tls.identity().roles);
    let name = roles.and_then(|roles| roles.first().cloned());
    let name = name.filter(|_| bearer.is_none());
    if global.tenant.is_some() && name.is_none() {
        let text = "a key or token has a tenant of its own; --tenant is for the data folder, or for a certificate \
                    of the role operator";
        return Err(Refused(text.into()).into());
    }
    let options = RemoteOptions {
        // Somebody is waiting to be told that there is no server.
        patience: Duration::from_secs(2),
        tls,
        trust,
        bearer,
        ..RemoteOptions::default()
    };
    let channel = Channel::remote(&[server.to_owned()], &options)?;
    Ok(match name {
        Some(name) => channel.in_name_of(&name),
        None => channel,
    })
}

fn bearer(global: &Global) -> anyhow::Result<Option<Bearer>> {
    let (Secret(text), flag) = match (&global.key, &global.token) {
        (None, None) => return Ok(None),
        (Some(key), None) => (key, "--key"),
        (None, Some(token)) => (token, "--token"),
        (Some(_), Some(_)) => {
            return Err(Refused("expected --key or --token, found both".into()).into());
        }
    };
    let wrong =
        |invalid: commonplace_types::Invalid| Refused(format!("{flag}: {}", invalid.problem));
    Ok(Some(Bearer::new(text).map_err(wrong)?))
}

/// Runs a command's work with open channels, and closes them whatever comes of it.
pub async fn with<T>(
    global: &Global,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let tenant = tenant(global)?;
    let session = Session::open(global).await?;
    match tenant {
        Some(tenant) => context::for_tenant(tenant, run(session, work)).await,
        None => run(session, work).await,
    }
}

fn tenant(global: &Global) -> anyhow::Result<Option<TenantName>> {
    let Some(name) = &global.tenant else {
        return Ok(None);
    };
    let wrong =
        |invalid: commonplace_types::Invalid| Refused(format!("--tenant: {}", invalid.problem));
    Ok(Some(TenantName::new(name.as_str()).map_err(wrong)?))
}

/// As [`with`], in this process and by these settings alone.
pub async fn with_options<T>(
    options: &NodeOptions,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    run(Session::start(options).await?, work).await
}

async fn run<T>(
    session: Session,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = context::with_deadline(CALL_TIMEOUT, work(&session)).await;
    session.close().await;
    result
}
