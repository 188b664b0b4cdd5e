//! How long the service itself takes for a pack of 200 candidates: from the index's answers to its own, two
//! conversions, fusion, ranking, packing, canonical JSON and hash included; once greedy, once knapsack.
//!
//! `cargo run --release -p commonplace-retrieval --example pack_bench`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use commonplace_proto::index as proto;
use commonplace_retrieval::candidate::PassageKey;
use commonplace_retrieval::rules::PackingMethod;
use commonplace_retrieval::testing::{answer, event, policy, recipe, rules};

const CANDIDATES: u32 = 200;
const ROUNDS: usize = 5_000;

fn found() -> proto::SearchResponse {
    let numbers = 0..CANDIDATES;
    let ids: Vec<u8> = numbers
        .clone()
        .flat_map(|number| *event(number).as_bytes())
        .collect();
    let column = |of: fn(u32) -> u32| numbers.clone().map(of).collect::<Vec<u32>>();
    let scores = |of: fn(u32) -> f64| numbers.clone().map(of).collect::<Vec<f64>>();
    let columns = proto::CandidateColumns {
        event_ids: ids.clone().into(),
        passages: column(|number| number % 3),
        artifact_types: ["diff", "bug", "test"].map(String::from).into(),
        types: column(|number| number % 3),
        event_times: (numbers.clone())
            .map(|number| (1_790_000_000 + i64::from(number)) * 1_000_000)
            .collect(),
        importances: column(|_| 500_000),
        pinned: numbers.clone().map(|number| number % 50 == 0).collect(),
        lexical_scores: scores(|number| f64::from(number * 7_919 % 1_000) / 37.0),
        lexical_ranks: column(|number| number % 101),
        dense_scores: scores(|number| f64::from(number * 104_729 % 1_000) / 1_000.0),
        dense_ranks: column(|number| (number + 50) % 101),
        tokens: column(|number| 40 + number * 31 % 160),
        contents: ids.into(),
        eligibilities: vec![proto::Eligibility::Eligible.into(); CANDIDATES as usize],
        always: vec![false; CANDIDATES as usize],
    };
    proto::SearchResponse {
        commit: "ab".repeat(32),
        commit_number: 17,
        statistics: Some(proto::Statistics {
            passages: 100_000,
            total_length: 9_000_000,
            terms: (0..6)
                .map(|n| proto::TermStatistics {
                    term: format!("term{n}"),
                    document_frequency: 10 * n,
                })
                .collect(),
            analyzer: "code/1".into(),
        }),
        dense: Some(proto::DenseState {
            available: true,
            reason: String::new(),
            fingerprint: "model@1".into(),
            through: 17,
            recorded: false,
            off: 0,
        }),
        candidates: Vec::new(),
        commit_time: None,
        columns: Some(columns),
    }
}

fn passages(keys: Vec<PassageKey>) -> proto::GetPassagesResponse {
    let passage = |key: PassageKey| proto::Passage {
        key: Some(proto::PassageKey {
            event_id: key.event.to_string(),
            passage: key.passage,
        }),
        record_id: "record:1".into(),
        artifact_type: "diff".into(),
        title: "Warm the session cache before the first login".into(),
        text: "def warm_cache(session):\n    session.load()\n    return session.login\n".repeat(6),
        start: 0,
        end: 408,
        event_time: Some(prost_types::Timestamp {
            seconds: 1_790_000_000,
            nanos: 0,
        }),
        source: "git".into(),
        author: "ann".into(),
        checksum: format!("sha256:{}", "ab".repeat(32)),
        tokens: 100,
    };
    proto::GetPassagesResponse {
        passages: keys.into_iter().map(passage).collect(),
    }
}

fn main() {
    for method in [PackingMethod::Greedy, PackingMethod::Knapsack] {
        let mut rules = rules();
        rules.packing = method;
        rules.weights.recency = 100_000;
        rules.recency_lambda = 30_000;
        let policy = policy(rules);
        let mut times = Vec::with_capacity(ROUNDS);
        let (mut items, mut bytes) = (0, 0);
        for _ in 0..ROUNDS {
            let found = found();
            let mut fetching = Duration::ZERO;
            let start = Instant::now();
            let fetch = |keys| {
                let start = Instant::now();
                let passages = passages(keys);
                fetching = start.elapsed();
                passages
            };
            let pack = answer(found, fetch, recipe(4_000), &policy).unwrap();
            times.push(start.elapsed() - fetching);
            (items, bytes) = (pack.items.len(), pack.content.len());
        }
        times.sort_unstable();
        let at = |share: f64| times[(ROUNDS as f64 * share) as usize].as_nanos() as f64 / 1_000.0;
        println!(
            "{}: {CANDIDATES} candidates, {items} items, {bytes} bytes: p10 {:.1} us, p50 {:.1} us, p90 {:.1} us, p99 {:.1} us",
            method.as_str(),
            at(0.1),
            at(0.5),
            at(0.9),
            at(0.99),
        );
    }
}
