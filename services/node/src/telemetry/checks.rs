//! What a process needs, looked at one by one. Each finding says what to do next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use commonplace_index::{Standing, Watch};
use commonplace_proto::Timestamp;
use commonplace_proto::telemetry::{Check, CheckState, Process};
use commonplace_rpc::Tls;
use commonplace_rpc::server::Readiness;
use commonplace_storage::WallState;
use commonplace_telemetry::Spans;
use commonplace_telemetry::process::Usage;
use tokio::sync::Mutex;

use crate::migrate::{schema_of, wall_of};
use crate::{NodeOptions, Role};

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what was found of the stores is told again.
const FRESH: Duration = Duration::from_secs(1);
/// Commits that an index may lag behind without anybody minding.
const LAG: u64 = 1_000;
/// Time that a certificate should still be good for, and must.
const CERTIFICATE: (Duration, Duration) = (
    Duration::from_secs(14 * 86_400),
    Duration::from_secs(86_400),
);
/// How far clocks may be apart, and must not be, in milliseconds.
const CLOCKS: (u128, u128) = (500, 5_000);
/// The build is no older than this: 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// What is looked at.
pub(crate) struct Checks {
    pub(crate) options: NodeOptions,
    pub(crate) readiness: Readiness,
    /// Our certificates, each with the setting that names it.
    pub(crate) certificates: Vec<(&'static str, Tls)>,
    /// The index, if it runs here.
    pub(crate) index: Option<Watch>,
    pub(crate) stores: Stores,
}

/// What was found of the stores last. Each look opens connections of its own, so one is taken at a time, and those who
/// ask meanwhile get the same.
#[derive(Default)]
pub(crate) struct Stores(Mutex<Option<(Instant, Vec<Check>)>>);

impl Checks {
    /// Looks at everything, in a fixed order.
    pub(crate) async fn run(&self, spans: &Arc<Spans>) -> Vec<Check> {
        let mut checks = self.roles();
        checks.extend(self.stores().await);
        if let Some(index) = &self.index {
            checks.push(index_lag(&index.standings()));
            checks.push(model(index.embedder(), &self.options.model_dir));
        }
        checks.push(clock());
        let certificates = self.certificates.iter();
        checks.extend(certificates.map(|(setting, tls)| certificate(setting, tls.not_after())));
        checks.push(disk(self.options.data_dir.clone()).await);
        checks.push(open_files(Usage::now()));
        checks.push(export(spans));
        checks
    }

    fn roles(&self) -> Vec<Check> {
        let one = |role: &Role| match self.readiness.serves(role.service()) {
            Some(true) => ok(role.as_str(), "serves"),
            _ if *role == Role::Journal => warn(
                role.as_str(),
                "stands by, or cannot lead yet",
                "fine if another journal leads; if none does, see docs/runbooks/journal-no-leader.md",
            ),
            _ => fail(role.as_str(), "does not serve", "look at its log"),
        };
        self.options.roles.iter().map(one).collect()
    }

