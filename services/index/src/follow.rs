//! Keeps a project's index at the head of the journal's feed.
//!
//! One task for each project. It opens the folder, follows the feed from where the folder ends, hands batches
//! to a blocking thread, and puts them on disk when some time has passed or much has come in. A folder that
//! is damaged, of another version or of another history is thrown away and built again, with a
//! warning; a feed or a disk that fails is tried again, ever more slowly.

use std::sync::Arc;
use std::time::Duration;

use commonplace_rpc::{Code, Failure};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::client::{Feed, Journal};
use crate::config::{Options, or_processors};
use crate::embedding::Embedding;
use crate::engine::{Engine, EngineError, wipe};
use crate::feed::{Frame, Told};
use crate::project::{Project, RESTING, Rebuild};
use crate::qdrant::{Outside, read_watermark};
use crate::slots::{Slot, Slots};
use crate::status::status_of;

/// Index intervals without anything new after which writing gives its memory back.
const IDLE_TICKS: u32 = 10;

/// Appends that taking a batch in is linked to, at most.
const MOST_LINKS: usize = 32;

/// Follows one project until it is told to stop.
pub(crate) struct Follower {
    pub(crate) project: Arc<Project>,
    pub(crate) journal: Journal,
    pub(crate) embedding: Arc<Embedding>,
    pub(crate) options: Options,
    /// Where dense candidates come from, if not from a scan.
    pub(crate) outside: Option<Arc<Outside>>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) rebuilds: mpsc::Receiver<Rebuild>,
    pub(crate) stop: CancellationToken,
}

/// Why following an engine ended.
enum End {
    Stopped,
    /// The folder is to be thrown away; the one who asked for it waits.
    Rebuild(Option<Rebuild>),
    /// The folder is to be opened again after a while.
    Reopen,
    /// The folder is to be closed until it is needed.
    Rest,
}

impl Follower {
    /// Runs until `stop`; then everything taken in is on disk.
    pub(crate) async fn run(mut self) {
        let mut delay = self.first_delay();
        while !self.stop.is_cancelled() {
            let slot = tokio::select! {
                slot = self.slots.take(&self.project) => slot,
                () = self.stop.cancelled() => return,
            };
            self.project.set_rested(None);
            self.project.stand("building");
            let engine = match self.open().await {
                Ok(engine) => engine,
                Err(error) => {
                    self.report("the index folder cannot be opened", &error);
                    self.pause(&mut delay).await;
                    continue;
                }
            };
            self.project.replace(Some(Arc::clone(&engine)));
            let end = self.follow(&engine, &mut delay).await;
            match end {
                End::Stopped => return self.close(engine).await,
                End::Rest => self.rest(engine, slot).await,
                End::Reopen => {
                    self.retire(engine).await;
                    self.pause(&mut delay).await;
                }
                End::Rebuild(asked) => {
                    self.retire(engine).await;
                    self.wipe().await;
                    // The one who asked may have gone.
                    let _ = asked.map(|asked| asked.send(()));
                }
            }
        }
    }

    /// Puts everything on disk, closes the folder and waits until the project is wanted again.
    async fn rest(&mut self, engine: Arc<Engine>, slot: Slot) {
        let flushed = {
            let engine = Arc::clone(&engine);
            blocking(move || engine.flush()).await
        };
        if let Err(error) = flushed {
            self.report("the index was not put on disk", &error);
            return;
        }
        let mut status = status_of(&self.project);
        status.state = RESTING.to_owned();
        self.retire(engine).await;
        self.project.set_rested(Some(status));
        drop(slot);
        while !self.project.is_wanted() {
            tokio::select! {
                () = self.project.usage.woken() => {}
                () = self.stop.cancelled() => return,
                asked = self.rebuilds.recv() => {
                    self.wipe().await;
                    self.project.set_rested(None);
                    let _ = asked.map(|asked| asked.send(()));
                    return;
                }
            }
        }
    }

    /// Opens the folder; one that is of no use is thrown away first.
    async fn open(&self) -> Result<Arc<Engine>, EngineError> {
        match self.open_once().await {
            Err(EngineError::Storage(error)) => Err(EngineError::Storage(error)),
            Err(error) => {
                let (folder, project) = (self.project.folder.display(), &self.project.name);
                tracing::warn!(%error, %project, %folder, "building the index again");
                self.wipe().await;
                self.open_once().await
            }
            opened => opened,
        }
    }

    async fn open_once(&self) -> Result<Arc<Engine>, EngineError> {
        let folder = self.project.folder.clone();
        let embedder = self.embedding.embedder();
        let threads = or_processors(self.options.indexing_threads);
        let held = self.options.held_vectors();
        let open = move || Engine::open(&folder, embedder.as_deref(), threads, held);
        let engine = blocking(open).await.map(Arc::new)?;
        if let Some(outside) = &self.outside {
            let (folder, collection) = (&self.project.folder, &outside.store.collection);
            let stored = read_watermark(folder, collection, &engine.snapshot());
            engine.use_store(Arc::clone(outside), stored);
        }
        Ok(engine)
    }

