//! Documents of the Jenkins JSON API: builds, test reports, jobs, views, queues, nodes.
//!
//! What a document is shows in its fields, so nobody has to say it. A build or test report becomes events that
//! stay, because a build's number or a time names them; a job, view, queue item or node is a state, and its newest
//! event supersedes the one before.
//! Several documents may come as a list, and a build together with its test report as
//! `{"build": …, "testReport": …}`, which dates the tests by the build.

mod build;
mod fields;
mod report;
mod state;

use serde_json::{Map, Value};

use super::text::{place_of, record_id};
use super::{Found, Refusal, ReportError, Sink, TextLimits};
use build::Build;

/// A JSON object.
type Object = Map<String, Value>;

/// Deepest nesting of documents within documents.
const DEPTH: usize = 8;

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Both,
    TestReport,
    AggregatedReport,
    Build,
    Nodes,
    Node,
    Queue,
    QueueItem,
    View,
    Job,
}

/// Reads one document or a list of them. Errors: not JSON, with line and column, or larger than the limit.
pub(super) fn read(
    report: &[u8],
    limits: &TextLimits,
    sink: &mut Sink<'_>,
) -> Result<(), ReportError> {
    let report = report.strip_prefix(b"\xef\xbb\xbf").unwrap_or(report);
    if report.len() > limits.json_bytes {
        let problem = format!(
            "expected at most {} bytes of JSON, found {}; ask Jenkins for less with `tree=`",
            limits.json_bytes,
            report.len()
        );
        return Err(ReportError::whole(problem));
    }
    if let Err(error) = std::str::from_utf8(report) {
        return Err(ReportError::at(
            place_of(report, error.valid_up_to()),
            "expected UTF-8",
        ));
    }
    let document: Value = serde_json::from_slice(report).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let problem = text.split(" at line ").next().unwrap_or_default();
        ReportError::at(
            super::Place { line, column },
            format!("not JSON: {problem}"),
        )
    })?;
    let mut reading = Reading { limits, sink };
    match &document {
        Value::Array(documents) => {
            for (place, document) in documents.iter().enumerate() {
                reading.document(document, &format!("[{place}]"), 0)?;
            }
            Ok(())
        }
        document => match kind_of(document) {
            Ok(_) => reading.document(document, "document", 0),
            // A single document of an unknown kind is the whole report.
            Err(problem) => Err(ReportError::whole(problem)),
        },
    }
}

struct Reading<'a, 's> {
    limits: &'a TextLimits,
    sink: &'a mut Sink<'s>,
}

impl Reading<'_, '_> {
    fn document(
        &mut self,
        document: &Value,
        location: &str,
        depth: usize,
    ) -> Result<(), ReportError> {
        let kind = match kind_of(document) {
            Ok(kind) if depth < DEPTH => kind,
            Ok(_) => return self.refuse(location, "", "documents are nested too deep"),
            Err(problem) => return self.refuse(location, "", &problem),
        };
        let Value::Object(object) = document else {
            return Ok(());
        };
        match kind {
            Kind::Both => self.both(object, location),
            Kind::TestReport => report::read(object, None, location, self),
            Kind::AggregatedReport => self.aggregated(object, location, depth),
            Kind::Build => self.draft(Build::read(object).draft(self.limits), location),
            Kind::Nodes => self.each(object, "computer", location, state::node),
            Kind::Node => self.state(state::node(object), location),
            Kind::Queue => self.each(object, "items", location, state::queue_item),
            Kind::QueueItem => self.state(state::queue_item(object), location),
            Kind::View => self.state(state::view(object), location),
            Kind::Job => self.job(object, location, depth),
        }
    }

    fn both(&mut self, object: &Object, location: &str) -> Result<(), ReportError> {
        let build = fields::object(object, "build").map(Build::read);
        if let Some(build) = &build {
            self.draft(build.draft(self.limits), &format!("{location}.build"))?;
        }
        match fields::object(object, "testReport") {
            Some(tests) => report::read(
                tests,
                build.as_ref(),
                &format!("{location}.testReport"),
                self,
            ),
            None => Ok(()),
        }
    }