    async fn stores(&self) -> Vec<Check> {
        let mut last = self.stores.0.lock().await;
        if let Some((_, found)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return found.clone();
        }
        let mut found = Vec::new();
        for role in [Role::Journal, Role::Policy, Role::Retrieval] {
            if self.options.roles.contains(&role) {
                found.push(self.schema(role).await);
                found.extend(self.wall(role).await);
            }
        }
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn schema(&self, role: Role) -> Check {
        let name = format!("{role} store");
        let state = tokio::time::timeout(PATIENCE, schema_of(&self.options, role)).await;
        match state {
            Ok(Ok(state)) if state.pending.is_empty() => {
                ok(&name, &format!("schema {} of {}", state.found, state.known))
            }
            Ok(Ok(state)) => {
                let detail = format!("schema {} of {}", state.found, state.known);
                warn(&name, &detail, "run `com migrate`")
            }
            Ok(Err(error)) => fail(
                &name,
                &error.to_string(),
                "see docs/runbooks/database-down.md",
            ),
            Err(_) => {
                let detail = format!("does not answer within {} s", PATIENCE.as_secs());
                fail(&name, &detail, "see docs/runbooks/database-down.md")
            }
        }
    }

    /// Nothing where there is no wall to have, or the check of the schema told already that nothing answers.
    async fn wall(&self, role: Role) -> Option<Check> {
        let state = tokio::time::timeout(PATIENCE, wall_of(&self.options, role)).await;
        wall(role, &state.ok()?.ok()?)
    }
}

fn wall(of: Role, state: &WallState) -> Option<Check> {
    let name = format!("{of} wall");
    Some(match state {
        WallState::None => return None,
        WallState::Up { role } => ok(&name, &format!("row-level security binds `{role}`")),
        WallState::Missing { tables } => warn(
            &name,
            &format!("no row-level security on {}", tables.join(", ")),
            "set database.row_security = true and restart, or run `com migrate`; see docs/access.md",
        ),
        WallState::Passed { role } => warn(
            &name,
            &format!("row-level security does not bind `{role}`"),
            "set database.role to a role that is neither superuser nor BYPASSRLS; see docs/access.md",
        ),
    })
}

fn index_lag(projects: &[Standing]) -> Check {
    let (name, next) = ("index lag", "see docs/runbooks/index-lag.md");
    if let Some(stuck) = projects.iter().find(|project| !project.is_well()) {
        let detail = format!("{}/{}: {}", stuck.tenant, stuck.project, stuck.state);
        return fail(name, &detail, next);
    }
    let worst = projects.iter().max_by_key(|project| project.behind);
    match worst {
        None => ok(name, "no project yet"),
        Some(worst) if worst.behind > LAG => {
            let (tenant, project) = (&worst.tenant, &worst.project);
            let detail = format!("{tenant}/{project} is {} commits behind", worst.behind);
            warn(name, &detail, next)
        }
        Some(worst) => {
            let detail = format!(
                "{} projects, at most {} commits behind",
                projects.len(),
                worst.behind
            );
            ok(name, &detail)
        }
    }
}

fn model(embedder: Result<&str, &str>, folder: &Path) -> Check {
    match embedder {
        Ok(fingerprint) => ok("model", fingerprint),
        Err(reason) => {
            let detail = format!("no search by meaning: {reason} ({})", folder.display());
            warn("model", &detail, "run `com model pull`, then restart")
        }
    }
}

fn clock() -> Check {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    match since >= EARLIEST {
        true => ok("clock", "after the program was built"),
        false => fail(
            "clock",
            "before the program was built",
            "set the clock of this machine",
        ),
    }
}

/// What the clock of another process says beside ours, which it was asked between.
pub(super) fn judge_clock(
    checks: &mut [Check],
    before: Timestamp,
    told: Option<Timestamp>,
    after: Timestamp,
) {
    let millis = |at: Timestamp| i128::from(at.seconds) * 1_000 + i128::from(at.nanos) / 1_000_000;
    let Some(told) = told.map(millis) else { return };
    let (before, after) = (millis(before), millis(after));
    let apart = match told {
        told if told < before => (before - told).unsigned_abs(),
        told if told > after => (told - after).unsigned_abs(),
        _ => 0,
    };
    let Some(clock) = checks.iter_mut().find(|check| check.name == "clock") else {
        return;
    };
    let detail = format!("{apart} ms from the gateway's");
    let next = "let both machines follow the same time server";
    *clock = match apart {
        apart if apart > CLOCKS.1 => fail("clock", &detail, next),
        apart if apart > CLOCKS.0 => warn("clock", &detail, next),
        _ => ok("clock", &detail),
    };
}

fn certificate(setting: &str, not_after: SystemTime) -> Check {
    let name = format!("{setting} certificate");
    let left = not_after
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    let days = left.as_secs() / 86_400;
    let next = "see docs/runbooks/certificate-expiry.md";
    match left {
        left if left.is_zero() => fail(&name, "has ended", next),
        left if left < CERTIFICATE.1 => fail(&name, "ends within a day", next),
        left if left < CERTIFICATE.0 => warn(&name, &format!("ends in {days} days"), next),
        _ => ok(&name, &format!("good for {days} days")),
    }
}

async fn disk(folder: PathBuf) -> Check {
    let shown = folder.display().to_string();
    let space = tokio::task::spawn_blocking(move || space(&folder)).await;
    let Some((free, total)) = space.ok().flatten() else {
        return warn(
            "disk",
            &format!("{shown} cannot be measured"),
            "check that the folder exists",
        );
    };
    let percent = free.saturating_mul(100) / total.max(1);
    let detail = format!("{} MiB ({percent} %) free at {shown}", free >> 20);
    let next = "see docs/runbooks/disk-full.md";
    match percent {
        0..3 => fail("disk", &detail, next),
        3..10 => warn("disk", &detail, next),
        _ => ok("disk", &detail),
    }
}

/// Bytes that are free to us and all there are, where a folder lies or would lie.
pub(super) fn space(folder: &Path) -> Option<(u64, u64)> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let space = fs4::statvfs(there).ok()?;
    Some((space.available_space(), space.total_space()))
}

fn open_files(usage: Usage) -> Check {
    let (Some(open), Some(most)) = (usage.open_files, usage.most_files) else {
        return ok("open files", "not told by this system");
    };
    let detail = format!("{open} of {most}");
    let next = "raise the limit (ulimit -n), or lower gateway.max_connections";
    match open.saturating_mul(100) / most.max(1) {
        95.. => fail("open files", &detail, next),
        80..95 => warn("open files", &detail, next),
        _ => ok("open files", &detail),
    }
}

fn export(spans: &Arc<Spans>) -> Check {
    let (recorded, lost) = (
        spans.recorded.get(),
        spans.dropped.get() + spans.failed.get(),
    );
    let detail = format!(
        "{recorded} spans recorded, {} sent, {lost} lost",
        spans.sent.get()
    );
    match lost {
        0 => ok("traces", &detail),
        _ => warn("traces", &detail, "see docs/runbooks/traces-lost.md"),
    }
}

/// For a process that could not be asked.
pub(super) fn unreachable(process: &Process) -> Check {
    fail(
        "reachable",
        &process.problem,
        "is it running? look at its log, and at peers.* of the gateway",
    )
}

fn ok(name: &str, detail: &str) -> Check {
    found(name, CheckState::Ok, detail, "")
}

fn warn(name: &str, detail: &str, next_step: &str) -> Check {
    found(name, CheckState::Warn, detail, next_step)
}

fn fail(name: &str, detail: &str, next_step: &str) -> Check {
    found(name, CheckState::Fail, detail, next_step)
}

fn found(name: &str, state: CheckState, detail: &str, next_step: &str) -> Check {
    Check {
        name: name.to_owned(),
        state: state as i32,
        detail: detail.to_owned(),
        next_step: next_step.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use commonplace_types::{ProjectName, TenantName};

    use super::*;

    #[test]
    fn clocks_apart_and_certificates_near_their_end_are_found() {
        let at = |seconds, millis: i32| Timestamp {
            seconds,
            nanos: millis * 1_000_000,
        };
        for (told, state) in [
            (at(100, 50), CheckState::Ok),
            (at(100, 900), CheckState::Warn),
            (at(90, 0), CheckState::Fail),
        ] {
            let mut checks = vec![clock()];
            judge_clock(&mut checks, at(100, 0), Some(told), at(100, 100));
            assert_eq!(checks[0].state, state as i32, "{checks:?}");
        }
        let now = SystemTime::now();
        for (days, state) in [
            (90, CheckState::Ok),
            (7, CheckState::Warn),
            (0, CheckState::Fail),
        ] {
            let end = now + Duration::from_secs(days * 86_400);
            assert_eq!(certificate("tls", end).state, state as i32, "{days}");
        }
    }

    #[test]
    fn a_project_that_lags_or_stands_still_is_found() {
        let project = |name: &str, behind, state: &str| Standing {
            tenant: TenantName::default_tenant(),
            project: ProjectName::new(name).unwrap(),
            behind,
            state: state.into(),
        };
        let well = project("a", LAG, "building");
        let lags = project("b", LAG + 1, "following");
        let stuck = project("c", 0, "the journal's feed broke off");
        for (projects, state, words) in [
            (vec![], CheckState::Ok, "no project"),
            (vec![well.clone()], CheckState::Ok, "at most 1000"),
            (vec![well, lags.clone()], CheckState::Warn, "default/b"),
            (vec![lags, stuck], CheckState::Fail, "broke off"),
        ] {
            let found = index_lag(&projects);
            assert_eq!(found.state, state as i32, "{found:?}");
            assert!(found.detail.contains(words), "{found:?}");
        }
    }

    #[test]
    fn files_that_run_out_are_found() {
        let usage = |open| Usage {
            open_files: Some(open),
            most_files: Some(100),
            ..Usage::default()
        };
        let states = [10, 85, 99].map(|open| open_files(usage(open)).state);
        assert_eq!(
            states,
            [CheckState::Ok, CheckState::Warn, CheckState::Fail].map(|s| s as i32)
        );
    }
}
