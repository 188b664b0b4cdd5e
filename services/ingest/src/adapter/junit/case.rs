//! One test case as an event.

use commonplace_types::{ArtifactType, Attribute, Draft, Invalid, Link, limits};

use super::super::verdict::Verdict;
use super::super::{TextLimits, cut_line, record_id, when};
use super::element::{Attributes, Outputs, Problem, ProblemKind};
use super::suite::Suite;

/// Most properties of a test that are kept.
const PROPERTIES: usize = 16;

/// A `testcase` element.
#[derive(Debug)]
pub(super) struct Case {
    attributes: Attributes,
    number: u64,
    /// Where it starts in the report.
    pub(super) offset: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) outputs: Outputs,
    pub(super) properties: Vec<(String, String)>,
}

impl Case {
    /// `number`: which case of the report it is, from 1.
    pub(super) fn open(attributes: Attributes, number: u64, offset: usize) -> Self {
        Self {
            attributes,
            number,
            offset,
            problems: Vec::new(),
            outputs: Outputs::default(),
            properties: Vec::new(),
        }
    }

    /// The case as an event and how it ended. Error: it has no name; the number of the case comes along.
    pub(super) fn into_draft(
        self,
        suite: &Suite,
        text_limits: &TextLimits,
    ) -> Result<(Draft, Verdict), (u64, Invalid)> {
        let invalid = |error: Invalid| (self.number, error);
        let class = self.class();
        // Some tests have an empty name; what they are in is then the best there is.
        let given = !self.attributes.is_absent("name");
        let suite_name = Some(suite.path.as_str()).filter(|path| given && !path.is_empty());
        let Some(name) = self.attributes.get("name").or(class).or(suite_name) else {
            return Err((
                self.number,
                Invalid::new("name", "expected a name, found none"),
            ));
        };
        let class = class.unwrap_or_default();
        let verdict = self.verdict();
        let artifact_type = ArtifactType::new("test").map_err(invalid)?;
        let text = self.text(suite, class, name, verdict, text_limits);
        let title = format!("{}: {}", cut_line(name, 900), verdict.word());
        let mut draft = Draft::new(artifact_type, title, text);
        let record = record_id("test", &[&suite.path, class, name]);
        draft.links = self.links(suite, &record.as_str()["test:".len()..]);
        draft.record_id = Some(record);
        draft.tags = vec!["ci".into(), verdict.word().into()];
        draft.importance = verdict.importance();
        draft.event_time = super::first_moment(self.attributes.get("timestamp")).or(suite.time);
        draft.correlation_id = suite.run.clone();
        draft.attributes = self.facts(suite, class, verdict);
        Ok((draft, verdict))
    }

    fn class(&self) -> Option<&str> {
        self.attributes
            .get("classname")
            .or_else(|| self.attributes.get("class"))
    }

    /// The worst of what its elements say; only without any its `status` counts.
    fn verdict(&self) -> Verdict {
        let has = |kind| self.problems.iter().any(|problem| problem.kind == kind);
        if has(ProblemKind::Error) {
            Verdict::Error
        } else if has(ProblemKind::Failure) {
            Verdict::Failed
        } else if has(ProblemKind::Skipped) {
            Verdict::Skipped
        } else if has(ProblemKind::Flaky) || has(ProblemKind::Rerun) {
            Verdict::Flaky
        } else {
            self.stated_verdict()
        }
    }

    fn stated_verdict(&self) -> Verdict {
        let status = self
            .attributes
            .get("status")
            .or_else(|| self.attributes.get("result"));
        match status.map(str::to_ascii_lowercase).as_deref() {
            Some("skipped" | "disabled" | "notrun" | "ignored" | "suppressed") => Verdict::Skipped,
            Some("failed" | "failure" | "fail") => Verdict::Failed,
            Some("error" | "errored") => Verdict::Error,
            _ if self.attributes.get("skipped") == Some("true") => Verdict::Skipped,
            _ => Verdict::Passed,
        }
    }

