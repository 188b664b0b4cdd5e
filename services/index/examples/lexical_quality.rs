//! Judges lexical retrieval on the public sets: `cargo run --release --example lexical_quality`.
//!
//! For each set found it indexes events as passages (an event scores as its best passage) and, for
//! comparison, as one row each, writes a TREC run per way, and scores the runs with the evaluation
//! script. `EVALUATION_DATA` names the folder of the sets, `EVALUATION_SCRIPT` the script; the
//! defaults lie beside the repository. Runs go to `EVALUATION_RUNS` or a temporary folder.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use commonplace_index::bitmap::Bitmap;
use commonplace_index::lexical::{Lexical, Rows, Scratch, Statistics};
use commonplace_index::{analyzer, passage};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name, folder, judgements, artifact type.
const SETS: [(&str, &str, &str, &str); 6] = [
    ("cranfield", "cranfield", "qrels.tsv", "spec"),
    ("cosqa", "cosqa", "qrels.tsv", "spec"),
    ("defects4j-logs", "defects4j", "qrels_log.tsv", "diff"),
    ("defects4j-bugs", "defects4j", "qrels_bug.tsv", "diff"),
    ("bugdups", "bugdups-hadoop", "qrels.tsv", "bug"),
    ("locomo", "locomo", "qrels.tsv", "spec"),
];

struct Document {
    id: String,
    title: String,
    text: String,
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let data = path_from("EVALUATION_DATA", root.join("data"));
    let script = path_from("EVALUATION_SCRIPT", root.join("tools/ir_eval.py"));
    let temporary = tempfile::tempdir().unwrap();
    let runs = path_from("EVALUATION_RUNS", temporary.path().to_owned());
    for (name, folder, judgements, artifact_type) in SETS {
        let folder = data.join(folder);
        if !folder.is_dir() {
            println!("SKIPPED {name}: {} is not there", folder.display());
            continue;
        }
        let documents = read(&folder.join("corpus.jsonl"));
        let queries = read(&folder.join("queries.jsonl"));
        for whole in [false, true] {
            let run = runs.join(format!(
                "{name}-{}.run",
                if whole { "whole" } else { "passages" }
            ));
            std::fs::write(&run, search(&documents, &queries, artifact_type, whole)).unwrap();
            report(&script, &folder.join(judgements), &run);
        }
    }
}

fn path_from(variable: &str, default: PathBuf) -> PathBuf {
    std::env::var_os(variable).map_or(default, PathBuf::from)
}

fn read(path: &Path) -> Vec<Document> {
    let field =
        |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let text = std::fs::read_to_string(path).unwrap();
    // Lines end at LF only: texts may hold other line separators.
    let lines = text.split('\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let value = serde_json::from_str(line).unwrap();
            let (id, title) = (field(&value, "_id"), field(&value, "title"));
            Document {
                id,
                title,
                text: field(&value, "text"),
            }
        })
        .collect()
}

/// A TREC run of the best hundred events per query.
fn search(
    documents: &[Document],
    queries: &[Document],
    artifact_type: &str,
    whole: bool,
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    let (mut events, mut lengths) = (Vec::new(), Vec::new());
    for (event, document) in documents.iter().enumerate() {
        let mut passages = passage::split(artifact_type, &document.text);
        if whole {
            passages = vec![0..document.text.len(); 1];
        }
        for range in passages {
            let terms = analyzer::passage_terms(&document.title, &document.text[range]);
            lexical.add(events.len() as u32, &terms).unwrap();
            events.push(event);
            lengths.push(terms.len() as u32);
        }
    }
    lexical.commit("").unwrap();
    let live = Bitmap::full(events.len() as u32);
    let statistics = Statistics::of(&live, &lengths);
    let rows = Rows {
        visible: &live,
        live: &live,
        lengths: &lengths,
        statistics,
    };
    let (snapshot, mut scratch, mut run) = (lexical.snapshot(), Scratch::default(), String::new());
    for query in queries {
        let terms = analyzer::terms(&query.text);
        let scores = snapshot.score(&terms, rows, &mut scratch).unwrap();
        let mut best: BTreeMap<usize, f64> = BTreeMap::new();
        for (row, score) in scores.iter() {
            let event = best.entry(events[row as usize]).or_default();
            *event = event.max(score);
        }
        let mut ranked: Vec<(usize, f64)> = best.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (rank, (event, score)) in ranked.iter().take(100).enumerate() {
            let document = &documents[*event].id;
            writeln!(
                run,
                "{} Q0 {document} {} {score} lexical",
                query.id,
                rank + 1
            )
            .unwrap();
        }
    }
    run
}

fn report(script: &Path, judgements: &Path, run: &Path) {
    let output = Command::new("python3")
        .arg(script)
        .arg(judgements)
        .arg(run)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let measures: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("nDCG@10") || line.starts_with("R@10"))
        .collect();
    let name = run.file_stem().unwrap_or_default().to_string_lossy();
    println!(
        "{name:26} {} {}",
        measures.join("  "),
        String::from_utf8_lossy(&output.stderr)
    );
}
