//! A suite, or a whole report, as an event.

use commonplace_types::{ArtifactType, Draft, Importance, Link, Timestamp, limits};

use super::super::verdict::{Counts, Verdict};
use super::super::{TextLimits, cut_line, cut_middle, record_id};
use super::case::Facts;
use super::element::{Attributes, Outputs, Problem, ProblemKind};

/// Most failed tests that a suite's event names.
const NAMED_FAILURES: usize = 50;
/// Most properties of a suite that are kept, and the longest value.
const PROPERTIES: usize = 24;
const PROPERTY_BYTES: usize = 256;

/// A `testsuite` or `testsuites` element.
#[derive(Debug)]
pub(super) struct Suite {
    /// Whether it is the report as a whole (`testsuites`).
    whole: bool,
    attributes: Attributes,
    /// The names of the suites around it and its own, joined by `/`.
    pub(super) path: String,
    /// When it ran, or the suite around it.
    pub(super) time: Option<Timestamp>,
    /// Ties the events of this run of this suite together; empty when nothing says which run it was.
    pub(super) run: String,
    /// The source file it is about, or the suite around it.
    pub(super) file: Option<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) outputs: Outputs,
    pub(super) properties: Vec<(String, String)>,
    counts: Counts,
    own_cases: u64,
    suites: u64,
    failures: Vec<String>,
}

impl Suite {
    /// `inside`: the suite around it.
    pub(super) fn open(whole: bool, attributes: Attributes, inside: Option<&Self>) -> Self {
        let name = attributes.get("name").or_else(|| attributes.get("package"));
        let name = cut_line(
            name.filter(|_| !whole).unwrap_or_default(),
            limits::TITLE_BYTES / 2,
        );
        let around = inside.map_or("", |suite| suite.path.as_str());
        let path = match (around, name.as_str()) {
            ("", name) => name.to_owned(),
            (around, "") => around.to_owned(),
            (around, name) => format!("{around}/{name}"),
        };
        let written = attributes.get("timestamp");
        let time = super::first_moment(written).or_else(|| inside.and_then(|suite| suite.time));
        Self {
            whole,
            run: run_of(&path, &attributes, time),
            file: attributes
                .get("file")
                .map(str::to_owned)
                .or_else(|| inside.and_then(|s| s.file.clone())),
            attributes,
            path: cut_line(&path, 2 * limits::TITLE_BYTES),
            time,
            problems: Vec::new(),
            outputs: Outputs::default(),
            properties: Vec::new(),
            counts: Counts::default(),
            own_cases: 0,
            suites: 0,
            failures: Vec::new(),
        }
    }

    /// Counts a case of its own.
    pub(super) fn count(&mut self, verdict: Verdict, title: &str) {
        self.own_cases += 1;
        self.counts.add(verdict);
        let went_wrong = matches!(verdict, Verdict::Failed | Verdict::Error | Verdict::Flaky);
        if went_wrong && self.failures.len() < NAMED_FAILURES {
            self.failures.push(cut_line(title, 512));
        }
    }

    /// Counts what a suite inside it counted.
    pub(super) fn include(&mut self, inner: &Self) {
        self.suites += 1;
        self.counts.add_all(&inner.counts);
        let room = NAMED_FAILURES - self.failures.len();
        self.failures
            .extend(inner.failures.iter().take(room).cloned());
    }

    /// The suite as an event: for a suite that holds cases or says something of its own, or that is empty,
    /// and for a report that is more than one suite.
    pub(super) fn to_draft(&self, text_limits: &TextLimits) -> Option<Draft> {
        let speaks = !self.problems.is_empty() || !self.outputs.is_empty();
        let wanted = if self.whole {
            self.suites != 1
        } else {
            self.own_cases > 0 || self.suites == 0
        };
        if !wanted && !speaks {
            return None;
        }
        let name = self.name();
        let title = format!("{}: {}", cut_line(&name, 800), self.counts.sentence());
        let mut draft = Draft::new(
            ArtifactType::new("runlog").ok()?,
            title,
            self.text(&name, text_limits),
        );
        draft.record_id = Some(record_id("run", &[&name]));
        draft.tags = vec!["ci".into(), self.verdict().into()];
        draft.importance = self.importance();
        draft.event_time = self.time;
        draft.correlation_id = self.run.clone();
        if let Some(file) = &self.file {
            draft
                .links
                .push(Link::new("file", cut_line(file, limits::LINK_TARGET_BYTES)));
        }
        draft.attributes = self.facts().0;
        Some(draft)
    }

