//! How fast, and how large.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use commonplace_embed::{Model, Workspace};
use commonplace_node::{Channels, Node, NodeOptions, default_model_dir};
use commonplace_proto::common::EventDraft;
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{AppendRequest, ResolveRequest};
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{RetrieveRequest, SearchRequest};
use commonplace_rpc::{Channel, RemoteOptions, server};
use commonplace_types::SystemClock;

use crate::report::{Report, Times};
use crate::{corpus, parts};

/// Events in one append when filling.
const BATCH: usize = 500;
/// Queries that are asked over and over, so that their vectors are known.
const QUERIES: usize = 64;

/// Embedding in this process, on one core.
pub fn embedding(report: &mut Report) -> anyhow::Result<()> {
    let Ok(model) = Model::load(&default_model_dir()) else {
        eprintln!("SKIPPED: no model; run `com model pull`");
        return Ok(());
    };
    let mut workspace = Workspace::new();
    for (tokens, budget) in [(8, None), (16, Some(0.8)), (32, None)] {
        let text = vec!["word"; tokens - 2].join(" ");
        let times = repeat(300, || model.embed_with(&mut workspace, &text));
        report.less(
            "embedding",
            &format!("{tokens}-token query, p50"),
            times.milliseconds(0.5),
            "ms",
            budget,
        );
        report.less(
            "embedding",
            &format!("{tokens}-token query, p99"),
            times.milliseconds(0.99),
            "ms",
            None,
        );
    }
    let text = vec!["word"; 126].join(" ");
    let times = repeat(100, || model.embed_with(&mut workspace, &text));
    report.more(
        "embedding",
        "passages of 128 tokens, one core",
        1e3 / times.milliseconds(0.5),
        "per s",
        Some(180.0),
    );
    Ok(())
}

fn repeat<T>(count: usize, mut work: impl FnMut() -> T) -> Times {
    let mut once = || {
        let started = Instant::now();
        std::hint::black_box(work());
        started.elapsed().as_secs_f64()
    };
    once();
    Times::new((0..count).map(|_| once()).collect())
}

fn options(folder: &Path) -> NodeOptions {
    let mut options = NodeOptions {
        data_dir: folder.to_owned(),
        ..NodeOptions::default()
    };
    // Filling is not what is measured; with both cores it is over sooner.
    options.index.embedding_threads = 2;
    options
}

async fn start(folder: &Path) -> anyhow::Result<Node> {
    Ok(Node::start(&options(folder), Arc::new(SystemClock)).await?)
}

fn append_request(project: &str, events: Vec<EventDraft>) -> AppendRequest {
    AppendRequest {
        project: project.into(),
        events,
        ..Default::default()
    }
}

fn journal(channels: &Channels) -> JournalServiceClient<Channel> {
    JournalServiceClient::new(channels.journal.clone())
        .max_encoding_message_size(server::MESSAGE_BYTES)
}

/// Durable appends, in a file and on a PostgreSQL server of one's own.
pub async fn append(report: &mut Report) -> anyhow::Result<()> {
    append_to(report, "append", "", (20_000.0, Some(3_000.0))).await?;
    let server = commonplace_testkit::Server::shared();
    let url = server.url(&server.database(None).await);
    append_to(report, "PostgreSQL", &url, (10_000.0, None)).await
}

