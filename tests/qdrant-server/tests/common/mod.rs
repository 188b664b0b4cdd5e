//! A journal with two indexes over it: one scans, the other asks a vector store.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use commonplace_index::{
    Codes, DIMENSION, Embedder, Index, Options, QdrantOptions, Secret, VectorStore,
};
use commonplace_journal::Journal;
use commonplace_proto::common::{EventDraft, Operation, Reference, reference::Point};
use commonplace_proto::index as proto;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{AppendRequest, CreateBranchRequest};
use commonplace_qdrant_server::{Options as ServerOptions, Server};
use commonplace_rpc::{Channel, Layered, Limits};
use commonplace_telemetry::Metrics;
use commonplace_types::{ManualClock, Timestamp};
use tonic::service::Routes;

/// Makes vectors of words: like texts have like vectors, and texts of the same words equal ones.
struct Words;

impl Embedder for Words {
    fn fingerprint(&self) -> &str {
        "words/1"
    }

    fn embed(&self, text: &str) -> Codes {
        let mut codes = [0i8; DIMENSION];
        for word in text.split_whitespace() {
            let hash = blake3::hash(word.as_bytes());
            for (place, byte) in hash.as_bytes().iter().enumerate() {
                let code = &mut codes[(place * 11 + *byte as usize) % DIMENSION];
                *code = code.saturating_add(*byte as i8 / 16);
            }
        }
        codes
    }
}

/// Numbers that look random and are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }

    pub fn words(&mut self, most: usize) -> String {
        const WORDS: [&str; 14] = [
            "alpha", "beta", "gamma", "delta", "retry", "timeout", "parser", "lane", "commit",
            "flaky", "login", "cache", "queue", "lease",
        ];
        let count = 1 + self.roll(most);
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.roll(WORDS.len())]).collect();
        words.join(" ")
    }
}

/// An index under test.
pub struct Side {
    pub index: Index,
    pub client: IndexServiceClient<Channel>,
}

