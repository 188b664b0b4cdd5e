//! What a process knows of who may do what, and how it keeps it fresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use commonplace_rpc::{Action, Authorize, Because, Code, Decision, Failure};
use commonplace_types::{Clock, Invalid, Principal, ProjectName, TenantName};

use crate::config::{Mode, Options};
use crate::decide::{self, Rules, Snapshot};
use crate::source::{Change, Source};

/// Tenants whose rules are kept at most; then those are forgotten that were asked about longest ago.
const TENANTS: usize = 10_000;

/// Decides who may do what, by rules that it fetches. Shared.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    mode: Mode,
    refresh: Duration,
    stale: Duration,
    clock: Arc<dyn Clock>,
    source: Arc<dyn Source>,
    /// What holds for services, and for whoever calls in development mode.
    shipped: Arc<Snapshot>,
    tenants: Mutex<HashMap<TenantName, Arc<Tenant>>>,
    developer: Arc<Principal>,
}

#[derive(Default)]
struct Tenant {
    known: RwLock<Option<Known>>,
    /// One asks at a time; who waits for it looks again.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    snapshot: Arc<Snapshot>,
    asked_at: Instant,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Access({:?})", self.inner.mode)
    }
}

impl Access {
    /// Error: a setting is out of its bounds.
    pub fn new(
        options: &Options,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Invalid> {
        options.check()?;
        let rules = Rules::new(&TenantName::default_tenant(), &[], &[]).map_err(|complaints| {
            Invalid::new(
                "access",
                format!("the shipped rules are broken: {complaints:?}"),
            )
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                mode: options.mode,
                refresh: Duration::from_millis(options.refresh_ms),
                stale: Duration::from_secs(options.stale_seconds),
                clock,
                source,
                shipped: Arc::new(Snapshot::new(0, rules)),
                tenants: Mutex::new(HashMap::new()),
                developer: Arc::new(Principal::developer()),
            }),
        })
    }

    /// Whether callers must show who they are.
    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// The rules that hold for a principal, no older than the settings allow.
    async fn snapshot(&self, principal: &Principal) -> Result<Arc<Snapshot>, Failure> {
        let inner = &self.inner;
        if decide::by_shipped_rules_alone(principal) {
            return Ok(inner.shipped.clone());
        }
        let tenant = inner.tenant(&principal.tenant);
        if let Some(known) = tenant.known(inner.refresh) {
            return Ok(known.snapshot);
        }
        let _asking = tenant.asking.lock().await;
        if let Some(known) = tenant.known(inner.refresh) {
            return Ok(known.snapshot);
        }
        let asked_at = Instant::now();
        match inner
            .ask(&principal.tenant, tenant.known(Duration::MAX))
            .await
        {
            Ok(snapshot) => {
                tenant.learn(Known {
                    snapshot: snapshot.clone(),
                    asked_at,
                });
                Ok(snapshot)
            }
            Err(failure) => match tenant.known(inner.stale) {
                Some(known) => {
                    tracing::warn!(
                        problem = failure.message,
                        "going on with rules that cannot be asked for"
                    );
                    Ok(known.snapshot)
                }
                None => Err(undecided(&failure)),
            },
        }
    }
}

