//! A second thread for searches that are long enough to be worth sharing.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that takes a job when it has none. Ends when it is dropped.
pub(crate) struct Helper {
    jobs: SyncSender<Job>,
}

impl Helper {
    /// None where no thread can be had; the work is then done without.
    pub(crate) fn start() -> Option<Self> {
        // No room to queue: a job is taken at once or not at all.
        let (jobs, taken) = sync_channel::<Job>(0);
        let run = move || taken.into_iter().for_each(|job| job());
        let thread = std::thread::Builder::new().name("index-scan".into());
        thread.spawn(run).ok()?;
        Some(Self { jobs })
    }

    /// Has `work` done elsewhere if the thread is free; its result comes through the receiver.
    pub(crate) fn try_run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Option<Receiver<R>> {
        let (done, result) = sync_channel(1);
        let job = Box::new(move || {
            // The one who asked may have gone.
            let _ = done.send(work());
        });
        self.jobs.try_send(job).ok()?;
        Some(result)
    }
}
