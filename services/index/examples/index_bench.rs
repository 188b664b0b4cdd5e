//! Measures searches through in-process gRPC over a journal's feed: `cargo run --example index_bench
//! --release -p commonplace-index -- 10000 100000`. Vectors are made up, so what is measured is the index
//! and not the model.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_index::{Codes, DIMENSION, Embedder, Options};
use commonplace_proto::common::EventDraft;
use commonplace_proto::common::{EventFilter, Reference, reference::Point};
use commonplace_proto::index as proto;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::journal::AppendRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::{Channel, Layered, Limits};
use commonplace_telemetry::Metrics;
use commonplace_types::SystemClock;
use tonic::service::Routes;

struct Hashes;

impl Embedder for Hashes {
    fn fingerprint(&self) -> &str {
        "hashes/1"
    }

    fn embed(&self, text: &str) -> Codes {
        let mut bytes = [0; DIMENSION];
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes.map(|byte| byte as i8)
    }
}

/// Words with frequencies as in language: the n-th is asked for about 1/n of the time.
struct Words(u64);

impl Words {
    fn next(&mut self) -> String {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let uniform = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        letters(50_000f64.powf(uniform) as u64)
    }

    fn text(&mut self, words: usize) -> String {
        let words: Vec<String> = (0..words).map(|_| self.next()).collect();
        words.join(" ")
    }
}

/// A number as a word of letters.
fn letters(mut number: u64) -> String {
    let mut word = String::from("q");
    while number > 0 {
        word.push(char::from(b"bcdfghjklmnpqrtvwxz"[(number % 19) as usize]));
        number /= 19;
    }
    word + "o"
}

fn layered(routes: Routes) -> Channel {
    Channel::in_process(Layered::new(
        routes.prepare(),
        Limits::default(),
        Metrics::new(),
    ))
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{name:40} p50 {:>9.1?}  p99 {:>9.1?}  min {:>9.1?}",
        at(0.5),
        at(0.99),
        at(0.0)
    );
}

async fn measure(
    client: &IndexServiceClient<Channel>,
    name: &str,
    rounds: usize,
    make: impl Fn(usize) -> proto::SearchRequest,
) {
    let mut times = Vec::new();
    for round in 0..rounds {
        let request = make(round);
        let started = Instant::now();
        let answer = client.clone().search(request).await.unwrap().into_inner();
        times.push(started.elapsed());
        assert!(!answer.candidates.is_empty());
    }
    report(name, times.split_off(rounds / 5));
}