/// Many events at a time, and one at a time from 64 clients. `url`: the database, empty for a file. `budgets`: of both.
async fn append_to(
    report: &mut Report,
    group: &str,
    url: &str,
    budgets: (f64, Option<f64>),
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut options = options(folder.path());
    options.database.url = url.into();
    let node = Node::start(&options, Arc::new(SystemClock)).await?;
    let total = 40_000;
    let started = Instant::now();
    let mut client = journal(node.channels());
    for first in (0..total).step_by(BATCH) {
        let events = (first..first + BATCH).map(corpus::event).collect();
        client.append(append_request("batched", events)).await?;
    }
    let rate = total as f64 / started.elapsed().as_secs_f64();
    report.more(
        group,
        "append, 500 at a time, one client",
        rate,
        "events/s",
        Some(budgets.0),
    );

    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let workers: Vec<_> = (0..64)
        .map(|_| {
            let (mut client, next) = (journal(node.channels()), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 12_000 {
                        return anyhow::Ok(times);
                    }
                    let started = Instant::now();
                    client
                        .append(append_request("single", vec![corpus::event(number)]))
                        .await?;
                    times.push(started.elapsed().as_secs_f64());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let times = Times::new(times);
    report.more(
        group,
        "append, one at a time, 64 clients",
        rate,
        "events/s",
        budgets.1,
    );
    report.less(
        group,
        "append, one at a time, 64 clients, p50",
        times.milliseconds(0.5),
        "ms",
        None,
    );
    report.less(
        group,
        "append, one at a time, 64 clients, p99",
        times.milliseconds(0.99),
        "ms",
        None,
    );
    node.shutdown().await;
    Ok(())
}

/// A part of what is measured of retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Packs with the `qa_root_cause` policy, the vector known.
    Known,
    /// The same, the query embedded.
    Fresh,
    /// Packs with the `general` policy.
    General,
    /// Each call that a retrieve makes.
    Calls,
    /// Searches by several clients.
    Search,
    /// From an append to a search that finds it; adds events.
    Found,
    /// A real server over the same folder.
    Served,
    /// A real server under three times the load that it can bear; only if asked for alone.
    Overload,
}

/// What to measure of retrieval.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Over so many.
    pub passages: usize,
    /// Requests of each kind that are timed.
    pub rounds: usize,
    /// Empty for all.
    pub only: &'a [Part],
    /// Where filled folders are kept.
    pub keep: Option<&'a Path>,
    /// The program.
    pub com: &'a Path,
}

impl Run<'_> {
    fn measures(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn group(&self) -> String {
        format!("{}k passages", self.passages / 1_000)
    }

    /// The folder to work in, and what removes it at the end.
    fn folder(&self) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
        if let Some(keep) = self.keep {
            let folder = keep.join(self.passages.to_string());
            std::fs::create_dir_all(&folder)?;
            return Ok((folder, None));
        }
        let folder = tempfile::tempdir()?;
        Ok((folder.path().to_owned(), Some(folder)))
    }

    /// The budgets of p50 and p99 in milliseconds.
    fn budgets(&self, asked: Asked) -> (Option<f64>, Option<f64>) {
        match (asked, self.passages > 10_000) {
            (Asked::Known, true) => (Some(1.0), Some(3.0)),
            (Asked::Known, false) => (Some(0.5), Some(1.5)),
            (Asked::Fresh, true) => (Some(2.0), Some(5.0)),
            (Asked::Fresh, false) | (Asked::General, _) => (None, None),
        }
    }
}

/// Retrieval over so many passages: in this process, then against a real server over the same folder.
pub async fn retrieval(report: &mut Report, run: Run<'_>) -> anyhow::Result<()> {
    let group = run.group();
    let (folder, _temporary) = run.folder()?;
    let node = start(&folder).await?;
    fill(report, &group, node.channels(), run.passages).await?;
    let asked = [
        (Part::Known, "retrieve, vector known", Asked::Known),
        (Part::Fresh, "retrieve, query embedded", Asked::Fresh),
        (Part::General, "retrieve, general policy", Asked::General),
    ];
    for (part, what, asked) in asked {
        if run.measures(part) {
            latency(
                report,
                (&run, what),
                node.channels(),
                asked,
                run.budgets(asked),
            )
            .await?;
        }
    }
    if run.measures(Part::Calls) {
        parts::measure(report, &group, node.channels(), run.rounds).await?;
    }
    if run.measures(Part::Search) {
        throughput(report, &group, node.channels()).await?;
    }
    if run.measures(Part::Found) {
        searchable(report, &group, node.channels()).await?;
    }
    node.shutdown().await;
    if run.measures(Part::Served) {
        served(report, &run, &folder).await?;
    }
    Ok(())
}

