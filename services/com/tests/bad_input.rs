//! Each bad input: a clear error that names the field or file and the next step, and nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, file, run, shared};

const GOOD: &str =
    r#"{"artifact_type":"bug","title":"the parser hangs","text":"on an empty line"}"#;

/// A folder for data and a folder for inputs, with one good event taken.
fn with_one_event() -> (tempfile::TempDir, tempfile::TempDir) {
    let (data, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = file(inputs.path(), "good.jsonl", GOOD);
    run(data.path(), &["ingest", "--from", "jsonl", &good]).ok();
    (data, inputs)
}

fn count(data: &Path) -> usize {
    run(data, &["--json", "events", "--limit", "1000"])
        .ok()
        .json()
        .len()
}

#[test]
fn reports_that_cannot_be_read() {
    let (data, inputs) = with_one_event();
    let refused = |from: &str, name: &str, content: &[u8], words: &[&str]| {
        let path = file(inputs.path(), name, content);
        run(data.path(), &["ingest", "--from", from, &path]).says(2, words);
        assert_eq!(count(data.path()), 1, "{name} left something behind");
    };
    refused(
        "junit",
        "cut.xml",
        b"<testsuite><testcase name='a'>",
        &["cut.xml", "line"],
    );
    refused(
        "junit",
        "other.xml",
        b"<html><body/></html>",
        &["testsuite"],
    );
    refused(
        "jenkins",
        "cut.json",
        b"{\"number\": 1, ",
        &["cut.json", "line"],
    );
    refused(
        "jsonl",
        "broken.jsonl",
        b"{\"artifact_type\":\n",
        &["line 1"],
    );
    refused(
        "jsonl",
        "bytes.jsonl",
        b"{\"artifact_type\":\"bug\",\"title\":\"\xff\xfe\"}\n",
        &["line 1", "UTF-8"],
    );
}

#[test]
fn one_bad_line_does_not_lose_the_others() {
    let (data, inputs) = with_one_event();
    let lines = [
        r#"{"title":"no type"}"#,
        r#"{"artifact_type":"bug","title":"too much","importance":7}"#,
        r#"{"artifact_type":"bug","title":"too late","event_time":"30000-01-01T00:00:00Z"}"#,
        r#"{"artifact_type":"bug","title":"odd","colour":"red"}"#,
        r#"{"artifact_type":"bug","title":"fine"}"#,
    ];
    let path = file(inputs.path(), "mixed.jsonl", lines.join("\n"));
    run(data.path(), &["ingest", "--from", "jsonl", &path]).says(
        2,
        &[
            "line 1",
            "artifact_type",
            "line 2",
            "importance",
            "line 3",
            "event_time",
            "line 4",
            "colour",
        ],
    );
    assert_eq!(count(data.path()), 2);
}

#[test]
fn a_report_of_200_megabytes_is_refused_early() {
    let (data, inputs) = with_one_event();
    let path = inputs.path().join("huge.xml");
    let huge = std::fs::File::create(&path).unwrap();
    huge.set_len(200 << 20).unwrap();
    run(
        data.path(),
        &["ingest", "--from", "junit", path.to_str().unwrap()],
    )
    .says(2, &["huge.xml", "max_report_bytes"]);
    assert_eq!(count(data.path()), 1);
}

#[test]
fn requests_that_cannot_be_met() {
    let (data, inputs) = with_one_event();
    let retrieve = |more: &[&str], words: &[&str]| {
        let mut arguments = vec!["retrieve", "--query", "parser hangs"];
        arguments.extend(more);
        run(data.path(), &arguments).says(2, words);
    };
    retrieve(&["--budget", "0"], &["--budget"]);
    retrieve(&["--budget", "1"], &["budget", "smallest"]);
    retrieve(&["--policy", "nope"], &["nope", "general"]);
    retrieve(
        &["--branch", "nope"],
        &["nope", "com --data-dir", " branch"],
    );
    retrieve(&["--tag", "nope"], &["nope", " branch"]);
    retrieve(&["--commit", "0123456789ab"], &["0123456789ab", " log"]);
    retrieve(&["--commit", "xyz"], &["commit", "hex"]);
    retrieve(&["--clock", "yesterday"], &["clock", "2026-"]);
    run(data.path(), &["retrieve", "--query", ""]).says(2, &["query"]);
    run(data.path(), &["--project", "No Such", "events"]).says(2, &["project"]);
    run(data.path(), &["--project", "absent", "events"]).says(2, &["absent", "ingest --from"]);
    run(
        data.path(),
        &["ingest", "--from", "junit", "/nowhere/at.all"],
    )
    .says(2, &["/nowhere/at.all"]);
    run(data.path(), &["ingest", "."]).says(2, &["--from", "junit|jenkins|git|jsonl"]);
    let policy = |yaml: &str, words: &[&str]| {
        let path = file(inputs.path(), "policy.yaml", yaml);
        run(data.path(), &["policy", "put", "mine", &path]).says(2, words);
    };
    policy("weights:\n  lexical: 11\n", &["line 2", "lexical"]);
    policy("wieghts: {}\n", &["line 1", "wieghts"]);
    policy("weights: [\n", &["line"]);
    run(data.path(), &["--set", "journal.nothing=1", "events"]).says(2, &["nothing"]);
    let bogus = run(data.path(), &["--set", "bogus.x=1", "events"]);
    let bogus = bogus.says(2, &["`bogus` from --set bogus.x", "config dump"]);
    assert!(!bogus.stderr.contains(".rs:"), "{}", bogus.stderr);
    run(data.path(), &["serve", "--listen", "8084"]).says(2, &["HOST:PORT", "127.0.0.1:8084"]);
    let unreachable = run(data.path(), &["--server", "127.0.0.1:1", "events"]);
    let unreachable = unreachable.says(1, &["cannot reach the server at http://127.0.0.1:1"]);
    let times = unreachable.stderr.matches("tcp connect error").count();
    assert!(times <= 1, "{}", unreachable.stderr);
}

#[test]
fn a_variable_that_is_no_setting_is_named_as_it_was_set() {
    let with = |name: &str| common::done(common::bare().args(["config", "dump"]).env(name, "1"));
    with("COM_FOO").says(2, &["COM_FOO", "no such setting"]);
    with("COM_JOURNAL__EVNTS").says(2, &["COM_JOURNAL__EVNTS", "queue_appends"]);
    assert!(
        with("COM_DRAIN_SECONDS")
            .ok()
            .stdout
            .contains("drain_seconds = 1\n")
    );
}

#[test]
fn a_changed_pack_is_refused() {
    let (data, inputs) = with_one_event();
    let path = inputs.path().join("p.pack.json");
    let path = path.to_str().unwrap();
    run(
        data.path(),
        &["retrieve", "--query", "parser", "--output", path],
    )
    .ok();
    run(data.path(), &["verify", path]).says(0, &["verified", "identical bytes"]);
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.replacen("hangs", "hanks", 1)).unwrap();
    run(data.path(), &["verify", path]).says(1, &["differs", "hanks"]);
    std::fs::write(path, "not a pack").unwrap();
    run(data.path(), &["verify", path]).says(2, &["not a pack"]);
}

