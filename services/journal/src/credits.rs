//! What all tails together hold in memory for their readers, in bytes, and who gives room to whom.
//!
//! A page of history costs credits from before it is read until its reader has taken it. Where they are used up a
//! tail waits; a page whose reader has not come for a second is let go of meanwhile, as it can be read again. So a
//! slow reader costs another nothing but a second, and costs itself a second reading.
//!
//! Always true: no more credits are out than there are. Not counted: the message that is on its way to a reader, one
//! for each stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A page that nobody came for so long may be let go of.
const IDLE: Duration = Duration::from_secs(1);
/// How often a tail that waits looks for such pages.
const LOOK: Duration = Duration::from_millis(100);
/// Credits are counted in so many bytes.
const UNIT: u64 = 1 << 10;

/// The credits of a journal.
pub(crate) struct Credits {
    room: Arc<Semaphore>,
    most: u32,
    shelves: Mutex<Vec<Weak<dyn Shelf>>>,
}

/// Where a tail keeps pages.
trait Shelf: Send + Sync {
    /// How long its reader has not come; nothing when nothing is held.
    fn idle(&self) -> Option<Duration>;
    /// Lets go of what is held.
    fn clear(&self);
}

/// Paid credits; given back when dropped.
pub(crate) type Paid = OwnedSemaphorePermit;

impl Credits {
    /// So many bytes in all.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let most = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Arc::new(Self {
            room: Arc::new(Semaphore::new(most as usize)),
            most,
            shelves: Mutex::default(),
        })
    }

    /// What so many bytes cost; what is larger than everything costs everything.
    fn price(&self, bytes: u64) -> u32 {
        u32::try_from(bytes / UNIT + 1).map_or(self.most, |price| price.min(self.most))
    }

    /// Pays if there is room now.
    pub(crate) fn try_pay(&self, bytes: u64) -> Option<Paid> {
        let price = self.price(bytes);
        self.room.clone().try_acquire_many_owned(price).ok()
    }

    /// Pays, in turn, when there is room.
    pub(crate) async fn pay(&self, bytes: u64) -> Option<Paid> {
        let paying = self.room.clone().acquire_many_owned(self.price(bytes));
        tokio::pin!(paying);
        loop {
            tokio::select! {
                biased;
                paid = &mut paying => return paid.ok(),
                () = tokio::time::sleep(LOOK) => self.let_go(),
            }
        }
    }

    /// Lets go of what readers have not come for.
    fn let_go(&self) {
        self.shelves().retain(|shelf| {
            let Some(shelf) = shelf.upgrade() else {
                return false;
            };
            if shelf.idle().is_some_and(|idle| idle >= IDLE) {
                shelf.clear();
            }
            true
        });
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Weak<dyn Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for pages; empty at first, and emptied when others need the room and nobody comes.
    pub(crate) fn slot<T: Default + Send + 'static>(&self) -> Arc<Slot<T>> {
        let slot = Arc::new(Slot {
            held: Mutex::default(),
            began: Instant::now(),
            came: AtomicU64::new(0),
        });
        let shelf: Weak<dyn Shelf> = Arc::downgrade(&(slot.clone() as Arc<dyn Shelf>));
        let mut shelves = self.shelves();
        // Now and then those of tails that ended are swept out.
        if shelves.len() == shelves.capacity() {
            shelves.retain(|shelf| shelf.strong_count() > 0);
        }
        shelves.push(shelf);
        slot
    }

    /// Bytes that are paid for.
    #[cfg(test)]
    fn out(&self) -> u64 {
        (self.most as usize - self.room.available_permits()) as u64 * UNIT
    }
}

/// What one tail holds.
pub(crate) struct Slot<T> {
    held: Mutex<Option<T>>,
    began: Instant,
    /// When its reader came last, in milliseconds since it began.
    came: AtomicU64,
}

impl<T: Default> Slot<T> {
    /// Works on what is held; an empty one if it was let go of. The reader has come.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let now = self.began.elapsed().as_millis() as u64;
        self.came.store(now, Ordering::Relaxed);
        work(self.lock().get_or_insert_default())
    }
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Shelf for Slot<T> {
    fn idle(&self) -> Option<Duration> {
        self.lock().as_ref()?;
        let came = Duration::from_millis(self.came.load(Ordering::Relaxed));
        Some(self.began.elapsed().saturating_sub(came))
    }

    fn clear(&self) {
        let held = self.lock().take();
        // Dropped outside the lock: it may be large.
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << 20;

    #[derive(Default)]
    struct Page(Option<Paid>);

    #[tokio::test(start_paused = true)]
    async fn no_more_is_out_than_there_is_and_the_idle_give_way() {
        let credits = Credits::new(ALL);
        let idle: Vec<_> = (0..4).map(|_| credits.slot::<Page>()).collect();
        for slot in &idle {
            let paid = credits.pay(ALL / 4 - UNIT).await;
            slot.with(|page| page.0 = paid);
        }
        assert_eq!(credits.out(), ALL);
        assert!(credits.try_pay(1).is_none());
        // One of them stays busy, and keeps what it holds.
        let busy = idle[0].clone();
        let coming = tokio::spawn(async move {
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                busy.with(|page| assert!(page.0.is_some()));
            }
        });
        let started = Instant::now();
        let paid = credits.pay(ALL / 2).await;
        assert!(paid.is_some() && credits.out() <= ALL);
        assert!(
            started.elapsed() < IDLE + 3 * LOOK,
            "{:?}",
            started.elapsed()
        );
        assert!(
            idle[1..]
                .iter()
                .all(|slot| slot.with(|page| page.0.is_none()))
        );
        coming.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_larger_than_everything_costs_everything() {
        let credits = Credits::new(ALL);
        let paid = credits.pay(ALL * 9).await;
        assert_eq!(credits.out(), ALL);
        drop(paid);
        assert_eq!(credits.out(), 0);
    }

    #[tokio::test]
    async fn slots_of_tails_that_ended_are_forgotten() {
        let credits = Credits::new(ALL);
        for _ in 0..10_000 {
            credits.slot::<Page>();
        }
        assert!(credits.shelves().len() < 100);
    }
}
