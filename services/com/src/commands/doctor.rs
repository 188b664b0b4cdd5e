//! `com doctor`: what every process needs, and what to do where it lacks something.

use commonplace_proto::telemetry::{Check, CheckState, ProcessChecks, RunChecksRequest};

use super::trace::client;
use crate::cli::Global;
use crate::failure::{self, Known};
use crate::{output, session};

/// Prints one line for each finding. Error: something failed.
pub async fn run(global: &Global) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = client(&session.channels.telemetry);
        let request = RunChecksRequest { local: false };
        let answer = client.run_checks(request).await?.into_inner();
        if global.json {
            output::message(&answer)?;
        } else {
            answer.processes.iter().for_each(print);
        }
        let checks = answer.processes.iter().flat_map(|told| &told.checks);
        let failed = checks
            .filter(|check| check.state() == CheckState::Fail)
            .count();
        match failed {
            0 => Ok(()),
            _ => Err(found(failed).into()),
        }
    })
    .await
}

fn found(failed: usize) -> Known {
    Known {
        code: failure::FAILED,
        problem: format!("{failed} checks failed"),
        next_step: "each line above says what to do".into(),
    }
}

fn print(told: &ProcessChecks) {
    let process = told.process.clone().unwrap_or_default();
    let place = match process.endpoint.as_str() {
        "" => String::new(),
        endpoint => format!(" at {endpoint}"),
    };
    output::line(&output::paint(
        output::BOLD,
        &format!("{}{place}", process.roles.join(",")),
    ));
    let width = told
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max();
    for check in &told.checks {
        let (word, colour) = word(check);
        let pad = " ".repeat(width.unwrap_or(0) - check.name.chars().count());
        output::line(&format!(
            "  {}  {}{pad}  {}",
            output::paint(colour, word),
            check.name,
            output::short(&check.detail, 120)
        ));
        if !check.next_step.is_empty() {
            output::line(&format!("        {}", check.next_step));
        }
    }
}

fn word(check: &Check) -> (&'static str, &'static str) {
    match check.state() {
        CheckState::Ok => ("ok  ", output::GREEN),
        CheckState::Warn => ("warn", output::YELLOW),
        CheckState::Fail | CheckState::Unspecified => ("FAIL", output::RED),
    }
}
