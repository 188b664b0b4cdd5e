//! A made-up project's events: words after Zipf's law, identifiers, files. The same on every machine.

use commonplace_proto::common::{Attribute, EventDraft, Link};

/// A small generator of pseudo-random numbers. Source: SplitMix64, Steele, Lea and Flood, 2014.
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 to `bound`, without it.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Words that people and programs use; rarer ones are identifiers made of two of them and a number.
const STEMS: [&str; 64] = [
    "retry", "index", "queue", "server", "cache", "token", "merge", "branch", "commit", "policy",
    "budget", "pack", "test", "build", "failure", "timeout", "parser", "reader", "writer",
    "stream", "buffer", "handler", "request", "answer", "client", "lock", "thread", "memory",
    "journal", "event", "record", "search", "vector", "score", "rank", "query", "filter", "result",
    "error", "log", "trace", "metric", "signal", "state", "lease", "worker", "task", "batch",
    "page", "cursor", "shard", "node", "leader", "replica", "snapshot", "backup", "schema",
    "table", "column", "value", "key", "hash", "time", "clock",
];
/// Different words there are.
const WORDS: usize = 30_000;
const TYPES: [&str; 6] = ["diff", "test", "runlog", "bug", "decision", "spec"];

fn word(rank: usize) -> String {
    let stem = |number: usize| STEMS[number % STEMS.len()];
    match rank {
        0..64 => stem(rank).to_owned(),
        64..4_160 => format!("{}_{}", stem(rank), stem(rank / STEMS.len())),
        _ => format!(
            "{}_{}{}",
            stem(rank),
            stem(rank / STEMS.len()),
            rank / 4_096
        ),
    }
}

/// A word, common ones far more often: the rank is drawn so that its logarithm is even (Zipf, s = 1).
fn draw(random: &mut Random) -> String {
    let rank = (WORDS as f64).powf(random.share()) as usize;
    word(rank.min(WORDS - 1))
}

fn sentence(random: &mut Random, words: usize) -> String {
    (0..words)
        .map(|_| draw(random))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The event with a number: about 40 words in one passage.
pub fn event(number: usize) -> EventDraft {
    let mut random = Random::new(number as u64);
    let kind = TYPES[random.below(TYPES.len())];
    let seconds = 1_750_000_000 + (number as i64 % 1_000_000) * 30;
    EventDraft {
        record_id: format!("bench:{number}"),
        artifact_type: kind.into(),
        title: sentence(&mut random, 6),
        text: sentence(&mut random, 36),
        links: vec![Link {
            relation: "file".into(),
            target: format!("src/{}.rs", draw(&mut random)),
        }],
        tags: vec![format!("area{}", random.below(20))],
        importance: Some((random.below(100) as f64) / 100.0),
        event_time: Some(prost_types_timestamp(seconds)),
        attributes: vec![Attribute {
            key: "run".into(),
            value: (number / 100).to_string(),
        }],
        ..Default::default()
    }
}

fn prost_types_timestamp(seconds: i64) -> commonplace_proto::Timestamp {
    commonplace_proto::Timestamp { seconds, nanos: 0 }
}

/// A query of a few words that the corpus holds.
pub fn query(number: usize) -> String {
    let mut random = Random::new(0xdead_beef ^ number as u64);
    let words = 4 + random.below(5);
    sentence(&mut random, words)
}
