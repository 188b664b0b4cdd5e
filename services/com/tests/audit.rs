//! The audit log by the real program: listed, checked, exported, changed behind its back, and killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_rpc::Channel;
use commonplace_rpc::context::{self, Call};

use common::{Server, run};

const CLIENTS: usize = 4;

fn kills() -> usize {
    let asked = std::env::var("COM_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(10)
}

fn keys(folder: &Path, count: usize) {
    for number in 0..count {
        let subject = format!("agent-{number}");
        run(
            folder,
            &["keys", "create", "--subject", &subject, "--role", "reader"],
        )
        .ok();
    }
}

/// Another text of the same length in place of one, in the bytes of a file; gives how often.
fn replace(path: &Path, from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(place, _)| place)
        .collect();
    for place in &places {
        bytes[*place..place + to.len()].copy_from_slice(to);
    }
    std::fs::write(path, bytes).unwrap();
    places.len()
}

#[test]
fn the_log_is_listed_checked_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder, &["audit", "list"]).ok().says(0, &["none"]);
    run(folder, &["audit", "verify"])
        .ok()
        .says(0, &["intact", "0 records"]);
    keys(folder, 3);
    run(folder, &["keys", "revoke", "aaaaaaaaaaaaaaaa"]).says(2, &["not found"]);
    let listed = run(folder, &["audit", "list"]).ok();
    assert_eq!(listed.stdout.lines().count(), 5, "{listed:?}");
    listed.says(
        0,
        &[
            "service operator",
            "AccessService/CreateKey",
            "KEY_NOT_FOUND",
            "allowed",
        ],
    );
    let failed = run(
        folder,
        &["--json", "audit", "list", "--method", "RevokeKey"],
    )
    .ok()
    .json();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["code"], &failed[0]["sequence"]),
        (&"NOT_FOUND".into(), &"4".into())
    );
    let none = run(folder, &["audit", "list", "--decision", "denied"]).ok();
    assert_eq!(none.stdout.trim(), "none");
    run(folder, &["audit", "show", "1"])
        .ok()
        .says(0, &["CreateKey", "operator", "sha256"]);
    run(folder, &["audit", "show", "99"]).says(2, &["not found"]);
    run(folder, &["audit", "list", "--since", "yesterday"]).says(2, &["2026-11-21T08:00:00Z"]);

    let head = run(folder, &["audit", "head"])
        .ok()
        .stdout
        .trim()
        .to_owned();
    assert!(head.starts_with("4:"), "{head}");
    keys(folder, 1);
    run(folder, &["audit", "verify", "--checkpoint", &head])
        .ok()
        .says(0, &["intact", "5 records"]);
    let file = folder.join("log.jsonl");
    let path = file.to_str().unwrap();
    run(folder, &["audit", "export", "--output", path])
        .ok()
        .says(0, &["5 records"]);
    // An export is checked where no log is.
    let empty = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str]| {
        run(
            empty.path(),
            &[&["audit", "verify", path], arguments].concat(),
        )
    };
    check(&["--checkpoint", &head])
        .ok()
        .says(0, &["intact", "5 records of default"]);
    let later = head.replacen("4:", "9:", 1);
    check(&["--checkpoint", &later]).says(1, &["cut off"]);
    let other = format!("4:{}", "0".repeat(64));
    check(&["--checkpoint", &other]).says(1, &["checkpoint"]);
    check(&["--checkpoint", "x"]).says(2, &["com audit head"]);
    assert_eq!(replace(&file, b"\"sequence\":3,", b"\"sequence\":4,"), 1);
    check(&[]).says(1, &["broken", "expected record 3"]);
}

#[test]
fn whoever_edits_the_database_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keys(folder, 4);
    let database = folder.join("policy/policy.db");
    // The log was folded into the file when the last command ended.
    assert!(
        replace(
            &database,
            b"AccessService/CreateKey",
            b"AccessService/ReviseKey"
        ) >= 4
    );
    run(folder, &["audit", "verify"]).says(1, &["record 1 was changed"]);
    assert!(
        replace(
            &database,
            b"AccessService/ReviseKey",
            b"AccessService/CreateKey"
        ) >= 4
    );
    run(folder, &["audit", "verify"])
        .ok()
        .says(0, &["intact", "4 records"]);
}

fn commit(id: &str) -> CommitRequest {
    CommitRequest {
        events: vec![EventDraft {
            record_id: id.into(),
            artifact_type: "test".into(),
            title: format!("event {id}"),
            text: "committed while the server may die at any moment".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Commits until the server is gone; gives the ids of the calls that were acknowledged.
async fn commit_until_dead(channel: Channel, round: usize, client: usize) -> Vec<String> {
    let mut ingest = IngestServiceClient::new(channel);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let id = format!("{round}-{client}-{number}");
        let call = Call {
            request_id: id.clone(),
            ..Call::root(Some(Duration::from_secs(10)))
        };
        let done = context::scope(call, async { ingest.commit(commit(&id)).await }).await;
        match done {
            Ok(_) => acknowledged.push(id),
            Err(_) => break,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_log_of_a_server_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..kills() {
        let mut server = Server::start_with(folder.path(), &["audit.answer=kept"]);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(commit_until_dead(server.channels().ingest, round, client)))
            .collect();
        tokio::time::sleep(Duration::from_millis(60 + (round as u64 * 37) % 230)).await;
        server.kill();
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
    }
    assert!(
        acknowledged.len() > kills() * CLIENTS,
        "{}",
        acknowledged.len()
    );
    let folder = folder.path();
    run(folder, &["audit", "verify"]).ok().says(0, &["intact"]);
    let file = folder.join("log.jsonl");
    run(
        folder,
        &["audit", "export", "--output", file.to_str().unwrap()],
    )
    .ok();
    let mut logged = BTreeSet::new();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        if record["code"] == "OK"
            && let Some(id) = record["request_id"].as_str()
        {
            logged.insert(id.to_owned());
        }
    }
    let lost: Vec<_> = acknowledged.difference(&logged).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost",
        lost.len(),
        acknowledged.len()
    );
    println!(
        "{} kills, {} acknowledged, 0 lost",
        kills(),
        acknowledged.len()
    );
}
