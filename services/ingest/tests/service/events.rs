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
