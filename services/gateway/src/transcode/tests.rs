use super::*;
use prost_reflect::DynamicMessage;
use std::collections::BTreeSet;

fn descriptor(name: &str) -> MessageDescriptor {
    commonplace_proto::pool().get_message_by_name(name).unwrap()
}

fn events() -> MessageDescriptor {
    descriptor("commonplace.ingest.v1.IngestEventsRequest")
}

fn retrieve() -> MessageDescriptor {
    descriptor("commonplace.retrieval.v1.RetrieveRequest")
}

/// What the general reader of JSON makes of it.
fn reference(input: &MessageDescriptor, json: &str) -> DynamicMessage {
    let mut reader = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(input.clone(), &mut reader).unwrap()
}

#[test]
fn the_same_message_comes_out_as_from_the_general_reader() {
    let cases = [
        (events(), r#"{}"#),
        (events(), r#"{"project":"a\u00e9\n","events":[]}"#),
        (
            events(),
            r#"{"events":[{"artifactType":"bug","title":"t","importance":0.5,"eventTime":"2026-01-02T03:04:05.6Z",
               "tags":["a","b"],"links":[{"relation":"file","target":"x"}],"attributes":[{"key":"k","value":null}]},{}]}"#,
        ),
        (
            retrieve(),
            r#"{"query":"q","budget_tokens":"500","as_of":{"branch":"b"},"clock":null,"wait_for_dense":true,
               "filter":{"artifact_types":["bug"],"min_importance":1e-1}}"#,
        ),
        (
            descriptor("commonplace.retrieval.v1.VerifyPackRequest"),
            r#"{"content":"AAEC_w==","id":"x"}"#,
        ),
    ];
    for (input, json) in cases {
        let wire = text(&input, json.as_bytes(), &[]).unwrap();
        let read = DynamicMessage::decode(input.clone(), wire.as_slice()).unwrap();
        // On the wire an empty list and none are one.
        let expected = reference(&input, json).encode_to_vec();
        assert_eq!(read.encode_to_vec(), expected, "{json}");
    }
}

#[test]
fn what_does_not_fit_is_named_by_its_path() {
    let check = |input: MessageDescriptor, json: &str, field: &str, word: &str| {
        let invalid = text(&input, json.as_bytes(), &["name".into()]).unwrap_err();
        assert_eq!(invalid.field, field, "{json}: {invalid}");
        assert!(invalid.problem.contains(word), "{json}: {invalid}");
    };
    check(events(), "hello", "body", "expected JSON");
    check(events(), "", "body", "expected JSON");
    check(events(), "[]", "body", "JSON object");
    check(
        events(),
        r#"{"events":[{"title":"x"}"#,
        "events[1]",
        "ends too early",
    );
    check(events(), r#"{"events":{}}"#, "events", "a list");
    check(
        events(),
        r#"{"events":[{},{"title":7}]}"#,
        "events[1].title",
        "a text, found 7",
    );
    check(
        events(),
        r#"{"events":[{"tags":["a",null]}]}"#,
        "events[0].tags[1]",
        "a text",
    );
    check(
        events(),
        r#"{"events":[{"scope":"NOPE"}]}"#,
        "events[0].scope",
        "SCOPE_",
    );
    check(
        events(),
        r#"{"events":[{"scope":99}]}"#,
        "events[0].scope",
        "SCOPE_",
    );
    check(
        events(),
        r#"{"events":[{"colour":1}]}"#,
        "events[0].colour",
        "not known",
    );
    check(
        events(),
        r#"{"events":[{"event_time":"noon"}]}"#,
        "events[0].event_time",
        "2026-",
    );
    check(
        retrieve(),
        r#"{"budget_tokens":-1}"#,
        "budget_tokens",
        "from 0 to 4294967295",
    );
    check(
        retrieve(),
        r#"{"budget_tokens":4294967296}"#,
        "budget_tokens",
        "found 4294967296",
    );
    check(
        retrieve(),
        r#"{"budget_tokens":1.5}"#,
        "budget_tokens",
        "found 1.5",
    );
    check(
        retrieve(),
        r#"{"query":"a","query":"a"}"#,
        "query",
        "given twice",
    );
    check(
        retrieve(),
        r#"{"budget_tokens":1,"budgetTokens":1}"#,
        "budget_tokens",
        "given twice",
    );
    check(
        retrieve(),
        r#"{"as_of":{"branch":"a","commit":"b"}}"#,
        "as_of.commit",
        "excludes `branch`",
    );
}

#[test]
fn what_the_path_gives_cannot_be_given_again() {
    let input = descriptor("commonplace.policy.v1.PutPolicyRequest");
    let invalid = text(&input, br#"{"id":"other"}"#, &["id".into()]).unwrap_err();
    assert_eq!(invalid.field, "id");
}

#[test]
fn lists_are_bounded_before_they_are_read() {
    let many = |count: usize| format!(r#"{{"events":[{}]}}"#, vec!["{}"; count].join(","));
    assert!(text(&events(), many(LIST_MESSAGES).as_bytes(), &[]).is_ok());
    let invalid = text(&events(), many(LIST_MESSAGES + 1).as_bytes(), &[]).unwrap_err();
    assert_eq!(invalid.field, "events");
    assert!(invalid.problem.contains("5000"), "{invalid}");

    let tags = vec![r#""""#; 1_000].join(",");
    let events_of = vec![format!(r#"{{"tags":[{tags}]}}"#); 300].join(",");
    let body = format!(r#"{{"events":[{events_of}]}}"#);
    let invalid = text(&events(), body.as_bytes(), &[]).unwrap_err();
    assert!(invalid.field.starts_with("events[249].tags["), "{invalid}");
    assert!(invalid.problem.contains("250000"), "{invalid}");
}

#[test]
fn every_field_of_every_request_can_be_given() {
    let mut waiting: Vec<MessageDescriptor> = commonplace_proto::pool()
        .services()
        .filter(|service| service.full_name().starts_with("commonplace."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| method.input())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(message) = waiting.pop() {
        if message.full_name().starts_with("google.")
            || !seen.insert(message.full_name().to_owned())
        {
            continue;
        }
        for field in message.fields() {
            assert!(!field.is_map(), "{} is a map", field.full_name());
            assert!(scalar::can_be_given(&field.kind()), "{}", field.full_name());
            if let Kind::Message(inner) = field.kind() {
                waiting.push(inner);
            }
        }
    }
    assert!(seen.len() > 20, "the contracts are read: {seen:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(input in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,64}") {
        let _ = text(&events(), input.as_bytes(), &[]);
    }
}