impl Inner {
    fn tenant(&self, name: &TenantName) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return tenant.clone();
        }
        if tenants.len() >= TENANTS {
            tenants.retain(|_, tenant| tenant.known(self.stale).is_some());
        }
        if tenants.len() >= TENANTS {
            tenants.clear();
        }
        tenants.entry(name.clone()).or_default().clone()
    }

    async fn ask(&self, name: &TenantName, known: Option<Known>) -> Result<Arc<Snapshot>, Failure> {
        let revision = known.as_ref().map_or(0, |known| known.snapshot.revision);
        match (self.source.rules(name, revision).await?, known) {
            (Change::None, Some(known)) => Ok(known.snapshot),
            (Change::None, None) => Err(Failure::new(Code::Internal, "ACCESS_DAMAGED")
                .message("the policy service left out rules that were never known")),
            (
                Change::Now {
                    revision,
                    policies,
                    grants,
                },
                _,
            ) => {
                let tenant = name.clone();
                // Parsing and checking takes as long as there are policies.
                let made = move || Rules::new(&tenant, &policies, &grants);
                let made = tokio::task::spawn_blocking(made).await.map_err(|_| {
                    Failure::new(Code::Internal, "INTERRUPTED").message("the work was broken off")
                })?;
                let rules = made.map_err(|complaints| {
                    let first = complaints.first();
                    let text = first.map_or_else(String::new, |complaint| {
                        format!("`{}`: {}", complaint.id, complaint.problem)
                    });
                    Failure::new(Code::Internal, "ACCESS_DAMAGED")
                        .message(format!("the tenant's policies cannot be used: {text}"))
                })?;
                Ok(Arc::new(Snapshot::new(revision, rules)))
            }
        }
    }
}

impl Tenant {
    /// What is known, if it was asked for within a span.
    fn known(&self, span: Duration) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|known| known.asked_at.elapsed() < span)
            .cloned()
    }

    fn learn(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

#[async_trait]
impl Authorize for Access {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        match self.inner.mode {
            Mode::Development => Ok(self.inner.developer.clone()),
            Mode::Required => Err(missing()),
        }
    }

    async fn decide(
        &self,
        principal: &Arc<Principal>,
        action: Action,
        project: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        if principal
            .expires
            .is_some_and(|expires| expires <= self.inner.clock.now())
        {
            return Err(expired());
        }
        let snapshot = self.snapshot(principal).await?;
        let (view, policies) = snapshot.decided(principal, action, project);
        Ok(Decision {
            answer: view.ok_or_else(|| denied(principal, action, project, &snapshot)),
            because: Because {
                policies,
                rules: Some(snapshot.rules().hash()),
            },
        })
    }
}

/// The answer to whoever shows nothing.
pub(crate) fn missing() -> Failure {
    Failure::new(Code::Unauthenticated, "CREDENTIALS_MISSING").message(
        "expected a token or a key in the header `authorization: Bearer …`; `com keys create` makes a key",
    )
}

pub(crate) fn expired() -> Failure {
    Failure::new(Code::Unauthenticated, "CREDENTIALS_EXPIRED")
        .message("the token, key or certificate has expired")
}

/// Says the same whether what was asked for exists or not.
fn denied(
    principal: &Principal,
    action: Action,
    project: Option<&ProjectName>,
    snapshot: &Snapshot,
) -> Failure {
    let place = match project {
        Some(project) => format!("project `{project}`"),
        None => format!("tenant `{}`", principal.tenant),
    };
    let scoped = !principal.in_scope(action.right, project);
    let (reason, because) = match scoped {
        true => ("SCOPE_EXCEEDED", "the credential's scopes do not cover it"),
        false => ("ACCESS_DENIED", "no role, grant or policy allows it"),
    };
    let method = action.method.rsplit('.').next().unwrap_or_default();
    let mut failure = Failure::new(Code::PermissionDenied, reason)
        .metadata("right", action.right)
        .metadata("method", method)
        .metadata("policy_hash", format!("sha256:{}", snapshot.rules().hash()))
        .message(format!(
            "{principal} may not {} {place}: {because}; `com authz explain {method}` says why",
            match action.right {
                commonplace_types::Right::Member => "belong to",
                commonplace_types::Right::Read => "read",
                commonplace_types::Right::Write => "write to",
                commonplace_types::Right::Admin => "administer",
            }
        ));
    if let Some(project) = project {
        failure = failure.metadata("project", project);
    }
    failure
}

fn undecided(failure: &Failure) -> Failure {
    Failure::new(Code::Unavailable, "ACCESS_UNKNOWN")
        .retry_after(Duration::from_millis(200))
        .message(format!(
            "who may do what cannot be asked for at present: {}",
            failure.message
        ))
}
