//! Makes one score of the lexical and the dense one.
//!
//! Scores become whole millionths first and are only added and divided as whole numbers after that, so the
//! result is the same on every machine and in every order of the candidates.

use crate::candidate::{Candidate, Eligibility, ONE};
use crate::rules::FusionMethod;

/// What to fuse by.
#[derive(Debug, Clone, Copy)]
pub struct Fusion {
    /// Sum, rank or maximum.
    pub method: FusionMethod,
    /// Weight of the lexical score in millionths; 0 when it takes no part.
    pub lexical_weight: u32,
    /// Weight of the dense score in millionths; 0 when it takes no part.
    pub dense_weight: u32,
    /// The constant of reciprocal rank fusion, at least 1.
    pub rrf_k: u32,
    /// The dense scores are scaled over so many of the best.
    pub list_length: u32,
}

/// A candidate's scores and what they make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fused {
    /// Lexical score by the best one, 0 to a million.
    pub lexical: u32,
    /// Dense score between the worst and the best of the list, 0 to a million.
    pub dense: u32,
    /// Millionths of the score times millionths of both weights.
    pub points: u64,
}

/// Fuses the scores of each candidate, in the order given.
///
/// Weighted sum: lexical scores are divided by the top one; dense scores are scaled so that the best of
/// the `list_length` best is 1 and the worst of them 0, and cut off at both. Reciprocal rank:
/// sum of `weight * 2^32 / (k + rank)` in whole numbers, as a share of what rank 1 in each list gives. Maximum: the
/// greater of both weighted scores, as a share of the greater weight.
/// Errors: none; without scores everything is 0. Source of the rank form: Cormack, Clarke and Büttcher,
/// SIGIR 2009.
pub fn fuse(candidates: &[Candidate], fusion: &Fusion) -> Vec<Fused> {
    let scale = Scale::of(candidates, fusion);
    candidates
        .iter()
        .map(|candidate| {
            let lexical = scale.lexical(candidate);
            let dense = scale.dense(candidate);
            let points =
                fusion.points(lexical, dense, candidate.lexical_rank, candidate.dense_rank);
            Fused {
                lexical,
                dense,
                points,
            }
        })
        .collect()
}

impl Fusion {
    fn points(&self, lexical: u32, dense: u32, lexical_rank: u32, dense_rank: u32) -> u64 {
        let by_lexical = u64::from(self.lexical_weight) * u64::from(lexical);
        let by_dense = u64::from(self.dense_weight) * u64::from(dense);
        let both = u64::from(self.lexical_weight) + u64::from(self.dense_weight);
        match self.method {
            FusionMethod::WeightedSum => by_lexical + by_dense,
            FusionMethod::MaxScore => {
                let greater = self.lexical_weight.max(self.dense_weight);
                share(
                    by_lexical.max(by_dense),
                    u64::from(greater) * u64::from(ONE),
                    both,
                )
            }
            FusionMethod::ReciprocalRank => {
                let sum = self.rank_part(self.lexical_weight, lexical_rank)
                    + self.rank_part(self.dense_weight, dense_rank);
                let best =
                    self.rank_part(self.lexical_weight, 1) + self.rank_part(self.dense_weight, 1);
                share(sum, best, both)
            }
        }
    }

    fn rank_part(&self, weight: u32, rank: u32) -> u64 {
        if rank == 0 {
            return 0;
        }
        (u64::from(weight) << 32) / (u64::from(self.rrf_k) + u64::from(rank))
    }
}

/// `part` of `whole` as points of the weight; 0 of nothing.
fn share(part: u64, whole: u64, weight: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let points = u128::from(weight) * u128::from(ONE) * u128::from(part) / u128::from(whole);
    points as u64
}

/// The ends between which scores are scaled.
struct Scale {
    top: f64,
    worst: f64,
    best: f64,
    lexical_on: bool,
    dense_on: bool,
}

impl Scale {
    fn of(candidates: &[Candidate], fusion: &Fusion) -> Self {
        let mut scale = Self {
            top: 0.0,
            worst: f64::INFINITY,
            best: f64::NEG_INFINITY,
            lexical_on: fusion.lexical_weight > 0,
            dense_on: fusion.dense_weight > 0,
        };
        let eligible = candidates
            .iter()
            .filter(|c| c.eligibility == Eligibility::Eligible);
        for candidate in eligible {
            scale.top = scale.top.max(candidate.lexical_score);
            let listed = (1..=fusion.list_length).contains(&candidate.dense_rank);
            if let Some(score) = candidate.dense_score.filter(|_| listed) {
                scale.worst = scale.worst.min(score);
                scale.best = scale.best.max(score);
            }
        }
        scale
    }

    fn lexical(&self, candidate: &Candidate) -> u32 {
        if !self.lexical_on || self.top <= 0.0 {
            return 0;
        }
        millionths(candidate.lexical_score / self.top)
    }

    fn dense(&self, candidate: &Candidate) -> u32 {
        let Some(score) = candidate.dense_score.filter(|_| self.dense_on) else {
            return 0;
        };
        if self.best > self.worst {
            return millionths((score - self.worst) / (self.best - self.worst));
        }
        if score >= self.best { ONE } else { 0 }
    }
}

/// The nearest number of millionths, cut off at 0 and 1.
pub fn millionths(value: f64) -> u32 {
    (value.clamp(0.0, 1.0) * f64::from(ONE)).round() as u32
}

#[cfg(test)]
mod tests;
