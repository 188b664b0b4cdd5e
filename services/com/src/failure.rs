//! What went wrong, told once: the message, the wrong fields, the next step, the exit code.

use commonplace_rpc::{Code, Failure};
use commonplace_telemetry::Trace;

use crate::cli::Global;
use crate::{hint, output};

/// The command failed.
pub const FAILED: u8 = 1;
/// The input was refused.
pub const REFUSED: u8 = 2;
/// Nothing can be said here: what a pack was made from is not here.
pub const UNVERIFIABLE: u8 = 3;

/// The input of a command is wrong; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A problem that the command itself knows the next step for.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Known {
    /// The exit code.
    pub code: u8,
    /// What is the matter.
    pub problem: String,
    /// What to do about it.
    pub next_step: String,
}

/// What is told of an error.
struct Told {
    code: u8,
    message: String,
    next_step: Option<String>,
    /// Of the call that failed, if a server answered.
    trace: Option<String>,
}

/// Prints an error to standard error, or as JSON to standard output, and gives the exit code.
pub fn report(error: &anyhow::Error, global: &Global) -> u8 {
    let mut causes = error.chain();
    let status = causes.find_map(|cause| cause.downcast_ref::<tonic::Status>());
    let failure = status.map(Failure::from_status);
    let mut told = match &failure {
        Some(failure) => of_failure(failure, global),
        None => of_error(error),
    };
    told.trace = status.and_then(trace_of);
    if global.json {
        output::json(&as_json(&told, failure.as_ref()));
        return told.code;
    }
    output::complain(&told.message);
    for wrong in failure.iter().flat_map(|failure| &failure.fields) {
        if !told.message.contains(&wrong.problem) {
            output::note(&format!("  {}: {}", wrong.field, wrong.problem));
        }
    }
    if let Some(next_step) = &told.next_step {
        output::note(&format!("  {next_step}"));
    }
    if let Some(trace) = told.trace.as_ref().filter(|_| global.server.is_some()) {
        let see = hint::command(global, &format!("trace {trace}"));
        output::note(&format!("  where it went: {see}"));
    }
    told.code
}

/// The trace that the answer says it belongs to.
fn trace_of(status: &tonic::Status) -> Option<String> {
    let told = status.metadata().get("traceparent")?.to_str().ok()?;
    Some(Trace::parse(told)?.trace_id())
}

fn of_error(error: &anyhow::Error) -> Told {
    if let Some(known) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Known>())
    {
        return Told {
            code: known.code,
            message: known.problem.clone(),
            next_step: Some(known.next_step.clone()),
            trace: None,
        };
    }
    let refused = error.chain().any(|cause| {
        cause.is::<Refused>()
            || cause.is::<commonplace_types::Invalid>()
            || cause.is::<commonplace_config::ConfigError>()
    });
    let settings = error
        .chain()
        .any(|cause| cause.is::<commonplace_config::ConfigError>());
    Told {
        code: if refused { REFUSED } else { FAILED },
        message: format!("{error:#}"),
        next_step: settings.then(|| {
            let dump = format!("{} config dump", hint::program());
            format!("`{dump}` shows the settings there are; a variable COM_… that is none of them must be unset")
        }),
        trace: None,
    }
}

fn of_failure(failure: &Failure, global: &Global) -> Told {
    let unreachable = failure.reason == "PEER_UNREACHABLE";
    let message = match &global.server {
        Some(server) if unreachable => {
            format!(
                "cannot reach the server at {server}: {}",
                once(&failure.message)
            )
        }
        _ => failure.message.clone(),
    };
    Told {
        code: if is_refusal(failure) { REFUSED } else { FAILED },
        message,
        next_step: next_step(failure, global),
        trace: None,
    }
}

/// A chain of causes in which each is told once, without what every one of them begins with.
fn once(message: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in message.split(": ") {
        if part != "transport error" && parts.last() != Some(&part) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// What to do next, where the command line has something to offer.
fn next_step(failure: &Failure, global: &Global) -> Option<String> {
    let see =
        |what: &str, command: &str| Some(format!("see {what}: {}", hint::command(global, command)));
    match failure.reason.as_str() {
        "PROJECT_NOT_FOUND" => Some(format!(
            "write something into it, for example: {}",
            hint::command(global, "ingest --from git .")
        )),
        "BRANCH_NOT_FOUND" | "TAG_NOT_FOUND" => see("what branches and tags there are", "branch"),
        "COMMIT_NOT_FOUND" => see("what commits there are", "log"),
        "EVENT_NOT_FOUND" => see("what events there are", "events"),
        "KEY_NOT_FOUND" => see("what keys there are", "keys list"),
        "KEY_ENDED" => Some(format!(
            "make another: {}",
            hint::command(global, "keys create --subject NAME")
        )),
        "GRANT_NOT_FOUND" => see("what grants there are", "grants list"),
        "ACCESS_POLICY_NOT_FOUND" => see("what policies there are", "authz policies list"),
        "ACCESS_POLICY_INVALID" => see("what policies may say", "authz policies schema"),
        "ACCESS_DENIED" | "SCOPE_EXCEEDED" => failure.metadata.get("method").map(|method| {
            let project = failure.metadata.get("project");
            let project = project.filter(|name| **name != global.project);
            let place = project.map_or_else(String::new, |name| format!(" --project {name}"));
            let explain = format!("authz explain {}{place}", hint::quoted(method));
            format!("see why: {}", hint::command(global, &explain))
        }),
        "CREDENTIALS_MISSING" => Some(format!(
            "show a key with --key or COM_KEY; where the data folder is, `{} keys create --subject NAME` makes one",
            hint::program()
        )),
        "CREDENTIALS_EXPIRED" | "CREDENTIALS_INVALID" if global.token.is_some() => Some(format!(
            "see what the token says: {} token inspect TOKEN",
            hint::program()
        )),
        "CREDENTIALS_EXPIRED" | "CREDENTIALS_INVALID" if global.key.is_some() => Some(format!(
            "an administrator sees whether the key is good still: {} keys list",
            hint::program()
        )),
        "PEER_UNREACHABLE" if global.server.is_some() => Some(format!(
            "is it running there? start it with `{} serve`, or leave --server and COM_SERVER out",
            hint::program()
        )),
        _ if failure.code == Code::Unavailable || failure.retry_after.is_some() => {
            Some("try again shortly".into())
        }
        _ => None,
    }
}

fn is_refusal(failure: &Failure) -> bool {
    matches!(
        failure.code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
    )
}

fn as_json(told: &Told, failure: Option<&Failure>) -> serde_json::Value {
    let mut error = serde_json::json!({"message": told.message});
    if let Some(failure) = failure {
        let fields: Vec<_> = failure
            .fields
            .iter()
            .map(|w| serde_json::json!({"field": w.field, "problem": w.problem}))
            .collect();
        error["reason"] = failure.reason.clone().into();
        error["fields"] = fields.into();
        error["metadata"] = serde_json::json!(failure.metadata);
    }
    if let Some(trace) = &told.trace {
        error["trace_id"] = trace.clone().into();
    }
    if let Some(next_step) = &told.next_step {
        error["next_step"] = next_step.clone().into();
    }
    serde_json::json!({ "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let doubled = "transport error: tcp connect error: tcp connect error: Connection refused";
        assert_eq!(once(doubled), "tcp connect error: Connection refused");
        assert_eq!(once("no address"), "no address");
    }
}
