//! A build as an event.

use commonplace_types::{ArtifactType, Draft, Importance, Invalid, Timestamp, limits};
use serde_json::Value;

use super::super::{TextLimits, cut_line, cut_middle, plain, when};
use super::{Object, fields, record_id};

/// Most changes of a build that are told, and most paths of each.
const CHANGES: usize = 100;
const PATHS: usize = 100;

/// A build's document.
#[derive(Debug)]
pub(super) struct Build<'o> {
    object: &'o Object,
}

impl<'o> Build<'o> {
    pub(super) fn read(object: &'o Object) -> Self {
        Self { object }
    }

    /// `testJob #1`, from the display name or the address.
    pub(super) fn name(&self) -> String {
        if let Some(name) = fields::text(self.object, "fullDisplayName") {
            return cut_line(name, 400);
        }
        let number = fields::whole(self.object, "number").unwrap_or_default();
        match self.job() {
            Some(job) => format!("{} #{number}", cut_line(&job, 400)),
            None => format!("build #{number}"),
        }
    }

    /// The job's name: the address between `/job/` and the number, else the display name before `#`.
    pub(super) fn job(&self) -> Option<String> {
        let from_url = fields::text(self.object, "url").and_then(|url| {
            let (_, path) = url.split_once("/job/")?;
            let path = path.trim_end_matches('/');
            Some(path.rsplit_once('/')?.0.replace("/job/", "/"))
        });
        from_url.or_else(|| {
            let name = fields::text(self.object, "fullDisplayName")?;
            Some(name.rsplit_once(" #")?.0.to_owned())
        })
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        when::from_millis(fields::whole(self.object, "timestamp")?)
    }

    /// Ties the build and its tests together.
    pub(super) fn run(&self) -> String {
        let number = fields::whole(self.object, "number").unwrap_or_default();
        cut_line(
            &format!("jenkins:{}#{number}", self.job().unwrap_or_default()),
            limits::CORRELATION_BYTES,
        )
    }

