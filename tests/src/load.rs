//! Steady load on a mesh, as several clients make it, and the account of what came of it.
//!
//! Calls begin at their time whether or not earlier ones have ended, so a stall shows in all that fell into it.
//! What was acknowledged is remembered and looked for afterwards ([`audit`]): each event once, with the content it
//! was sent with; each pack made again to the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_node::Channels;
use commonplace_proto::common::{Event, EventDraft, EventFilter, Reference, reference::Point};
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{CommitRequest, IngestEventsRequest};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{ListRefsRequest, QueryEventsRequest, VerifyChainRequest};
use commonplace_proto::policy::GetPolicyRequest;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{PackView, RetrieveRequest, SearchRequest, VerifyPackRequest};
use commonplace_rpc::{context, server};
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a call may take beyond its deadline.
pub const GRACE: Duration = Duration::from_millis(250);
/// Calls of one client under way at once; more are not begun, and counted.
const UNDER_WAY: usize = 1_024;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `IngestEvents`, one event.
    Append,
    /// `Commit`, one event under a request id.
    Commit,
    /// `Retrieve`, durable.
    Retrieve,
    /// `Search`.
    Search,
    /// `QueryEvents`.
    Events,
    /// `ListRefs`.
    Refs,
    /// `GetPolicy`.
    Policy,
}

/// Reads and appends in everyday shares.
pub const MIXED: &[Kind] = &[
    Kind::Append,
    Kind::Events,
    Kind::Retrieve,
    Kind::Policy,
    Kind::Commit,
    Kind::Refs,
    Kind::Search,
    Kind::Events,
    Kind::Append,
    Kind::Policy,
];

/// Appends, and packs that must hold.
pub const STRICT: &[Kind] = &[Kind::Append, Kind::Retrieve, Kind::Commit];

/// How much of what.
#[derive(Debug, Clone)]
pub struct Load {
    /// Calls a second, over all clients.
    pub per_second: u32,
    /// Each with channels of its own.
    pub clients: u32,
    /// Of each call.
    pub deadline: Duration,
    /// In which order clients call what, over and over.
    pub mix: &'static [Kind],
    /// What is appended carries this as its tag; nothing else may.
    pub label: String,
}

/// An event that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// Its title, which nothing else has.
    pub title: String,
    /// Its id.
    pub id: String,
}

/// One call.
#[derive(Debug)]
pub struct Done {
    /// What was called.
    pub kind: Kind,
    /// When it was to begin, from the beginning of the load.
    pub began: Duration,
    /// From then until it ended.
    pub took: Duration,
    /// What it gave, or what its status says.
    pub gave: Result<Gave, String>,
}

/// What a call gave that can be checked later.
#[derive(Debug)]
pub enum Gave {
    /// An event is in the journal.
    Event(Written),
    /// A pack was made: its id and its bytes.
    Pack(String, Vec<u8>),
    /// Nothing of that kind.
    Answer,
}

/// Makes the project that the load works in: before its first event, reads rightly find none.
pub fn open(channels: &Channels) -> BoxFuture<'_, ()> {
    Box::pin(opened(channels))
}

async fn opened(channels: &Channels) {
    let event = EventDraft {
        artifact_type: "spec".into(),
        title: "a flaky test fails now and then".into(),
        ..Default::default()
    };
    let request = IngestEventsRequest {
        events: vec![event],
        ..Default::default()
    };
    let mut client = IngestServiceClient::new(channels.ingest.clone());
    let call = client.ingest_events(request);
    let answer = context::with_deadline(Duration::from_secs(30), call).await;
    answer.expect("the mesh takes events");
}

/// Load that goes on until it is told to stop.
pub struct Running {
    stop: CancellationToken,
    clients: JoinSet<(Vec<Done>, usize)>,
    lag: tokio::task::JoinHandle<Duration>,
    load: Load,
}