#[test]
fn a_pack_file_that_was_touched_is_told_how() {
    let (data, inputs) = with_one_event();
    let path = inputs.path().join("p.pack.json");
    let path = path.to_str().unwrap();
    run(
        data.path(),
        &["retrieve", "--query", "parser", "--output", path],
    )
    .ok();
    let made = std::fs::read_to_string(path).unwrap();
    let check = |text: &str, code: i32, words: &[&str]| {
        std::fs::write(path, text).unwrap();
        run(data.path(), &["verify", path]).says(code, words);
    };
    let mut value: serde_json::Value = serde_json::from_str(&made).unwrap();
    check(&format!("{made} \r\n"), 0, &["verified"]);
    check(&format!("{value:#}\n"), 0, &["verified"]);
    check(&made[..made.len() / 2], 2, &["ends early"]);
    check(&made[..made.len() - 1], 2, &["ends early"]);
    let items = value["pack"]["items"].as_array_mut().unwrap();
    assert_eq!(items.len(), 1);
    items.clear();
    check(
        &value.to_string(),
        1,
        &["items", "given     0", "expected  1"],
    );
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let (data, _inputs) = with_one_event();
    let mut server = Server::start(data.path());
    let refused = run(data.path(), &["events"]).says(1, &["in use by process", "--server"]);
    let place = |word: &str| refused.stderr.find(word).unwrap();
    assert!(place("in use") < place("--server"), "the cause comes first");
    assert!(!refused.stderr.contains("8083"), "no port is guessed");
    let through = run(
        data.path(),
        &["--server", &server.address, "--json", "events"],
    )
    .ok();
    assert_eq!(through.json().len(), 1);
    assert_eq!(server.stop(), 0, "stops well when asked to");
    assert_eq!(count(data.path()), 1);
}

