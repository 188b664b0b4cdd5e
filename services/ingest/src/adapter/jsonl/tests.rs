use super::super::tests::found;
use super::*;

#[test]
fn every_field_is_read_in_both_spellings() {
    let line = r#"{"id":"ev_00112233445566778899aabbccddeeff","record_id":"r","operation":"OPERATION_RETRACT","artifact_type":"decision","title":"t","text":"x",
        "links":[{"relation":"file","target":"a.rs"}],"tags":["a"],"importance":0.25,"pinned":true,"scope":"SCOPE_TASK","event_time":"2026-01-02T03:04:05Z",
        "valid_from":"2026-01-02T03:04:05Z","valid_to":"2027-01-02T03:04:05Z","supersedes":["ev_00112233445566778899aabbccddeefe"],"supersede_heads":true,
        "agent":"ag","author":"au","source":"so","correlation_id":"co","causation_id":"ca","attributes":[{"key":"k","value":"v"}]}"#;
    let snake = line.replace('\n', " ");
    let mut camel = snake.clone();
    for (one, other) in [
        ("record_id", "recordId"),
        ("artifact_type", "artifactType"),
        ("event_time", "eventTime"),
        ("valid_from", "validFrom"),
        ("valid_to", "validTo"),
        ("supersede_heads", "supersedeHeads"),
        ("correlation_id", "correlationId"),
        ("causation_id", "causationId"),
    ] {
        camel = camel.replace(one, other);
    }
    let (drafts, refusals) = found("jsonl", format!("{snake}\r\n\n{camel}\n").as_bytes()).unwrap();
    assert_eq!(refusals, []);
    assert_eq!(drafts[0], drafts[1]);
    let draft = &drafts[0];
    assert_eq!(
        (
            draft.operation,
            draft.scope,
            draft.pinned,
            draft.supersede_heads
        ),
        (Operation::Retract, Scope::Task, true, true)
    );
    assert_eq!(draft.importance.millionths(), 250_000);
    assert_eq!(draft.valid_to.unwrap().to_string(), "2027-01-02T03:04:05Z");
    assert_eq!(
        (
            draft.agent.as_str(),
            draft.author.as_str(),
            draft.source.as_str()
        ),
        ("ag", "au", "so")
    );
    assert_eq!(
        (draft.correlation_id.as_str(), draft.causation_id.as_str()),
        ("co", "ca")
    );
    assert_eq!(
        (
            draft.links.len(),
            draft.attributes.len(),
            draft.supersedes.len(),
            draft.tags.len()
        ),
        (1, 1, 1, 1)
    );
}

#[test]
fn bad_lines_are_refused_with_line_and_field_and_the_others_taken() {
    let lines: [(&[u8], &str, &str); 18] = [
        (br#"{"artifact_type":"bug","title":"good"}"#, "", ""),
        (br#"{"artifact_type":"bug","title":"t","importance":7}"#, "importance", "expected 0 to 1, found 7"),
        (br#"{"artifact_type":"bug","title":"t","event_time":"30000-01-01T00:00:00Z"}"#, "event_time", "expected a time"),
        (br#"{"title":"t"}"#, "artifact_type", "found none"),
        (br#"{"artifact_type":"Bug!","title":"t"}"#, "artifact_type", "expected a word"),
        (b"{\"artifact_type\":\"bug\",\"title\":\"\xff\"}", "", "expected UTF-8, found other bytes at byte 32"),
        (br#"{"artifact_type":"bug","titel":"t"}"#, "titel", "is not a field"),
        (br#"{"artifact_type":"bug","title":3}"#, "title", "expected a text, found a number"),
        (br#"{"artifact_type":"bug","title":"t","tags":"x"}"#, "tags", "expected a list"),
        (br#"{"artifact_type":"bug","title":"t","tags":["a",1]}"#, "tags[1]", "expected a text"),
        (br#"{"artifact_type":"bug","title":"t","links":[{"relation":"file","to":"x"}]}"#, "links[0].to", "is not a field"),
        (br#"{"artifact_type":"bug","title":"t","supersedes":["ev_1"]}"#, "supersedes[0].id", "32 hex digits"),
        (br#"{"artifact_type":"bug","title":"t","operation":"UPSERT"}"#, "operation", "expected assert or retract"),
        (br#"{"artifact_type":"bug","title":"t","pinned":"yes"}"#, "pinned", "expected true or false"),
        (br#"{"artifact_type":"bug","title":"t","record_id":"a","recordId":"b"}"#, "record_id", "given twice"),
        (br#"["a"]"#, "", "expected a JSON object, found a list"),
        (br#"{"artifact_type":"bug""#, "", "not JSON at column 22"),
        (br#"{"artifact_type":"bug","title":"also good","importance":"0.5","scope":2,"operation":"assert","id":null}"#, "", ""),
    ];
    let report = lines
        .iter()
        .map(|(line, _, _)| *line)
        .collect::<Vec<_>>()
        .join(&b'\n');
    let (drafts, refusals) = found("jsonl", &report).unwrap();
    assert_eq!(
        drafts
            .iter()
            .map(|draft| draft.title.as_str())
            .collect::<Vec<_>>(),
        ["good", "also good"]
    );
    let expected = lines
        .iter()
        .enumerate()
        .filter(|(_, (_, _, reason))| !reason.is_empty());
    for ((number, (_, field, reason)), refusal) in expected.zip(&refusals) {
        assert_eq!(refusal.location, format!("line {}", number + 1));
        assert_eq!(refusal.field, *field, "{refusal:?}");
        assert!(refusal.reason.contains(reason), "{refusal:?}");
    }
    assert_eq!(refusals.len(), 16);
}