impl Load {
    /// Starts the clients; `channels` gives each its own.
    pub fn start(self, channels: impl Fn() -> Channels) -> Running {
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        let began = Instant::now();
        for number in 0..self.clients {
            let client = Client {
                number,
                load: self.clone(),
                channels: channels(),
                began,
            };
            clients.spawn(Arc::new(client).run(stop.clone()));
        }
        let lag = tokio::spawn(longest_lag(stop.clone()));
        Running {
            stop,
            clients,
            lag,
            load: self,
        }
    }
}

impl Running {
    /// Begins no more calls, and waits for those that run.
    pub fn stop(self) -> BoxFuture<'static, Account> {
        Box::pin(self.stopped())
    }

    async fn stopped(mut self) -> Account {
        self.stop.cancel();
        let (mut done, mut left_out) = (Vec::new(), 0);
        while let Some(client) = self.clients.join_next().await {
            let (calls, more) = client.expect("clients do not panic");
            done.extend(calls);
            left_out += more;
        }
        done.sort_by_key(|call| call.began);
        Account {
            deadline: self.load.deadline,
            label: self.load.label,
            left_out,
            lag: self.lag.await.unwrap_or_default(),
            done,
        }
    }
}

/// How late this process itself wakes up, at worst: what a busy machine adds to every measurement.
async fn longest_lag(stop: CancellationToken) -> Duration {
    let (step, mut longest) = (Duration::from_millis(10), Duration::ZERO);
    while !stop.is_cancelled() {
        let started = Instant::now();
        tokio::time::sleep(step).await;
        longest = longest.max(started.elapsed() - step);
    }
    longest
}

struct Client {
    number: u32,
    load: Load,
    channels: Channels,
    began: Instant,
}

