//! Adds what else a policy counts, and puts the candidates in their one order.

use commonplace_types::Timestamp;

use crate::candidate::{Candidate, Dense, ONE, PassageKey};
use crate::fusion::{self, Fusion};
use crate::rules::{FusionMethod, Rules};

/// Scores in millionths; a signal that took no part is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scores {
    /// The weighted mean of all that took part.
    pub total: u32,
    /// By words.
    pub lexical: u32,
    /// By meaning.
    pub dense: u32,
    /// By youth.
    pub recency: u32,
    /// By importance.
    pub importance: u32,
    /// By being pinned.
    pub pin: u32,
}

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The candidate.
    pub candidate: Candidate,
    /// Its scores.
    pub scores: Scores,
}

impl Ranked {
    /// The order of packs: best first, ties by event, then passage. Total, since keys are unique.
    pub fn order(&self) -> (std::cmp::Reverse<u32>, PassageKey) {
        (std::cmp::Reverse(self.scores.total), self.candidate.key)
    }
}

/// Scores every candidate by the rules and sorts them, best first; ties by event id, then passage.
///
/// `method`: in place of the rules' fusion, if given. `clock`: ages are counted from here.
/// The order and the scores do not depend on the order of `candidates`.
pub fn rank(
    candidates: Vec<Candidate>,
    rules: &Rules,
    method: Option<FusionMethod>,
    dense: &Dense,
    clock: Timestamp,
) -> Vec<Ranked> {
    let weights = &rules.weights;
    let dense_weight = match dense {
        Dense::On { .. } => weights.dense,
        Dense::Off { .. } => 0,
    };
    let fusion = Fusion {
        method: method.unwrap_or(rules.fusion),
        lexical_weight: weights.lexical,
        dense_weight,
        rrf_k: rules.rrf_k,
        list_length: rules.candidates,
    };
    let fused = fusion::fuse(&candidates, &fusion);
    let whole: u64 = [
        weights.lexical,
        dense_weight,
        weights.recency,
        weights.importance,
        weights.pin,
    ]
    .map(u64::from)
    .iter()
    .sum();
    let mut ranked: Vec<Ranked> = candidates
        .into_iter()
        .zip(fused)
        .map(|(candidate, fused)| {
            let part = |weight: u32, signal: u32| if weight > 0 { signal } else { 0 };
            let pin = if candidate.pinned { ONE } else { 0 };
            let recency = if weights.recency > 0 {
                recency(candidate.event_time, clock, rules.recency_lambda)
            } else {
                0
            };
            let mut scores = Scores {
                total: 0,
                lexical: fused.lexical,
                dense: fused.dense,
                recency,
                importance: part(weights.importance, candidate.importance),
                pin: part(weights.pin, pin),
            };
            let points = fused.points
                + u64::from(weights.recency) * u64::from(scores.recency)
                + u64::from(weights.importance) * u64::from(scores.importance)
                + u64::from(weights.pin) * u64::from(scores.pin);
            // The nearest millionth of the mean; at most a million, since no signal is above that.
            scores.total = ((points + whole / 2).checked_div(whole)).unwrap_or(0) as u32;
            Ranked { candidate, scores }
        })
        .collect();
    // Keys are unique, and each candidate is large: it is moved once.
    ranked.sort_by_cached_key(Ranked::order);
    ranked
}

/// exp(-lambda * age in days) in millionths; 1 for what is not yet. `lambda`: millionths per day.
///
/// Computed by a library of ours to choose, not the machine's, so that it is the same everywhere.
pub fn recency(event_time: Timestamp, clock: Timestamp, lambda: u32) -> u32 {
    let micros = clock
        .as_micros()
        .saturating_sub(event_time.as_micros())
        .max(0);
    let days = micros as f64 / 86_400e6;
    fusion::millionths(libm::exp(-(f64::from(lambda) / 1e6) * days))
}

#[cfg(test)]
mod tests;
