//! Keeps the store's points of one project at what the index holds.
//!
//! What is to be written is read from the index's state, by commits: so there is no queue that could grow, a batch
//! that failed is simply made again, and the watermark only ever names whole commits.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::check::{check, repair};
use super::outside::Outside;
use super::point::{key_too_great, points_of, rows_stored, touched};
use super::watermark;
use crate::engine::{Engine, Snapshot};
use crate::project::Project;

/// Between looks for an engine while it is opened or built anew.
const NO_ENGINE: Duration = Duration::from_millis(20);

/// Writes one project's points until it is told to stop.
pub(crate) struct Syncer {
    project: Arc<Project>,
    outside: Arc<Outside>,
    stop: CancellationToken,
    /// The store may hold points of an index that was thrown away: to be looked for once all is written.
    leftovers: bool,
    attempt: u32,
}

/// What to do after a step.
enum Next {
    /// There may be more to do.
    Again,
    /// Nothing is to be done until something changes.
    Idle,
    /// It failed: after a while.
    Later,
}

impl Syncer {
    pub(crate) fn new(
        project: Arc<Project>,
        outside: Arc<Outside>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            project,
            outside,
            stop,
            leftovers: false,
            attempt: 0,
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut standing = self.outside.store.watch();
        loop {
            standing.mark_unchanged();
            // Taken before the step, so that nothing that happens during it is missed.
            let progress = self.project.engine().map(|engine| engine.watch());
            match self.step().await {
                Next::Again => self.attempt = 0,
                Next::Later => {
                    let delay = self.delay();
                    self.attempt += 1;
                    tokio::time::sleep(delay).await;
                }
                Next::Idle => match progress {
                    None => tokio::time::sleep(NO_ENGINE).await,
                    Some(mut progress) => tokio::select! {
                        _ = standing.changed() => {}
                        changed = progress.changed() => if changed.is_err() {
                            tokio::time::sleep(NO_ENGINE).await;
                        },
                    },
                },
            }
        }
    }

    /// Grows with each attempt; projects differ by up to half of it, so that they do not all come back at once.
    fn delay(&self) -> Duration {
        let delay = self.outside.store.options.delay(self.attempt);
        let name = blake3::hash(self.project.name.as_str().as_bytes());
        let share = f64::from(name.as_bytes()[self.attempt as usize % 32]) / 255.0;
        delay.mul_f64(0.5 + share / 2.0)
    }

    async fn step(&mut self) -> Next {
        let Some(epoch) = self.outside.store.epoch() else {
            return Next::Idle;
        };
        let Some(engine) = self.project.engine() else {
            return Next::Idle;
        };
        let (snapshot, engine) = (engine.snapshot(), Arc::downgrade(&engine));
        let progress = snapshot.progress;
        let done = if progress.checked != epoch {
            self.compare(&snapshot, &engine, epoch).await
        } else if progress.stored < progress.dense {
            self.push(&snapshot, &engine, epoch).await
        } else if self.leftovers && progress.stored == progress.commits {
            self.remove_leftovers(&snapshot, &engine).await
        } else {
            return Next::Idle;
        };
        let next = match &done {
            Ok(()) => Next::Again,
            Err(_) => Next::Later,
        };
        self.outside.note(done.err());
        next
    }

    /// Whether the store still holds what it acknowledged: it may have come back empty.
    async fn compare(
        &mut self,
        snapshot: &Snapshot,
        engine: &Weak<Engine>,
        epoch: u64,
    ) -> Result<(), String> {
        let stored = snapshot.progress.stored;
        let expected = rows_stored(snapshot, stored) as u64;
        let found = self.outside.store.count(&self.outside.owner).await;
        let found = found.map_err(|error| error.to_string())?;
        let holds = found >= expected;
        if !holds {
            let project = &self.project.name;
            tracing::warn!(%project, found, expected, "the vector store lost points; writing all of them again");
        }
        let stored = if holds { stored } else { 0 };
        self.leftovers |= stored == 0 && found > 0;
        self.reached(engine, stored, epoch);
        Ok(())
    }

    /// Writes the next commits.
    async fn push(
        &mut self,
        snapshot: &Arc<Snapshot>,
        engine: &Weak<Engine>,
        epoch: u64,
    ) -> Result<(), String> {
        let most = self.outside.store.options.batch_points.max(1) as usize;
        let from = snapshot.progress.stored;
        let (to, rows) = next_rows(snapshot, from, most);
        for rows in rows.chunks(most) {
            self.write(snapshot, rows).await?;
        }
        let folder = self.project.folder.clone();
        if self.outside.store.epoch() == Some(epoch) && self.reached(engine, to, epoch) {
            let collection = &self.outside.store.collection;
            let noted = watermark::write(&folder, collection, snapshot, to);
            noted.unwrap_or_else(|error| tracing::warn!(%error, "the watermark cannot be written"));
        }
        Ok(())
    }

    async fn write(&self, snapshot: &Arc<Snapshot>, rows: &[u32]) -> Result<(), String> {
        let (read, rows, owner) = (
            Arc::clone(snapshot),
            rows.to_vec(),
            self.outside.owner.clone(),
        );
        let points = tokio::task::spawn_blocking(move || points_of(&read, &owner, &rows)).await;
        let points = points.map_err(|error| error.to_string())?;
        let points = points.map_err(|error| format!("vectors cannot be read: {error}"))?;
        let great = points
            .iter()
            .find_map(|point| key_too_great(&point.payload));
        if let Some(key) = great {
            let lane = key >> 32;
            return Err(format!(
                "lane {lane} is too great for the vector store, use `vectors = \"local\"`"
            ));
        }
        let owner = &self.outside.owner;
        let written = self.outside.store.upsert(owner, &points, false).await;
        written.map_err(|error| error.to_string())
    }

    /// Deletes points that no passage has any more, and mends what differs.
    async fn remove_leftovers(
        &mut self,
        snapshot: &Arc<Snapshot>,
        engine: &Weak<Engine>,
    ) -> Result<(), String> {
        let fresh = || engine.upgrade().map(|engine| engine.snapshot());
        let findings = check(&self.outside, Arc::clone(snapshot), fresh).await;
        let findings = findings.map_err(|error| error.to_string())?;
        repair(&self.outside, &findings).await?;
        self.leftovers = false;
        Ok(())
    }

    /// Tells the engine how far the store is. False: the engine has been replaced.
    fn reached(&self, engine: &Weak<Engine>, commits: u64, epoch: u64) -> bool {
        let engine = engine.upgrade();
        engine
            .map(|engine| engine.set_stored(commits, epoch))
            .is_some()
    }
}

/// The commits from `from` on that make about `most` points, at least one, and the rows to write for them: the new
/// ones, and older ones whose visibility they changed.
fn next_rows(snapshot: &Snapshot, from: u64, most: usize) -> (u64, Vec<u32>) {
    let state = &snapshot.state;
    let start = rows_stored(snapshot, from);
    let mut to = from + 1;
    while to < snapshot.progress.dense {
        let next = rows_stored(snapshot, to + 1) - start;
        if next > most || to - from >= most as u64 {
            break;
        }
        to += 1;
    }
    let end = rows_stored(snapshot, to);
    let mut rows: BTreeSet<u32> = (start as u32..end as u32).collect();
    for event in touched(snapshot, from, to) {
        let facts = state.facts.at(event as usize);
        let own = facts.first_row..facts.first_row + u32::from(facts.rows);
        rows.extend(own.filter(|row| (*row as usize) < end));
    }
    (to, rows.into_iter().collect())
}