async fn fill(
    report: &mut Report,
    group: &str,
    channels: &Channels,
    passages: usize,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut client = journal(channels);
    let held = client
        .resolve(ResolveRequest {
            project: "bench".into(),
            ..Default::default()
        })
        .await;
    let filled = held.is_ok();
    for first in (0..if filled { 0 } else { passages }).step_by(BATCH) {
        let events = (first..first + BATCH).map(corpus::event).collect();
        client.append(append_request("bench", events)).await?;
    }
    let mut index = IndexServiceClient::new(channels.index.clone());
    let mut lexical = None;
    loop {
        let status = index
            .get_status(GetStatusRequest {
                project: "bench".into(),
            })
            .await?
            .into_inner();
        let dense = status.dense.is_some_and(|dense| dense.available);
        let project = status.projects.into_iter().next().unwrap_or_default();
        if project.passages as usize >= passages && lexical.is_none() {
            lexical = Some(started.elapsed().as_secs_f64());
        }
        if project.passages as usize >= passages && (!dense || project.vectors as usize >= passages)
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if filled {
        return Ok(());
    }
    let lexical = lexical.unwrap_or_default();
    report.more(
        group,
        "appended and indexed by words",
        passages as f64 / lexical,
        "events/s",
        None,
    );
    let all = started.elapsed().as_secs_f64();
    report.more(
        group,
        "appended, indexed and embedded",
        passages as f64 / all,
        "events/s",
        None,
    );
    Ok(())
}

#[derive(Clone, Copy)]
enum Asked {
    Known,
    Fresh,
    General,
}

/// A request that no cache of packs can answer: each has a clock of its own.
fn request(number: usize, asked: Asked) -> RetrieveRequest {
    let query = match asked {
        Asked::Fresh => corpus::query(1_000_000 + number),
        Asked::Known | Asked::General => corpus::query(number % QUERIES),
    };
    let seconds = 1_780_000_000 + number as i64;
    RetrieveRequest {
        project: "bench".into(),
        query,
        budget_tokens: 2_000,
        policy: "qa_root_cause".into(),
        clock: Some(commonplace_proto::Timestamp { seconds, nanos: 0 }),
        ..Default::default()
    }
}

fn retriever(channels: &Channels) -> RetrievalServiceClient<Channel> {
    RetrievalServiceClient::new(channels.retrieval.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES)
}

async fn latency(
    report: &mut Report,
    (run, what): (&Run<'_>, &str),
    channels: &Channels,
    asked: Asked,
    budget: (Option<f64>, Option<f64>),
) -> anyhow::Result<()> {
    let (group, rounds) = (&run.group(), run.rounds);
    let mut client = retriever(channels);
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut times = Vec::new();
    for round in 0..QUERIES + rounds {
        let mut request = request(NUMBER.fetch_add(1, Ordering::Relaxed), asked);
        if matches!(asked, Asked::General) {
            request.policy = "general".into();
        }
        let started = Instant::now();
        client.retrieve(request).await?;
        if round >= QUERIES {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    let times = Times::new(times);
    report.less(
        group,
        &format!("{what}, p50"),
        times.milliseconds(0.5),
        "ms",
        budget.0,
    );
    report.less(
        group,
        &format!("{what}, p99"),
        times.milliseconds(0.99),
        "ms",
        budget.1,
    );
    Ok(())
}

async fn throughput(report: &mut Report, group: &str, channels: &Channels) -> anyhow::Result<()> {
    let started = Instant::now();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let mut client = retriever(channels);
            tokio::spawn(async move {
                for number in 0..250 {
                    let request = SearchRequest {
                        project: "bench".into(),
                        query: corpus::query((worker * 7 + number) % QUERIES),
                        limit: 10,
                        keys_only: true,
                        ..Default::default()
                    };
                    client.search(request).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    let budget = (group == "100k passages").then_some(1_000.0);
    report.more(
        group,
        "hybrid search, 8 clients",
        2_000.0 / started.elapsed().as_secs_f64(),
        "queries/s",
        budget,
    );
    Ok(())
}

/// From the start of an append to the answer of a search that has the event in it.
async fn searchable(report: &mut Report, group: &str, channels: &Channels) -> anyhow::Result<()> {
    let (mut journal, mut retrieval) = (journal(channels), retriever(channels));
    let mut times = Vec::new();
    for number in 0..200 {
        let word = format!("freshword{number}x{group}").replace(' ', "");
        let mut event = corpus::event(5_000_000 + number);
        event.record_id = word.clone();
        event.text = format!("{} {word}", event.text);
        let started = Instant::now();
        journal.append(append_request("bench", vec![event])).await?;
        let request = SearchRequest {
            project: "bench".into(),
            query: word.clone(),
            limit: 100,
            keys_only: true,
            ..Default::default()
        };
        let answer = retrieval.search(request).await?.into_inner();
        times.push(started.elapsed().as_secs_f64());
        anyhow::ensure!(
            answer.items.iter().any(|item| item.record_id == word),
            "a stale answer: {word}"
        );
    }
    let times = Times::new(times);
    report.less(
        group,
        "append to found, p50",
        times.milliseconds(0.5),
        "ms",
        None,
    );
    report.less(
        group,
        "append to found, p99",
        times.milliseconds(0.99),
        "ms",
        Some(100.0),
    );
    Ok(())
}

/// A server process that is ended with this.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn served(report: &mut Report, run: &Run<'_>, folder: &Path) -> anyhow::Result<()> {
    let group = &run.group();
    let started = Instant::now();
    let mut child = Command::new(run.com)
        .args(["serve", "--listen", "127.0.0.1:0", "--json", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", run.com.display()))?;
    let output = child.stdout.take().context("no output")?;
    let served = Served(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let ready = started.elapsed().as_secs_f64();
    let hello: serde_json::Value =
        serde_json::from_str(&line).context("the server did not start")?;
    let address = format!("http://{}", hello["address"].as_str().unwrap_or_default());
    report.less(
        group,
        "restart: process start to ready",
        ready,
        "s",
        Some(5.0),
    );
    let channels = Channels::all(Channel::remote(&[address], &RemoteOptions::default())?);
    latency(
        report,
        (run, "retrieve over loopback, vector known"),
        &channels,
        Asked::Known,
        (None, None),
    )
    .await?;
    let budget = (run.passages == 100_000).then_some(400.0);
    report.less(
        group,
        "resident memory of the server",
        resident(&served.0)?,
        "MB",
        budget,
    );
    Ok(())
}

fn resident(child: &Child) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1e3)
}
