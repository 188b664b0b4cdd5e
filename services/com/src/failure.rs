//! What went wrong, told once: the message, the wrong fields, the next step, the exit code.

use commonplace_rpc::{Code, Failure};

use crate::output;

/// The command failed.
pub const FAILED: u8 = 1;
/// The input was refused.
pub const REFUSED: u8 = 2;

/// The input of a command is wrong; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Prints an error to standard error, or as JSON to standard output, and gives the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> u8 {
    let failure = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<tonic::Status>())
        .map(Failure::from_status);
    let refused = error.chain().any(|cause| {
        cause.is::<Refused>()
            || cause.is::<commonplace_types::Invalid>()
            || cause.is::<commonplace_config::ConfigError>()
    });
    let code = if refused || failure.as_ref().is_some_and(is_refusal) {
        REFUSED
    } else {
        FAILED
    };
    if json {
        output::json(&as_json(error, failure.as_ref()));
        return code;
    }
    match failure {
        Some(failure) => complain(&failure),
        None => output::complain(&format!("{error:#}")),
    }
    code
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

fn complain(failure: &Failure) {
    output::complain(&failure.message);
    for wrong in failure
        .fields
        .iter()
        .filter(|wrong| !failure.message.contains(&wrong.problem))
    {
        output::note(&format!("  {}: {}", wrong.field, wrong.problem));
    }
    match failure.code {
        Code::Unavailable => output::note("  is the server running? start one with `com serve`"),
        Code::ResourceExhausted if failure.retry_after.is_some() => {
            output::note("  try again shortly")
        }
        _ => {}
    }
}

fn as_json(error: &anyhow::Error, failure: Option<&Failure>) -> serde_json::Value {
    let Some(failure) = failure else {
        return serde_json::json!({"error": {"message": format!("{error:#}")}});
    };
    let fields: Vec<_> = failure
        .fields
        .iter()
        .map(|w| serde_json::json!({"field": w.field, "problem": w.problem}))
        .collect();
    serde_json::json!({"error": {
        "reason": failure.reason, "message": failure.message, "fields": fields, "metadata": failure.metadata,
    }})
}
