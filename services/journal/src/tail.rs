//! Whole commits in order, from a cursor on, without end.
//!
//! A subscriber has two pages of about a megabyte, or of one larger commit, at most: the one it takes and the one
//! after it, however slow it is and whatever is appended meanwhile; and all of them together have no more than
//! [`Credits`](crate::credits) allow. A tail wakes when a commit is made; while nothing happens it sends heartbeats
//! with the head, so that a reader notices when it has lost something.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use commonplace_types::{CommitHash, Digest, ProjectName, TenantName};
use futures::Stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::credits::{Credits, Paid, Slot};
use crate::state::Project;
use crate::store::{Frame, Store};
use crate::token::{Kind, Refused};
use crate::{Journal, JournalError};

/// How often, and after what wait, a page that should be there is read again before it counts as lost.
const LAGGING_READS: u32 = 20;
const LAG: std::time::Duration = std::time::Duration::from_millis(50);

/// One message of a tail.
#[derive(Debug, Clone)]
pub enum TailItem {
    /// The next commit.
    Frame(Frame),
    /// Nothing new; the newest commit's number and hash.
    Heartbeat(u64, CommitHash),
}

/// A message and where to resume after it.
#[derive(Debug, Clone)]
pub struct Tailed {
    /// Opaque; accepted by [`Journal::tail`].
    pub cursor: String,
    /// What is told.
    pub item: TailItem,
}

/// Messages without end.
pub type TailStream = Pin<Box<dyn Stream<Item = Result<Tailed, JournalError>> + Send>>;

impl Journal {
    /// Follows a project from a cursor on; an empty cursor starts with commit 0. Resuming is exclusive.
    ///
    /// Errors: a malformed `cursor`; [`JournalError::CursorAhead`] when it names a commit this journal
    /// does not have, [`JournalError::CursorForked`] when it was made by another journal or for another
    /// project, or names another commit of that number. The stream ends with [`JournalError::Stopping`]
    /// at shutdown, with [`JournalError::Standby`] when another process takes over.
    pub async fn tail(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        cursor: &str,
    ) -> Result<TailStream, JournalError> {
        let project = self.store().projects()?.get(tenant, project)?;
        let (next, at) = match cursor {
            "" => (0, None),
            cursor => {
                let (number, hash) = self.check_cursor(&project, cursor).await?;
                (number + 1, Some(hash))
            }
        };
        let follower = Follower {
            store: self.store().clone(),
            newest: project.newest.subscribe(),
            ready: self.ready(),
            stopping: self.stopping(),
            heartbeat: self.heartbeat(),
            last_sent: Instant::now(),
            project,
            next,
            at,
            held: self.credits().slot(),
            credits: self.credits().clone(),
            ended: false,
        };
        let messages = futures::stream::unfold(follower, |mut follower| async move {
            let item = follower.next().await?;
            Some((item, follower))
        });
        Ok(Box::pin(messages))
    }

    async fn check_cursor(
        &self,
        project: &Project,
        cursor: &str,
    ) -> Result<(u64, CommitHash), JournalError> {
        let malformed = || {
            let problem = "expected a cursor from an earlier answer, or nothing";
            JournalError::from(commonplace_types::Invalid::new("cursor", problem))
        };
        let content = self
            .store()
            .sealer
            .open(Kind::Tail, cursor)
            .map_err(|why| match why {
                Refused::Malformed => malformed(),
                Refused::Foreign => JournalError::CursorForked,
            })?;
        let (key, number, hash) = read_cursor(&content).ok_or_else(malformed)?;
        if key != project.key {
            return Err(JournalError::CursorForked);
        }
        let head = project.read().last.number;
        if number > head {
            return Err(JournalError::CursorAhead { number, head });
        }
        let store = self.store();
        let commit = store
            .commit_by_number(&project.tenant, project.key, number)
            .await?;
        if commit.hash != hash {
            return Err(JournalError::CursorForked);
        }
        Ok((number, hash))
    }
}

struct Follower {
    store: Arc<Store>,
    project: Arc<Project>,
    newest: watch::Receiver<u64>,
    /// Ends the tail when another process leads.
    ready: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
    heartbeat: Duration,
    last_sent: Instant,
    /// The number of the next commit to send.
    next: u64,
    /// The hash of the commit before it.
    at: Option<CommitHash>,
    held: Arc<Slot<Held>>,
    credits: Arc<Credits>,
    ended: bool,
}

/// What was read for a reader and not taken by it. It may be let go of at any time and is then read again.
#[derive(Default)]
struct Held {
    frames: VecDeque<Frame>,
    /// What the frames cost, until the last was taken.
    _paid: Option<Paid>,
    /// The page after them, being read meanwhile; none if there was no room for it.
    ahead: Option<JoinHandle<Result<Option<Page>, JournalError>>>,
}