impl Client {
    async fn run(self: Arc<Self>, stop: CancellationToken) -> (Vec<Done>, usize) {
        let step = Duration::from_secs(1) * self.load.clients / self.load.per_second;
        // Clients take turns.
        let mut due = self.began + step * self.number / self.load.clients;
        let (mut calls, mut done, mut left_out) = (JoinSet::new(), Vec::new(), 0);
        for count in 0_usize.. {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = stop.cancelled() => break,
            }
            while let Some(call) = calls.try_join_next() {
                done.push(call.expect("calls do not panic"));
            }
            match calls.len() < UNDER_WAY {
                true => drop(calls.spawn(self.clone().call(count, due))),
                false => left_out += 1,
            }
            due += step;
        }
        while let Some(call) = calls.join_next().await {
            done.push(call.expect("calls do not panic"));
        }
        (done, left_out)
    }

    async fn call(self: Arc<Self>, count: usize, due: Instant) -> Done {
        let place = count + self.number as usize;
        let kind = self.load.mix[place % self.load.mix.len()];
        // The deadline counts from when the call really begins.
        let late = due.elapsed();
        let gave = context::with_deadline(self.load.deadline, self.make(kind, count)).await;
        Done {
            kind,
            began: due - self.began,
            took: due.elapsed() - late,
            gave: gave.map_err(|status| format!("{:?}: {}", status.code(), status.message())),
        }
    }

    fn draft(&self, count: usize) -> EventDraft {
        let label = &self.load.label;
        EventDraft {
            artifact_type: "test".into(),
            title: format!("{label} {} {count}", self.number),
            text: format!("the flaky test {count} of client {} fails", self.number),
            tags: vec![label.clone()],
            ..Default::default()
        }
    }

    async fn make(&self, kind: Kind, count: usize) -> Result<Gave, tonic::Status> {
        match kind {
            Kind::Append => self.append(count).await,
            Kind::Commit => self.commit(count).await,
            Kind::Retrieve => self.retrieve().await,
            Kind::Search => {
                let request = SearchRequest {
                    query: "flaky test fails".into(),
                    ..Default::default()
                };
                let mut client = RetrievalServiceClient::new(self.channels.retrieval.clone());
                client.search(request).await.map(|_| Gave::Answer)
            }
            Kind::Events => {
                let mut client = JournalServiceClient::new(self.channels.journal.clone());
                let request = QueryEventsRequest::default();
                client.query_events(request).await.map(|_| Gave::Answer)
            }
            Kind::Refs => {
                let mut client = JournalServiceClient::new(self.channels.journal.clone());
                let request = ListRefsRequest::default();
                client.list_refs(request).await.map(|_| Gave::Answer)
            }
            Kind::Policy => {
                let mut client = PolicyServiceClient::new(self.channels.policy.clone());
                let request = GetPolicyRequest {
                    id: "general".into(),
                    ..Default::default()
                };
                client.get_policy(request).await.map(|_| Gave::Answer)
            }
        }
    }

    async fn append(&self, count: usize) -> Result<Gave, tonic::Status> {
        let draft = self.draft(count);
        let title = draft.title.clone();
        let request = IngestEventsRequest {
            events: vec![draft],
            ..Default::default()
        };
        let mut client = IngestServiceClient::new(self.channels.ingest.clone());
        let answer = client.ingest_events(request).await?.into_inner();
        let id = answer.event_ids.into_iter().next().unwrap_or_default();
        Ok(Gave::Event(Written { title, id }))
    }

    async fn commit(&self, count: usize) -> Result<Gave, tonic::Status> {
        let draft = self.draft(count);
        let title = draft.title.clone();
        let request = CommitRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            events: vec![draft],
            ..Default::default()
        };
        let mut client = IngestServiceClient::new(self.channels.ingest.clone());
        let answer = client.commit(request).await?.into_inner();
        let id = answer.events.into_iter().next().map(|event| event.id);
        let id = id.unwrap_or_default();
        Ok(Gave::Event(Written { title, id }))
    }

    async fn retrieve(&self) -> Result<Gave, tonic::Status> {
        let request = RetrieveRequest {
            query: "which flaky test fails?".into(),
            budget_tokens: 600,
            durable: true,
            view: PackView::Full.into(),
            ..Default::default()
        };
        let mut client = RetrievalServiceClient::new(self.channels.retrieval.clone());
        let pack = client.retrieve(request).await?.into_inner().pack;
        let pack = pack.ok_or_else(|| tonic::Status::internal("an answer without a pack"))?;
        Ok(Gave::Pack(pack.id, pack.content.to_vec()))
    }
}

/// What came of a load.
#[derive(Debug)]
pub struct Account {
    deadline: Duration,
    label: String,
    /// Calls that were not begun, because too many were under way.
    pub left_out: usize,
    /// How late this process woke up, at worst.
    pub lag: Duration,
    /// Every call, in order of its beginning.
    pub done: Vec<Done>,
}

impl Account {
    /// The calls that failed, as lines for people; the same text once, with its count.
    pub fn failures(&self) -> Vec<String> {
        let mut texts = BTreeMap::<String, (usize, Duration)>::new();
        for call in &self.done {
            if let Err(text) = &call.gave {
                let entry = texts
                    .entry(format!("{:?}: {text}", call.kind))
                    .or_insert((0, call.began));
                entry.0 += 1;
            }
        }
        let line = |(text, (count, first)): (String, (usize, Duration))| {
            format!("{count} × from {:.2} s on: {text}", first.as_secs_f64())
        };
        texts.into_iter().map(line).collect()
    }

    /// How many calls failed.
    pub fn failed(&self) -> usize {
        self.done.iter().filter(|call| call.gave.is_err()).count()
    }

    /// Calls that ended later than they may, beyond what this process itself was late.
    pub fn late(&self) -> Vec<&Done> {
        let most = self.deadline + GRACE + self.lag;
        self.done.iter().filter(|call| call.took > most).collect()
    }

