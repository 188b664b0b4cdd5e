//! Refusals: each in our form, each naming what the caller gave.

use crate::common::{Answer, Served};

fn check(answer: &Answer, status: u16, field: &str, word: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.field(), field, "{answer:?}");
    assert!(answer.0.contains(word), "{answer:?} lacks {word}");
}

#[tokio::test]
async fn parameters_are_used_or_refused_by_name() {
    let served = Served::start().await;
    for (path, field, word) in [
        ("/events?page_size=x", "page_size", "whole number"),
        ("/events?page_size=1&page_size=2", "page_size", "twice"),
        (
            "/events?filter.from_time=yesterday",
            "filter.from_time",
            "2026-",
        ),
        (
            "/events?filter.artifact_types=Bad!",
            "filter.artifact_types",
            "a-z",
        ),
        ("/events?bogus=1", "bogus", "not known"),
        ("/packs/x?id=y", "id", "path"),
        ("/packs/%ff", "path", "UTF-8"),
    ] {
        check(&served.get(path).await, 400, field, word);
    }
    let event = r#"{"events":[{"artifact_type":"bug","title":"x"}]}"#;
    let answer = served.post("/events?project=other", event).await;
    check(&answer, 400, "project", "put it into the body");
    let put = "PUT /policies/mine?validate_only=true";
    let json = ["content-type: application/json"];
    let answer = served.call(put, &json, br#"{"source":"x"}"#).await;
    check(&answer, 400, "validate_only", "put it into the body");
    check(
        &served.post("/ingest/junit?bogus=1", "").await,
        400,
        "bogus",
        "not known",
    );
    check(
        &served.post("/ingest/junit?format=x", "").await,
        400,
        "format",
        "path",
    );
    check(&served.post("/ingest/%ff", "").await, 400, "path", "UTF-8");
}

#[tokio::test]
async fn bodies_are_refused_by_the_path_of_the_field() {
    let served = Served::start().await;
    for (path, body, field, word) in [
        ("/events", "hello", "body", "expected JSON"),
        (
            "/events",
            r#"{"events":[{"scope":"NOPE"}]}"#,
            "events[0].scope",
            "one of",
        ),
        (
            "/retrieve",
            r#"{"budget_tokens":4294967296}"#,
            "budget_tokens",
            "from 0 to",
        ),
        ("/retrieve", r#"{"fusion":99}"#, "fusion", "one of"),
        (
            "/retrieve",
            r#"{"query":"a","query":"b"}"#,
            "query",
            "twice",
        ),
        (
            "/events",
            r#"{"events":[{"artifact_type":"a","artifactType":"b"}]}"#,
            "events[0].artifact_type",
            "twice",
        ),
        (
            "/retrieve",
            r#"{"query":"x","filter":{"artifact_types":["Bad!"]}}"#,
            "filter.artifact_types",
            "a-z",
        ),
        ("/policies/mine/activate", r#"{"id":"x"}"#, "id", "path"),
    ] {
        check(&served.post(path, body).await, 400, field, word);
    }
}

#[tokio::test]
async fn reports_are_refused_in_the_words_of_http() {
    let served = Served::start().await;
    check(
        &served.post("/ingest/junit", "no xml").await,
        400,
        "body",
        "REPORT_UNREADABLE",
    );
    check(
        &served.post("/ingest/nosuch", "").await,
        400,
        "format",
        "FORMAT_UNKNOWN",
    );
    let answer = served.post("/ingest/junit?project=Bad%20Name", "").await;
    check(&answer, 400, "project", "FIELD_INVALID");
    assert!(!answer.0.contains("header."), "{answer:?}");
}

#[tokio::test]
async fn what_http_itself_refuses_has_our_form_too() {
    let served = Served::start().await;
    let answer = served.call("DELETE /events", &[], b"").await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (405, "METHOD_NOT_ALLOWED")
    );
    assert!(answer.0.contains("allow: "), "{answer:?}");
    assert_eq!(served.get("/nowhere").await.reason(), "UNKNOWN_PATH");
    let rpc = "/commonplace.ingest.v1.IngestService/ListFormats";
    for (verb, kind) in [
        ("POST", "application/grpc"),
        ("POST", "application/grpc-web+json"),
        ("GET", "application/grpc-web+proto"),
    ] {
        let header = format!("content-type: {kind}");
        let answer = served.call(&format!("{verb} {rpc}"), &[&header], b"").await;
        check(&answer, 415, "content-type", "CONTENT_TYPE_INVALID");
    }
}

#[tokio::test]
async fn the_trace_of_the_caller_is_kept_with_what_it_wrote() {
    let served = Served::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    let report = br#"{"artifact_type":"bug","title":"traced"}"#;
    let answer = served.call("POST /ingest/jsonl", &[&header], report).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let events = served.get("/events").await;
    assert!(events.0.contains(trace), "{events:?}");
}

#[tokio::test]
async fn every_answer_names_its_trace() {
    let served = Served::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    let stranger = "host: rebound.example";
    for (line, further, status) in [
        ("GET /policies", None, 200),
        ("GET /health", None, 200),
        ("GET /nowhere", None, 404),
        ("DELETE /events", None, 405),
        ("GET /packs/none", None, 400),
        ("GET /policies", Some(stranger), 403),
    ] {
        let headers: Vec<&str> = [header.as_str()].into_iter().chain(further).collect();
        let answer = served.call(line, &headers, b"").await;
        assert_eq!(answer.status(), status, "{line}: {answer:?}");
        let named = format!("traceparent: 00-{trace}-");
        assert!(answer.0.contains(&named), "{line}: {answer:?}");
        // It is the gateway's own place that is told, which lies within the caller's.
        assert!(!answer.0.contains("b7ad6b7169203331"), "{line}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.json()["error"]["trace_id"], trace, "{line}");
            assert!(answer.json()["error"]["request_id"].is_string(), "{line}");
        }
    }
    for odd in ["traceparent: 00-0-0-01", "x-other: y"] {
        let answer = served.call("GET /policies", &[odd], b"").await;
        let given = answer.0.split("traceparent: 00-").nth(1).unwrap();
        assert!(given.len() > 32 && !given.starts_with(trace), "{answer:?}");
    }
}
