use super::super::tests::{attribute, files, found, payloads};

#[test]
fn every_payload_is_taken_or_refused_with_a_reason() {
    let Some(folder) = payloads("jenkins-api") else {
        return;
    };
    let expected = [
        ("job1.json", "ci_job testJob: failing"),
        ("job1_build1.json", "build testJob #1: failure"),
        (
            "job1_build2.json",
            "line 52, column 3: not JSON: trailing comma",
        ),
        ("job2.json", "build matrix #1: running"),
        ("main.json", "ci_view All: 2 jobs"),
        ("node1.json", "ci_node master: online"),
        (
            "nodes.json",
            "ci_node master: online; ci_node node2: offline",
        ),
        (
            "queue.json",
            "ci_queue matrix waits: Build #1 is already in progress (ETA:N/A); ci_queue label=n22ame waits: n22ame is offline; ci_queue label=n2s22s2ame waits: n2s22s2ame is offline",
        ),
    ];
    let paths = files(&folder);
    assert_eq!(paths.len(), expected.len());
    for (path, (name, expected)) in paths.iter().zip(expected) {
        assert_eq!(path.file_name().unwrap(), name);
        let outcome = match found("jenkins", &std::fs::read(path).unwrap()) {
            Ok((drafts, refusals)) => {
                assert_eq!(refusals, [], "{name}");
                let shown = drafts
                    .iter()
                    .map(|draft| format!("{} {}", draft.artifact_type, draft.title));
                shown.collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        };
        println!("{name:<20} {outcome}");
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn a_build_keeps_what_it_says() {
    let document = r#"{"_class":"hudson.model.FreeStyleBuild","actions":[{"causes":[{"shortDescription":"Started by timer"}]},
        {"lastBuiltRevision":{"SHA1":"e9c8039cf77402adfa4a6ae94bd7b3416f77c0a4"}},{"failCount":2,"skipCount":0,"totalCount":9}],
        "building":false,"duration":18250,"fullDisplayName":"team » web #7","number":7,"result":"UNSTABLE","timestamp":1414948052166,
        "url":"https://ci.example/job/team/job/web/7/","changeSets":[{"kind":"git","items":[{"commitId":"abc123","msg":"Fix the lock",
        "author":{"fullName":"Ada"},"affectedPaths":["src/lock.rs"],"paths":[{"file":"src/lock.rs","editType":"edit"}]}]}],
        "culprits":[{"fullName":"Ada"}]}"#;
    let (drafts, refusals) = found("jenkins", document.as_bytes()).unwrap();
    assert_eq!((drafts.len(), refusals.len()), (1, 0));
    let build = drafts[0].clone().checked().unwrap();
    assert_eq!(build.title, "team » web #7: unstable");
    assert_eq!(
        build.record_id.as_ref().unwrap().as_str(),
        "build:team/web#7"
    );
    assert_eq!(
        build.event_time.unwrap().to_string(),
        "2014-11-02T17:07:32.166Z"
    );
    for (key, value) in [
        ("duration", "18.25"),
        ("verdict", "unstable"),
        ("failed", "2"),
        ("tests", "9"),
        ("job", "team/web"),
    ] {
        assert_eq!(attribute(&build, key), Some(value), "{key}");
    }
    let links: Vec<String> = build
        .links
        .iter()
        .map(|link| format!("{} {}", link.relation, link.target))
        .collect();
    assert_eq!(
        links,
        [
            "commit abc123",
            "commit e9c8039cf77402adfa4a6ae94bd7b3416f77c0a4",
            "file src/lock.rs",
            "url https://ci.example/job/team/job/web/7/"
        ]
    );
    for part in [
        "cause: Started by timer",
        "change: Fix the lock (Ada)",
        "culprit: Ada",
    ] {
        assert!(build.text.contains(part), "{part}");
    }
}

const REPORT: &str = r#"{"duration":3.5,"failCount":2,"passCount":2,"skipCount":1,"suites":[{"name":"retrieval","timestamp":"2026-11-20T10:00:00","cases":[
    {"className":"packing","name":"fills","status":"PASSED","duration":0.25,"age":0},
    {"className":"packing","name":"is_stable","status":"FIXED","duration":0.5},
    {"className":"packing","name":"cuts","status":"REGRESSION","duration":1.0,"age":1,"failedSince":42,"errorDetails":"left: 3, right: 4","errorStackTrace":"at packing.rs:10"},
    {"className":"packing","name":"orders","status":"FAILED","duration":1.0,"age":3,"stdout":"seed 7"},
    {"className":"packing","name":"big","status":"SKIPPED","skipped":true,"skippedMessage":"too slow"},
    {"className":"packing","name":"odd","status":"MAYBE"},
    {"className":"packing","status":"PASSED"}]}]}"#;