    /// A report over several builds: `childReports`, each with its child and its result.
    fn aggregated(
        &mut self,
        object: &Object,
        location: &str,
        depth: usize,
    ) -> Result<(), ReportError> {
        for (place, child) in fields::list(object, "childReports").iter().enumerate() {
            if let Some(result) = child.get("result") {
                self.document(
                    result,
                    &format!("{location}.childReports[{place}].result"),
                    depth + 1,
                )?;
            }
        }
        Ok(())
    }

    /// A job, and those of its builds that came with it in full.
    fn job(&mut self, object: &Object, location: &str, depth: usize) -> Result<(), ReportError> {
        self.state(state::job(object), location)?;
        for (place, build) in fields::list(object, "builds").iter().enumerate() {
            if matches!(kind_of(build), Ok(Kind::Build)) {
                self.document(build, &format!("{location}.builds[{place}]"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        object: &Object,
        field: &str,
        location: &str,
        read: fn(&Object) -> Result<commonplace_types::Draft, commonplace_types::Invalid>,
    ) -> Result<(), ReportError> {
        for (place, item) in fields::list(object, field).iter().enumerate() {
            let location = format!("{location}.{field}[{place}]");
            match item {
                Value::Object(item) => self.state(read(item), &location)?,
                _ => self.refuse(&location, "", "expected an object")?,
            }
        }
        Ok(())
    }

    fn draft(
        &mut self,
        draft: Result<commonplace_types::Draft, commonplace_types::Invalid>,
        location: &str,
    ) -> Result<(), ReportError> {
        match draft {
            Ok(draft) => Ok((self.sink)(Found::Draft(Box::new(draft)))?),
            Err(invalid) => self.refuse(location, &invalid.field, &invalid.problem),
        }
    }

    /// A thing as it stands now.
    fn state(
        &mut self,
        draft: Result<commonplace_types::Draft, commonplace_types::Invalid>,
        location: &str,
    ) -> Result<(), ReportError> {
        match draft {
            Ok(draft) => Ok((self.sink)(Found::State(Box::new(draft)))?),
            Err(invalid) => self.refuse(location, &invalid.field, &invalid.problem),
        }
    }

    fn refuse(&mut self, location: &str, field: &str, reason: &str) -> Result<(), ReportError> {
        let refusal = Refusal {
            location: location.to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        Ok((self.sink)(Found::Refused(refusal))?)
    }
}

/// Tells documents apart by the fields that only they have, the most telling first.
fn kind_of(document: &Value) -> Result<Kind, String> {
    let Value::Object(object) = document else {
        return Err("expected a JSON object of the Jenkins API".to_owned());
    };
    let has = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    let is_list = |name: &str| object.get(name).is_some_and(Value::is_array);
    Ok(if object.get("build").is_some_and(Value::is_object) {
        Kind::Both
    } else if is_list("suites") {
        Kind::TestReport
    } else if is_list("childReports") {
        Kind::AggregatedReport
    } else if has("number")
        && (has("timestamp") || has("result") || object.contains_key("building"))
    {
        Kind::Build
    } else if is_list("computer") {
        Kind::Nodes
    } else if has("executors") || has("monitorData") || (has("displayName") && has("offline")) {
        Kind::Node
    } else if is_list("items") {
        Kind::Queue
    } else if has("task") && has("inQueueSince") {
        Kind::QueueItem
    } else if is_list("jobs") {
        Kind::View
    } else if has("name")
        && ["builds", "buildable", "color", "lastBuild"]
            .iter()
            .any(|name| has(name))
    {
        Kind::Job
    } else {
        let names: Vec<String> = object
            .keys()
            .take(8)
            .map(|key| format!("`{}`", key.escape_debug()))
            .collect();
        return Err(format!(
            "expected a build (`number`, `timestamp`), a test report (`suites`), a job (`name`, `builds`), a view (`jobs`), a queue (`items`) or nodes (`computer`), found an object with {}",
            if names.is_empty() {
                "no fields".to_owned()
            } else {
                names.join(", ")
            }
        ));
    })
}

#[cfg(test)]
mod tests;