    /// Takes an engine out of use and waits until nobody uses it any more: two must never write to one
    /// folder.
    async fn retire(&self, engine: Arc<Engine>) {
        self.project.replace(None);
        let mut tries = 0;
        while Arc::strong_count(&engine) > 1 && tries < 2_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tries += 1;
        }
    }

    async fn wipe(&self) {
        let folder = self.project.folder.clone();
        let wiped = blocking(move || Ok(wipe(&folder)?)).await;
        if let Err(error) = wiped {
            self.report("the index folder cannot be thrown away", &error);
        }
    }

    async fn follow(&mut self, engine: &Arc<Engine>, delay: &mut Duration) -> End {
        loop {
            let cursor = engine.cursor();
            let tail = self.journal.tail(&self.project.name, cursor);
            let feed = tokio::select! {
                feed = tail => feed,
                () = self.stop.cancelled() => return End::Stopped,
            };
            let failure = match feed {
                Ok(feed) => match self.drain(engine, feed, delay).await {
                    Ok(end) => return end,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if matches!(failure.code, Code::DataLoss | Code::OutOfRange) {
                let project = &self.project.name;
                tracing::warn!(reason = failure.message, %project, "building the index again");
                return End::Rebuild(None);
            }
            self.project
                .stand(format!("the journal's feed broke off: {}", failure.message));
            tokio::select! {
                () = tokio::time::sleep(*delay) => {}
                () = self.stop.cancelled() => return End::Stopped,
                () = self.project.usage.may_rest() => return End::Rest,
                asked = self.rebuilds.recv() => return End::Rebuild(asked),
            }
            *delay = self.longer(*delay);
        }
    }

    /// Takes in what the feed tells until something else is to be done. Error: the feed failed.
    async fn drain(
        &mut self,
        engine: &Arc<Engine>,
        mut feed: Feed,
        delay: &mut Duration,
    ) -> Result<End, Failure> {
        let period = Duration::from_millis(self.options.commit_interval_ms.max(1));
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            let done = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(End::Stopped),
                asked = self.rebuilds.recv() => return Ok(End::Rebuild(asked)),
                () = self.project.usage.may_rest() => return Ok(End::Rest),
                _ = ticks.tick() => self.tick(engine, &mut idle).await,
                told = feed.next(self.options.batch_events) => {
                    let told = told?.ok_or_else(ended)?;
                    idle = 0;
                    *delay = self.first_delay();
                    self.take(engine, told).await
                }
            };
            match done {
                Ok(()) => {}
                Err(EngineError::Storage(error)) => {
                    self.report(
                        "the index folder cannot be written",
                        &EngineError::Storage(error),
                    );
                    return Ok(End::Reopen);
                }
                Err(error) => {
                    let project = &self.project.name;
                    tracing::warn!(%error, %project, "building the index again");
                    return Ok(End::Rebuild(None));
                }
            }
        }
    }

    async fn take(&self, engine: &Arc<Engine>, told: Told) -> Result<(), EngineError> {
        if let Some(last) = told.frames.last() {
            self.project.saw_journal_at(last.number);
        }
        if let Some(head) = told.head {
            self.project.saw_journal_at(head);
        }
        if !told.frames.is_empty() {
            let (engine, most) = (Arc::clone(engine), self.options.commit_passages);
            let span = span_of(&self.project, &told.frames);
            blocking(move || {
                let _applying = span.entered();
                engine.apply(&told.frames)?;
                if engine.pending_rows() >= most {
                    engine.flush()?;
                }
                Ok(())
            })
            .await?;
            self.embedding.wake();
        }
        let behind = engine.snapshot().progress.commits < self.project.journal_commits();
        self.project
            .stand(if behind { "building" } else { "following" });
        Ok(())
    }

    async fn tick(&self, engine: &Arc<Engine>, idle: &mut u32) -> Result<(), EngineError> {
        *idle += 1;
        let rests = *idle == IDLE_TICKS;
        let engine = Arc::clone(engine);
        blocking(move || {
            engine.flush()?;
            if rests {
                engine.rest()?;
            }
            Ok(())
        })
        .await
    }

    async fn close(&self, engine: Arc<Engine>) {
        self.project.replace(None);
        let flushed = blocking(move || engine.flush()).await;
        if let Err(error) = flushed {
            self.report(
                "the index was not put on disk; it will read the feed again",
                &error,
            );
        }
    }

    fn report(&self, what: &str, error: &EngineError) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let text = match cause {
            Some(cause) => format!("{what}: {error}: {cause}"),
            None => format!("{what}: {error}"),
        };
        tracing::warn!(project = %self.project.name, "{text}");
        self.project.stand(text);
    }

    async fn pause(&self, delay: &mut Duration) {
        tokio::select! {
            () = tokio::time::sleep(*delay) => {}
            () = self.stop.cancelled() => {}
        }
        *delay = self.longer(*delay);
    }

    fn first_delay(&self) -> Duration {
        Duration::from_millis(self.options.retry_ms.0.max(1))
    }

    fn longer(&self, delay: Duration) -> Duration {
        (delay * 2).min(Duration::from_millis(self.options.retry_ms.1.max(1)))
    }
}

/// Taking commits in follows from the appends that made them, across the feed.
fn span_of(project: &Project, frames: &[Frame]) -> Span {
    let appends = frames.iter().filter_map(|frame| frame.events.first());
    let traces: Vec<&str> = appends
        .map(|event| event.traceparent.as_str())
        .take(MOST_LINKS)
        .collect();
    let last = frames.last().map(|frame| frame.number);
    tracing::info_span!(
        "apply",
        otel.name = "process journal",
        otel.kind = "consumer",
        service = "index",
        tenant = project.tenant.as_str(),
        link = traces.join(" "),
        messaging.system = "commonplace",
        messaging.destination.name = "journal",
        messaging.operation.name = "process",
        messaging.batch.message_count = frames.len(),
        commonplace.commit = last,
    )
}

fn ended() -> Failure {
    Failure::new(Code::Unavailable, "FEED_ENDED").message("it was closed")
}

/// Runs work that takes long, or waits for the disk, where it holds up no other task.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, EngineError> + Send + 'static,
) -> Result<R, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(EngineError::Damaged {
            problem: "work on it ended early".into(),
            cause: None,
        })
    })
}