#[test]
fn a_test_report_becomes_cases_and_a_summary() {
    let (drafts, refusals) = found("jenkins", REPORT.as_bytes()).unwrap();
    let verdicts: Vec<&str> = drafts
        .iter()
        .map(|draft| attribute(draft, "verdict").unwrap())
        .collect();
    assert_eq!(
        verdicts,
        ["passed", "passed", "failed", "failed", "skipped", "failed"]
    );
    assert_eq!(
        drafts[2].record_id.as_ref().unwrap().as_str(),
        "test:retrieval::packing::cuts"
    );
    assert_eq!(attribute(&drafts[2], "failed_since"), Some("42"));
    assert!(
        drafts[2].text.contains("left: 3, right: 4") && drafts[2].text.contains("packing.rs:10")
    );
    assert!(drafts[4].text.contains("too slow"));
    assert_eq!(
        drafts[5].title,
        "test report: 2 failed, 2 passed, 1 skipped"
    );
    let places: Vec<(&str, &str)> = refusals
        .iter()
        .map(|r| (r.location.as_str(), r.field.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            ("document.suites[0].cases[5]", "status"),
            ("document.suites[0].cases[6]", "name")
        ]
    );
}

#[test]
fn a_build_dates_the_report_that_comes_with_it() {
    let report = REPORT.replace(r#""timestamp":"2026-11-20T10:00:00","#, "");
    let both = format!(
        r#"{{"build":{{"number":3,"timestamp":1414948052166,"result":"FAILURE","fullDisplayName":"web #3"}},"testReport":{report}}}"#
    );
    let (drafts, _) = found("jenkins", both.as_bytes()).unwrap();
    assert_eq!(drafts.len(), 7);
    for draft in &drafts {
        assert_eq!(
            draft.event_time.unwrap().to_string(),
            "2014-11-02T17:07:32.166Z"
        );
        assert_eq!(draft.correlation_id, "jenkins:web#3");
    }
}

#[test]
fn what_is_no_document_of_jenkins_is_refused() {
    for (document, expected) in [
        ("", "line 1, column 0: not JSON: EOF while parsing a value"),
        (
            "{\"a\": [1, 2}",
            "line 1, column 12: not JSON: expected `,` or `]`",
        ),
        ("3", "expected a JSON object of the Jenkins API"),
        ("{\"zen\": 1}", "found an object with `zen`"),
        ("{}", "found an object with no fields"),
    ] {
        let error = found("jenkins", document.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{document}: {error}");
    }
    let error = found("jenkins", b"{\"a\":\n\"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 2: expected UTF-8");
    let deep = "[".repeat(100_000);
    assert!(
        found("jenkins", deep.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("recursion limit")
    );
    let (drafts, refusals) = found(
        "jenkins",
        br#"[{"zen": 1}, {"number": 1, "result": "SUCCESS", "timestamp": 1}]"#,
    )
    .unwrap();
    assert_eq!(
        (drafts.len(), refusals.len(), refusals[0].location.as_str()),
        (1, 1, "[0]")
    );
    assert_eq!(drafts[0].title, "build #1: success");
}
