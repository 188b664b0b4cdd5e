//! The endpoints of a channel: found by a resolver, each kept by a task, told to whoever wants to know.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::member::Member;
use super::random::Random;
use super::resolve::Resolver;
use super::retry::Budget;
use super::throttle::Throttle;
use super::{Endpoint, RemoteOptions};

pub(crate) type Members = Arc<[Arc<Member>]>;

/// What calls, endpoints and the resolver's task share.
pub(crate) struct Shared {
    pub(crate) options: RemoteOptions,
    pub(crate) random: Random,
    pub(crate) budget: Budget,
    pub(crate) throttle: Throttle,
    members: RwLock<Members>,
    live: watch::Sender<Arc<[Endpoint]>>,
    /// Counts changes, so that waiting calls look again.
    turn: watch::Sender<u64>,
    resolve: Notify,
    problem: RwLock<Option<String>>,
}

/// The endpoints of a channel. Its tasks end when it is dropped.
pub(crate) struct Pool {
    pub(crate) shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Pool {
    /// Starts to resolve and to dial. Must be called within a tokio runtime.
    pub(crate) fn start(resolver: Arc<dyn Resolver>, options: RemoteOptions) -> Arc<Self> {
        let shared = Arc::new(Shared {
            random: Random::new(options.seed),
            budget: Budget::new(&options.retry),
            throttle: Throttle::default(),
            options,
            members: RwLock::new(Arc::from([])),
            live: watch::Sender::new(Arc::from([])),
            turn: watch::Sender::new(0),
            resolve: Notify::new(),
            problem: RwLock::new(None),
        });
        let stop = CancellationToken::new();
        let following = follow(shared.clone(), resolver, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        Arc::new(Self { shared, stop })
    }
}

impl Shared {
    pub(crate) fn members(&self) -> Members {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The endpoints that take calls, sorted.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.live.subscribe()
    }

    /// Counts up whenever an endpoint may have become live or ceased to be.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    /// Tells that an endpoint's state changed.
    pub(crate) fn changed(&self) {
        let members = self.members();
        let live = members.iter().filter(|member| member.is_live());
        let live: Arc<[Endpoint]> = live.map(|member| member.endpoint.clone()).collect();
        self.live.send_if_modified(|present| {
            let changed = **present != *live;
            *present = live;
            changed
        });
        self.turn.send_modify(|turn| *turn = turn.wrapping_add(1));
    }

    /// Asks for a resolution as soon as the spacing allows.
    pub(crate) fn resolve_soon(&self) {
        self.resolve.notify_one();
    }

    /// Why no endpoint takes calls, for people.
    pub(crate) fn problem(&self, only: Option<&Endpoint>) -> String {
        let members = self.members();
        let asked = members
            .iter()
            .filter(|member| only.is_none_or(|only| *only == member.endpoint));
        let problems: Vec<String> = asked.map(|member| member.problem()).collect();
        if !problems.is_empty() {
            return problems.join("; ");
        }
        if let Some(only) = only {
            return format!("{only} is no endpoint of the service any more");
        }
        let problem = self
            .problem
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        problem.unwrap_or_else(|| "no endpoint is known".into())
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.write().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Keeps the members that are still found, starts the new ones, retires the rest.
    fn replace(self: &Arc<Self>, found: Vec<Endpoint>, stop: &CancellationToken) {
        let present = self.members();
        let mut before: BTreeMap<Endpoint, Arc<Member>> = present
            .iter()
            .map(|member| (member.endpoint.clone(), member.clone()))
            .collect();
        let mut after = BTreeMap::new();
        let mut fresh = Vec::new();
        for endpoint in found {
            if after.contains_key(&endpoint) {
                continue;
            }
            let member = before.remove(&endpoint).unwrap_or_else(|| {
                let member = Member::new(endpoint.clone(), stop.child_token());
                fresh.push(member.clone());
                member
            });
            after.insert(endpoint, member);
        }
        if fresh.is_empty() && before.is_empty() {
            return;
        }
        *self.members.write().unwrap_or_else(PoisonError::into_inner) =
            after.into_values().collect();
        for gone in before.values() {
            tracing::info!(endpoint = %gone.endpoint, "an endpoint left");
            gone.retire();
        }
        for member in fresh {
            tokio::spawn(member.keep(self.clone()));
        }
        self.changed();
    }
}

/// Resolves at the start, at every turn, when the resolver says so and after failures; never twice within
/// the spacing.
async fn follow(shared: Arc<Shared>, resolver: Arc<dyn Resolver>, stop: CancellationToken) {
    loop {
        let started = Instant::now();
        let resolving = tokio::time::timeout(shared.options.connect_timeout, resolver.resolve());
        match resolving.await {
            Ok(Ok(found)) => {
                shared.set_problem(None);
                shared.replace(found, &stop);
            }
            Ok(Err(error)) => unresolved(&shared, &error.to_string()),
            Err(_) => unresolved(&shared, "the name was not resolved in time"),
        }
        let every = shared.options.resolve_every.max(Duration::from_millis(1));
        let wait = if shared.members().is_empty() {
            Duration::ZERO
        } else {
            every
        };
        let wait = wait.max(shared.options.resolve_spacing);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.resolve.notified() => {
                let spacing = shared.options.resolve_spacing;
                tokio::time::sleep(spacing.saturating_sub(started.elapsed())).await;
            }
            () = resolver.changed() => {}
        }
    }
}

/// What was known before is kept: a name server that is down is no reason to forget endpoints that work.
fn unresolved(shared: &Shared, problem: &str) {
    tracing::warn!(
        problem,
        "a name cannot be resolved; the known endpoints stay"
    );
    shared.set_problem(Some(format!("the name cannot be resolved: {problem}")));
    shared.changed();
}