    /// The time that a share of the calls does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut times: Vec<Duration> = self.done.iter().map(|call| call.took).collect();
        times.sort();
        let place = (times.len() as f64 * share).ceil() as usize;
        let place = place.clamp(1, times.len().max(1)) - 1;
        times.get(place).copied().unwrap_or_default()
    }

    /// The events that were acknowledged.
    pub fn written(&self) -> Vec<&Written> {
        let gave = self.done.iter().filter_map(|call| call.gave.as_ref().ok());
        let written = gave.filter_map(|gave| match gave {
            Gave::Event(written) => Some(written),
            _ => None,
        });
        written.collect()
    }

    fn packs(&self) -> Vec<(&str, &[u8])> {
        let gave = self.done.iter().filter_map(|call| call.gave.as_ref().ok());
        let packs = gave.filter_map(|gave| match gave {
            Gave::Pack(id, content) => Some((id.as_str(), content.as_slice())),
            _ => None,
        });
        packs.collect()
    }
}

/// What is not as it was acknowledged. Nothing in it: all is well.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Acknowledged and not there, or not as it was sent.
    pub lost: Vec<Written>,
    /// There more than once.
    pub twice: Vec<String>,
    /// Packs that cannot be made again to the same bytes, with the first difference.
    pub wrong_packs: Vec<String>,
    /// What the journal says about its own hashes, if they do not fit.
    pub broken: Option<String>,
}

/// Looks for everything that was acknowledged. At most `packs` packs are made again, spread over all of them.
pub fn audit<'a>(
    channels: &'a Channels,
    account: &'a Account,
    packs: usize,
) -> BoxFuture<'a, Audit> {
    Box::pin(audited(channels, account, packs))
}

async fn audited(channels: &Channels, account: &Account, packs: usize) -> Audit {
    context::with_deadline(Duration::from_secs(120), async {
        let mut audit = Audit::default();
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for event in events(channels, &account.label).await {
            if !titles.insert(event.title.clone()) || !ids.insert((event.title.clone(), event.id)) {
                audit.twice.push(event.title);
            }
        }
        for written in account.written() {
            if !ids.contains(&(written.title.clone(), written.id.clone())) {
                audit.lost.push(written.clone());
            }
        }
        audit.wrong_packs = wrong_packs(channels, &account.packs(), packs).await;
        audit.broken = broken_chain(channels).await;
        audit
    })
    .await
}

/// Every event with a tag, from all pages.
async fn events(channels: &Channels, tag: &str) -> Vec<Event> {
    let mut client = JournalServiceClient::new(channels.journal.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES);
    let mut request = QueryEventsRequest {
        filter: Some(EventFilter {
            tags_any: vec![tag.to_owned()],
            ..Default::default()
        }),
        include_superseded: true,
        page_size: 1_000,
        as_of: Some(Reference {
            point: Some(Point::Branch("main".into())),
        }),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.query_events(request.clone()).await;
        let page = page.expect("events can be read").into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

async fn wrong_packs(channels: &Channels, packs: &[(&str, &[u8])], most: usize) -> Vec<String> {
    let mut client = RetrievalServiceClient::new(channels.retrieval.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES)
        .max_encoding_message_size(server::MESSAGE_BYTES);
    let mut wrong = Vec::new();
    for (id, content) in packs
        .iter()
        .step_by(packs.len().div_ceil(most.max(1)).max(1))
    {
        let request = VerifyPackRequest {
            id: (*id).to_owned(),
            content: content.to_vec().into(),
        };
        let answer = client.verify_pack(request).await;
        let answer = answer.expect("packs can be verified").into_inner();
        if !answer.verified {
            wrong.push(format!("{id}: {:?}", answer.differences.first()));
        }
    }
    wrong
}

async fn broken_chain(channels: &Channels) -> Option<String> {
    let mut client = JournalServiceClient::new(channels.journal.clone());
    let answer = client.verify_chain(VerifyChainRequest::default()).await;
    let answer = answer.expect("the chain can be verified").into_inner();
    (!answer.intact).then_some(answer.first_break)
}