async fn bench(events: usize) {
    println!("-- {events} passages");
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let journal = folder.path().join("journal");
    let journal = commonplace_journal::start(Default::default(), &journal, clock.clone());
    let journal = journal.await.unwrap();
    let to_journal = layered(Routes::new(journal.service()));
    let index = commonplace_index::start_with(
        Options::default(),
        folder.path(),
        to_journal.clone(),
        Ok(Arc::new(Hashes)),
        clock,
    );
    let index = index.await.unwrap();
    let to_index = layered(Routes::new(index.service()));
    let appends = JournalServiceClient::new(to_journal);
    let client = IndexServiceClient::new(to_index);
    let mut words = Words(7);
    let draft = |words: &mut Words, number: usize| EventDraft {
        artifact_type: ["bug", "runlog", "diff", "test"][number % 4].into(),
        title: words.text(5),
        text: words.text(20 + number * 7 % 41),
        ..Default::default()
    };
    let started = Instant::now();
    let mut hash = String::new();
    for first in (0..events).step_by(1_000) {
        let drafts = (first..events.min(first + 1_000))
            .map(|n| draft(&mut words, n))
            .collect();
        let request = AppendRequest {
            events: drafts,
            ..Default::default()
        };
        let answer = appends.clone().append(request).await.unwrap().into_inner();
        hash = answer.commit.unwrap().hash;
    }
    println!("appended in {:.1?}", started.elapsed());
    let query = |words: &mut Words| proto::SearchRequest {
        query: words.text(6),
        lexical_limit: 100,
        dense_limit: 100,
        ineligible_limit: 20,
        ..Default::default()
    };
    let first = proto::SearchRequest {
        wait_for_dense: true,
        ..query(&mut words)
    };
    while client.clone().search(first.clone()).await.is_err() {}
    println!(
        "indexed after {:.1?}, {} MiB resident",
        started.elapsed(),
        resident_mib()
    );
    tokio::time::sleep(Duration::from_secs(12)).await;
    println!("{} MiB resident when idle", resident_mib());
    let queries: Vec<_> = (0..16).map(|_| query(&mut words)).collect();
    let pinned = |round: usize| proto::SearchRequest {
        as_of: Some(Reference {
            point: Some(Point::Commit(hash.clone())),
        }),
        ..queries[round % queries.len()].clone()
    };
    measure(&client, "hybrid, pinned commit", 2_000, pinned).await;
    measure(&client, "hybrid, head of main", 2_000, |r| {
        queries[r % 16].clone()
    })
    .await;
    let filtered = |round| proto::SearchRequest {
        filter: Some(EventFilter {
            artifact_types: vec!["bug".into(), "test".into()],
            ..Default::default()
        }),
        ..pinned(round)
    };
    measure(&client, "hybrid, filtered", 1_000, filtered).await;
    let by_words = |round| proto::SearchRequest {
        dense_limit: 0,
        ..pinned(round)
    };
    measure(&client, "words only", 1_000, by_words).await;
    let by_meaning = |round| proto::SearchRequest {
        lexical_limit: 0,
        ..pinned(round)
    };
    measure(&client, "meaning only", 1_000, by_meaning).await;
    let small = |round| proto::SearchRequest {
        dense_limit: 0,
        lexical_limit: 1,
        ineligible_limit: 0,
        query: letters(49_999),
        ..pinned(round)
    };
    let mut times = Vec::new();
    for round in 0..1_000 {
        let started = Instant::now();
        client.clone().search(small(round)).await.unwrap();
        times.push(started.elapsed());
    }
    report("next to nothing", times);
    let mut times = Vec::new();
    for number in 0..200 {
        let request = AppendRequest {
            events: vec![draft(&mut words, number)],
            ..Default::default()
        };
        appends.clone().append(request).await.unwrap();
        let started = Instant::now();
        client
            .clone()
            .search(queries[number % 16].clone())
            .await
            .unwrap();
        times.push(started.elapsed());
    }
    report("search right after an append", times);
    let started = Instant::now();
    let asked: Vec<_> = (0..4)
        .map(|task| {
            let (client, queries) = (client.clone(), queries.clone());
            tokio::spawn(async move {
                for round in 0..500 {
                    let request = queries[(task + round) % 16].clone();
                    client.clone().search(request).await.unwrap();
                }
            })
        })
        .collect();
    for task in asked {
        task.await.unwrap();
    }
    println!(
        "4 at once: {:.0} searches/s",
        2_000.0 / started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    index.shutdown().await;
    println!(
        "shut down in {:.1?}, {} MiB resident",
        started.elapsed(),
        resident_mib()
    );
    let started = Instant::now();
    let to_journal = layered(Routes::new(journal.service()));
    let embedder: Arc<dyn Embedder> = Arc::new(Hashes);
    let clock = Arc::new(SystemClock);
    let index = commonplace_index::start_with(
        Options::default(),
        folder.path(),
        to_journal,
        Ok(embedder),
        clock,
    );
    let index = index.await.unwrap();
    let client = IndexServiceClient::new(layered(Routes::new(index.service())));
    client.clone().search(queries[0].clone()).await.unwrap();
    println!("first answer {:.1?} after a restart", started.elapsed());
    index.shutdown().await;
    journal.shutdown().await.unwrap();
}

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|size| size.parse().ok())
        .collect();
    for size in sizes {
        bench(size).await;
    }
}
