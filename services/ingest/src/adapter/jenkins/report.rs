//! A test report: one event per case and one for the report.

use commonplace_types::{ArtifactType, Draft, Importance, Invalid, Timestamp, limits};
use serde_json::Value;

use super::super::verdict::{Counts, Verdict};
use super::super::{Found, ReportError, cut_line, cut_middle, plain, when};
use super::build::Build;
use super::{Object, Reading, fields, record_id};

/// Most failed tests that the report's event names.
const NAMED_FAILURES: usize = 50;

/// Where a case stands.
struct Suite<'o> {
    object: &'o Object,
    name: &'o str,
    time: Option<Timestamp>,
    run: String,
}

/// Reads a test report. `build`: what it is the report of, where that came along. A case that does not fit
/// is refused with its place.
pub(super) fn read(
    object: &Object,
    build: Option<&Build<'_>>,
    location: &str,
    reading: &mut Reading<'_, '_>,
) -> Result<(), ReportError> {
    let run = build.map(Build::run).unwrap_or_default();
    let (mut counts, mut failures, mut last_time) = (Counts::default(), Vec::new(), None);
    for (place, suite) in fields::list(object, "suites").iter().enumerate() {
        let location = format!("{location}.suites[{place}]");
        let Value::Object(suite) = suite else {
            reading.refuse(&location, "", "expected an object")?;
            continue;
        };
        let time = fields::text(suite, "timestamp").and_then(when::moment);
        let suite = Suite {
            object: suite,
            name: fields::text(suite, "name").unwrap_or_default(),
            time: time.or_else(|| build.and_then(Build::time)),
            run: run.clone(),
        };
        last_time = last_time.max(suite.time);
        for (place, case) in fields::list(suite.object, "cases").iter().enumerate() {
            match draft(case, &suite, reading.limits) {
                Ok((draft, verdict)) => {
                    counts.add(verdict);
                    if matches!(verdict, Verdict::Failed | Verdict::Error)
                        && failures.len() < NAMED_FAILURES
                    {
                        failures.push(draft.title.clone());
                    }
                    (reading.sink)(Found::Draft(Box::new(draft)))?;
                }
                Err(invalid) => {
                    let location = format!("{location}.cases[{place}]");
                    reading.refuse(&location, &invalid.field, &invalid.problem)?;
                }
            }
        }
    }
    let name = build.map_or_else(|| "test report".to_owned(), Build::name);
    let summary = summary(object, &name, &counts, &failures);
    let summary = summary.map(|mut draft| {
        draft.event_time = build.and_then(Build::time).or(last_time);
        draft.correlation_id = run;
        draft
    });
    reading.draft(summary, location)
}

fn summary(
    object: &Object,
    name: &str,
    counts: &Counts,
    failures: &[String],
) -> Result<Draft, Invalid> {
    let mut text = format!("test run of {name}: {}", counts.sentence());
    for failure in failures {
        text.push_str("\n- ");
        text.push_str(failure);
    }
    let verdict = counts.worst().map_or("empty", Verdict::word);
    let title = format!("{}: {}", cut_line(name, 800), counts.sentence());
    let mut draft = Draft::new(ArtifactType::new("runlog")?, title, text);
    draft.record_id = Some(record_id("run", &["jenkins", name]));
    draft.tags = vec!["ci".into(), "jenkins".into(), verdict.into()];
    let wrong = counts.of(Verdict::Failed) + counts.of(Verdict::Error) > 0;
    draft.importance = Importance::from_millionths(if wrong { 600_000 } else { 300_000 })?;
    fields::fact(&mut draft, "verdict", Some(verdict));
    fields::fact(&mut draft, "tests", Some(counts.total().to_string()));
    for verdict in [Verdict::Passed, Verdict::Failed, Verdict::Skipped] {
        fields::fact(
            &mut draft,
            verdict.word(),
            Some(counts.of(verdict).to_string()),
        );
    }
    let duration = object
        .get("duration")
        .and_then(Value::as_f64)
        .and_then(when::seconds);
    fields::fact(&mut draft, "duration", duration);
    Ok(draft)
}

