//! Remembers the texts of passages, so that what several packs hold is fetched once.
//!
//! A passage never changes as long as a journal keeps its history: it is a piece of a recorded event. Whoever puts an
//! older journal in its place starts retrieval anew. What is remembered is given only for a candidate that the index has
//! just found for the same caller, so whoever may not see it never asks for it here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commonplace_types::{ProjectName, TenantName};
use lru::LruCache;

use crate::candidate::{Candidate, Passage, PassageKey};
use crate::reuse::digest;

/// What a passage takes up besides its strings, in bytes: the entry, its place in the order and what allocators add.
const OVERHEAD: usize = 400;

/// A text that is wanted, as the search has told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which passage.
    pub key: PassageKey,
    /// The hash of its title and text.
    pub content: [u8; 16],
    /// Its tokens. A text that was counted otherwise came from an index of another version and is fetched anew.
    pub tokens: u32,
}

impl Wanted {
    /// That of a candidate.
    pub fn of(candidate: &Candidate) -> Self {
        Self {
            key: candidate.key,
            content: candidate.content,
            tokens: candidate.tokens,
        }
    }
}

/// Whose passage it is and which, with the hash of its content: what an index that cuts events otherwise tells of is
/// another text.
type Key = ([u8; 32], PassageKey, [u8; 16]);

/// The texts used last.
pub(crate) struct Texts {
    most: usize,
    state: Mutex<State>,
}

struct State {
    texts: LruCache<Key, Arc<Passage>>,
    bytes: usize,
}

/// The texts of one project.
pub(crate) struct OfProject<'a> {
    texts: &'a Texts,
    project: [u8; 32],
}

impl Texts {
    /// Remembers at most so many bytes; 0: nothing.
    pub(crate) fn new(most: usize) -> Self {
        let state = State {
            texts: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            most,
            state: Mutex::new(state),
        }
    }

    /// Those of a tenant's project.
    pub(crate) fn of(&self, tenant: &TenantName, project: &ProjectName) -> OfProject<'_> {
        OfProject {
            texts: self,
            project: digest(&[tenant.as_str(), project.as_str()]),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfProject<'_> {
    /// Those that are known, in the order asked for.
    pub(crate) fn known(&self, wanted: &[Wanted]) -> Vec<Option<Arc<Passage>>> {
        let mut state = self.texts.state();
        let mut known = |wanted: &Wanted| {
            let found = state.texts.get(&self.key(wanted))?;
            (found.tokens == wanted.tokens).then(|| found.clone())
        };
        wanted.iter().map(&mut known).collect()
    }

    /// Remembers a text, and forgets those used longest ago for it. One that would take more than there is room for is
    /// not remembered, nor one that is not as the search told: between two calls, another index may have answered.
    pub(crate) fn learn(&self, wanted: &Wanted, passage: &Arc<Passage>) {
        let size = size(passage);
        let told = (passage.key, passage.tokens) == (wanted.key, wanted.tokens);
        if size > self.texts.most || !told {
            return;
        }
        let mut state = self.texts.state();
        let before = state.texts.push(self.key(wanted), passage.clone());
        state.bytes += size;
        // An equal key's text comes back, nothing else: there is no limit of entries.
        state.bytes -= before.map_or(0, |(_, before)| self::size(&before));
        while state.bytes > self.texts.most {
            let Some((_, oldest)) = state.texts.pop_lru() else {
                break;
            };
            state.bytes -= self::size(&oldest);
        }
    }

    fn key(&self, wanted: &Wanted) -> Key {
        (self.project, wanted.key, wanted.content)
    }
}

fn size(passage: &Passage) -> usize {
    let Passage {
        record,
        artifact_type,
        title,
        text,
        source,
        author,
        checksum,
        ..
    } = passage;
    let strings = [record, artifact_type, title, text, source, author, checksum];
    OVERHEAD + strings.iter().map(|text| text.capacity()).sum::<usize>()
}

#[cfg(test)]
mod tests;
