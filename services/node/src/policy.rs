//! The policy service, which every other asks who may call: started first, or called where it runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use commonplace_access::audit::PolicySink;
use commonplace_access::credential::Authenticator;
use commonplace_access::{Access, Mode, PolicySource};
use commonplace_limits::PolicySource as LimitsSource;
use commonplace_policy::Policies;
use commonplace_rpc::audit::{Entry, Recorder, Sink};
use commonplace_rpc::{Channel, Failure, Layered, Limits};
use commonplace_types::Clock;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::node::{NodeError, Surroundings, place};
use crate::{NodeOptions, Role, peers};

/// How often the policy service is told which keys were used.
const USES: Duration = Duration::from_secs(20);

/// What everything else in the process stands on.
pub(crate) struct Policy {
    /// The service, if it runs here.
    pub(crate) policies: Option<Policies>,
    /// To the service. Where it runs here it asks nobody who calls: it is what the answer comes from.
    pub(crate) channel: Channel,
    /// What callers may do.
    pub(crate) access: Access,
    /// Who callers are.
    pub(crate) authenticator: Authenticator,
    /// How much callers may do.
    pub(crate) limits: Arc<LimitsSource>,
    /// What they change, and what they are refused.
    pub(crate) recorder: Recorder,
}

impl Policy {
    /// Starts the service, or opens a channel to it.
    pub(crate) async fn start(
        options: &NodeOptions,
        clock: Arc<dyn Clock>,
        surroundings: &Surroundings,
    ) -> Result<Self, NodeError> {
        let policies = match options.roles.contains(&Role::Policy) {
            true => {
                let place = place(options, "policy")?;
                let settings = options.policy.clone();
                Some(commonplace_policy::start(settings, place, clock.clone()).await?)
            }
            false => None,
        };
        let channel = match &policies {
            Some(policies) => {
                let metrics = surroundings.metrics.clone();
                let routes = routes(policies).prepare();
                Channel::in_process(Layered::new(routes, Limits::default(), metrics))
            }
            None => peers::channel(options, Role::Policy, surroundings.tls.as_ref())?,
        };
        let channel = channel.measured(surroundings.metrics.clone());
        let name = own_name(options, surroundings);
        let own = channel.in_name_of(&name);
        let source = Arc::new(PolicySource::new(own.clone()));
        let sink: Arc<dyn Sink> = match policies.is_some() || surroundings.tls.is_some() {
            true => Arc::new(PolicySink::new(own.clone())),
            false => {
                tracing::warn!(
                    "what is done here is not in the audit log: the policy service takes records from processes with \
                     certificates (tls.certificate, tls.key and tls.authority; `com certs dev` makes them)"
                );
                Arc::new(Nowhere)
            }
        };
        let strict = options.access.mode == Mode::Required;
        let recorder = Recorder::start(&options.audit, strict, name, clock.clone(), sink)?;
        Ok(Self {
            limits: Arc::new(LimitsSource::new(own)),
            policies,
            recorder: recorder.measured(&surroundings.metrics),
            channel,
            access: Access::new(&options.access, source.clone(), clock.clone())?,
            authenticator: Authenticator::new(&options.access, source, clock)?,
        })
    }
}

/// Where the policy service would not believe what this process tells it of its callers.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn keep(&self, _: Vec<Entry>) -> Result<(), Failure> {
        Ok(())
    }
}

/// Tells which keys were used, now and then, until it is dropped.
pub(crate) struct TellUses {
    authenticator: Authenticator,
    telling: JoinHandle<()>,
}

impl TellUses {
    pub(crate) fn start(authenticator: Authenticator) -> Self {
        let teller = authenticator.clone();
        let telling = tokio::spawn(async move {
            loop {
                tokio::time::sleep(USES).await;
                tell(&teller).await;
            }
        });
        Self {
            authenticator,
            telling,
        }
    }

    /// Tells the last ones.
    pub(crate) async fn end(self) {
        self.telling.abort();
        tell(&self.authenticator).await;
    }
}

impl Drop for TellUses {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

async fn tell(authenticator: &Authenticator) {
    if let Err(failure) = authenticator.record_uses().await {
        tracing::debug!(problem = failure.message, "uses of keys could not be told");
    }
}

/// All that the service answers.
pub(crate) fn routes(policies: &Policies) -> Routes {
    Routes::new(policies.service())
        .add_service(policies.access_service())
        .add_service(policies.limits_service())
        .add_service(policies.audit_service())
}

/// The name in which a process calls others: a role that its certificate names, else the first that it plays.
pub(crate) fn own_name(options: &NodeOptions, surroundings: &Surroundings) -> String {
    let certified = surroundings.tls.as_ref().map(|tls| tls.identity().roles);
    let first = options.roles.first().map(ToString::to_string);
    let certified = certified.and_then(|roles| roles.first().cloned());
    certified.or(first).unwrap_or_default()
}
