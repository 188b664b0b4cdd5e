//! What somebody new does first, and what they read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Server, bare, done, file, run};

const EVENTS: &str = r#"{"artifact_type":"bug","title":"the parser hangs","text":"on an empty line","tags":["slow"]}
{"artifact_type":"bug","title":"the lexer skips tabs"}"#;

fn with_events() -> (tempfile::TempDir, tempfile::TempDir) {
    let (data, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let events = file(inputs.path(), "events.jsonl", EVENTS);
    run(data.path(), &["ingest", "--from", "jsonl", &events]).ok();
    (data, inputs)
}

/// Runs the demonstration in a folder, without the model and without fetching it.
fn demo(place: &Path, server: Option<&str>, more: &[&str]) -> common::Done {
    let blocked = file(place, "blocked", "");
    let mut command = bare();
    command
        .current_dir(place)
        .args(["--set", &format!("model_dir={blocked}/model")])
        .args(more)
        .arg("demo");
    if let Some(server) = server {
        command.env("COM_SERVER", server);
    }
    done(&mut command)
}

#[test]
fn the_demo_stays_in_its_own_folder_whatever_server_is_set() {
    let (data, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let shown = demo(place.path(), Some(&server.address), &[]).says(
        0,
        &[
            "left alone",
            "invented",
            "sample",
            "verified",
            "it names task",
        ],
    );
    run(data.path(), &["--server", &server.address, "events"]).says(2, &["not found"]);
    // The command that is suggested works as it stands, though the environment still names the server.
    let suggested = shown
        .stdout
        .lines()
        .find(|line| line.contains(" events "))
        .unwrap();
    let events = done(
        std::process::Command::new("sh")
            .args(["-c", suggested.trim()])
            .current_dir(place.path())
            .env("COM_SERVER", &server.address)
            .env("NO_COLOR", "1"),
    );
    events.says(
        0,
        &[
            "sample_shop",
            "test_discounts_are_exact_to_the_cent: failed",
        ],
    );
    let samples = place.path().join(".commonplace-demo/samples/sample-shop");
    assert!(samples.join("nightly/2026-11-14/junit.xml").is_file());
    // Twice in the same folder is fine.
    demo(place.path(), None, &[]).says(0, &["verified"]);
}

#[test]
fn the_demo_refuses_a_folder_with_other_data() {
    let (data, place) = with_events();
    let folder = data.path().to_str().unwrap();
    demo(place.path(), None, &["--data-dir", folder]).says(2, &["did not make", "--data-dir"]);
}

#[test]
fn a_pack_that_cannot_be_checked_here_is_not_called_wrong() {
    let (data, inputs) = with_events();
    let elsewhere = tempfile::tempdir().unwrap();
    let pack = inputs.path().join("a pack.json");
    let pack = pack.to_str().unwrap();
    let make = ["retrieve", "--query", "parser", "--output", pack];
    let made = run(data.path(), &make).ok();
    // The hint can be pasted: it repeats what says where.
    let hint = made.stdout.lines().last().unwrap();
    let hint = hint.split_once("any time: ").unwrap().1;
    let pasted = done(std::process::Command::new("sh").args(["-c", hint]));
    pasted.says(0, &["identical bytes"]);

    let words = [
        "cannot be checked here",
        "project `default`",
        "--data-dir FOLDER",
    ];
    let unknown = run(elsewhere.path(), &["verify", pack]).says(3, &words);
    assert!(!unknown.stdout.contains("refused"), "{unknown:#?}");
    let other = file(
        inputs.path(),
        "other.jsonl",
        r#"{"artifact_type":"bug","title":"x"}"#,
    );
    run(elsewhere.path(), &["ingest", "--from", "jsonl", &other]).ok();
    run(elsewhere.path(), &["verify", pack]).says(3, &["cannot be checked here", "commit"]);
    let json = run(elsewhere.path(), &["--json", "verify", pack]).says(3, &[]);
    let json = json.json();
    assert_eq!(json[0]["verdict"], "VERDICT_UNVERIFIABLE", "{json:?}");
    assert!(
        json[0]["unverifiable_reason"]
            .as_str()
            .unwrap()
            .contains("commit")
    );
    assert!(
        json[1]["error"]["next_step"]
            .as_str()
            .unwrap()
            .contains("--server")
    );
}

#[test]
fn a_hint_repeats_the_project() {
    let (data, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let events = file(inputs.path(), "events.jsonl", EVENTS);
    run(
        data.path(),
        &["--project", "shop", "ingest", "--from", "jsonl", &events],
    )
    .ok();
    let pack = inputs.path().join("p.json");
    let arguments = [
        "--project",
        "shop",
        "retrieve",
        "--query",
        "parser",
        "--output",
    ];
    let arguments = [&arguments[..], &[pack.to_str().unwrap()]].concat();
    run(data.path(), &arguments).says(0, &["--data-dir", "--project shop verify"]);
}

#[test]
fn a_task_that_no_policy_names_is_told() {
    let (data, _inputs) = with_events();
    let ask = |task: &str, words: &[&str]| {
        run(
            data.path(),
            &["retrieve", "--query", "parser", "--task", task],
        )
        .says(0, words);
    };
    ask("bogus", &["no policy names task `bogus`; used `general`"]);
    ask(
        "code_review",
        &["qa_code_review_py v1: it names task `code_review`"],
    );
    let json = run(
        data.path(),
        &["--json", "retrieve", "--query", "parser", "--task", "bogus"],
    )
    .ok();
    let reason = json.json()[0]["policy_reason"].clone();
    assert!(reason.as_str().unwrap().contains("bogus"), "{reason}");

    let help = done(bare().args(["retrieve", "--help"])).ok().stdout;
    run(data.path(), &["policy", "list"]).says(0, &["tasks", "flaky, flaky_triage"]);
    for policy in run(data.path(), &["--json", "policy", "list"]).ok().json() {
        let tasks = policy["rules"]["tasks"].as_array().into_iter().flatten();
        let tasks: Vec<&str> = tasks.filter_map(|task| task.as_str()).collect();
        let is_listed = tasks.iter().any(|task| help.contains(task));
        assert!(tasks.is_empty() || is_listed, "--help lacks {tasks:?}");
    }
}

#[test]
fn tags_name_commits_and_labels_are_on_events() {
    let (data, inputs) = with_events();
    run(data.path(), &["tag", "v1"]).says(0, &["tag", "v1"]);
    let more = file(
        inputs.path(),
        "more.jsonl",
        r#"{"artifact_type":"bug","title":"new"}"#,
    );
    run(data.path(), &["ingest", "--from", "jsonl", &more]).ok();
    run(data.path(), &["tag", "v2", "--at", "v1"]).ok();
    run(data.path(), &["branch", "fix", "--at", "v2"]).says(0, &["branch", "fix"]);
    run(data.path(), &["tag", "v3", "--at", "nope"]).says(2, &["nope", " branch"]);
    let count = |more: &[&str]| {
        let arguments = [&["--json", "events"], more].concat();
        run(data.path(), &arguments).ok().json().len()
    };
    assert_eq!((count(&[]), count(&["--tag", "v2"])), (3, 2));
    assert_eq!(count(&["--label", "slow"]), 1);
    let none = run(data.path(), &["events", "--type", "tset"]).ok();
    assert_eq!(none.stdout, "none\n");
}

#[test]
fn an_event_without_a_text_is_cited_by_its_title() {
    let (data, _inputs) = with_events();
    run(data.path(), &["search", "lexer tabs"]).says(0, &[" title "]);
    run(data.path(), &["search", "parser empty line"]).says(0, &[" bytes 0..16 "]);
}

#[test]
fn an_index_that_is_done_says_so() {
    let (data, _inputs) = with_events();
    run(data.path(), &["index", "status"]).says(0, &["following"]);
}

#[test]
fn a_log_in_a_file_is_plain_text() {
    let (data, inputs) = with_events();
    let log = inputs.path().join("log");
    let mut server = bare()
        .arg("--data-dir")
        .arg(data.path())
        .args([
            "--set",
            "model_dir=/nonexistent",
            "serve",
            "--listen",
            "127.0.0.1:0",
        ])
        .env_remove("NO_COLOR")
        .stdout(std::process::Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("serving") && !log.contains('\x1b'), "{log:?}");
}
