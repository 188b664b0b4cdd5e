//! Times the lexical index at several sizes: `cargo run --release --example lexical_bench`.
//!
//! Rows are 40 words drawn from a Zipf-like vocabulary; queries are six words drawn alike, without
//! the most frequent hundred (as stop words would be) or, as the hard case, without the first ten.
//! Prints medians and 99th percentiles.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use commonplace_index::bitmap::Bitmap;
use commonplace_index::lexical::{Lexical, Rows, Scratch, Snapshot, Statistics};
use commonplace_index::{analyzer, budget, passage};
use std::time::{Duration, Instant};

const QUERIES: usize = 400;
const ROW_WORDS: usize = 40;

fn main() {
    for rows in [10_000, 100_000] {
        measure(rows);
    }
    measure_text();
}

fn measure(count: u32) {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    let mut random = Random(42);
    let mut words = |least: f64, count: usize| -> Vec<String> {
        (0..count)
            .map(|_| format!("w{}", random.zipf(least, 50_000.0)))
            .collect()
    };
    let documents: Vec<Vec<String>> = (0..count).map(|_| words(1.0, ROW_WORDS)).collect();
    let queries: Vec<Vec<String>> = (0..QUERIES).map(|_| words(100.0, 6)).collect();
    let frequent: Vec<Vec<String>> = (0..QUERIES).map(|_| words(10.0, 6)).collect();

    let started = Instant::now();
    let mut commits = Vec::new();
    for (row, terms) in documents.iter().enumerate() {
        lexical.add(row as u32, terms).unwrap();
        if row % 5_000 == 4_999 && row as u32 + 5_000 < count {
            commits.push(timed(|| lexical.commit("").unwrap()));
        }
    }
    println!(
        "{count} rows: built at {:.0} rows/s, commit of 5,000 rows p50 {:?}",
        f64::from(count) / started.elapsed().as_secs_f64(),
        percentile(&mut commits, 50)
    );
    report(
        "last 5,000 rows in the tail",
        &lexical.snapshot(),
        count,
        &queries,
    );
    lexical.commit("").unwrap();
    let mut small: Vec<Duration> = (0..20)
        .map(|_| timed(|| lexical.commit("").unwrap()))
        .collect();
    println!("  empty commit p50 {:?}", percentile(&mut small, 50));
    report("all committed", &lexical.snapshot(), count, &queries);
    lexical.rest().unwrap();
    drop(lexical);
    let started = Instant::now();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    println!("  opened in {:?}", started.elapsed());
    report("after merges", &lexical.snapshot(), count, &queries);
    report("frequent words", &lexical.snapshot(), count, &frequent);
}

fn report(name: &str, snapshot: &Snapshot, count: u32, queries: &[Vec<String>]) {
    let lengths = vec![ROW_WORDS as u32; count as usize];
    let all = Bitmap::full(count);
    let some: Bitmap = all.iter().filter(|row| row % 10 != 0).collect();
    for (kind, live) in [("all rows live", &all), ("one in ten superseded", &some)] {
        let statistics = Statistics::of(live, &lengths);
        let rows = Rows {
            visible: &all,
            live,
            lengths: &lengths,
            statistics,
        };
        let mut scratch = Scratch::default();
        let (mut scoring, mut best, mut touched) = (Vec::new(), Vec::new(), 0);
        for query in queries.iter().chain(queries) {
            let started = Instant::now();
            let scores = snapshot.score(query, rows, &mut scratch).unwrap();
            scoring.push(started.elapsed());
            best.push(timed(|| scores.top_k(100, live, |row| row)));
            touched += scores.iter().count();
        }
        println!(
            "  {name} ({} segments), {kind}: score p50 {:?} p99 {:?}, top 100 p50 {:?} p99 {:?}, {} rows touched",
            snapshot.segments(),
            percentile(&mut scoring, 50),
            percentile(&mut scoring, 99),
            percentile(&mut best, 50),
            percentile(&mut best, 99),
            touched / (2 * queries.len()),
        );
    }
}

fn measure_text() {
    let text = include_str!("../src/lexical.rs").repeat(50);
    let rate = |name: &str, work: &mut dyn FnMut()| {
        let took = timed(work);
        println!(
            "{name}: {:.1} MB/s",
            text.len() as f64 / 1e6 / took.as_secs_f64()
        );
    };
    println!(
        "vocabulary of the token counter unpacked in {:?}",
        timed(budget::warm)
    );
    rate("token count", &mut || {
        budget::count(&text);
    });
    rate("analysis", &mut || analyzer::analyze(&text, |_| ()));
    rate("cutting into passages", &mut || {
        passage::split("code", &text);
    });
}

fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let started = Instant::now();
    std::hint::black_box(work());
    started.elapsed()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times
        .get(times.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}

/// SplitMix64. Source: Steele, Lea and Flood, 2014.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A rank between `least` and `most`, with density 1 / rank.
    fn zipf(&mut self, least: f64, most: f64) -> u64 {
        (least * (most / least).powf(self.unit())) as u64
    }
}
