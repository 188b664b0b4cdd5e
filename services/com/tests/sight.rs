//! A person on a laptop sees where a request went, what is measured, and what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Done, Server, bare, done, run};

fn ask(server: &Server, arguments: &[&str]) -> Done {
    done(bare().args(["--server", &server.address]).args(arguments))
}

#[test]
fn a_request_is_followed_from_its_failure_and_from_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let report = common::file(
        folder.path(),
        "a.jsonl",
        "{\"artifact_type\":\"test\",\"title\":\"t\",\"text\":\"fails\"}\n",
    );
    ask(&server, &["ingest", "--from", "jsonl", &report]).ok();
    let packed = ask(&server, &["--trace", "retrieve", "what fails?"]).ok();
    for part in [
        "com retrieve",
        "RetrievalService/Retrieve",
        "search lexical",
        "fuse",
        "▕",
    ] {
        assert!(packed.stderr.contains(part), "{part} in {}", packed.stderr);
    }

    let failed = ask(&server, &["log", "--branch", "nowhere"]);
    assert_ne!(failed.code, 0);
    let id = failed
        .stderr
        .split_whitespace()
        .find(|word| word.len() == 32);
    let id = id.unwrap_or_else(|| panic!("a trace is named: {failed:#?}"));
    let tree = ask(&server, &["trace", id]).ok();
    assert!(
        tree.stdout.contains("gateway") && tree.stdout.contains("journal"),
        "{tree:#?}"
    );
    let json = ask(&server, &["--json", "trace", id]).ok().json();
    assert!(json[0]["spans"].as_array().unwrap().len() > 2, "{json:?}");
    let error = ask(&server, &["--json", "log", "--branch", "nowhere"]).json();
    assert_eq!(error[0]["error"]["trace_id"].as_str().unwrap().len(), 32);

    let list = ask(&server, &["trace"]).ok();
    assert!(
        list.stdout.contains("RetrievalService/Retrieve"),
        "{list:#?}"
    );
    assert!(!list.stdout.contains("Telemetry"), "{list:#?}");
    let last = ask(&server, &["trace", "--last"]).ok();
    assert!(last.stdout.starts_with("trace "), "{last:#?}");
    ask(&server, &["trace", &"0123".repeat(8)]).says(1, &["nobody remembers"]);
    ask(&server, &["trace", "abc"]).says(2, &["32 hex digits"]);
}

#[test]
fn a_command_of_its_own_shows_its_trace_too() {
    let folder = tempfile::tempdir().unwrap();
    let report = common::file(
        folder.path(),
        "a.jsonl",
        "{\"artifact_type\":\"test\",\"title\":\"t\",\"text\":\"fails\"}\n",
    );
    let data = folder.path().join("data");
    let ingested = run(&data, &["--trace", "ingest", "--from", "jsonl", &report]).ok();
    for part in [
        "com ingest",
        "JournalService/Append",
        "write a group",
        "sqlite",
    ] {
        assert!(
            ingested.stderr.contains(part),
            "{part} in {}",
            ingested.stderr
        );
    }
    run(&data, &["trace", "--last"]).says(2, &["--server", "--trace"]);
}

#[test]
fn calls_and_stores_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    ask(&server, &["health"]).ok();
    let metrics = ask(&server, &["metrics"]).ok();
    for part in [
        "METHOD",
        "P95",
        "GatewayService/GetServerInfo",
        "journal_events_total",
        "process_resident_memory_bytes",
    ] {
        assert!(
            metrics.stdout.contains(part),
            "{part} in {}",
            metrics.stdout
        );
    }
    let json = ask(&server, &["--json", "metrics"]).ok().json();
    assert!(json[0]["processes"][0]["metrics"].as_array().unwrap().len() > 20);
    let top = ask(&server, &["top", "--once", "--interval-ms", "300"]).ok();
    assert!(
        top.stdout.contains("CALLS/S") && top.stdout.contains("GetMetrics"),
        "{top:#?}"
    );
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let found = ask(&server, &["doctor"]).ok();
    for part in [
        "ok    journal store",
        "ok    clock",
        "disk",
        "open files",
        "warn  model",
        "com model pull",
    ] {
        assert!(found.stdout.contains(part), "{part} in {}", found.stdout);
    }
    let json = ask(&server, &["--json", "doctor"]).ok().json();
    let checks = json[0]["processes"][0]["checks"].as_array().unwrap();
    assert!(checks.len() > 10, "{checks:?}");
    // The same without a server.
    let own = tempfile::tempdir().unwrap();
    run(own.path(), &["doctor"]).ok();
}
