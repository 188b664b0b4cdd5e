//! More calls than a server can serve, and what becomes of them.
//!
//! First the capacity is measured: answers a second to a few clients that each wait for theirs. Then calls come at a
//! multiple of that whether or not earlier ones have ended, as callers do who know nothing of each other. Beside both go
//! a few cheap reads that should not notice.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use commonplace_node::Channels;
use commonplace_proto::journal::ListRefsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::retrieval::SearchRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{Failure, context, server};
use tokio::task::{JoinHandle, JoinSet};

/// Connections that calls come over.
const CONNECTIONS: usize = 8;
/// Calls under way at most, so that the test itself is bounded; more are not begun, and counted.
const UNDER_WAY: usize = 8_192;
/// Between two cheap reads.
const CHEAP: Duration = Duration::from_millis(50);

/// How to overload what.
#[derive(Debug, Clone)]
pub struct Overload {
    /// Where the passages are.
    pub project: String,
    /// What is searched for, over and over.
    pub queries: Vec<String>,
    /// Clients that measure the capacity.
    pub clients: usize,
    /// How long the capacity is measured.
    pub calm: Duration,
    /// How long it is overloaded.
    pub storm: Duration,
    /// How often: each time the capacity is measured before, since the speed of machines changes.
    pub rounds: u32,
    /// So many times the capacity.
    pub times: f64,
    /// Of each call.
    pub deadline: Duration,
    /// Connections of a generated client alone, which does not hold back what would be refused. Without any, searches go
    /// over channels of ours, which do.
    pub foreign: Vec<tonic::transport::Channel>,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers a second when clients waited for theirs.
    pub capacity: f64,
    /// Calls a second that came under overload.
    pub offered: f64,
    /// Answers a second under overload.
    pub goodput: f64,
    /// Answers in each second of it.
    pub by_second: Vec<u32>,
    /// How long the answered calls took, sorted.
    pub answered: Vec<Duration>,
    /// How the others were refused.
    pub refused: Vec<Failure>,
    /// How long that took, sorted.
    pub refused_after: Vec<Duration>,
    /// Calls that the test did not begin, since too many were under way.
    pub left_out: usize,
    /// How long cheap reads took, sorted.
    pub cheap: Vec<Duration>,
    /// How cheap reads failed.
    pub cheap_failed: Vec<Failure>,
}

/// The span that a share of sorted ones does not exceed; zero without any.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(place.min(last)).copied().unwrap_or_default()
}

/// Leaves the first core to a server ([`MeshBuilder::core`](crate::mesh::MeshBuilder::core)) and takes the others, so
/// that whoever calls does not take from the server what is measured. False: nothing is changed, since there is only one
/// core or no `taskset`.
pub fn leave_first_core() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid"]);
    taskset.arg(format!("1-{}", cores - 1));
    let pinned = taskset.arg(std::process::id().to_string()).output();
    cores > 1 && pinned.is_ok_and(|output| output.status.success())
}

