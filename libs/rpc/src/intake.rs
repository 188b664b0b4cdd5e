//! What comes in from outside at the same time: how many calls, how many bytes of their messages, and how much of
//! both one caller may have, so that a few large senders keep nobody else out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commonplace_types::{Principal, Subject, TenantName};

use crate::server::{FRAME_BYTES, MESSAGE_BYTES};
use crate::{Code, Failure, serve};

/// How soon a message that found no room may come again.
const ROOM_AGAIN: Duration = Duration::from_millis(500);
/// So many bytes every call may have: small calls come in however many large ones there are.
const FREE: usize = 64 << 10;
/// What may be in memory of a message of the largest size before it is cut off.
const LARGEST: usize = MESSAGE_BYTES + 2 * FRAME_BYTES as usize;

/// What may be in memory of calls that are read, wait or run, all together.
#[derive(Debug, Clone, Copy)]
pub struct IntakeOptions {
    /// Calls; of one caller half as many.
    pub calls: usize,
    /// Bytes of their messages beyond 64 KiB of each; of one caller half as many. Never less than two of the largest
    /// messages.
    pub bytes: usize,
}

/// Counts what is held.
#[derive(Debug)]
pub(crate) struct Intake {
    most: Share,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: Share,
    callers: HashMap<Caller, Share>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    calls: usize,
    bytes: usize,
}

/// Nothing: whoever proved nothing.
type Caller = Option<(TenantName, Subject)>;

/// What a call that has come in holds. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    intake: Arc<Intake>,
    caller: Caller,
    /// Changed under the lock of the intake only.
    bytes: AtomicUsize,
}

impl Intake {
    pub(crate) fn new(options: IntakeOptions) -> Arc<Self> {
        Arc::new(Self {
            most: Share {
                calls: options.calls.max(2),
                bytes: options.bytes.max(2 * LARGEST),
            },
            held: Mutex::default(),
        })
    }

    /// Takes a call in. Error: RESOURCE_EXHAUSTED, there are too many, or too many of this caller.
    pub(crate) fn enter(self: &Arc<Self>, who: Option<&Principal>) -> Result<Arc<Claim>, Failure> {
        let caller = who.map(|who| (who.tenant.clone(), who.subject.clone()));
        let mut held = self.held();
        let of_caller = held.callers.get(&caller).map_or(0, |share| share.calls);
        if held.all.calls >= self.most.calls || of_caller >= self.most.calls / 2 {
            return Err(serve::too_many());
        }
        held.all.calls += 1;
        held.callers.entry(caller.clone()).or_default().calls += 1;
        drop(held);
        Ok(Arc::new(Claim {
            intake: self.clone(),
            caller,
            bytes: AtomicUsize::new(0),
        }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Makes room for so many bytes of messages, of which some may have room already. It is asked for as bytes come,
    /// so that announcing much and sending little keeps nobody out. Error: RESOURCE_EXHAUSTED, there is none now.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Failure> {
        let Some(bytes) = bytes.checked_sub(FREE) else {
            return Ok(());
        };
        let mut held = self.intake.held();
        let more = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        let most = self.intake.most.bytes;
        let all = held.all.bytes + more;
        let Some(own) = held.callers.get_mut(&self.caller) else {
            return Ok(());
        };
        if all > most || own.bytes + more > most / 2 {
            return Err(no_room());
        }
        own.bytes += more;
        held.all.bytes = all;
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        let mut held = self.intake.held();
        held.all = held.all.less(bytes);
        if let Some(share) = held.callers.get_mut(&self.caller) {
            *share = share.less(bytes);
            if *share == Share::default() {
                held.callers.remove(&self.caller);
            }
        }
    }
}

impl Share {
    /// Without a call that held so many bytes.
    fn less(self, bytes: usize) -> Self {
        Self {
            calls: self.calls.saturating_sub(1),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

fn no_room() -> Failure {
    Failure::new(Code::ResourceExhausted, "MESSAGES_BUSY")
        .retry_after(ROOM_AGAIN)
        .message("too many large messages at once; try again shortly")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(subject: &str) -> Principal {
        Principal {
            subject: Subject::new(subject).unwrap(),
            ..Principal::developer()
        }
    }

    fn intake(calls: usize) -> Arc<Intake> {
        Intake::new(IntakeOptions { calls, bytes: 0 })
    }

    #[test]
    fn one_caller_leaves_room_for_others() {
        let intake = intake(8);
        let (greedy, other) = (principal("greedy"), principal("other"));
        let held: Vec<_> = (0..4)
            .map(|_| intake.enter(Some(&greedy)).unwrap())
            .collect();
        let refused = intake.enter(Some(&greedy)).unwrap_err();
        assert_eq!(refused.reason, "TOO_MANY_CALLS");
        let more: Vec<_> = (0..4)
            .map(|_| intake.enter(Some(&other)).unwrap())
            .collect();
        assert_eq!(
            intake.enter(None).unwrap_err().reason,
            "TOO_MANY_CALLS",
            "all places are taken"
        );
        drop((held, more));
        assert_eq!(intake.held().all, Share::default());
        assert!(intake.held().callers.is_empty());
    }

    #[test]
    fn bytes_are_bounded_for_one_and_for_all() {
        let intake = intake(100);
        let enter = |name: &str| intake.enter(Some(&principal(name))).unwrap();
        let (one, same) = (enter("one"), enter("one"));
        one.hold(LARGEST / 2).unwrap();
        one.hold(LARGEST + FREE).unwrap();
        same.hold(FREE).unwrap();
        let refused = same.hold(FREE + 1).unwrap_err();
        assert_eq!(
            (refused.reason.as_str(), refused.code),
            ("MESSAGES_BUSY", Code::ResourceExhausted)
        );
        assert!(refused.retry_after.is_some());
        let (other, third) = (enter("other"), enter("third"));
        other.hold(LARGEST + FREE).unwrap();
        assert_eq!(third.hold(FREE + 1).unwrap_err().reason, "MESSAGES_BUSY");
        third.hold(FREE).unwrap();
        drop(one);
        third.hold(LARGEST + FREE).unwrap();
        drop((same, other, third));
        assert_eq!(intake.held().all, Share::default());
        assert!(intake.held().callers.is_empty());
    }
}
