//! Killing the process while it appends: whatever was acknowledged is there, and the chain is whole.
//!
//! `KILLS` sets how often; a killed process keeps the operating system's cache, so this does not test the
//! disk's own promises.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use commonplace_journal::{Options, TailItem, start};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::SystemClock;
use futures::StreamExt;

use crate::common::*;

each_backend!(what_was_acknowledged_survives_kills);

const FOLDER: &str = "COMMONPLACE_CRASH_FOLDER";
const URL: &str = "COMMONPLACE_CRASH_URL";
const PREFIX: &str = "COMMONPLACE_CRASH_PREFIX";
const ROUND: &str = "COMMONPLACE_CRASH_ROUND";

/// Not a test by itself: what the killed process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below in a process of its own"]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let round = std::env::var(ROUND).unwrap();
    let database = commonplace_storage::Options {
        url: std::env::var(URL).unwrap(),
        schema_prefix: std::env::var(PREFIX).unwrap(),
        ..Default::default()
    };
    let place = database.place("journal", folder.as_ref()).unwrap();
    let journal = start(Options::default(), place, Arc::new(SystemClock))
        .await
        .unwrap();
    // The one that was killed before may not be gone yet.
    journal.ready().wait_for(|ready| *ready).await.unwrap();
    let clients = (0..8).map(|client| {
        let (journal, round) = (journal.clone(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let title = format!("{round}-{client}-{number}");
                let events = vec![
                    update(&format!("r{client}"), &title),
                    draft(&format!("x{title}")),
                ];
                journal.append(append_to("main", events)).await.unwrap();
                // One write of a whole line: what the parent reads was acknowledged.
                println!("acknowledged {title}");
            }
        })
    });
    futures::future::join_all(clients).await;
}

/// Runs the child for a while, kills it, and gives what it had acknowledged.
fn killed_run(site: &mut Site, round: u64) -> Vec<String> {
    let folder = site.folder().join("journal");
    let database = site.options();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(URL, &database.url)
        .env(PREFIX, &database.schema_prefix)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = process.stdout.take().unwrap();
    let lines = std::thread::spawn(move || {
        let titles = |line: std::io::Result<String>| {
            let line = line.ok()?;
            Some(line.split_once("acknowledged ")?.1.to_owned())
        };
        BufReader::new(output)
            .lines()
            .filter_map(titles)
            .collect::<Vec<String>>()
    });
    std::thread::sleep(Duration::from_millis(150 + round * 37 % 200));
    process.kill().unwrap();
    process.wait().unwrap();
    lines.join().unwrap()
}

async fn what_was_acknowledged_survives_kills(backend: Backend) {
    let kills: u64 = std::env::var("KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
    let mut site = Site::new(backend);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..kills {
        acknowledged.extend(killed_run(&mut site, round));
        let clock = Arc::new(commonplace_types::ManualClock::new(start_time()));
        let journal = open(&site, clock).await.unwrap();
        journal.ready().wait_for(|ready| *ready).await.unwrap();
        if journal.projects(&tenant(), 0, "").unwrap().items.is_empty() {
            journal.shutdown().await.unwrap();
            continue;
        }
        let report = journal.verify(&tenant(), &project()).await.unwrap();
        assert_eq!(report.first_break, None, "after kill {round}");
        let mut tail = journal.tail(&tenant(), &project(), "").await.unwrap();
        let mut present = BTreeSet::new();
        while let Some(Ok(item)) = tail.next().await {
            let TailItem::Frame(frame) = item.item else {
                break;
            };
            present.extend(frame.events.into_iter().map(|event| event.draft.title));
        }
        for title in &acknowledged {
            assert!(
                present.contains(title),
                "{title} was acknowledged and is lost"
            );
            assert!(
                present.contains(&format!("x{title}")),
                "half of {title} is lost"
            );
        }
        journal.shutdown().await.unwrap();
    }
    println!(
        "{kills} kills, {} acknowledged appends, none lost",
        acknowledged.len()
    );
    assert!(
        !acknowledged.is_empty(),
        "the child never appended: nothing was tested"
    );
}
