//! Single events, conflicts of ids, and calls that are wrong as a whole.

use commonplace_ingest::Options;
use commonplace_proto::common::{Attribute, EventDraft};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::*;
use commonplace_proto::journal::CreateBranchRequest;
use commonplace_rpc::{Code, Failure};

use super::{Fixture, draft, header};

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
    let timed =
        "<testsuite name='s' timestamp='2026-11-20T10:00:00Z'><testcase name='a'/></testsuite>";
    let untimed = "<testsuite name='u'><testcase name='a'/></testsuite>";
    let commit = format!(
        "\0commit\0{}\0\0A\0a@b.cd\02026-11-20T10:00:00Z\02026-11-20T10:00:00Z\0s\0b\0\n",
        "a".repeat(40)
    );
    for (format, report, count) in [
        ("junit", timed, 2),
        ("junit", untimed, 2),
        ("git", &*commit, 1),
    ] {
        let report = report.as_bytes();
        let on = |branch: &str, name: &str| ReportHeader {
            branch: branch.into(),
            ..header(format, name)
        };
        fixture.report(on("", "./x"), report).await.unwrap();
        for (name, added) in [("/home/me/x", count), ("../x", 0), ("./x", 0)] {
            let summary = fixture.report(on("side", name), report).await.unwrap();
            assert_eq!(
                (summary.added, summary.duplicates, summary.refusals.len()),
                (added, count - added, 0),
                "{format} {name}: {summary:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_the_journal_refuses_is_named_by_its_place_and_the_rest_is_taken() {
    let mut fixture = Fixture::new(Options {
        batch_events: 10,
        ..Options::default()
    })
    .await;
    let mut events: Vec<EventDraft> = (0..40).map(|n| draft(&n.to_string())).collect();
    for place in [3, 15, 17, 39] {
        events[place].supersedes = vec![format!("ev_{:032x}", place)];
    }
    // One that repeats a refused one is refused as well.
    events[20] = events[3].clone();
    let answer = fixture.events("", events.clone()).await.unwrap();
    let summary = answer.summary.unwrap();
    let refused: Vec<(&str, &str)> = summary
        .refusals
        .iter()
        .map(|r| (r.location.as_str(), r.field.as_str()))
        .collect();
    let expected = [3, 15, 17, 39].map(|place| (format!("events[{place}]"), "supersedes"));
    let expected: Vec<(&str, &str)> = expected.iter().map(|(l, f)| (l.as_str(), *f)).collect();
    assert_eq!(refused, expected);
    assert_eq!((summary.added, summary.types[0].count), (35, 35));
    for (place, id) in answer.event_ids.iter().enumerate() {
        assert_eq!(
            id.is_empty(),
            [3, 15, 17, 20, 39].contains(&place),
            "{place}"
        );
    }
    let request = CommitRequest {
        events: vec![
            draft("new"),
            draft("new"),
            draft("other"),
            events[17].clone(),
        ],
        ..Default::default()
    };
    let failure = Failure::from_status(&fixture.ingest.commit(request).await.unwrap_err());
    assert_eq!(failure.fields[0].field, "events[3].supersedes");
    assert!(
        failure.message.contains("events[3].supersedes"),
        "{}",
        failure.message
    );
    assert_eq!(fixture.held().await.len(), 35);
}

#[tokio::test]
async fn a_commit_under_a_given_id_is_not_taken_for_that_of_a_repository() {
    let mut fixture = Fixture::new(Options::default()).await;
    let given = |record: &str, title: &str| EventDraft {
        id: "ev_00112233445566778899aabbccddeeff".into(),
        record_id: record.into(),
        ..draft(title)
    };
    fixture
        .events("", vec![given("commit:a", "one")])
        .await
        .unwrap();
    for other in [
        given("commit:a", "two"),
        given("commit:b", "one"),
        given("", "one"),
    ] {
        let summary = fixture
            .events("", vec![other])
            .await
            .unwrap()
            .summary
            .unwrap();
        assert_eq!(
            (summary.added, summary.duplicates, summary.refusals.len()),
            (0, 0, 1)
        );
    }
}
