//! Denials, counted where they repeat: a flood of them takes no more room than a window's share.
//!
//! The first of its kind is told at once, and again with how many followed when its window ends. Where a tenant
//! has as many kinds as are told apart, the others are counted together, by their reason alone. One caller, and all
//! whom nobody knows together, has a quarter of them at most: so nobody hides among its own denials those of others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use commonplace_types::{ProjectName, TenantName};

use super::entry::{Entry, Verdict, Who, new_id};

/// Kinds that are told apart at the same time, of all tenants together.
const KINDS: usize = 20_000;

/// By what denials are told apart: whatever a stranger can make up at will is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    tenant: TenantName,
    verdict: Verdict,
    reason: String,
    /// None: counted together.
    of: Option<Details>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Details {
    who: Option<Who>,
    method: String,
    project: Option<ProjectName>,
    peer: String,
}

/// What came of a kind since it was told last.
#[derive(Debug)]
struct Repeats {
    since: Instant,
    /// How many, and the first of them with the time of the last.
    entry: Entry,
    count: u64,
}

/// Counts denials.
#[derive(Debug)]
pub(super) struct Denials {
    window: Duration,
    distinct: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<Kind, Repeats>,
    /// Kinds of each tenant that are told apart.
    apart: HashMap<TenantName, usize>,
    /// And of each caller.
    by_caller: HashMap<Caller, usize>,
}

/// None: whom nobody knows.
type Caller = (TenantName, Option<Who>);

impl Denials {
    pub(super) fn new(window: Duration, distinct: usize) -> Self {
        Self {
            window,
            distinct,
            state: Mutex::default(),
        }
    }

    /// Notes a denial; gives it back if it is to be told now, else it was counted.
    pub(super) fn note(&self, entry: Entry, now: Instant) -> Option<Entry> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Kind::of(&entry);
        if state.count(&kind, &entry) {
            return None;
        }
        if entry.verdict != Verdict::Lost && self.has_room(&state, &entry) {
            state.told_apart(&entry);
            let repeats = Repeats {
                since: now,
                entry: entry.clone(),
                count: 0,
            };
            state.kinds.insert(kind, repeats);
            return Some(entry);
        }
        let together = Kind { of: None, ..kind };
        if !state.count(&together, &entry) {
            let repeats = Repeats {
                since: now,
                count: entry.count,
                entry: without_details(entry),
            };
            state.kinds.insert(together, repeats);
        }
        None
    }

    /// Whether a kind that is new can be told apart.
    fn has_room(&self, state: &State, entry: &Entry) -> bool {
        let apart = state.apart.get(&entry.tenant).copied().unwrap_or(0);
        let caller = (entry.tenant.clone(), entry.who.clone());
        let of_caller = state.by_caller.get(&caller).copied().unwrap_or(0);
        let share = self.distinct.div_ceil(4);
        apart < self.distinct && of_caller < share && state.kinds.len() < KINDS
    }

    /// Counts one that could not be told after all.
    pub(super) fn untold(&self, entry: &Entry) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count(&Kind::of(entry), entry);
    }

    /// What is to be told of windows that have ended, at most so many; by time. `all`: of those that have not, too.
    pub(super) fn due(&self, now: Instant, most: usize, all: bool) -> Vec<Entry> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = |repeats: &Repeats| all || now.duration_since(repeats.since) >= self.window;
        let mut due: Vec<Kind> = state
            .kinds
            .iter()
            .filter(|(_, repeats)| ended(repeats))
            .map(|(kind, _)| kind.clone())
            .collect();
        due.sort();
        due.sort_by_key(|kind| state.kinds.get(kind).map(|repeats| repeats.entry.time));
        let mut told = Vec::new();
        for kind in due {
            let silent = state
                .kinds
                .get(&kind)
                .is_some_and(|repeats| repeats.count == 0);
            if !silent && told.len() >= most {
                break;
            }
            told.extend(state.take(&kind));
        }
        told
    }
}

impl State {
    /// Counts one more of a kind. False: there is none of it.
    fn count(&mut self, kind: &Kind, entry: &Entry) -> bool {
        let Some(repeats) = self.kinds.get_mut(kind) else {
            return false;
        };
        if repeats.count == 0 {
            repeats.entry.time = entry.time;
            repeats.entry.request_id.clone_from(&entry.request_id);
            repeats.entry.trace_id.clone_from(&entry.trace_id);
        }
        repeats.count = repeats.count.saturating_add(entry.count);
        repeats.entry.last_time = repeats.entry.last_time.max(entry.last_time);
        true
    }

    fn told_apart(&mut self, entry: &Entry) {
        let caller = (entry.tenant.clone(), entry.who.clone());
        *self.apart.entry(entry.tenant.clone()).or_default() += 1;
        *self.by_caller.entry(caller).or_default() += 1;
    }

    /// Forgets a kind; gives what is to be told of it.
    fn take(&mut self, kind: &Kind) -> Option<Entry> {
        let repeats = self.kinds.remove(kind)?;
        if let Some(details) = &kind.of {
            one_less(&mut self.apart, &kind.tenant);
            let caller = (kind.tenant.clone(), details.who.clone());
            one_less(&mut self.by_caller, &caller);
        }
        (repeats.count > 0).then(|| Entry {
            id: new_id(),
            count: repeats.count,
            ..repeats.entry
        })
    }
}

impl Kind {
    fn of(entry: &Entry) -> Self {
        Self {
            tenant: entry.tenant.clone(),
            verdict: entry.verdict,
            reason: entry.reason.clone(),
            of: Some(Details {
                who: entry.who.clone(),
                method: entry.method.clone(),
                project: entry.project.clone(),
                peer: entry.peer.clone(),
            }),
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn without_details(entry: Entry) -> Entry {
    Entry {
        who: None,
        method: String::new(),
        right: None,
        project: None,
        policies: Vec::new(),
        rules: None,
        peer: String::new(),
        ..entry
    }
}