struct Page {
    frames: Vec<Frame>,
    paid: Option<Paid>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Tailed, JournalError>> {
        if self.ended {
            return None;
        }
        let item = self.item().await;
        self.ended = item.is_err();
        self.last_sent = Instant::now();
        Some(item)
    }

    async fn item(&mut self) -> Result<Tailed, JournalError> {
        loop {
            if *self.stopping.borrow() {
                return Err(JournalError::Stopping);
            }
            self.store.leading()?;
            if let Some(frame) = self.held.with(|held| held.frames.pop_front()) {
                return self.frame(frame);
            }
            let newest = *self.newest.borrow_and_update();
            if newest >= self.next {
                self.fetch(newest).await?;
                continue;
            }
            // Whoever waits for what is to come needs no room.
            self.held.with(|held| *held = Held::default());
            tokio::select! {
                _ = self.newest.changed() => {}
                _ = self.stopping.changed() => {}
                _ = self.ready.changed() => {}
                () = tokio::time::sleep_until(self.last_sent + self.heartbeat) => {
                    return Ok(self.beat());
                }
            }
        }
    }

    /// Holds the next page; the one after it, if there is one already, is read while this one is taken.
    async fn fetch(&mut self, newest: u64) -> Result<(), JournalError> {
        let ahead = self.held.with(std::mem::take).ahead;
        let ahead = match ahead {
            Some(task) => task.await.unwrap_or(Err(JournalError::Stopping))?,
            None => None,
        };
        let mut page = match ahead {
            Some(page) => page,
            None => self.read().await?,
        };
        // A reading connection can lag behind the writer for a moment when the disk has just been full.
        for _ in 0..LAGGING_READS {
            if !page.frames.is_empty() {
                break;
            }
            tokio::time::sleep(LAG).await;
            page = self.read().await?;
        }
        let Some(last) = page.frames.last() else {
            return Err(JournalError::damaged(format!(
                "commit {} is missing",
                self.next
            )));
        };
        let after = last.commit.number + 1;
        self.held.with(|held| {
            *held = Held {
                frames: page.frames.into(),
                _paid: page.paid,
                ahead: (after <= newest).then(|| self.read_ahead(after)),
            };
        });
        Ok(())
    }

    /// Reads the next page, when there is room for it.
    async fn read(&mut self) -> Result<Page, JournalError> {
        let page = self.store.frame_page(&self.project, self.next).await?;
        let paid = tokio::select! {
            paid = self.credits.pay(page.bytes()) => paid,
            _ = self.stopping.changed() => return Err(JournalError::Stopping),
        };
        let frames = self.store.frames(&self.project, &page).await?;
        Ok(Page { frames, paid })
    }

    /// Reads a page, if there is room for it now.
    fn read_ahead(&self, from: u64) -> JoinHandle<Result<Option<Page>, JournalError>> {
        let (store, project) = (self.store.clone(), self.project.clone());
        let credits = self.credits.clone();
        tokio::spawn(async move {
            let page = store.frame_page(&project, from).await?;
            let Some(paid) = credits.try_pay(page.bytes()) else {
                return Ok(None);
            };
            let frames = store.frames(&project, &page).await?;
            let paid = Some(paid);
            Ok(Some(Page { frames, paid }))
        })
    }

    fn frame(&mut self, frame: Frame) -> Result<Tailed, JournalError> {
        let number = frame.commit.number;
        if number != self.next || frame.previous != self.at {
            return Err(JournalError::damaged(format!(
                "commit {} is not followed by commit {}",
                self.next.saturating_sub(1),
                self.next
            )));
        }
        self.next = number + 1;
        self.at = Some(frame.commit.hash);
        Ok(Tailed {
            cursor: self.cursor(),
            item: TailItem::Frame(frame),
        })
    }

    fn beat(&self) -> Tailed {
        let last = self.project.read().last.clone();
        Tailed {
            cursor: self.cursor(),
            item: TailItem::Heartbeat(last.number, last.hash),
        }
    }

    fn cursor(&self) -> String {
        let Some(hash) = self.at else {
            return String::new();
        };
        let mut content = self.project.key.to_le_bytes().to_vec();
        content.extend_from_slice(&(self.next - 1).to_le_bytes());
        content.extend_from_slice(hash.as_bytes());
        self.store.sealer.seal(Kind::Tail, &content)
    }
}

fn read_cursor(content: &[u8]) -> Option<(i64, u64, CommitHash)> {
    let (key, rest) = content.split_first_chunk::<8>()?;
    let (number, hash) = rest.split_first_chunk::<8>()?;
    let hash = Digest::from_slice(hash).ok()?;
    Some((i64::from_le_bytes(*key), u64::from_le_bytes(*number), hash))
}
