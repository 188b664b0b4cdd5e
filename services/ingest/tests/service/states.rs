//! What may return and what is the same for good, through reports.

use commonplace_ingest::Options;
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::*;
use commonplace_proto::journal::QueryEventsRequest;

use super::{Fixture, draft, header};

/// Titles of what is live.
async fn live(fixture: &mut Fixture) -> Vec<String> {
    let answer = fixture
        .journal
        .query_events(QueryEventsRequest::default())
        .await;
    let mut titles: Vec<String> = answer
        .unwrap()
        .into_inner()
        .events
        .into_iter()
        .map(|event| event.title)
        .collect();
    titles.sort();
    titles
}

async fn send(fixture: &mut Fixture, format: &str, report: &str) -> u64 {
    let summary = fixture
        .report(header(format, "x"), report.as_bytes())
        .await
        .unwrap();
    assert_eq!(summary.refusals, []);
    summary.added
}

#[tokio::test]
async fn a_node_that_comes_back_is_online() {
    let mut fixture = Fixture::new(Options::default()).await;
    let node = |offline: bool| {
        format!(r#"{{"computer":[{{"displayName":"agent-1","offline":{offline}}}]}}"#)
    };
    let mut seen = Vec::new();
    for (offline, added) in [
        (false, 1),
        (true, 1),
        (true, 0),
        (false, 1),
        (false, 0),
        (true, 1),
    ] {
        assert_eq!(send(&mut fixture, "jenkins", &node(offline)).await, added);
        let now = live(&mut fixture).await;
        assert_eq!(now.len(), 1, "{now:?}");
        seen.push((offline, now[0].clone()));
    }
    assert!(
        seen.iter()
            .all(|(offline, title)| seen[usize::from(*offline)].1 == *title),
        "{seen:?}"
    );
    assert_ne!(seen[0].1, seen[1].1);
}

/// Nothing tells a result without a time that was found again from a report that was sent again, and the same
/// input twice adds nothing.
#[tokio::test]
async fn a_result_without_a_time_is_the_same_one_whenever_it_is_sent() {
    let mut fixture = Fixture::new(Options::default()).await;
    let report = |problem: &str| {
        format!("<testsuite name='s'><testcase name='t'>{problem}</testcase></testsuite>")
    };
    let (pass, fail) = (report(""), report("<failure message='m'/>"));
    for (xml, added) in [(&pass, 2), (&pass, 0), (&fail, 2), (&pass, 0), (&fail, 0)] {
        assert_eq!(send(&mut fixture, "junit", xml).await, added);
    }
    assert_eq!(live(&mut fixture).await.len(), 4);
}

#[tokio::test]
async fn an_old_report_with_times_or_numbers_adds_nothing() {
    let mut fixture = Fixture::new(Options::default()).await;
    let report = |day: u32, problem: &str| {
        format!(
            "<testsuite name='s' timestamp='2026-11-{day:02}T00:00:00Z'><testcase name='t'>{problem}</testcase></testsuite>"
        )
    };
    let (old, new) = (report(1, ""), report(2, "<failure message='m'/>"));
    assert_eq!(send(&mut fixture, "junit", &old).await, 2);
    assert_eq!(send(&mut fixture, "junit", &new).await, 2);
    for _ in 0..2 {
        assert_eq!(send(&mut fixture, "junit", &old).await, 0);
        assert_eq!(send(&mut fixture, "junit", &new).await, 0);
    }
    let build = |rest: &str| format!(r#"{{"number":7,"url":"http://ci/job/a/7/",{rest}}}"#);
    for time in ["", r#","timestamp":1763700000000"#] {
        let running = build(&format!(r#""building":true{time}"#));
        let done = build(&format!(r#""building":false,"result":"SUCCESS"{time}"#));
        send(&mut fixture, "jenkins", &running).await;
        assert_eq!(send(&mut fixture, "jenkins", &done).await, 1, "{time}");
        assert_eq!(send(&mut fixture, "jenkins", &running).await, 0, "{time}");
        assert!(
            live(&mut fixture)
                .await
                .iter()
                .any(|title| title.contains("success"))
        );
    }
}

#[tokio::test]
async fn records_of_callers_return_and_commits_repeat_safely() {
    let mut fixture = Fixture::new(Options::default()).await;
    let state = |title: &str| EventDraft {
        record_id: "switch".into(),
        supersede_heads: true,
        ..draft(title)
    };
    for (title, added) in [("on", 1), ("off", 1), ("on", 1), ("on", 0)] {
        let answer = fixture.events("", vec![state(title)]).await.unwrap();
        assert_eq!(answer.summary.unwrap().added, added, "{title}");
        assert!(answer.event_ids[0].starts_with("ev_"));
        assert_eq!(live(&mut fixture).await, [title]);
    }
    let batch = || vec![state("off"), state("on"), state("off")];
    for added in [3, 0] {
        let answer = fixture.events("", batch()).await.unwrap();
        assert_eq!(answer.summary.unwrap().added, added);
        assert_eq!(live(&mut fixture).await, ["off"]);
    }
    let request = CommitRequest {
        request_id: "6d7a1c1e-5a0b-4a63-9c57-0e3a7f3c4b12".into(),
        events: vec![state("on")],
        ..Default::default()
    };
    let first = fixture
        .ingest
        .commit(request.clone())
        .await
        .unwrap()
        .into_inner();
    fixture.events("", vec![state("off")]).await.unwrap();
    let again = fixture.ingest.commit(request).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(live(&mut fixture).await, ["off"]);
}

#[tokio::test]
async fn a_trial_tells_new_from_known() {
    let mut fixture = Fixture::new(Options::default()).await;
    let report = |cases: &str| {
        format!("<testsuite name='s' timestamp='2026-11-01T00:00:00Z'>{cases}</testsuite>")
    };
    send(&mut fixture, "junit", &report("<testcase name='a'/>")).await;
    let trial = ReportHeader {
        validate_only: true,
        ..header("junit", "y")
    };
    let more = report("<testcase name='a'/><testcase name='b'/>");
    for _ in 0..2 {
        let summary = fixture
            .report(trial.clone(), more.as_bytes())
            .await
            .unwrap();
        // The case that is new and the suite's event, which counts it.
        assert_eq!((summary.added, summary.duplicates), (2, 1));
    }
    assert_eq!(fixture.held().await.len(), 2);
}
