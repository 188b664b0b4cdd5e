//! Whole reports: samples, payloads, histories.

use std::path::Path;

use commonplace_ingest::{GIT_LOG_ARGUMENTS, Options, samples};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::*;
use commonplace_proto::journal::QueryEventsRequest;
use commonplace_rpc::Code;

use super::{Fixture, header};

#[tokio::test]
async fn the_same_report_twice_adds_nothing_even_under_another_name() {
    let mut fixture = Fixture::new(Options {
        batch_events: 7,
        ..Options::default()
    })
    .await;
    let (_, xml) = samples::junit(3).remove(3);
    let first = fixture
        .report(header("junit", "a/junit.xml"), xml.as_bytes())
        .await
        .unwrap();
    assert!(first.added > 20 && first.duplicates == 0, "{first:?}");
    assert_eq!(first.refusals, []);
    assert_eq!(
        first.types.iter().map(|kind| kind.count).sum::<u64>(),
        first.added
    );
    for name in ["a/junit.xml", "/b/other.xml"] {
        let again = fixture
            .report(header("junit", name), xml.as_bytes())
            .await
            .unwrap();
        assert_eq!((again.added, again.duplicates), (0, first.added), "{name}");
        assert_eq!(
            (again.commit, again.refusals),
            (first.commit.clone(), vec![]),
            "{name}"
        );
    }
    let held = fixture.held().await;
    assert_eq!(held.len() as u64, first.added);
    assert!(held.iter().all(|event| event.source == "a/junit.xml"
        && event.author == "CI <[redacted:email]@example.org>"));
}

#[tokio::test]
async fn all_samples_and_payloads_come_in_and_nothing_the_second_time() {
    let mut fixture = Fixture::new(Options::default()).await;
    let mut reports: Vec<(&str, String, Vec<u8>)> = Vec::new();
    reports.extend(
        samples::junit(1)
            .into_iter()
            .map(|(name, text)| ("junit", name, text.into_bytes())),
    );
    reports.extend(
        samples::jenkins(1)
            .into_iter()
            .map(|(name, text)| ("jenkins", name, text.into_bytes())),
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/payloads");
    if !folder.is_dir() {
        println!("SKIPPED: no sample payloads at {}", folder.display());
    }
    for (format, kind) in [("junit", "junit-xml"), ("jenkins", "jenkins-api")] {
        for path in walk(&folder.join(kind)) {
            reports.push((
                format,
                path.display().to_string(),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
    let (mut added, mut refused) = (0, Vec::new());
    for (format, name, report) in &reports {
        match fixture.report(header(format, name), report).await {
            Ok(summary) => {
                assert_eq!(summary.refusals, [], "{name}");
                added += summary.added;
                let again = fixture.report(header(format, "again"), report).await;
                assert_eq!(again.unwrap().added, 0, "{name}");
            }
            Err(failure) => refused.push(failure.message),
        }
    }
    println!(
        "{} reports: {added} events, refused: {refused:?}",
        reports.len()
    );
    for (format, name, report) in &reports {
        if let Ok(summary) = fixture.report(header(format, name), report).await {
            assert_eq!(summary.added, 0, "{name}");
        }
    }
    assert_eq!(fixture.held().await.len() as u64, added);
    if folder.is_dir() {
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].contains("line 52, column 3: not JSON: trailing comma; nothing was written"),
            "{refused:?}"
        );
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_broken_report_leaves_no_trace() {
    let mut fixture = Fixture::new(Options {
        batch_events: 1,
        ..Options::default()
    })
    .await;
    let cut = "<testsuite>\n<testcase name='a'/>\n<testcase name='b'/>\n<testcase name=";
    let failure = fixture
        .report(header("junit", "x"), cut.as_bytes())
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::InvalidArgument, "REPORT_UNREADABLE")
    );
    assert!(failure.message.contains("line 4, column 1"), "{failure:?}");
    assert!(
        failure.message.contains("nothing was written"),
        "{failure:?}"
    );
    let summary = fixture
        .report(
            ReportHeader {
                validate_only: true,
                ..header("junit", "x")
            },
            b"<testsuite><testcase name='a'/></testsuite>",
        )
        .await
        .unwrap();
    assert_eq!(
        (summary.added, summary.types.len(), summary.commit.as_str()),
        (2, 2, "")
    );
    let events = fixture
        .journal
        .query_events(QueryEventsRequest::default())
        .await;
    assert!(events.is_err() || events.unwrap().into_inner().events.is_empty());
}

#[tokio::test]
async fn reports_beyond_the_memory_for_all_are_asked_to_come_again() {
    let small = Options {
        max_report_bytes: 2 << 20,
        max_buffered_bytes: 2 << 20,
        ..Options::default()
    };
    let mut fixture = Fixture::new(small).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    for part in [
        Part::Header(header("jsonl", "slow")),
        Part::Chunk(vec![b' '; 1 << 20].into()),
        Part::Chunk(vec![b' '; 1 << 19].into()),
    ] {
        sender
            .send(IngestReportRequest { part: Some(part) })
            .await
            .unwrap();
    }
    let mut ingest = fixture.ingest.clone();
    let slow = tokio::spawn(async move {
        ingest
            .ingest_report(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
    });
    while sender.capacity() < 8 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let failure = fixture
        .report(header("jsonl", "x"), &vec![b' '; 1 << 20])
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::ResourceExhausted, "INGEST_BUSY")
    );
    assert!(failure.retry_after.is_some());
    drop(sender);
    slow.await.unwrap().unwrap();
    fixture
        .report(header("jsonl", "x"), &vec![b' '; 1 << 20])
        .await
        .unwrap();
}

#[tokio::test]
async fn the_history_of_this_repository_comes_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let git = std::process::Command::new("git")
        .arg("-C")
        .arg(&root)
        .args(GIT_LOG_ARGUMENTS)
        .output();
    let Some(output) = git.ok().filter(|output| output.status.success()) else {
        println!("SKIPPED: this is not a git repository, or git is not installed");
        return;
    };
    let mut fixture = Fixture::new(Options::default()).await;
    let start = std::time::Instant::now();
    let summary = fixture
        .report(header("git", "commonplace"), &output.stdout)
        .await
        .unwrap();
    println!(
        "{} KB of history: {} commits in {:?}, {:?}",
        output.stdout.len() / 1_024,
        summary.added,
        start.elapsed(),
        summary.redactions
    );
    assert!(summary.added > 0);
    assert_eq!(summary.refusals, []);
    let again = fixture
        .report(header("git", "elsewhere"), &output.stdout)
        .await
        .unwrap();
    assert_eq!((again.added, again.duplicates), (0, summary.added));
    let held = fixture.held().await;
    assert!(
        held.iter()
            .all(|event| event.artifact_type == "diff" && event.record_id.starts_with("commit:"))
    );
    assert!(
        held.iter()
            .any(|event| event.links.iter().any(|link| link.relation == "file"))
    );
}