    fn name(&self) -> String {
        let stated = if self.whole {
            self.attributes.get("name").unwrap_or_default()
        } else {
            &self.path
        };
        if stated.is_empty() {
            "test report".to_owned()
        } else {
            cut_line(stated, 2_048)
        }
    }

    /// `error` also where the suite itself could not run.
    fn verdict(&self) -> &'static str {
        let broken = |kind| {
            self.problems
                .iter()
                .any(|problem: &Problem| problem.kind == kind)
        };
        if broken(ProblemKind::Error) {
            return Verdict::Error.word();
        }
        if broken(ProblemKind::Failure) {
            return self
                .counts
                .worst()
                .map_or(Verdict::Failed, |worst| worst.max(Verdict::Failed))
                .word();
        }
        self.counts.worst().map_or("empty", Verdict::word)
    }

    fn importance(&self) -> Importance {
        let wrong = matches!(self.verdict(), "error" | "failed" | "flaky");
        Importance::from_millionths(if wrong { 600_000 } else { 300_000 }).unwrap_or_default()
    }

    fn text(&self, name: &str, text_limits: &TextLimits) -> String {
        let mut text = format!("test run of {name}: {}", self.counts.sentence());
        for failure in &self.failures {
            text.push_str("\n- ");
            text.push_str(failure);
        }
        for problem in self.problems.iter().take(16) {
            problem.write(&mut text, text_limits);
        }
        self.outputs.write(&mut text, text_limits);
        cut_middle(&text, limits::TEXT_BYTES - 256).into_owned()
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        facts.put("verdict", self.verdict());
        facts.put("suite", &self.path);
        facts.put("tests", &self.counts.total().to_string());
        for verdict in [
            Verdict::Passed,
            Verdict::Failed,
            Verdict::Error,
            Verdict::Skipped,
            Verdict::Flaky,
        ] {
            facts.put(verdict.word(), &self.counts.of(verdict).to_string());
        }
        facts.put_duration(self.attributes.get("time"));
        for name in ["hostname", "package", "id"] {
            facts.put(name, self.attributes.get(name).unwrap_or_default());
        }
        // What the report says of itself, where it does not hold what it says.
        let declared = self.attributes.get("tests").unwrap_or_default();
        if declared != self.counts.total().to_string() {
            facts.put("tests_declared", declared);
        }
        let timestamp = self.attributes.get("timestamp").unwrap_or_default();
        if super::first_moment([timestamp]).is_none() {
            facts.put("timestamp_as_given", timestamp);
        }
        if let Some(problem) = self.problems.first() {
            facts.put("failure_type", &problem.class);
            facts.put("message", &cut_line(problem.headline(), 1_024));
        }
        let short = self
            .properties
            .iter()
            .filter(|(_, value)| value.len() <= PROPERTY_BYTES);
        for (name, value) in short.take(PROPERTIES) {
            facts.put_property(name, value);
        }
        facts
    }
}

/// A name for this run of this suite, from what tells runs apart.
fn run_of(path: &str, attributes: &Attributes, time: Option<Timestamp>) -> String {
    let Some(time) = time else {
        return String::new();
    };
    let mut hasher = blake3::Hasher::new();
    for part in [
        path,
        &time.to_string(),
        attributes.get("hostname").unwrap_or_default(),
        attributes.get("id").unwrap_or_default(),
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    format!("run:{}", &hasher.finalize().to_hex()[..16])
}