    fn text(
        &self,
        suite: &Suite,
        class: &str,
        name: &str,
        verdict: Verdict,
        text_limits: &TextLimits,
    ) -> String {
        let mut text = String::from("test ");
        if !class.is_empty() && class != name {
            text.push_str(&cut_line(class, 2_048));
            text.push_str("::");
        }
        text.push_str(&cut_line(name, 4_096));
        text.push(' ');
        text.push_str(verdict.word());
        if !suite.path.is_empty() && suite.path != class {
            text.push_str(" in ");
            text.push_str(&cut_line(&suite.path, 2_048));
        }
        for problem in self.problems.iter().take(16) {
            problem.write(&mut text, text_limits);
        }
        self.outputs.write(&mut text, text_limits);
        let bound = limits::TEXT_BYTES - 256;
        super::super::cut_middle(&text, bound).into_owned()
    }

    fn file<'a>(&'a self, suite: &'a Suite) -> Option<&'a str> {
        self.attributes.get("file").or(suite.file.as_deref())
    }

    fn links(&self, suite: &Suite, test: &str) -> Vec<Link> {
        let mut links = vec![Link::new("test", test)];
        if let Some(file) = self.file(suite) {
            links.push(Link::new("file", cut_line(file, limits::LINK_TARGET_BYTES)));
        }
        links
    }

    fn facts(&self, suite: &Suite, class: &str, verdict: Verdict) -> Vec<Attribute> {
        let mut facts = Facts::default();
        facts.put("verdict", verdict.word());
        facts.put("suite", &suite.path);
        facts.put("classname", class);
        let time = self
            .attributes
            .get("time")
            .or_else(|| self.attributes.get("duration"));
        facts.put_duration(time);
        for name in ["line", "assertions", "status"] {
            facts.put(name, self.attributes.get(name).unwrap_or_default());
        }
        facts.put("file", self.file(suite).unwrap_or_default());
        let timestamp = self.attributes.get("timestamp");
        if timestamp.is_some_and(|written| when::moment(written).is_none()) {
            facts.put("timestamp_as_given", timestamp.unwrap_or_default());
        }
        if let Some(problem) = self.problems.first() {
            facts.put("failure_type", &problem.class);
            facts.put("message", &cut_line(problem.headline(), 1_024));
        }
        let runs = self
            .problems
            .iter()
            .filter(|p| matches!(p.kind, ProblemKind::Flaky | ProblemKind::Rerun));
        let runs = runs.count();
        if runs > 0 {
            facts.put("reruns", &runs.to_string());
        }
        for (name, value) in self.properties.iter().take(PROPERTIES) {
            facts.put_property(name, value);
        }
        facts.0
    }
}

/// Attributes in the making: empty values are left out, keys stay unique.
#[derive(Debug, Default)]
pub(super) struct Facts(pub(super) Vec<Attribute>);

impl Facts {
    pub(super) fn put(&mut self, key: &str, value: &str) {
        let value = cut_line(value, limits::ATTRIBUTE_BYTES);
        if !value.is_empty() && self.0.len() < limits::ATTRIBUTES {
            self.0.push(Attribute::new(self.unused(key), value));
        }
    }

    /// A duration in its one form; one that cannot be read is kept as it was written.
    pub(super) fn put_duration(&mut self, written: Option<&str>) {
        let Some(written) = written else { return };
        match when::duration(written) {
            Some(seconds) => self.put("duration", &seconds),
            None => self.put("duration_as_given", written),
        }
    }

    /// A property under `property.` and its name in the form of attribute keys.
    pub(super) fn put_property(&mut self, name: &str, value: &str) {
        let mut key = String::from("property.");
        for c in name.trim().chars().take(40) {
            let c = c.to_ascii_lowercase();
            key.push(if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            });
        }
        self.put(&key, value);
    }

    fn unused(&self, key: &str) -> String {
        let taken = |key: &str| self.0.iter().any(|attribute| attribute.key == key);
        if !taken(key) {
            return key.to_owned();
        }
        (2..)
            .map(|n| format!("{key}.{n}"))
            .find(|key| !taken(key))
            .unwrap_or_default()
    }
}
