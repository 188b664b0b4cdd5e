//! The best of many by score.

use std::cmp::Ordering;

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub(crate) row: u32,
    pub(crate) score: f64,
}

/// Keeps the best `limit` of what it is offered. Equal scores are ordered by `tie`, always the same one, so
/// the outcome does not depend on the order of the offers.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    /// A lower score is not among the best.
    floor: f64,
    held: Vec<Scored>,
}

impl Best {
    /// Keeps nothing yet, and never a score below `least`.
    pub(crate) fn new(limit: usize, least: f64) -> Self {
        Self {
            limit,
            floor: if limit == 0 { f64::INFINITY } else { least },
            held: Vec::with_capacity(limit * 2),
        }
    }

    /// A lower score is not among the best; it rises with what is offered.
    #[inline]
    pub(crate) fn floor(&self) -> f64 {
        self.floor
    }

    /// Whether a score may be among the best; a quick test before a row is looked at.
    #[inline]
    pub(crate) fn wants(&self, score: f64) -> bool {
        score >= self.floor
    }

    /// Offers a row.
    #[inline]
    pub(crate) fn offer(&mut self, row: u32, score: f64, tie: impl Fn(u32, u32) -> Ordering) {
        if self.limit == 0 || !self.wants(score) {
            return;
        }
        self.held.push(Scored { row, score });
        if self.held.len() >= self.limit * 2 {
            self.shrink(tie);
        }
    }

    fn shrink(&mut self, tie: impl Fn(u32, u32) -> Ordering) {
        let worst = self.limit - 1;
        self.held
            .select_nth_unstable_by(worst, |a, b| order(&tie, a, b));
        self.held.truncate(self.limit);
        self.floor = self.held[worst].score;
    }

    /// The best, best first.
    pub(crate) fn into_sorted(mut self, tie: impl Fn(u32, u32) -> Ordering) -> Vec<Scored> {
        self.held.sort_unstable_by(|a, b| order(&tie, a, b));
        self.held.truncate(self.limit);
        self.held
    }
}

fn order(tie: impl Fn(u32, u32) -> Ordering, a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| tie(a.row, b.row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_what_sorting_gives(
            scores in proptest::collection::vec(0u8..6, 0..200),
            limit in 0usize..20,
            least in 0u8..3,
        ) {
            // The tie order runs against the row order, and equal scores are many.
            let tie = |a: u32, b: u32| b.cmp(&a);
            let mut best = Best::new(limit, f64::from(least));
            let mut all: Vec<Scored> = Vec::new();
            for (row, &score) in scores.iter().enumerate() {
                let (row, score) = (row as u32, f64::from(score));
                best.offer(row, score, tie);
                all.push(Scored { row, score });
            }
            all.retain(|scored| scored.score >= f64::from(least));
            all.sort_by(|a, b| order(tie, a, b));
            all.truncate(limit);
            prop_assert_eq!(best.into_sorted(tie), all);
        }
    }
}
