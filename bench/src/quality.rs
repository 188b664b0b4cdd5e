//! How well: public retrieval sets through the real service, with one general setting for all.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use commonplace_node::{Node, NodeOptions};
use commonplace_proto::common::EventDraft;
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::journal::AppendRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::retrieval::SearchRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{context, server};
use commonplace_types::SystemClock;
use serde::Deserialize;

use crate::report::Report;

/// A public set: folder, judgements, prefix of the queries, nDCG@10 of plain BM25 over code-aware terms.
struct Set {
    name: &'static str,
    folder: &'static str,
    judgements: &'static str,
    prefix: &'static str,
    artifact_type: &'static str,
    plain: f64,
    counts: bool,
}

const SETS: [Set; 6] = [
    set(
        "cranfield",
        "cranfield",
        "qrels.tsv",
        "",
        "spec",
        0.376,
        true,
    ),
    set("cosqa", "cosqa", "qrels.tsv", "", "code", 0.389, true),
    set(
        "defects4j logs",
        "defects4j",
        "qrels_log.tsv",
        "log-",
        "diff",
        0.724,
        true,
    ),
    set(
        "defects4j bugs",
        "defects4j",
        "qrels_bug.tsv",
        "bug-",
        "diff",
        0.775,
        true,
    ),
    set(
        "bugdups hadoop",
        "bugdups-hadoop",
        "qrels.tsv",
        "",
        "bug",
        0.623,
        true,
    ),
    set("locomo", "locomo", "qrels.tsv", "", "message", 0.412, false),
];

const fn set(
    name: &'static str,
    folder: &'static str,
    judgements: &'static str,
    prefix: &'static str,
    artifact_type: &'static str,
    plain: f64,
    counts: bool,
) -> Set {
    Set {
        name,
        folder,
        judgements,
        prefix,
        artifact_type,
        plain,
        counts,
    }
}

/// The average over the sets that count, to be reached.
const MARK: f64 = 0.62;

#[derive(Deserialize)]
struct Document {
    _id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

/// Takes each set in, asks its queries, and has the answers scored.
pub async fn run(
    report: &mut Report,
    data: &Path,
    scorer: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    if !data.is_dir() || !scorer.is_file() {
        eprintln!(
            "SKIPPED: retrieval quality; no public sets at {}",
            data.display()
        );
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let options = NodeOptions {
        data_dir: folder.path().to_owned(),
        ..NodeOptions::default()
    };
    let node = Node::start(&options, Arc::new(SystemClock)).await?;
    let mut scores = Vec::new();
    for set in &SETS {
        let project = set.folder;
        take_in(&node, &data.join(set.folder), project, set.artifact_type).await?;
        let run = ask(&node, &data.join(set.folder), project, set.prefix).await?;
        let file = output.join(format!("{}.run", set.name.replace(' ', "-")));
        std::fs::write(&file, run)?;
        let score = score(scorer, &data.join(set.folder).join(set.judgements), &file)?;
        report.more(
            "quality",
            &format!("{}, nDCG@10 (mark: plain BM25)", set.name),
            score,
            "nDCG@10",
            Some(set.plain),
        );
        if set.counts {
            scores.push(score);
        }
    }
    let average = scores.iter().sum::<f64>() / scores.len() as f64;
    report.more(
        "quality",
        "average without locomo",
        average,
        "nDCG@10",
        Some(MARK),
    );
    node.shutdown().await;
    Ok(())
}

fn documents(file: &Path) -> anyhow::Result<Vec<Document>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

async fn take_in(
    node: &Node,
    folder: &Path,
    project: &str,
    artifact_type: &str,
) -> anyhow::Result<()> {
    let mut journal = JournalServiceClient::new(node.channels().journal.clone())
        .max_encoding_message_size(server::MESSAGE_BYTES);
    let events: Vec<EventDraft> = documents(&folder.join("corpus.jsonl"))?
        .into_iter()
        .map(|document| EventDraft {
            // An empty document still has to be there; its id is then all there is to say.
            title: if document.title.is_empty() && document.text.is_empty() {
                document._id.clone()
            } else {
                document.title
            },
            record_id: document._id,
            artifact_type: artifact_type.into(),
            text: document.text,
            ..Default::default()
        })
        .collect();
    for batch in events.chunks(500) {
        let request = AppendRequest {
            project: project.into(),
            events: batch.to_vec(),
            ..Default::default()
        };
        journal.append(request).await?;
    }
    let mut index = IndexServiceClient::new(node.channels().index.clone());
    loop {
        let status = index
            .get_status(GetStatusRequest {
                project: project.into(),
            })
            .await?
            .into_inner();
        let dense = status.dense.is_some_and(|dense| dense.available);
        let state = status.projects.into_iter().next().unwrap_or_default();
        let journal_known = state.journal_commit as usize >= events.len().div_ceil(500);
        let lexical = journal_known && state.lexical_commit >= state.journal_commit;
        if lexical && (!dense || state.dense_commit >= state.journal_commit) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Answers in TREC form.
async fn ask(node: &Node, folder: &Path, project: &str, prefix: &str) -> anyhow::Result<String> {
    let mut retrieval = RetrievalServiceClient::new(node.channels().retrieval.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES);
    let mut run = String::new();
    for query in documents(&folder.join("queries.jsonl"))? {
        if !query._id.starts_with(prefix) {
            continue;
        }
        // Queries are bounded at 8 KiB; a longer one is asked by its beginning.
        let mut end = query.text.len().min(8_192);
        while !query.text.is_char_boundary(end) {
            end -= 1;
        }
        let request = SearchRequest {
            project: project.into(),
            query: query.text[..end].to_owned(),
            limit: 100,
            keys_only: true,
            ..Default::default()
        };
        let answer = context::with_deadline(Duration::from_secs(60), retrieval.search(request))
            .await?
            .into_inner();
        for item in &answer.items {
            let score = item.scores.unwrap_or_default().total;
            writeln!(
                run,
                "{} Q0 {} {} {score} commonplace",
                query._id, item.record_id, item.rank
            )?;
        }
    }
    Ok(run)
}

fn score(scorer: &Path, judgements: &Path, run: &Path) -> anyhow::Result<f64> {
    let output = Command::new("python3")
        .arg(scorer)
        .arg(judgements)
        .arg(run)
        .arg("--json")
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let scores: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let found = scores["nDCG@10"]
        .as_f64()
        .or_else(|| scores["measures"]["nDCG@10"].as_f64());
    found.with_context(|| format!("no nDCG@10 in {scores}"))
}
