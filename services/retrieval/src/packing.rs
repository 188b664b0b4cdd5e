//! Fills a budget, and gives every candidate that stays out exactly one reason.
//!
//! What must be in (`always`) goes first, best first. Then greedy takes the rest best first and skips what does not fit.
//! Knapsack takes the best-valued set among the first candidates that the rules let in, exactly, and fills what
//! is left greedily. Of several reasons against a candidate the first of these counts: superseded, filtered,
//! least score, duplicate, quota, last place, budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonplace_types::EventId;

use crate::candidate::{Candidate, Eligibility, PassageKey};
use crate::knapsack::{self, Thing};
use crate::ranking::Ranked;
use crate::rules::{PackingMethod, Rules};

/// Why a candidate is not in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Did not fit what was left of the budget.
    Budget,
    /// The policy's filters, quotas or least score.
    Policy,
    /// A later event replaces it.
    Superseded,
    /// The same content, or the same event often enough, is in already.
    Duplicate,
    /// Below the last place.
    Rank,
}

impl Reason {
    /// The word used in packs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Policy => "policy",
            Self::Superseded => "superseded",
            Self::Duplicate => "duplicate",
            Self::Rank => "rank",
        }
    }

    /// Reads the word used in packs.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Budget,
            Self::Policy,
            Self::Superseded,
            Self::Duplicate,
            Self::Rank,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word)
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is an item of the pack.
    Included,
    /// It is not, for one reason.
    Excluded {
        /// The reason.
        reason: Reason,
        /// More of it, for people.
        detail: String,
    },
}

/// A filled budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// For each ranked candidate, in the same order.
    pub outcomes: Vec<Outcome>,
    /// Tokens used, at most the budget.
    pub used: u32,
    /// How it went.
    pub trace: Trace,
    /// The smallest candidate that was left out for the budget alone.
    pub smallest_left_out: Option<u32>,
}

impl Packed {
    /// How many candidates are in.
    pub fn included(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Included)
            .count()
    }
}

/// How many items each step of packing took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    /// Because they must be in.
    pub always: u32,
    /// How many the exact choice was made from.
    pub pool: u32,
    /// By the exact choice.
    pub chosen: u32,
    /// Best first into what was left.
    pub filled: u32,
    /// Tokens that one step of the exact choice stands for.
    pub step: u32,
}

/// Fills `budget` tokens from `ranked`, which is in its total order.
///
/// `post_filter`: candidates with none of these tags fail the policy; empty lets all pass.
pub fn pack(ranked: &[Ranked], rules: &Rules, post_filter: &[String], budget: u32) -> Packed {
    let mut packer = Packer {
        ranked,
        rules,
        outcomes: ranked
            .iter()
            .map(|r| barred(r, rules, post_filter))
            .collect(),
        taken: Taken {
            left: budget,
            ..Taken::default()
        },
        trace: Trace::default(),
        smallest_left_out: None,
    };
    packer.trace.always = packer.fill(|candidate| candidate.always);
    if rules.packing == PackingMethod::Knapsack {
        packer.choose();
    }
    packer.trace.filled = packer.fill(|_| true);
    packer.finish(budget)
}

/// The reason against a candidate that does not depend on what else is in.
fn barred(ranked: &Ranked, rules: &Rules, post_filter: &[String]) -> Option<Outcome> {
    let candidate = &ranked.candidate;
    let fails_tags =
        !post_filter.is_empty() && !candidate.tags.iter().any(|tag| post_filter.contains(tag));
    match candidate.eligibility {
        Eligibility::Superseded => Some(excluded(Reason::Superseded, "a later event replaces it")),
        Eligibility::Filtered => Some(excluded(Reason::Policy, "fails the filter")),
        Eligibility::Eligible if candidate.always => None,
        Eligibility::Eligible if fails_tags => Some(excluded(Reason::Policy, "fails the filter")),
        Eligibility::Eligible if ranked.scores.total < rules.min_score => {
            Some(excluded(Reason::Policy, "below the least score"))
        }
        Eligibility::Eligible => None,
    }
}

fn excluded(reason: Reason, detail: impl Into<String>) -> Outcome {
    Outcome::Excluded {
        reason,
        detail: detail.into(),
    }
}

/// What is in so far.
#[derive(Debug, Clone, Default)]
struct Taken {
    left: u32,
    items: u32,
    per_event: BTreeMap<EventId, u32>,
    per_type: BTreeMap<Arc<str>, u32>,
    contents: BTreeMap<[u8; 16], PassageKey>,
}

