//! The service over a real journal, through the contracts alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use commonplace_ingest::{GIT_LOG_ARGUMENTS, Options, samples};
use commonplace_proto::common::{Attribute, Event, EventDraft};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::*;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{CreateBranchRequest, QueryEventsRequest};
use commonplace_rpc::{Channel, Code, Failure};
use commonplace_types::SystemClock;
use tonic::service::Routes;

struct Fixture {
    ingest: IngestServiceClient<Channel>,
    journal: JournalServiceClient<Channel>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let clock = Arc::new(SystemClock);
        let journal = commonplace_journal::start(Default::default(), &path, clock)
            .await
            .unwrap();
        let channel = Channel::in_process(Routes::new(journal.service()));
        let ingest = commonplace_ingest::start(options, channel.clone())
            .await
            .unwrap();
        Self {
            ingest: IngestServiceClient::new(Channel::in_process(Routes::new(ingest.service()))),
            journal: JournalServiceClient::new(channel),
            _folder: folder,
        }
    }

    async fn report(
        &mut self,
        header: ReportHeader,
        report: &[u8],
    ) -> Result<IngestSummary, Failure> {
        let header = IngestReportRequest {
            part: Some(Part::Header(header)),
        };
        let chunk = |bytes: &[u8]| IngestReportRequest {
            part: Some(Part::Chunk(bytes.to_vec().into())),
        };
        let mut messages = vec![header];
        messages.extend(report.chunks(1 << 20).map(chunk));
        let answer = self
            .ingest
            .ingest_report(tokio_stream::iter(messages))
            .await;
        answer
            .map(|answer| answer.into_inner().summary.unwrap())
            .map_err(|status| Failure::from_status(&status))
    }

    async fn events(
        &mut self,
        branch: &str,
        events: Vec<EventDraft>,
    ) -> Result<IngestEventsResponse, Failure> {
        let request = IngestEventsRequest {
            branch: branch.into(),
            events,
            ..Default::default()
        };
        let answer = self.ingest.ingest_events(request).await;
        answer
            .map(|answer| answer.into_inner())
            .map_err(|status| Failure::from_status(&status))
    }

    /// Every event of `main`, page by page.
    async fn held(&mut self) -> Vec<Event> {
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = QueryEventsRequest {
                page_size: 1_000,
                include_superseded: true,
                page_token,
                ..Default::default()
            };
            let answer = self
                .journal
                .query_events(request)
                .await
                .unwrap()
                .into_inner();
            events.extend(answer.events);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return events;
            }
        }
    }
}

fn header(format: &str, name: &str) -> ReportHeader {
    ReportHeader {
        format: format.into(),
        name: name.into(),
        author: "CI <ci@example.org>".into(),
        ..Default::default()
    }
}

fn draft(title: &str) -> EventDraft {
    EventDraft {
        artifact_type: "decision".into(),
        title: title.into(),
        ..Default::default()
    }
}

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
        (0, 2, "")
    );
    let events = fixture
        .journal
        .query_events(QueryEventsRequest::default())
        .await;
    assert!(events.is_err() || events.unwrap().into_inner().events.is_empty());
}

#[tokio::test]
async fn calls_that_are_wrong_as_a_whole_are_refused() {
    let small = Options {
        max_report_bytes: 2 << 20,
        max_buffered_bytes: 3 << 20,
        ..Options::default()
    };
    let mut fixture = Fixture::new(small).await;
    let check = |found: Result<IngestSummary, Failure>, code: Code, reason: &str, text: &str| {
        let failure = found.unwrap_err();
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            (code, reason),
            "{failure:?}"
        );
        let told = format!("{} {:?}", failure.message, failure.fields);
        assert!(told.contains(text), "{told}");
    };
    let large = fixture
        .report(header("jsonl", "x"), &vec![b' '; 5 << 20])
        .await;
    check(
        large,
        Code::ResourceExhausted,
        "REPORT_TOO_LARGE",
        "raise `ingest.max_report_bytes`",
    );
    let unknown = fixture.report(header("xunit", "x"), b"").await;
    check(
        unknown,
        Code::InvalidArgument,
        "FORMAT_UNKNOWN",
        "expected one of git, jenkins, jsonl, junit",
    );
    let project = fixture
        .report(
            ReportHeader {
                project: "A B".into(),
                ..header("junit", "x")
            },
            b"",
        )
        .await;
    check(
        project,
        Code::InvalidArgument,
        "FIELD_INVALID",
        "header.project",
    );
    let chunk = IngestReportRequest {
        part: Some(Part::Chunk(vec![1].into())),
    };
    let status = fixture
        .ingest
        .ingest_report(tokio_stream::iter([chunk]))
        .await
        .unwrap_err();
    assert!(
        status.message().contains("expected the header"),
        "{status:?}"
    );
    let parts = [
        Part::Header(header("jsonl", "x")),
        Part::Chunk(vec![b' '; (1 << 20) + 1].into()),
    ];
    let messages = parts.map(|part| IngestReportRequest { part: Some(part) });
    let status = fixture
        .ingest
        .ingest_report(tokio_stream::iter(messages))
        .await
        .unwrap_err();
    assert!(
        status.message().contains("expected at most 1048576 bytes"),
        "{status:?}"
    );
    let failure = fixture.events("", Vec::new()).await.unwrap_err();
    assert_eq!(failure.fields[0].field, "events");
    let failure = fixture
        .events("no such branch", vec![draft("a")])
        .await
        .unwrap_err();
    assert_eq!(failure.fields[0].field, "branch");
    let failure = fixture
        .events("missing", vec![draft("a")])
        .await
        .unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    let formats = fixture
        .ingest
        .list_formats(ListFormatsRequest {})
        .await
        .unwrap()
        .into_inner()
        .formats;
    assert_eq!(
        formats
            .iter()
            .map(|format| format.name.as_str())
            .collect::<Vec<_>>(),
        ["git", "jenkins", "jsonl", "junit"]
    );
}

