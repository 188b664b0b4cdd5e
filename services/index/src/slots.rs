//! How many projects are open at once: each holds memory and files, and projects come without end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commonplace_types::{ProjectName, TenantName};
use tokio::sync::Notify;

use crate::project::Project;

/// How soon somebody is asked again to rest.
const AGAIN: Duration = Duration::from_millis(50);

type Open = BTreeMap<(TenantName, ProjectName), Arc<Project>>;

/// Who needs a project open, and when it was needed last.
#[derive(Default)]
pub(crate) struct Usage {
    users: AtomicUsize,
    /// The later, the larger, over all projects.
    last: AtomicU64,
    rest: Notify,
    wake: Notify,
}

static USES: AtomicU64 = AtomicU64::new(0);

impl Usage {
    /// Needs the project open until the guard is dropped.
    pub(crate) fn enter(&self) -> InUse<'_> {
        self.users.fetch_add(1, Ordering::SeqCst);
        self.touch();
        self.wake();
        InUse(self)
    }

    fn touch(&self) {
        self.last
            .store(USES.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Whether a call is under way that needs the project open.
    pub(crate) fn is_used(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Has a project at rest look whether it is wanted.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until [`Usage::wake`].
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until the project is asked to rest and no call needs it.
    pub(crate) async fn may_rest(&self) {
        loop {
            self.rest.notified().await;
            if !self.is_used() {
                return;
            }
        }
    }
}

/// Somebody needs a project open.
pub(crate) struct InUse<'a>(&'a Usage);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Places for open projects.
pub(crate) struct Slots {
    most: usize,
    open: Mutex<Open>,
    freed: Notify,
}

/// A project's place, until it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    project: Arc<Project>,
}

impl Slots {
    /// For at most so many projects at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits for a place. When there is none, the project that was used longest ago is asked to rest, unless a
    /// call is waiting for it.
    pub(crate) async fn take(self: &Arc<Self>, project: &Arc<Project>) -> Slot {
        loop {
            let freed = self.freed.notified();
            if self.try_take(project) {
                return Slot {
                    slots: Arc::clone(self),
                    project: Arc::clone(project),
                };
            }
            // Whoever is needed now may be idle soon, without telling.
            let _ = tokio::time::timeout(AGAIN, freed).await;
        }
    }

    fn try_take(&self, project: &Arc<Project>) -> bool {
        let mut open = self.open();
        if open.len() < self.most {
            let key = (project.tenant.clone(), project.name.clone());
            open.insert(key, Arc::clone(project));
            project.usage.touch();
            return true;
        }
        let idle = open.values().filter(|open| !open.usage.is_used());
        if let Some(oldest) = idle.min_by_key(|open| open.usage.last.load(Ordering::Relaxed)) {
            oldest.usage.rest.notify_one();
        }
        false
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let key = (self.project.tenant.clone(), self.project.name.clone());
        self.slots.open().remove(&key);
        self.slots.freed.notify_waiters();
    }
}
