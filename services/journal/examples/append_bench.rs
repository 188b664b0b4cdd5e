//! Prints how fast the journal appends, follows and resolves on this machine.
//!
//! `cargo run --release -p commonplace-journal --example append_bench -- [EVENTS] [FOLDER | postgres]`;
//! `postgres` starts a server of its own, which syncs as in production.
#![allow(clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use commonplace_journal::{Append, Journal, Options, Selection, TailItem, start};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{TailRequest, tail_response::Frame};
use commonplace_rpc::Channel;
use commonplace_testkit::{Backend, Site};
use commonplace_types::{
    ArtifactType, BranchName, Draft, ProjectName, Reference, SystemClock, TenantName,
};
use futures::StreamExt;

const BATCH: usize = 500;
const CLIENTS: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events: usize = match arguments.next() {
        Some(text) => text.parse().context("EVENTS is a number")?,
        None => 100_000,
    };
    let mut site = Site::new(Backend::Sqlite);
    let place = match arguments.next() {
        None => site.place("journal"),
        Some(word) if word == "postgres" => {
            site = Site::new(Backend::Postgres);
            site.place("journal")
        }
        Some(folder) => PathBuf::from(folder).into(),
    };
    let journal = start(Options::default(), place.clone(), Arc::new(SystemClock)).await?;

    let began = Instant::now();
    for batch in 0..events / BATCH {
        let drafts = (0..BATCH)
            .map(|place| draft(batch * BATCH + place))
            .collect::<Result<_, _>>()?;
        journal.append(append(drafts)).await?;
    }
    report("append, 500 at a time", events, began.elapsed());
    replay(&journal, events).await?;
    over_the_client(&journal, events).await?;
    single(&journal, events / 10).await?;
    reads(&journal).await?;

    let began = Instant::now();
    let checked = journal.verify(&tenant(), &project()).await?;
    anyhow::ensure!(checked.first_break.is_none(), "{checked:?}");
    report("verify", checked.events_checked as usize, began.elapsed());
    journal.shutdown().await?;
    let began = Instant::now();
    let journal = start(Options::default(), place, Arc::new(SystemClock)).await?;
    println!(
        "{:<28}{:>12.1} ms",
        "open",
        began.elapsed().as_secs_f64() * 1e3
    );
    journal.shutdown().await?;
    Ok(())
}

async fn single(journal: &Journal, events: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let journal = journal.clone();
        clients.spawn(async move {
            let mut slowest = Duration::ZERO;
            for number in 0..events / CLIENTS {
                let asked = Instant::now();
                let drafts = vec![draft((client + 1) * 100_000_000 + number)?];
                journal.append(append(drafts)).await?;
                slowest = slowest.max(asked.elapsed());
            }
            anyhow::Ok(slowest)
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(client) = clients.join_next().await {
        slowest = slowest.max(client??);
    }
    report(
        "append, one by one from 64",
        events / CLIENTS * CLIENTS,
        began.elapsed(),
    );
    println!(
        "{:<28}{:>12.1} ms",
        "  slowest",
        slowest.as_secs_f64() * 1e3
    );
    Ok(())
}

async fn replay(journal: &Journal, events: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut tail = journal.tail(&tenant(), &project(), "").await?;
    let mut seen = 0;
    while seen < events {
        let item = tail.next().await.context("the tail ended")??;
        if let TailItem::Frame(frame) = item.item {
            seen += frame.events.len();
        }
    }
    report("tail from the start", seen, began.elapsed());
    Ok(())
}

/// The same tail as another service reads it.
async fn over_the_client(journal: &Journal, events: usize) -> anyhow::Result<()> {
    let mut client = JournalServiceClient::new(Channel::in_process(journal.service()))
        .max_decoding_message_size(32 << 20);
    let began = Instant::now();
    let mut tail = client.tail(TailRequest::default()).await?.into_inner();
    let mut seen = 0;
    while seen < events {
        let message = tail.message().await?.context("the tail ended")?;
        if let Some(Frame::Commit(frame)) = message.frame {
            seen += frame.events.len();
        }
    }
    report("tail, through the client", seen, began.elapsed());
    Ok(())
}

async fn reads(journal: &Journal) -> anyhow::Result<()> {
    let main = Reference::main();
    let began = Instant::now();
    for _ in 0..100_000 {
        journal.resolve(&tenant(), &project(), &main).await?;
    }
    report("resolve", 100_000, began.elapsed());
    let selection = Selection::default();
    let began = Instant::now();
    for _ in 0..200 {
        journal
            .query(&tenant(), &project(), &main, &selection, 50, "")
            .await?;
    }
    report("query, 50 newest", 200, began.elapsed());
    Ok(())
}

fn report(what: &str, count: usize, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what:<28}{rate:>12.0} /s{:>10.2} s", took.as_secs_f64());
}

fn draft(number: usize) -> anyhow::Result<Draft> {
    let text =
        format!("run {number}: ") + &"the quick brown fox jumps over the lazy dog. ".repeat(12);
    let mut draft = Draft::new(
        ArtifactType::new("runlog")?,
        format!("event {number}"),
        text,
    );
    draft.tags = vec!["bench".into()];
    draft.agent = "bench".into();
    Ok(draft.checked()?)
}

fn append(events: Vec<Draft>) -> Append {
    Append {
        tenant: tenant(),
        project: project(),
        branch: BranchName::main(),
        request_id: None,
        expected_head: None,
        author: String::new(),
        message: String::new(),
        traceparent: String::new(),
        origin: Default::default(),
        validate_only: false,
        events,
    }
}

fn tenant() -> TenantName {
    TenantName::default_tenant()
}

fn project() -> ProjectName {
    ProjectName::default_project()
}