/// Queries take turns.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Overload {
    /// Measures, then overloads, in turn. `channels` gives connections of their own. Capacity, offer and goodput are
    /// means of all rounds, everything else is of all rounds together.
    pub async fn run(&self, channels: impl Fn() -> Channels) -> Outcome {
        let connections: Vec<Channels> = (0..CONNECTIONS).map(|_| channels()).collect();
        let connections: Arc<[Channels]> = connections.into();
        let mut outcome = Outcome::default();
        for _ in 0..self.rounds {
            let capacity = self.capacity(&connections).await;
            let (offered, share) = (self.times * capacity, 1.0 / f64::from(self.rounds));
            outcome.capacity += share * capacity;
            outcome.offered += share * offered;
            self.storm(&connections, offered, &mut outcome).await;
        }
        let seconds = self.storm.as_secs_f64() * f64::from(self.rounds);
        outcome.goodput = outcome
            .by_second
            .iter()
            .map(|count| f64::from(*count))
            .sum::<f64>();
        outcome.goodput /= seconds;
        outcome.answered.sort();
        outcome.refused_after.sort();
        outcome.cheap.sort();
        outcome
    }

    /// One search: it costs about as much as a call can, and leaves nothing behind.
    pub async fn call(&self, channels: &Channels) -> Result<(), Failure> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let request = SearchRequest {
            project: self.project.clone(),
            query: self.queries[number % self.queries.len()].clone(),
            ..Default::default()
        };
        let answer = match self.foreign.get(number % self.foreign.len().max(1)) {
            Some(foreign) => {
                let mut client = RetrievalServiceClient::new(foreign.clone())
                    .max_decoding_message_size(server::MESSAGE_BYTES);
                let mut request = tonic::Request::new(request);
                request.set_timeout(self.deadline);
                client.search(request).await
            }
            None => {
                let mut client = RetrievalServiceClient::new(channels.retrieval.clone())
                    .max_decoding_message_size(server::MESSAGE_BYTES);
                context::with_deadline(self.deadline, client.search(request)).await
            }
        };
        answer
            .map(drop)
            .map_err(|status| Failure::from_status(&status))
    }

    async fn capacity(&self, connections: &Arc<[Channels]>) -> f64 {
        let answers = Arc::new(AtomicUsize::new(0));
        let (began, mut clients) = (Instant::now(), JoinSet::new());
        // The first part is for caches and for the server to find out how much it can do.
        let warm = began + self.calm / 2;
        let end = warm + self.calm;
        let reads = self.read_cheaply(connections, end - began);
        for number in 0..self.clients {
            let (this, answers) = (self.clone(), answers.clone());
            let connections = connections.clone();
            clients.spawn(async move {
                while Instant::now() < end {
                    let answer = this.call(&connections[number % CONNECTIONS]).await;
                    if answer.is_ok() && Instant::now() >= warm {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while clients.join_next().await.is_some() {}
        reads.abort();
        answers.load(Ordering::Relaxed) as f64 / self.calm.as_secs_f64()
    }

    fn read_cheaply(
        &self,
        connections: &Arc<[Channels]>,
        span: Duration,
    ) -> JoinHandle<(Vec<Duration>, Vec<Failure>)> {
        let (channels, project) = (connections[0].clone(), self.project.clone());
        tokio::spawn(cheap_reads(channels, project, span))
    }

    async fn storm(&self, connections: &Arc<[Channels]>, per_second: f64, outcome: &mut Outcome) {
        let cheap = self.read_cheaply(connections, self.storm);
        let (mut calls, began) = (JoinSet::new(), Instant::now());
        let (mut next, before) = (0_u64, outcome.by_second.len());
        let seconds = before + self.storm.as_secs_f64().ceil() as usize;
        outcome.by_second.resize(seconds, 0);
        let mut left_out = 0;
        let mut account = |(took, answer): (Duration, Result<(), Failure>)| match answer {
            Ok(()) => {
                outcome.answered.push(took);
                let second = before + began.elapsed().as_secs() as usize;
                if began.elapsed() <= self.storm
                    && let Some(count) = outcome.by_second.get_mut(second)
                {
                    *count += 1;
                }
            }
            Err(failure) => {
                outcome.refused.push(failure);
                outcome.refused_after.push(took);
            }
        };
        while began.elapsed() < self.storm {
            let due = (began.elapsed().as_secs_f64() * per_second) as u64;
            while next < due {
                next += 1;
                if calls.len() >= UNDER_WAY {
                    left_out += 1;
                    continue;
                }
                let (this, connections) = (self.clone(), connections.clone());
                let place = next as usize % CONNECTIONS;
                calls.spawn(async move {
                    let started = Instant::now();
                    let answer = this.call(&connections[place]).await;
                    (started.elapsed(), answer)
                });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Some(Ok(done)) = calls.try_join_next() {
                account(done);
            }
        }
        while let Some(Ok(done)) = calls.join_next().await {
            account(done);
        }
        outcome.left_out += left_out;
        let (took, failed) = cheap.await.unwrap_or_default();
        outcome.cheap.extend(took);
        outcome.cheap_failed.extend(failed);
    }
}

async fn cheap_reads(
    channels: Channels,
    project: String,
    span: Duration,
) -> (Vec<Duration>, Vec<Failure>) {
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < span {
        let mut client = JournalServiceClient::new(channels.journal.clone());
        let request = ListRefsRequest {
            project: project.clone(),
        };
        let started = Instant::now();
        let call = context::with_deadline(Duration::from_secs(5), client.list_refs(request));
        match call.await {
            Ok(_) => took.push(started.elapsed()),
            Err(status) => failed.push(Failure::from_status(&status)),
        }
        tokio::time::sleep(CHEAP).await;
    }
    (took, failed)
}
