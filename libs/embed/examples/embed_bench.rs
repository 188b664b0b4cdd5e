//! Times the embedding model and the dense scan on one thread.
//!
//! `cargo run --release -p commonplace-embed --example embed_bench [-- all]`: the fastest
//! instruction set, or all that this CPU has. The model is looked for in `COM_MODEL_DIR`, else
//! in `commonplace/models/all-MiniLM-L6-v2` of the user's cache folder.

#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use commonplace_embed::{DIMENSION, Isa, Model, Workspace, dense};

/// How long each measurement runs.
const BUDGET: Duration = Duration::from_secs(2);
/// Rows of the scan.
const ROWS: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = model_folder().ok_or("neither COM_MODEL_DIR nor HOME is set")?;
    let start = Instant::now();
    let model = Model::load(&folder)?;
    println!("load {:>25.2} ms", milliseconds(start.elapsed()));
    let all = env::args().any(|argument| argument == "all");
    for isa in Isa::supported() {
        if all || isa == Isa::best() {
            println!("{isa}");
            measure_embedding(&model.on(isa)?);
            measure_scan(isa)?;
        }
    }
    Ok(())
}

fn model_folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("COM_MODEL_DIR") {
        return Some(folder.into());
    }
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home)?;
    Some(cache.join("commonplace/models/all-MiniLM-L6-v2"))
}

fn measure_embedding(model: &Model) {
    let mut workspace = Workspace::new();
    for tokens in [8, 16, 32, 128, 256] {
        let text = text_of(model, tokens);
        let timing = repeat(|| model.embed_with(&mut workspace, &text));
        print(&format!("embed {tokens:>3} tokens"), timing);
        println!("{:>56.0} texts/s at p50", 1000.0 / timing.p50);
    }
    let text = text_of(model, 16);
    print("tokenize 16 tokens", repeat(|| model.tokenize(&text)));
}

fn measure_scan(isa: Isa) -> Result<(), Box<dyn Error>> {
    let byte = |index: usize| (index.wrapping_mul(2_654_435_761) >> 13) as i8;
    let vectors: Vec<i8> = (0..ROWS * DIMENSION).map(byte).collect();
    let mut scores = vec![0; ROWS];
    let query = &vectors[..DIMENSION];
    dense::scan_on(isa, query, &vectors, &mut scores)?;
    let timing = repeat(|| dense::scan_on(isa, query, &vectors, &mut scores));
    print("scan 100k x 384", timing);
    println!(
        "{:>56.1} GB/s at p50",
        vectors.len() as f64 / 1e6 / timing.p50
    );
    Ok(())
}

/// Gives a text of exactly so many tokens, the start and end tokens included.
fn text_of(model: &Model, tokens: usize) -> String {
    let words = "how do we roll back a failed deploy of the search index when one shard is slow";
    let mut text = String::new();
    for word in words.split(' ').cycle() {
        if model.tokenize(&text).len() >= tokens {
            break;
        }
        text.push_str(word);
        text.push(' ');
    }
    text
}

/// Milliseconds.
#[derive(Clone, Copy)]
struct Timing {
    best: f64,
    p50: f64,
    p99: f64,
}

fn repeat<T>(mut operation: impl FnMut() -> T) -> Timing {
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < BUDGET {
        let start = Instant::now();
        black_box(operation());
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Timing {
        best: times[0],
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

fn print(name: &str, timing: Timing) {
    let Timing { best, p50, p99 } = timing;
    println!("{name:<20} {best:>9.4} ms best {p50:>9.4} ms p50 {p99:>9.4} ms p99");
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