#[tokio::test]
async fn events_are_taken_or_refused_one_by_one() {
    let mut fixture = Fixture::new(Options::default()).await;
    let mut wrong = draft("wrong");
    wrong.importance = Some(7.0);
    let mut secret = draft("secret");
    secret.text = "api_key = 'hX7kQ2mZ9pLw'".into();
    secret.attributes = vec![Attribute {
        key: "db.password".into(),
        value: "tiger".into(),
    }];
    let answer = fixture
        .events("", vec![draft("a"), wrong, secret, draft("a"), draft("")])
        .await
        .unwrap();
    let summary = answer.summary.unwrap();
    assert_eq!((summary.added, summary.duplicates), (2, 1));
    assert_eq!(answer.event_ids.len(), 5);
    assert_eq!(answer.event_ids[0], answer.event_ids[3]);
    assert_eq!(
        (answer.event_ids[1].as_str(), answer.event_ids[4].as_str()),
        ("", "")
    );
    let refusals: Vec<(&str, &str)> = summary
        .refusals
        .iter()
        .map(|r| (r.location.as_str(), r.field.as_str()))
        .collect();
    assert_eq!(
        refusals,
        [("events[1]", "importance"), ("events[4]", "text")]
    );
    assert_eq!(
        summary
            .redactions
            .iter()
            .map(|r| (r.rule.as_str(), r.count))
            .collect::<Vec<_>>(),
        [("assignment", 1), ("field", 1)]
    );
    let held = fixture.held().await;
    let secret = held.iter().find(|event| event.title == "secret").unwrap();
    assert_eq!(secret.text, "api_key = '[redacted:assignment]'");
    assert_eq!(secret.attributes[0].value, "[redacted:field]");
    assert!(secret.checksum.starts_with("sha256:"));
    assert_eq!(secret.id, answer.event_ids[2]);
}

#[tokio::test]
async fn an_id_with_other_content_is_refused_and_the_rest_is_taken() {
    let mut fixture = Fixture::new(Options::default()).await;
    let given = |title: &str| EventDraft {
        id: "ev_00112233445566778899aabbccddeeff".into(),
        ..draft(title)
    };
    fixture.events("", vec![given("one")]).await.unwrap();
    let answer = fixture
        .events("", vec![draft("x"), given("two"), draft("y")])
        .await
        .unwrap();
    let summary = answer.summary.unwrap();
    assert_eq!(
        (
            summary.added,
            summary.refusals.len(),
            summary.refusals[0].field.as_str()
        ),
        (2, 1, "id")
    );
    assert_eq!(answer.event_ids[1], "");
    assert!(!answer.event_ids[0].is_empty());
}

#[tokio::test]
async fn another_branch_may_hold_the_same_events() {
    let mut fixture = Fixture::new(Options::default()).await;
    fixture
        .events("", vec![draft("opens the project")])
        .await
        .unwrap();
    let branch = CreateBranchRequest {
        branch: "side".into(),
        ..Default::default()
    };
    fixture.journal.create_branch(branch).await.unwrap();
    let xml = b"<testsuite><testcase name='a'/><testcase name='b'/></testsuite>";
    fixture.report(header("junit", "x"), xml).await.unwrap();
    let side = |name: &str| ReportHeader {
        branch: "side".into(),
        ..header("junit", name)
    };
    let summary = fixture.report(side("other name"), xml).await.unwrap();
    assert_eq!(
        (summary.added, summary.refusals.len()),
        (0, 3),
        "{summary:?}"
    );
    let summary = fixture.report(side("x"), xml).await.unwrap();
    assert_eq!(
        (summary.added, summary.refusals.len()),
        (3, 0),
        "{summary:?}"
    );
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