impl Side {
    pub async fn start(folder: &Path, journal: &Channel, options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(
            Timestamp::parse("2026-11-21T08:00:00Z").unwrap(),
        ));
        let started = commonplace_index::start_with(
            options,
            folder,
            journal.clone(),
            Ok(Arc::new(Words)),
            clock,
        );
        let index = started.await.unwrap();
        let client = IndexServiceClient::new(layered(Routes::new(index.service())));
        Self { index, client }
    }

    pub async fn search(&self, request: &proto::SearchRequest) -> proto::SearchResponse {
        self.client
            .clone()
            .search(request.clone())
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn status(&self, project: &str) -> proto::ProjectIndex {
        let request = proto::GetStatusRequest {
            project: project.into(),
        };
        let answer = self.client.clone().get_status(request).await.unwrap();
        answer.into_inner().projects.remove(0)
    }

    pub async fn check(&self, project: &str, repair: bool) -> proto::CheckResponse {
        let request = proto::CheckRequest {
            project: project.into(),
            repair,
        };
        self.client
            .clone()
            .check(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits until the store has everything that the journal has.
    pub async fn stored(&self, project: &str) {
        until(|| async {
            let status = self.status(project).await;
            let store = status.vectors_in.unwrap();
            let all = status.journal_commit + 1;
            store.commits == all && status.dense_commit + 1 == all && store.state == "serving"
        })
        .await;
    }

    /// Waits until the store's state is told with these words.
    pub async fn told(&self, project: &str, words: &str) -> String {
        let mut state = String::new();
        for _ in 0..2_000 {
            state = self.status(project).await.vectors_in.unwrap().state;
            if state.contains(words) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never told `{words}`, last `{state}`");
    }
}

/// Waits, at most 30 seconds, for something to become so.
pub async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    for _ in 0..3_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never became so");
}

fn layered(routes: Routes) -> Channel {
    Channel::in_process(Layered::new(
        routes.prepare(),
        Limits::default(),
        Metrics::new(),
    ))
}

pub fn quick() -> Options {
    Options {
        poll_interval_ms: 50,
        commit_interval_ms: 20,
        retry_ms: (10, 100),
        longest_wait_ms: 20_000,
        ..Options::default()
    }
}

pub fn qdrant(addresses: Vec<String>) -> QdrantOptions {
    QdrantOptions {
        addresses,
        retry_ms: (5, 50),
        probe_ms: 50,
        failures: 1,
        margin: 4,
        batch_points: 16,
        held_vectors: 64,
        ..QdrantOptions::default()
    }
}

pub fn with_store(qdrant: QdrantOptions) -> Options {
    Options {
        vectors: VectorStore::Qdrant,
        qdrant,
        ..quick()
    }
}

pub async fn server(folder: &Path, listen: Option<SocketAddr>) -> Server {
    keyed_server(folder, listen, "").await
}

pub async fn keyed_server(folder: &Path, listen: Option<SocketAddr>, api_key: &str) -> Server {
    let options = || ServerOptions {
        listen,
        data: folder.to_owned(),
        api_key: api_key.into(),
        ..ServerOptions::default()
    };
    for _ in 0..200 {
        // The port of a server that has just stopped may be taken for a moment.
        match Server::start(options()).await {
            Ok(server) => return server,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Server::start(options()).await.unwrap()
}

/// A journal, and where indexes and stores may keep their things.
pub struct World {
    pub folder: tempfile::TempDir,
    journal: Journal,
    pub to_journal: Channel,
    appends: JournalServiceClient<Channel>,
    made: u64,
    pub commits: Vec<(String, String)>,
}

impl World {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(
            Timestamp::parse("2026-11-21T08:00:00Z").unwrap(),
        ));
        let path = folder.path().join("journal");
        let journal = commonplace_journal::start(Default::default(), &path, clock);
        let journal = journal.await.unwrap();
        let to_journal = layered(Routes::new(journal.service()));
        Self {
            folder,
            journal,
            appends: JournalServiceClient::new(to_journal.clone()),
            to_journal,
            made: 0,
            commits: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn local(&self) -> Side {
        Side::start(&self.path("local"), &self.to_journal, quick()).await
    }

    pub async fn outside(&self, qdrant: QdrantOptions) -> Side {
        Side::start(&self.path("outside"), &self.to_journal, with_store(qdrant)).await
    }

    pub async fn stop(self, sides: Vec<Side>) {
        for side in sides {
            side.index.shutdown().await;
        }
        self.journal.shutdown().await.unwrap();
    }

    pub async fn append(&mut self, project: &str, branch: &str, events: Vec<EventDraft>) -> String {
        let request = AppendRequest {
            project: project.into(),
            branch: branch.into(),
            events,
            ..Default::default()
        };
        let answer = self.appends.clone().append(request).await.unwrap();
        let hash = answer.into_inner().commit.unwrap().hash;
        self.commits.push((project.into(), hash.clone()));
        hash
    }

    /// Commits over several branches, with events that supersede and retract others.
    pub async fn grow(&mut self, project: &str, dice: &mut Dice, commits: usize) {
        for _ in 0..commits {
            let branch = ["", "", "", "side", "topic"][dice.roll(5)];
            if !branch.is_empty() {
                let request = CreateBranchRequest {
                    project: project.into(),
                    branch: branch.into(),
                    ..Default::default()
                };
                // It may be there, or there may be nothing to branch from.
                let made = self.appends.clone().create_branch(request).await;
                if made.is_err_and(|status| status.code() != tonic::Code::AlreadyExists) {
                    continue;
                }
            }
            let events = (0..1 + dice.roll(6)).map(|_| self.event(dice)).collect();
            self.append(project, branch, events).await;
        }
    }

    fn event(&mut self, dice: &mut Dice) -> EventDraft {
        self.made += 1;
        let retracts = dice.roll(12) == 0;
        EventDraft {
            operation: if retracts {
                Operation::Retract
            } else {
                Operation::Assert
            }
            .into(),
            artifact_type: ["bug", "runlog", "decision"][dice.roll(3)].into(),
            record_id: if retracts || dice.roll(2) == 0 {
                format!("record:{}", dice.roll(20))
            } else {
                String::new()
            },
            title: if retracts {
                String::new()
            } else {
                dice.words(3)
            },
            // Few words, so that equal vectors and equal scores are many; now and then several passages.
            text: match (retracts, dice.roll(15)) {
                (true, _) => String::new(),
                (_, 0) => (0..60).map(|_| dice.words(9) + ".\n\n").collect(),
                _ => dice.words(6),
            },
            tags: [vec![], vec!["ci".into()], vec!["ci".into(), "slow".into()]][dice.roll(3)]
                .clone(),
            agent: ["ann", "bob"][dice.roll(2)].into(),
            source: ["git", "junit"][dice.roll(2)].into(),
            pinned: dice.roll(15) == 0,
            supersede_heads: dice.roll(4) == 0,
            importance: Some(dice.roll(5) as f64 / 4.0),
            ..Default::default()
        }
    }
}

pub fn at(hash: &str) -> Option<Reference> {
    Some(Reference {
        point: Some(Point::Commit(hash.into())),
    })
}

pub fn both(project: &str, query: &str) -> proto::SearchRequest {
    proto::SearchRequest {
        project: project.into(),
        query: query.into(),
        lexical_limit: 8,
        dense_limit: 8,
        ineligible_limit: 5,
        wait_for_dense: true,
        ..Default::default()
    }
}

/// What must be equal, whatever proposed the candidates.
pub fn plain(mut answer: proto::SearchResponse) -> proto::SearchResponse {
    if let Some(dense) = &mut answer.dense {
        dense.recorded = false;
    }
    answer
}

pub fn secret(key: &str) -> Secret {
    Secret::new(key)
}

pub fn words() -> Arc<dyn Embedder> {
    Arc::new(Words)
}