    /// `failure`, `success`, `unstable`, `aborted`, `not_built`, or `running`.
    fn verdict(&self) -> String {
        match fields::text(self.object, "result") {
            Some(result) => cut_line(result, 64).to_ascii_lowercase(),
            None if fields::flag(self.object, "building") => "running".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// The build as an event. Error: it has no number.
    pub(super) fn draft(&self, text_limits: &TextLimits) -> Result<Draft, Invalid> {
        let number = fields::whole(self.object, "number")
            .ok_or_else(|| Invalid::new("number", "expected a whole number"))?;
        let verdict = self.verdict();
        let title = format!("{}: {verdict}", self.name());
        let mut draft = Draft::new(
            ArtifactType::new("build")?,
            title,
            self.text(&verdict, text_limits),
        );
        let job = self.job();
        draft.record_id = Some(record_id(
            "build",
            &[&format!("{}#{number}", job.as_deref().unwrap_or_default())],
        ));
        // A finished build replaces what was said of it while it ran.
        draft.supersede_heads = true;
        let failed = matches!(verdict.as_str(), "failure" | "unstable" | "aborted");
        draft.importance = Importance::from_millionths(if failed { 700_000 } else { 400_000 })?;
        draft.tags = vec!["ci".into(), "jenkins".into(), verdict.clone()];
        draft.event_time = self.time();
        draft.correlation_id = self.run();
        fields::fact(&mut draft, "verdict", Some(verdict));
        fields::fact(&mut draft, "number", Some(number.to_string()));
        fields::fact(&mut draft, "job", job.as_deref());
        let millis = fields::whole(self.object, "duration").filter(|millis| *millis > 0);
        fields::fact(
            &mut draft,
            "duration",
            millis.and_then(|millis| when::seconds(millis as f64 / 1e3)),
        );
        fields::fact(&mut draft, "built_on", fields::text(self.object, "builtOn"));
        fields::fact(&mut draft, "url", fields::text(self.object, "url"));
        self.add_actions(&mut draft);
        self.add_changes(&mut draft);
        Ok(draft)
    }

    fn actions(&self) -> impl Iterator<Item = &'o Object> + use<'o> {
        fields::objects(self.object, "actions")
    }

    fn add_actions(&self, draft: &mut Draft) {
        fields::link(draft, "url", fields::text(self.object, "url"));
        for action in self.actions() {
            for (field, key) in [
                ("failCount", "failed"),
                ("skipCount", "skipped"),
                ("totalCount", "tests"),
            ] {
                if draft
                    .attributes
                    .iter()
                    .all(|attribute| attribute.key != key)
                {
                    fields::fact(draft, key, fields::shown(action, field));
                }
            }
            for revision in ["lastBuiltRevision", "revision"] {
                let built = fields::object(action, revision);
                fields::link(
                    draft,
                    "commit",
                    built.and_then(|built| {
                        fields::text(built, "SHA1").or(fields::text(built, "hash"))
                    }),
                );
            }
        }
    }

    /// `changeSet` of a plain job, `changeSets` of a pipeline.
    fn changes(&self) -> impl Iterator<Item = &'o Object> + use<'o> {
        let one = fields::object(self.object, "changeSet").into_iter();
        let all = one.chain(fields::objects(self.object, "changeSets"));
        all.flat_map(|set| fields::objects(set, "items"))
            .take(CHANGES)
    }

    fn add_changes(&self, draft: &mut Draft) {
        for change in self.changes() {
            let commit = fields::text(change, "commitId").or(fields::text(change, "id"));
            fields::link(draft, "commit", commit);
            for path in fields::list(change, "affectedPaths").iter().take(PATHS) {
                fields::link(draft, "file", path.as_str());
            }
            for path in fields::objects(change, "paths").take(PATHS) {
                fields::link(draft, "file", fields::text(path, "file"));
            }
        }
    }

    fn text(&self, verdict: &str, text_limits: &TextLimits) -> String {
        let mut text = format!("build {} {verdict}", self.name());
        let description = fields::text(self.object, "description").map(plain);
        fields::line(&mut text, "description", description);
        for action in self.actions() {
            for cause in fields::objects(action, "causes") {
                fields::line(&mut text, "cause", fields::text(cause, "shortDescription"));
            }
            for parameter in fields::objects(action, "parameters").take(64) {
                let name = cut_line(fields::text(parameter, "name").unwrap_or_default(), 128);
                let value = fields::shown(parameter, "value").unwrap_or_default();
                fields::line(&mut text, "parameter", Some(format!("{name}={value}")));
            }
            for url in fields::list(action, "remoteUrls") {
                fields::line(&mut text, "repository", url.as_str());
            }
        }
        for change in self.changes() {
            let author = fields::object(change, "author")
                .and_then(|author| fields::text(author, "fullName"));
            let message = fields::text(change, "msg")
                .or(fields::text(change, "comment"))
                .unwrap_or_default();
            let author = author
                .map(|author| format!(" ({author})"))
                .unwrap_or_default();
            fields::line(&mut text, "change", Some(format!("{message}{author}")));
        }
        for culprit in fields::objects(self.object, "culprits").take(64) {
            fields::line(&mut text, "culprit", fields::text(culprit, "fullName"));
        }
        for artifact in fields::objects(self.object, "artifacts").take(64) {
            fields::line(
                &mut text,
                "artifact",
                fields::text(artifact, "relativePath"),
            );
        }
        for run in fields::objects(self.object, "runs").take(64) {
            fields::line(&mut text, "run", fields::text(run, "url"));
        }
        if let Some(log) = self.object.get("consoleText").and_then(Value::as_str) {
            text.push_str("\n\nconsole:\n");
            text.push_str(&cut_middle(&plain(log), text_limits.trace_bytes));
        }
        cut_middle(&text, limits::TEXT_BYTES / 2).into_owned()
    }
}
