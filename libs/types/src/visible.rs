use crate::LaneInterval;

/// What a commit sees: one interval for each lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Visible(Vec<LaneInterval>);

impl Visible {
    /// From intervals in any order; of several for a lane the longest counts.
    pub fn new(mut intervals: Vec<LaneInterval>) -> Self {
        intervals.retain(|interval| interval.position > 0);
        intervals.sort_by(|a, b| a.lane.cmp(&b.lane).then(b.position.cmp(&a.position)));
        intervals.dedup_by_key(|interval| interval.lane);
        Self(intervals)
    }

    /// Sorted by lane.
    pub fn intervals(&self) -> &[LaneInterval] {
        &self.0
    }

    /// Whether a position of a lane is seen.
    pub fn sees(&self, lane: u32, position: u32) -> bool {
        self.0
            .binary_search_by_key(&lane, |interval| interval.lane)
            .is_ok_and(|found| position <= self.0[found].position)
    }
}
