//! Jobs, views, queue items and nodes: states, of which the newest counts.

use commonplace_types::{ArtifactType, Draft, Importance, Invalid};
use serde_json::Value;

use super::super::{cut_line, plain, when};
use super::{Object, fields, record_id};

/// Most jobs, builds or causes that are told of a state.
const TOLD: usize = 200;

/// A state of the thing called `name`, which replaces the one before.
fn state(kind: &str, record: &str, title: String, text: String) -> Result<Draft, Invalid> {
    let mut draft = Draft::new(ArtifactType::new(kind)?, cut_line(&title, 1_000), text);
    draft.record_id = Some(record_id(kind, &[record]));
    draft.supersede_heads = true;
    draft.importance = Importance::from_millionths(300_000)?;
    draft.tags = vec!["ci".into(), "jenkins".into()];
    Ok(draft)
}

/// A job with its health and its last builds. Error: it has no name.
pub(super) fn job(object: &Object) -> Result<Draft, Invalid> {
    let name = fields::text(object, "fullName").or(fields::text(object, "name"));
    let name = name.ok_or_else(|| Invalid::new("name", "expected a text"))?;
    let color = fields::text(object, "color").unwrap_or("unknown");
    let mut text = format!("job {}: {}", cut_line(name, 512), health_of(color));
    fields::line(
        &mut text,
        "description",
        fields::text(object, "description").map(plain),
    );
    for health in fields::objects(object, "healthReport").take(TOLD) {
        fields::line(&mut text, "health", fields::text(health, "description"));
    }
    for (field, words) in [
        ("lastBuild", "last build"),
        ("lastSuccessfulBuild", "last success"),
        ("lastFailedBuild", "last failure"),
    ] {
        let number = fields::object(object, field).and_then(|build| fields::whole(build, "number"));
        fields::line(&mut text, words, number.map(|number| format!("#{number}")));
    }
    for build in fields::objects(object, "builds").take(TOLD) {
        fields::line(&mut text, "build", fields::text(build, "url"));
    }
    let title = format!("{}: {}", cut_line(name, 512), health_of(color));
    let mut draft = state("ci_job", name, title, text)?;
    fields::fact(&mut draft, "color", Some(color));
    fields::fact(&mut draft, "url", fields::text(object, "url"));
    fields::fact(&mut draft, "buildable", fields::shown(object, "buildable"));
    fields::fact(&mut draft, "in_queue", fields::shown(object, "inQueue"));
    fields::link(&mut draft, "url", fields::text(object, "url"));
    Ok(draft)
}

/// What the colour of a job's ball means.
fn health_of(color: &str) -> String {
    let (color, running) = match color.strip_suffix("_anime") {
        Some(color) => (color, ", building"),
        None => (color, ""),
    };
    let word = match color {
        "blue" | "green" => "stable",
        "yellow" => "unstable",
        "red" => "failing",
        "aborted" => "aborted",
        "disabled" => "disabled",
        "notbuilt" => "not built",
        _ => "unknown",
    };
    format!("{word}{running}")
}

/// A view, or the main page: its jobs and how they are.
pub(super) fn view(object: &Object) -> Result<Draft, Invalid> {
    let primary = fields::object(object, "primaryView").and_then(|view| fields::text(view, "name"));
    let name = fields::text(object, "name").or(primary).unwrap_or("main");
    let jobs = fields::list(object, "jobs");
    let mut text = format!("view {}: {} jobs", cut_line(name, 512), jobs.len());
    fields::line(
        &mut text,
        "description",
        fields::text(object, "description").map(plain),
    );
    fields::line(&mut text, "node", fields::text(object, "nodeDescription"));
    for job in jobs.iter().filter_map(Value::as_object).take(TOLD) {
        let name = fields::text(job, "name").unwrap_or_default();
        let health = health_of(fields::text(job, "color").unwrap_or("unknown"));
        fields::line(
            &mut text,
            "job",
            Some(format!("{} ({health})", cut_line(name, 512))),
        );
    }
    for view in fields::objects(object, "views").take(TOLD) {
        fields::line(&mut text, "view", fields::text(view, "name"));
    }
    let title = format!("{}: {} jobs", cut_line(name, 512), jobs.len());
    let mut draft = state("ci_view", name, title, text)?;
    fields::fact(&mut draft, "mode", fields::text(object, "mode"));
    fields::fact(
        &mut draft,
        "executors",
        fields::shown(object, "numExecutors"),
    );
    for job in jobs.iter().filter_map(Value::as_object).take(TOLD) {
        fields::link(&mut draft, "url", fields::text(job, "url"));
    }
    Ok(draft)
}

