//! A person on a laptop sees where a request went, what is measured, and what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_rpc::context;

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
    let packed = ask(&server, &["--trace", "retrieve", "--query", "what fails?"]).ok();
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
    for unasked in ["Telemetry", "RecordCalls"] {
        assert!(!list.stdout.contains(unasked), "{list:#?}");
    }
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
    let look = ["top", "--once", "--interval-ms", "300"];
    let top = ask(&server, &look).ok();
    assert!(
        top.stdout.contains("CALLS/S") && top.stdout.contains("GetMetrics"),
        "{top:#?}"
    );
    let top = ask(&server, &[&["--json"], &look[..]].concat()).ok().json();
    let methods = top[0]["methods"].as_array().unwrap();
    assert!(methods.iter().any(|method| method["calls"] == 1), "{top:?}");
}

/// Writes so often, one after the other, and gives the longest time that it took.
fn longest_write(server: &Server, times: usize) -> Duration {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut client = IngestServiceClient::new(server.channels().ingest);
    let mut longest = Duration::ZERO;
    for number in 0..times {
        let event = EventDraft {
            artifact_type: "test".into(),
            title: format!("run {number}"),
            text: "now and then".into(),
            ..EventDraft::default()
        };
        let request = CommitRequest {
            events: vec![event],
            ..CommitRequest::default()
        };
        let started = Instant::now();
        let call = context::with_deadline(Duration::from_secs(20), client.commit(request));
        runtime.block_on(call).unwrap();
        longest = longest.max(started.elapsed());
    }
    longest
}

/// A server with one thread for everything, whose collector takes connections or does not, and never answers.
fn goes_on_beside(collector: &str) {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{collector}");
    let settings = [endpoint.as_str(), "telemetry.otlp_queue=16"];
    let mut server = Server::start_in(folder.path(), &settings, &[("TOKIO_WORKER_THREADS", "1")]);
    let longest = longest_write(&server, 100);
    // Less than what a collector is waited for.
    assert!(longest < Duration::from_secs(3), "{collector}: {longest:?}");
    let doctor = ask(&server, &["doctor"]).ok();
    assert!(doctor.stdout.contains("warn  traces"), "{doctor:#?}");
    let stopping = Instant::now();
    assert_eq!(server.stop(), 0);
    assert!(stopping.elapsed() < Duration::from_secs(8), "{collector}");
}

#[test]
fn a_collector_that_is_away_holds_no_server_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    goes_on_beside(&address);
}

#[test]
fn a_collector_that_never_takes_a_connection_holds_no_server_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    goes_on_beside(&listener.local_addr().unwrap().to_string());
}

#[test]
fn a_silent_collector_holds_no_server_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().take(8).flatten() {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut connection, &mut std::io::sink());
            });
        }
    });
    goes_on_beside(&address);
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
