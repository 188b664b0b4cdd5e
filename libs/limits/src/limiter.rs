//! What a process knows of limits, and how it keeps them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use commonplace_rpc::methods::{Cost, Method};
use commonplace_rpc::{Code, Failure, Rates};
use commonplace_types::{Principal, ProjectName, Right, TenantName};
use tokio::sync::{Notify, watch};

use crate::buckets::{Buckets, Short, Wanted, key, size};
use crate::rules::{Limits, Methods, Per, Room, Unit};
use crate::source::Source;

/// Tenants whose limits are kept at most; then those are forgotten that were asked about longest ago.
const TENANTS: usize = 10_000;
/// Buckets that are kept of a tenant.
const BUCKETS: usize = 10_000;
/// How long a call waits for a grant that may bring what it needs.
const GRANT_WAIT: Duration = Duration::from_millis(150);
/// Grants that a call waits for: the first may have been asked for before the call came.
const GRANTS: usize = 3;

/// Counts what callers do, and refuses what is too much. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Limiter {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    refresh: Duration,
    pub(crate) source: Arc<dyn Source>,
    /// Buckets are shared with other processes.
    shared: bool,
    tenants: Mutex<HashMap<TenantName, Arc<Tenant>>>,
    /// A shared bucket runs out.
    pub(crate) low: Notify,
    /// Counts the grants.
    pub(crate) rounds: watch::Sender<u64>,
}

pub(crate) struct Tenant {
    known: RwLock<Option<Known>>,
    /// One asks at a time; who waits for it looks again.
    asking: tokio::sync::Mutex<()>,
    /// Somebody asks for whom no call waits.
    aside: AtomicBool,
    buckets: Mutex<Buckets>,
}

#[derive(Clone)]
struct Known {
    etag: String,
    limits: Arc<Limits>,
    asked_at: Instant,
    /// They could not be asked for the last time.
    failed: bool,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Limiter(shared: {})", self.inner.shared)
    }
}

impl Limiter {
    /// Where this process alone counts: each bucket begins full. `refresh`: limits are asked for again when they are
    /// this old.
    pub fn alone(source: Arc<dyn Source>, refresh: Duration) -> Self {
        Self::new(source, refresh, false)
    }

    pub(crate) fn new(source: Arc<dyn Source>, refresh: Duration, shared: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                refresh,
                source,
                shared,
                tenants: Mutex::default(),
                low: Notify::new(),
                rounds: watch::Sender::new(0),
            }),
        }
    }

    /// What may be stored in a project, at most.
    pub async fn room(&self, tenant: &TenantName, project: &ProjectName) -> Room {
        let (name, tenant) = self.inner.tenant(tenant);
        self.inner.limits(&name, &tenant).await.room(project)
    }

    /// Counts events that are to be appended. Error: RESOURCE_EXHAUSTED (`RATE_LIMITED`).
    pub async fn take_events(
        &self,
        principal: &Principal,
        project: &ProjectName,
        events: u64,
    ) -> Result<(), Failure> {
        let (name, tenant) = self.inner.tenant(&principal.tenant);
        let limits = self.inner.limits(&name, &tenant).await;
        let call = Counted {
            principal,
            project: Some(project),
            methods: Methods::Writes,
        };
        let wanted = call.wanted(&limits, &[(Unit::Events, events)]);
        self.inner.take(&name, &tenant, &wanted).await
    }
}

/// A call as limits see it.
struct Counted<'a> {
    principal: &'a Principal,
    project: Option<&'a ProjectName>,
    methods: Methods,
}

impl Counted<'_> {
    fn wanted(&self, limits: &Limits, units: &[(Unit, u64)]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (unit, count) in units {
            let rates = limits.of(self.principal, self.project, self.methods, *unit);
            wanted.extend(rates.map(|(rate, name)| Wanted {
                key: key(rate, name),
                size: size(rate),
                tokens: *count as f64,
            }));
        }
        wanted
    }
}

#[async_trait]
impl Rates for Limiter {
    async fn check(&self, principal: &Principal, method: &'static Method) -> Result<(), Failure> {
        let (name, tenant) = self.inner.tenant(&principal.tenant);
        let limits = self.inner.limits(&name, &tenant).await;
        if limits.rates.is_empty() {
            return Ok(());
        }
        let call = Counted {
            principal,
            project: None,
            methods: methods_of(method),
        };
        let wanted = call.wanted(&limits, &[(Unit::Requests, 1), (Unit::Bytes, 1)]);
        let checked = tenant.buckets().check(&wanted, Instant::now());
        checked.map_err(|short| refusal(&name, &short))
    }

    async fn take(
        &self,
        principal: &Principal,
        method: &'static Method,
        project: Option<&ProjectName>,
        bytes: u64,
    ) -> Result<(), Failure> {
        let (name, tenant) = self.inner.tenant(&principal.tenant);
        let limits = self.inner.limits(&name, &tenant).await;
        if limits.rates.is_empty() {
            return Ok(());
        }
        let call = Counted {
            principal,
            project,
            methods: methods_of(method),
        };
        let wanted = call.wanted(&limits, &[(Unit::Requests, 1), (Unit::Bytes, bytes)]);
        self.inner.take(&name, &tenant, &wanted).await
    }

    fn more(
        &self,
        principal: &Principal,
        method: &'static Method,
        project: Option<&ProjectName>,
        bytes: u64,
    ) {
        let (_, tenant) = self.inner.tenant(&principal.tenant);
        let Some(known) = tenant.known() else {
            return;
        };
        let call = Counted {
            principal,
            project,
            methods: methods_of(method),
        };
        let wanted = call.wanted(&known.limits, &[(Unit::Bytes, bytes)]);
        tenant.buckets().force(&wanted);
    }
}