/// What waits in the queue, and why. Error: it has no number.
pub(super) fn queue_item(object: &Object) -> Result<Draft, Invalid> {
    let id =
        fields::whole(object, "id").ok_or_else(|| Invalid::new("id", "expected a whole number"))?;
    let task = fields::object(object, "task");
    let name = task
        .and_then(|task| fields::text(task, "name"))
        .unwrap_or("unnamed");
    let why = fields::text(object, "why").unwrap_or_default();
    let mut text = format!("queue item {id} for {}", cut_line(name, 512));
    fields::line(&mut text, "why", Some(why));
    fields::line(&mut text, "parameters", fields::text(object, "params"));
    for action in fields::objects(object, "actions") {
        for cause in fields::objects(action, "causes").take(TOLD) {
            fields::line(&mut text, "cause", fields::text(cause, "shortDescription"));
        }
    }
    let why = if why.is_empty() { "waiting" } else { why };
    let title = format!("{} waits: {}", cut_line(name, 400), cut_line(why, 400));
    let mut draft = state("ci_queue", &id.to_string(), title, text)?;
    for (field, key) in [
        ("blocked", "blocked"),
        ("buildable", "buildable"),
        ("stuck", "stuck"),
        ("id", "number"),
    ] {
        fields::fact(&mut draft, key, fields::shown(object, field));
    }
    fields::fact(&mut draft, "job", Some(name));
    fields::link(
        &mut draft,
        "url",
        task.and_then(|task| fields::text(task, "url")),
    );
    draft.event_time = fields::whole(object, "inQueueSince").and_then(when::from_millis);
    if fields::flag(object, "stuck") {
        draft.importance = Importance::from_millionths(600_000)?;
        draft.tags.push("stuck".into());
    }
    Ok(draft)
}

/// A machine that builds. Error: it has no name.
pub(super) fn node(object: &Object) -> Result<Draft, Invalid> {
    let name = fields::text(object, "displayName")
        .ok_or_else(|| Invalid::new("displayName", "expected a text"))?;
    let offline = fields::flag(object, "offline");
    let word = if offline { "offline" } else { "online" };
    let mut text = format!("node {}: {word}", cut_line(name, 512));
    fields::line(&mut text, "why", fields::text(object, "offlineCauseReason"));
    if let Some(monitors) = fields::object(object, "monitorData") {
        let mut told: Vec<_> = monitors
            .iter()
            // Numbers (free memory, times) differ at every look, and a node stands as it stood.
            .filter(|(_, value)| value.is_string())
            .collect();
        told.sort_by_key(|(monitor, _)| *monitor);
        for (monitor, value) in told.into_iter().take(TOLD) {
            let monitor = monitor.rsplit('.').next().unwrap_or(monitor);
            fields::line(&mut text, &cut_line(monitor, 128), value.as_str());
        }
    }
    let mut draft = state(
        "ci_node",
        name,
        format!("{}: {word}", cut_line(name, 512)),
        text,
    )?;
    fields::fact(&mut draft, "offline", Some(offline.to_string()));
    for (field, key) in [
        ("idle", "idle"),
        ("numExecutors", "executors"),
        ("temporarilyOffline", "temporarily_offline"),
    ] {
        fields::fact(&mut draft, key, fields::shown(object, field));
    }
    if offline {
        draft.importance = Importance::from_millionths(600_000)?;
        draft.tags.push("offline".into());
    }
    Ok(draft)
}