/// One case. Error: it has no name, or a status that Jenkins does not have.
fn draft(
    case: &Value,
    suite: &Suite<'_>,
    text_limits: &super::TextLimits,
) -> Result<(Draft, Verdict), Invalid> {
    let case = case
        .as_object()
        .ok_or_else(|| Invalid::new("", "expected an object"))?;
    let name = fields::text(case, "name").ok_or_else(|| Invalid::new("name", "expected a text"))?;
    let class = fields::text(case, "className").unwrap_or_default();
    let status = fields::text(case, "status").unwrap_or_default();
    let verdict = verdict_of(case, status)?;
    let title = format!("{}: {}", cut_line(name, 900), verdict.word());
    let text = text_of(case, suite, class, name, verdict, text_limits);
    let mut draft = Draft::new(ArtifactType::new("test")?, title, text);
    let record = record_id("test", &[suite.name, class, name]);
    fields::link(&mut draft, "test", record.as_str().strip_prefix("test:"));
    draft.record_id = Some(record);
    draft.tags = vec!["ci".into(), verdict.word().into()];
    draft.importance = verdict.importance();
    draft.event_time = suite.time;
    draft.correlation_id = suite.run.clone();
    fields::fact(&mut draft, "verdict", Some(verdict.word()));
    fields::fact(&mut draft, "suite", Some(suite.name));
    fields::fact(&mut draft, "classname", Some(class));
    fields::fact(&mut draft, "status", Some(status));
    let duration = case.get("duration").and_then(Value::as_f64);
    fields::fact(&mut draft, "duration", duration.and_then(when::seconds));
    fields::fact(&mut draft, "age", fields::shown(case, "age"));
    let since = fields::whole(case, "failedSince").filter(|since| *since > 0);
    fields::fact(
        &mut draft,
        "failed_since",
        since.map(|since| since.to_string()),
    );
    let message = fields::text(case, "errorDetails").or(fields::text(case, "skippedMessage"));
    fields::fact(
        &mut draft,
        "message",
        message.map(|message| cut_line(message, 1_024)),
    );
    Ok((draft, verdict))
}

fn verdict_of(case: &Object, status: &str) -> Result<Verdict, Invalid> {
    match status {
        "PASSED" | "FIXED" => Ok(Verdict::Passed),
        "FAILED" | "REGRESSION" => Ok(Verdict::Failed),
        "SKIPPED" => Ok(Verdict::Skipped),
        "" if fields::flag(case, "skipped") => Ok(Verdict::Skipped),
        other => {
            let shown: String = other.escape_debug().take(60).collect();
            let problem =
                format!("expected PASSED, FIXED, FAILED, REGRESSION or SKIPPED, found `{shown}`");
            Err(Invalid::new("status", problem))
        }
    }
}

fn text_of(
    case: &Object,
    suite: &Suite<'_>,
    class: &str,
    name: &str,
    verdict: Verdict,
    text_limits: &super::TextLimits,
) -> String {
    let mut text = String::from("test ");
    if !class.is_empty() {
        text.push_str(&cut_line(class, 2_048));
        text.push_str("::");
    }
    text.push_str(&cut_line(name, 4_096));
    text.push(' ');
    text.push_str(verdict.word());
    if !suite.name.is_empty() && suite.name != class {
        text.push_str(" in ");
        text.push_str(&cut_line(suite.name, 2_048));
    }
    let parts = [
        ("failure", "errorDetails", text_limits.trace_bytes),
        ("trace", "errorStackTrace", text_limits.trace_bytes),
        ("skipped", "skippedMessage", text_limits.trace_bytes),
        ("stdout", "stdout", text_limits.output_bytes),
        ("stderr", "stderr", text_limits.output_bytes),
    ];
    for (heading, field, most) in parts {
        if let Some(part) = fields::text(case, field) {
            text.push_str("\n\n");
            text.push_str(heading);
            text.push_str(":\n");
            text.push_str(&cut_middle(plain(part).trim_end(), most));
        }
    }
    cut_middle(&text, limits::TEXT_BYTES - 256).into_owned()
}