impl Taken {
    /// The reason against a candidate beside what is in, its size left aside.
    fn against(&self, candidate: &Candidate, rules: &Rules) -> Option<Outcome> {
        if let Some(same) = self.contents.get(&candidate.content) {
            let detail = format!("same content as {}#{}", same.event, same.passage);
            return Some(excluded(Reason::Duplicate, detail));
        }
        if self
            .per_event
            .get(&candidate.key.event)
            .is_some_and(|n| *n >= rules.max_per_event)
        {
            let detail = format!("{} of its event are in", rules.max_per_event);
            return Some(excluded(Reason::Duplicate, detail));
        }
        let quota = rules
            .quotas
            .iter()
            .find(|(kind, _)| **kind == *candidate.artifact_type);
        if let Some((kind, most)) = quota
            && self.per_type.get(kind.as_str()).copied().unwrap_or(0) >= *most
        {
            return Some(excluded(
                Reason::Policy,
                format!("quota of {most} for `{kind}`"),
            ));
        }
        if self.items >= rules.max_items {
            return Some(excluded(
                Reason::Rank,
                format!("below place {}", rules.max_items),
            ));
        }
        None
    }

    fn add(&mut self, candidate: &Candidate, rules: &Rules) {
        self.left = self.left.saturating_sub(candidate.tokens);
        self.items += 1;
        *self.per_event.entry(candidate.key.event).or_default() += 1;
        self.contents.insert(candidate.content, candidate.key);
        if rules
            .quotas
            .iter()
            .any(|(kind, _)| **kind == *candidate.artifact_type)
        {
            *self
                .per_type
                .entry(candidate.artifact_type.clone())
                .or_default() += 1;
        }
    }
}

struct Packer<'a> {
    ranked: &'a [Ranked],
    rules: &'a Rules,
    /// None while nothing is decided.
    outcomes: Vec<Option<Outcome>>,
    taken: Taken,
    trace: Trace,
    smallest_left_out: Option<u32>,
}

impl Packer<'_> {
    /// Takes what is not decided, is meant and fits, best first; says how many.
    fn fill(&mut self, meant: impl Fn(&Candidate) -> bool) -> u32 {
        let before = self.taken.items;
        for (place, ranked) in self.ranked.iter().enumerate() {
            let candidate = &ranked.candidate;
            if self.outcomes[place].is_some() || !meant(candidate) {
                continue;
            }
            self.outcomes[place] = Some(match self.taken.against(candidate, self.rules) {
                Some(outcome) => outcome,
                None if candidate.tokens > self.taken.left => self.too_large(candidate.tokens),
                None => {
                    self.taken.add(candidate, self.rules);
                    Outcome::Included
                }
            });
        }
        self.taken.items - before
    }

    fn too_large(&mut self, tokens: u32) -> Outcome {
        let smallest = self
            .smallest_left_out
            .map_or(tokens, |least| least.min(tokens));
        self.smallest_left_out = Some(smallest);
        excluded(
            Reason::Budget,
            format!("takes {tokens}, {} left", self.taken.left),
        )
    }

    /// Takes the best-valued set of those that the rules let in side by side.
    fn choose(&mut self) {
        let mut tentative = self.taken.clone();
        let mut pool = Vec::new();
        for (place, ranked) in self.ranked.iter().enumerate() {
            let candidate = &ranked.candidate;
            let fits = candidate.tokens <= self.taken.left;
            if pool.len() == knapsack::MOST_THINGS {
                break;
            }
            if self.outcomes[place].is_none()
                && fits
                && tentative.against(candidate, self.rules).is_none()
            {
                tentative.add(candidate, self.rules);
                pool.push(place);
            }
        }
        let thing = |place: &usize| Thing {
            value: self.ranked[*place].scores.total,
            size: self.ranked[*place].candidate.tokens,
        };
        let things: Vec<Thing> = pool.iter().map(thing).collect();
        let chosen = knapsack::choose(&things, self.taken.left);
        self.trace.step = knapsack::step(self.taken.left);
        self.trace.pool = pool.len() as u32;
        for place in pool
            .into_iter()
            .zip(chosen)
            .filter_map(|(place, take)| take.then_some(place))
        {
            self.taken.add(&self.ranked[place].candidate, self.rules);
            self.outcomes[place] = Some(Outcome::Included);
            self.trace.chosen += 1;
        }
    }

    fn finish(self, budget: u32) -> Packed {
        let undecided = || excluded(Reason::Rank, "not considered");
        Packed {
            outcomes: self
                .outcomes
                .into_iter()
                .map(|o| o.unwrap_or_else(undecided))
                .collect(),
            used: budget - self.taken.left,
            trace: self.trace,
            smallest_left_out: self.smallest_left_out,
        }
    }
}

#[cfg(test)]
mod tests;
