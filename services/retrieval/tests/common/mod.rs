//! A journal, an index, the policies and retrieval in one process, and short ways to ask them.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use commonplace_index::{Codes, DIMENSION, Embedder, Index};
use commonplace_journal::Journal;
use commonplace_policy::Policies;
use commonplace_proto::common::{EventDraft, Link, Reference, reference::Point};
use commonplace_proto::journal::AppendRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::PutPolicyRequest;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::retrieval as proto;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_retrieval::{Options, Retrieval};
use commonplace_rpc::{Channel, Failure};
use commonplace_telemetry::Metrics;
use commonplace_types::{EventId, ManualClock, Timestamp};
use tonic::service::Routes;

pub type Client = RetrievalServiceClient<Channel>;

/// Turns a text into a vector of its words: near for texts that share words.
pub struct Words(pub &'static str);

impl Embedder for Words {
    fn fingerprint(&self) -> &str {
        self.0
    }

    fn embed(&self, text: &str) -> Codes {
        let mut codes = [0_i8; DIMENSION];
        for word in text.split_whitespace() {
            let id = EventId::derive(&[word.to_lowercase().as_bytes()]);
            let place = usize::from(id.as_bytes()[0]) + usize::from(id.as_bytes()[1] % 2) * 128;
            codes[place] = codes[place].saturating_add(20);
        }
        codes[DIMENSION - 1] = 1;
        codes
    }
}

pub struct Mesh {
    pub clock: Arc<ManualClock>,
    pub client: Client,
    pub index: Channel,
    metrics: Arc<Metrics>,
    journal_client: JournalServiceClient<Channel>,
    policy_client: PolicyServiceClient<Channel>,
    running: (Journal, Index, Policies, Retrieval),
}

impl Mesh {
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, Ok(Arc::new(Words("words@1")))).await
    }

    pub async fn start_with(folder: &Path, embedder: Result<Arc<dyn Embedder>, String>) -> Self {
        let start = Timestamp::parse("2026-11-21T08:00:30Z").unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let path = folder.join("journal");
        let journal = commonplace_journal::start(Default::default(), &path, clock.clone());
        let journal = journal.await.unwrap();
        let to_journal = Channel::in_process(Routes::new(journal.service()).prepare());
        let index = commonplace_index::start_with(
            Default::default(),
            folder,
            to_journal.clone(),
            embedder,
            clock.clone(),
        );
        let index = index.await.unwrap();
        let to_index = Channel::in_process(Routes::new(index.service()).prepare());
        let policies = commonplace_policy::start(Default::default(), folder, clock.clone())
            .await
            .unwrap();
        let to_policy = Channel::in_process(Routes::new(policies.service()).prepare());
        let retrieval = commonplace_retrieval::start(
            Options::default(),
            folder,
            to_index.clone(),
            to_policy.clone(),
            clock.clone(),
        );
        let retrieval = retrieval.await.unwrap();
        let metrics = Metrics::new();
        retrieval.register(&metrics);
        let to_retrieval = Channel::in_process(Routes::new(retrieval.service()).prepare());
        Self {
            clock,
            client: RetrievalServiceClient::new(to_retrieval),
            index: to_index,
            metrics,
            journal_client: JournalServiceClient::new(to_journal),
            policy_client: PolicyServiceClient::new(to_policy),
            running: (journal, index, policies, retrieval),
        }
    }

    pub async fn stop(self) {
        let (journal, index, policies, retrieval) = self.running;
        retrieval.shutdown().await.unwrap();
        index.shutdown().await;
        policies.shutdown().await.unwrap();
        journal.shutdown().await.unwrap();
    }

    /// How many texts came from memory, and how many from the index.
    pub fn texts(&self) -> (u64, u64) {
        let text = self.metrics.text();
        let count = |from: &str| {
            let name = format!("retrieval_texts_total{{from=\"{from}\"}} ");
            let found = text.lines().find_map(|line| line.split_once(&name));
            found.map_or(0, |(_, count)| count.parse().unwrap())
        };
        (count("memory"), count("index"))
    }

    pub async fn append(&self, events: Vec<EventDraft>) -> String {
        self.clock.advance(Duration::from_secs(1));
        let request = AppendRequest {
            events,
            author: "ann".into(),
            ..Default::default()
        };
        let answer = self.journal_client.clone().append(request).await.unwrap();
        answer.into_inner().commit.unwrap().hash
    }

    pub async fn put_policy(&self, id: &str, source: &str) {
        let request = PutPolicyRequest {
            id: id.into(),
            source: source.into(),
            activate: true,
            ..Default::default()
        };
        self.policy_client
            .clone()
            .put_policy(request)
            .await
            .unwrap();
    }

    pub async fn retrieve(
        &self,
        request: proto::RetrieveRequest,
    ) -> Result<proto::RetrieveResponse, Failure> {
        let answer = self.client.clone().retrieve(request).await;
        answer
            .map(|answer| answer.into_inner())
            .map_err(|status| Failure::from_status(&status))
    }

    pub async fn pack(&self, request: proto::RetrieveRequest) -> proto::ContextPack {
        self.retrieve(request).await.unwrap().pack.unwrap()
    }

    pub async fn search(
        &self,
        request: proto::SearchRequest,
    ) -> Result<proto::SearchResponse, Failure> {
        let answer = self.client.clone().search(request).await;
        answer
            .map(|answer| answer.into_inner())
            .map_err(|status| Failure::from_status(&status))
    }

    pub async fn verify(&self, id: &str, content: &[u8]) -> proto::VerifyPackResponse {
        let request = proto::VerifyPackRequest {
            id: id.into(),
            content: content.to_vec().into(),
        };
        self.client
            .clone()
            .verify_pack(request)
            .await
            .unwrap()
            .into_inner()
    }
}

pub fn ask(query: &str) -> proto::RetrieveRequest {
    proto::RetrieveRequest {
        query: query.into(),
        wait_for_dense: true,
        view: proto::PackView::Full.into(),
        ..Default::default()
    }
}

pub fn at(commit: &str) -> Option<Reference> {
    Some(Reference {
        point: Some(Point::Commit(commit.into())),
    })
}

pub fn draft(kind: &str, title: &str, text: &str) -> EventDraft {
    EventDraft {
        artifact_type: kind.into(),
        title: title.into(),
        text: text.into(),
        links: vec![Link {
            relation: "file".into(),
            target: "src/login.py".into(),
        }],
        source: "test".into(),
        author: "ann".into(),
        ..Default::default()
    }
}

/// A little history of a login that fails.
pub fn history() -> Vec<EventDraft> {
    let mut events = vec![
        draft(
            "bug",
            "Login fails on Fridays",
            "The login handler raises a timeout when the session cache is cold.",
        ),
        draft(
            "diff",
            "Warm the session cache",
            "def warm_cache(session):\n    session.load()\n    return session.login",
        ),
        draft(
            "test",
            "test_login_timeout",
            "login timeout was 30 seconds and the test failed",
        ),
        draft(
            "decision",
            "Sessions live in Redis",
            "We keep the session cache in Redis because restarts lose it.",
        ),
        draft(
            "runlog",
            "nightly 17",
            "ERROR login timeout after 30 s in session cache",
        ),
        draft(
            "diff",
            "Unrelated colours",
            "The palette of the chart is now green.",
        ),
    ];
    events.extend((0..30).map(|number| {
        let text = format!("login attempt {number} of the session cache took {number} ms");
        draft("note", &format!("Measurement {number}"), &text)
    }));
    events
}