#[test]
fn a_folder_of_a_newer_version_is_refused() {
    let (data, _inputs) = with_one_event();
    let format = data.path().join("format");
    let old = std::fs::read(&format).unwrap();
    std::fs::write(&format, "999\n").unwrap();
    run(data.path(), &["events"]).says(1, &["999", "newer"]);
    assert_eq!(
        std::fs::read_to_string(&format).unwrap(),
        "999\n",
        "nothing is overwritten"
    );
    std::fs::write(&format, old).unwrap();
    assert_eq!(count(data.path()), 1);
}

#[test]
fn a_corrupt_index_is_built_again() {
    let (data, _inputs) = with_one_event();
    run(data.path(), &["search", "parser"]).says(0, &["the parser hangs"]);
    let mut damaged = 0;
    damage(&data.path().join("index"), &mut damaged);
    assert!(damaged > 3, "{damaged}");
    run(data.path(), &["search", "parser"]).says(0, &["the parser hangs"]);
}

fn damage(folder: &Path, count: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path, count);
        } else {
            std::fs::write(&path, b"this is not what was here").unwrap();
            *count += 1;
        }
    }
}

#[test]
fn a_corrupt_journal_is_refused_and_left_alone() {
    let (data, _inputs) = with_one_event();
    let journal = std::fs::read_dir(data.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|ending| ending == "db" || ending == "sqlite")
        })
        .expect("a journal file");
    let garbage = vec![0x5a; 8_192];
    std::fs::write(&journal, &garbage).unwrap();
    run(data.path(), &["events"]).says(1, &["journal", "backup"]);
    assert_eq!(
        std::fs::read(&journal).unwrap(),
        garbage,
        "nothing is overwritten"
    );
}

/// A small file system of its own; gone with this.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: a full disk needs the right to mount");
        }
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    let Some(small) = Small::mount() else { return };
    let inputs = tempfile::tempdir().unwrap();
    let data = small.0.path();
    let good = file(inputs.path(), "good.jsonl", GOOD);
    run(data, &["ingest", "--from", "jsonl", &good]).ok();
    // Hashes do not shrink, however they are kept.
    let mut state = 1_u64;
    let mut word = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x} ")
    };
    let mut line = |number: usize| {
        let text: String = (0..1_500).map(|_| word()).collect();
        format!("{{\"artifact_type\":\"bug\",\"title\":\"large {number}\",\"text\":\"{text}\"}}\n")
    };
    let large = file(
        inputs.path(),
        "large.jsonl",
        (0..600).map(&mut line).collect::<String>(),
    );
    run(data, &["ingest", "--from", "jsonl", "--no-wait", &large]).says(1, &["disk is full"]);
    // Space is made by taking away what is only a cache.
    std::fs::remove_dir_all(data.join("index")).unwrap();
    assert!(count(data) >= 1);
    run(data, &["journal", "verify"]).says(0, &["intact"]);
}

#[test]
fn every_public_payload_is_taken_or_refused_with_a_reason() {
    for (from, folder) in [
        ("junit", "data/payloads/junit-xml"),
        ("jenkins", "data/payloads/jenkins-api"),
    ] {
        let Some(folder) = shared(folder) else {
            continue;
        };
        let data = tempfile::tempdir().unwrap();
        let arguments = ["--json", "ingest", "--from", from, folder.to_str().unwrap()];
        let first = run(data.path(), &arguments);
        let second = run(data.path(), &arguments);
        assert_eq!(first.code, second.code);
        let added = |done: &common::Done| -> u64 {
            let rows = done.json();
            rows.iter()
                .filter_map(|row| row["added"].as_str())
                .map(|text| text.parse::<u64>().unwrap())
                .sum()
        };
        assert!(added(&first) > 5, "{first:#?}");
        assert_eq!(added(&second), 0, "the second time adds nothing");
        for row in first.json().iter().filter(|row| !row["refused"].is_null()) {
            println!("{row}");
            assert!(
                row["refused"].as_str().unwrap().len() > 20,
                "a reason: {row}"
            );
        }
    }
}
