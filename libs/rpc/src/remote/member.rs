//! One endpoint of a channel: its connection, its state, and the task that keeps both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Endpoint;
use super::connect::{Connection, Heard, connect};
use super::pool::Shared;
use crate::compression::Reads;

/// A peer that was silent for this long while a call waited is dialled anew.
const SILENCE: Duration = Duration::from_secs(1);
/// Bounds of the delay between two attempts to connect.
const FIRST_REDIAL: Duration = Duration::from_millis(20);
const LONGEST_REDIAL: Duration = Duration::from_secs(1);

/// One endpoint of a channel.
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    state: Mutex<State>,
    running: AtomicUsize,
    suspected: Notify,
    /// Ends the task; the connection lives on until its calls have ended.
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    connection: Option<Link>,
    serving: bool,
    rests_until: Option<Instant>,
    /// Whether the first attempt to connect has ended.
    tried: bool,
    problem: Option<String>,
}

/// What a call needs of a connection.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) sender: SendRequest<Body>,
    pub(crate) heard: Arc<Heard>,
    /// Whether the peer reads compressed requests; it says so with its first answer.
    pub(crate) reads: Arc<Reads>,
}

impl Member {
    pub(crate) fn new(endpoint: Endpoint, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            state: Mutex::default(),
            running: AtomicUsize::new(0),
            suspected: Notify::new(),
            stop,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connected and serving.
    pub(crate) fn is_live(&self) -> bool {
        let state = self.state();
        state.serving
            && state
                .connection
                .as_ref()
                .is_some_and(|link| !link.sender.is_closed())
    }

    /// What a call is sent over; nothing while it is not live or rests.
    pub(crate) fn link(&self) -> Option<Link> {
        let state = self.state();
        let rests = state
            .rests_until
            .is_some_and(|until| until > Instant::now());
        if rests || !state.serving {
            return None;
        }
        state
            .connection
            .as_ref()
            .filter(|link| !link.sender.is_closed())
            .cloned()
    }

    /// When its rest is over, if it rests.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let state = self.state();
        state
            .rests_until
            .filter(|until| state.connection.is_some() && *until > Instant::now())
    }

    /// Whether it cannot be reached for now, as opposed to not having been tried yet.
    pub(crate) fn is_down(&self) -> bool {
        let state = self.state();
        state.tried && (state.connection.is_none() || !state.serving)
    }

    /// Why it is not live, for people.
    pub(crate) fn problem(&self) -> String {
        let state = self.state();
        match (&state.problem, &state.connection) {
            (Some(problem), _) => format!("{}: {problem}", self.endpoint),
            (None, Some(_)) => format!("{}: not serving at the moment", self.endpoint),
            (None, None) => format!("{}: still connecting", self.endpoint),
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts a call as running until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// Takes no calls for a while: the peer said that it starts or drains.
    pub(crate) fn rest(&self, span: Duration) {
        self.state().rests_until = Some(Instant::now() + span);
    }

    /// A call waited since `sent` and is given up. If the peer was silent all that time, it is dialled anew.
    pub(crate) fn gave_up(&self, link: &Link, sent: Instant) {
        if sent.elapsed() < SILENCE || link.heard.since(sent) {
            return;
        }
        let state = self.state();
        let same = |present: &Link| Arc::ptr_eq(&present.heard, &link.heard);
        if state.connection.as_ref().is_some_and(same) {
            self.suspected.notify_one();
        }
    }

    pub(crate) fn retire(&self) {
        self.stop.cancel();
    }

    /// Keeps the connection: dials, tells, waits for its end, dials again. Ends with [`Member::retire`].
    pub(crate) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        let mut failures = 0_u32;
        loop {
            let dialled = tokio::select! {
                dialled = connect(&self.endpoint, &shared.options) => dialled,
                () = self.stop.cancelled() => break,
            };
            match dialled {
                Ok(connection) => {
                    failures = 0;
                    self.hold(connection, &shared).await;
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, failures);
                    shared.resolve_soon();
                }
            }
            shared.changed();
            if self.stop.is_cancelled() {
                break;
            }
            let bound = FIRST_REDIAL
                .saturating_mul(1 << failures.min(6))
                .min(LONGEST_REDIAL);
            tokio::select! {
                () = tokio::time::sleep(shared.random.up_to(bound)) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.state().connection = None;
        shared.changed();
    }

    fn failed(&self, error: &std::io::Error, failures: u32) {
        let problem = chain(error);
        if failures == 1 {
            tracing::warn!(endpoint = %self.endpoint, problem, "an endpoint cannot be reached");
        }
        let mut state = self.state();
        state.connection = None;
        state.tried = true;
        state.problem = Some(problem);
    }

    /// Offers a connection until it ends.
    async fn hold(&self, connection: Connection, shared: &Arc<Shared>) {
        let Connection {
            sender,
            mut ended,
            heard,
        } = connection;
        let watched = shared.options.health_service.is_some();
        {
            let mut state = self.state();
            state.connection = Some(Link {
                sender: sender.clone(),
                heard,
                reads: Arc::default(),
            });
            state.serving = !watched;
            state.tried = !watched;
            state.rests_until = None;
            state.problem = None;
        }
        tracing::debug!(endpoint = %self.endpoint, "connected");
        shared.changed();
        let health = self.watch_health(sender, shared);
        tokio::pin!(health);
        tokio::select! {
            _ = &mut ended => {}
            () = self.suspected.notified() => {
                tracing::warn!(endpoint = %self.endpoint, "a peer went silent; connecting anew");
            }
            () = &mut health => {}
            () = self.stop.cancelled() => {}
        }
        let mut state = self.state();
        state.connection = None;
        state.tried = true;
        state.problem = Some("the connection ended".into());
    }

    /// Follows what the peer says about its health; ends only if it can no longer be asked.
    async fn watch_health(&self, sender: SendRequest<Body>, shared: &Arc<Shared>) {
        let Some(service) = shared.options.health_service.clone() else {
            return std::future::pending().await;
        };
        let uri = super::call::origin(&self.endpoint);
        let mut client = HealthClient::with_origin(super::call::Plain(sender), uri);
        loop {
            let mut answers = match client
                .watch(HealthCheckRequest {
                    service: service.clone(),
                })
                .await
            {
                Ok(answers) => answers.into_inner(),
                Err(status) if status.code() == tonic::Code::Unimplemented => {
                    self.set_serving(true, shared);
                    return std::future::pending().await;
                }
                Err(_) => return,
            };
            while let Ok(Some(answer)) = answers.message().await {
                self.set_serving(answer.status == ServingStatus::Serving as i32, shared);
            }
            // The peer ended the watch: it drains, or it broke. The connection's own end tells which.
            self.set_serving(false, shared);
            tokio::time::sleep(shared.random.up_to(LONGEST_REDIAL)).await;
        }
    }

    fn set_serving(&self, serving: bool, shared: &Arc<Shared>) {
        let mut state = self.state();
        state.tried = true;
        let changed = std::mem::replace(&mut state.serving, serving) != serving;
        drop(state);
        if changed || !serving {
            shared.changed();
        }
    }
}

/// A running call of an endpoint.
pub(crate) struct Running(Arc<Member>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An error with its causes in one line, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
