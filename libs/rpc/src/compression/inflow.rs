//! What whoever reads a request says to what opens its messages: how much of them may be held, and that nobody wants
//! them any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use http::Extensions;

use super::messages::too_large;
use crate::Failure;
use crate::intake::Claim;
use crate::server::MESSAGE_BYTES;

/// Goes with a request whose messages are opened, in its extensions. Cheap to clone; clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inflow(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    unwanted: AtomicBool,
    /// Largest message; 0: as anywhere.
    most: AtomicUsize,
    claim: OnceLock<Weak<Claim>>,
}

impl Inflow {
    /// That of a request, if its messages are opened.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// What comes from now on passes as it is: nobody reads it.
    pub(crate) fn unwanted(&self) {
        self.0.unwanted.store(true, Ordering::Relaxed);
    }

    /// What is held is counted, as long as the call holds its place.
    pub(crate) fn counted(&self, claim: &Arc<Claim>) {
        let _ = self.0.claim.set(Arc::downgrade(claim));
    }

    /// Messages from now on are no longer than this.
    pub(crate) fn at_most(&self, bytes: usize) {
        self.0.most.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.0.unwanted.load(Ordering::Relaxed)
    }

    /// The longest that a message may be, opened or not.
    pub(super) fn most(&self) -> usize {
        match self.0.most.load(Ordering::Relaxed) {
            0 => MESSAGE_BYTES,
            most => most,
        }
    }

    /// Error: RESOURCE_EXHAUSTED, there is no room for so many bytes.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Failure> {
        let claim = self.0.claim.get().and_then(Weak::upgrade);
        claim.map_or(Ok(()), |claim| claim.hold(bytes))
    }

    pub(super) fn check(&self, length: usize) -> Result<(), tonic::Status> {
        let most = self.most();
        (length <= most)
            .then_some(())
            .ok_or_else(|| too_large(most))
    }
}