impl Inner {
    /// A tenant by name, and the name.
    fn tenant(&self, name: &TenantName) -> (TenantName, Arc<Tenant>) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return (name.clone(), tenant.clone());
        }
        if tenants.len() >= TENANTS {
            let lately = 10 * self.refresh;
            tenants.retain(|_, tenant| {
                let known = tenant.known();
                known.is_some_and(|known| known.asked_at.elapsed() < lately)
            });
        }
        if tenants.len() >= TENANTS {
            tenants.clear();
        }
        let made = Arc::new(Tenant {
            known: RwLock::default(),
            asking: tokio::sync::Mutex::default(),
            aside: AtomicBool::new(false),
            buckets: Mutex::new(Buckets::new(self.shared, BUCKETS)),
        });
        tenants.insert(name.clone(), made.clone());
        (name.clone(), made)
    }

    /// A tenant of whom something is counted.
    pub(crate) fn known_tenant(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(name).cloned()
    }

    /// All tenants of whom something is counted, by name.
    pub(crate) fn tenants(&self) -> Vec<(TenantName, Arc<Tenant>)> {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = tenants
            .iter()
            .map(|(name, tenant)| (name.clone(), tenant.clone()))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// The limits of a tenant, no older than the refresh. Where they cannot be asked for, those known before hold
    /// on, or none: who cannot count keeps nobody out.
    async fn limits(self: &Arc<Self>, name: &TenantName, tenant: &Arc<Tenant>) -> Arc<Limits> {
        if let Some(known) = tenant.known() {
            let age = known.asked_at.elapsed();
            if age < self.refresh / 2 {
                return known.limits;
            }
            // Asked for before they are too old, so that no call waits; nor does one for a service that is away.
            if age < self.refresh || known.failed {
                self.ask_aside(name, tenant);
                return known.limits;
            }
        }
        let _asking = tenant.asking.lock().await;
        match tenant.known() {
            Some(known) if known.asked_at.elapsed() < self.refresh => known.limits,
            before => self.ask(name, tenant, before).await,
        }
    }

    fn ask_aside(self: &Arc<Self>, name: &TenantName, tenant: &Arc<Tenant>) {
        if tenant.aside.swap(true, Ordering::AcqRel) {
            return;
        }
        let (inner, name, tenant) = (self.clone(), name.clone(), tenant.clone());
        tokio::spawn(async move {
            let asking = tenant.asking.lock().await;
            inner.ask(&name, &tenant, tenant.known()).await;
            tenant.aside.store(false, Ordering::Release);
            drop(asking);
        });
    }

    async fn ask(&self, name: &TenantName, tenant: &Tenant, before: Option<Known>) -> Arc<Limits> {
        let asked_at = Instant::now();
        let before = before.unwrap_or_else(|| Known::nothing(asked_at));
        let learned = match self.source.limits(name, &before.etag).await {
            Ok(Some(fetched)) => Known {
                etag: fetched.etag,
                limits: Arc::new(fetched.limits),
                asked_at,
                failed: false,
            },
            Ok(None) => Known {
                asked_at,
                failed: false,
                ..before
            },
            Err(failure) => {
                tracing::warn!(problem = failure.message, "limits cannot be asked for");
                // Not asked again by every call meanwhile.
                Known {
                    asked_at: Instant::now(),
                    failed: true,
                    ..before
                }
            }
        };
        tenant.learn(learned.clone());
        learned.limits
    }

    /// Takes what is wanted. Where a grant may bring it, waits for that a little.
    async fn take(
        &self,
        name: &TenantName,
        tenant: &Tenant,
        wanted: &[Wanted],
    ) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut rounds = self.rounds.subscribe();
        let mut left = GRANTS;
        loop {
            let taken = tenant.buckets().take(wanted, Instant::now());
            let short = match taken {
                Ok(low) => {
                    if low {
                        self.low.notify_one();
                    }
                    return Ok(());
                }
                Err(short) => short,
            };
            if left == 0 || !short.hopeful {
                return Err(refusal(name, &short));
            }
            left -= 1;
            self.low.notify_one();
            if tokio::time::timeout(GRANT_WAIT, rounds.changed())
                .await
                .is_err()
            {
                return Err(refusal(name, &short));
            }
        }
    }
}

impl Tenant {
    fn known(&self) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn learn(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    pub(crate) fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn nothing(asked_at: Instant) -> Self {
        Self {
            etag: String::new(),
            limits: Arc::default(),
            asked_at,
            failed: false,
        }
    }
}

/// The group that a method counts in.
fn methods_of(method: &Method) -> Methods {
    let right = method.access.as_ref().and_then(|access| access.right);
    match right {
        Some(Right::Write | Right::Admin) => Methods::Writes,
        _ if method.cost == Cost::Expensive => Methods::Searches,
        _ => Methods::Reads,
    }
}

fn refusal(tenant: &TenantName, short: &Short) -> Failure {
    let key = &short.key;
    let subject = match key.per {
        Per::Tenant => format!("tenant:{tenant}"),
        per => format!("{}:{tenant}/{}", per.as_str(), key.name),
    };
    let what = match key.methods {
        Methods::All => key.unit.as_str().to_owned(),
        methods => format!("{} of {}", key.unit.as_str(), methods.as_str()),
    };
    let allowed = format!(
        "{} {what} per second, {} at once",
        short.size.per_second, short.size.burst
    );
    Failure::new(Code::ResourceExhausted, "RATE_LIMITED")
        .retry_after(short.wait.max(Duration::from_millis(1)))
        .quota(&subject, &allowed)
        .metadata("unit", key.unit.as_str())
        .message(format!(
            "{subject} may do no more at present: {allowed}; try again after the given delay"
        ))
}
