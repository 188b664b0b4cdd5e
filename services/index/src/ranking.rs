//! The best rows of one signal, apart by whether they may be used.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::best::{Best, Scored};
use crate::bitmap::Bitmap;
use crate::engine::Snapshot;
use crate::passages::PassageKey;
use crate::visibility::View;

/// Where one search takes place: a state, what its commit sees of it, what the filter takes of that.
pub(crate) struct Place {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) view: Arc<View>,
    /// Live rows that the filter takes.
    pub(crate) eligible: Arc<Bitmap>,
}

impl Place {
    /// The event of a row and which of its passages the row is.
    pub(crate) fn event_of(&self, row: u32) -> (usize, u32) {
        let state = &self.snapshot.state;
        let event = state.rows.at(row as usize).event as usize;
        (event, row - state.facts.at(event).first_row)
    }

    /// The row of a passage that the state knows.
    pub(crate) fn row_of(&self, key: PassageKey) -> Option<u32> {
        let state = &self.snapshot.state;
        let facts = state.facts.at(state.event_number(key.event)? as usize);
        (key.passage < u32::from(facts.rows)).then(|| facts.first_row + key.passage)
    }

    /// The order of rows with equal scores: by event id, then passage.
    pub(crate) fn tie(&self, a: u32, b: u32) -> Ordering {
        let ((event_a, passage_a), (event_b, passage_b)) = (self.event_of(a), self.event_of(b));
        let id = |event: usize| self.snapshot.state.events.at(event).id;
        let by_event = || id(event_a).cmp(&id(event_b));
        let by_passage = passage_a.cmp(&passage_b);
        if event_a == event_b {
            return by_passage;
        }
        by_event().then(by_passage)
    }
}

/// Collects the best rows that may be used and the best that may not.
pub(crate) struct Ranking<'a> {
    place: &'a Place,
    eligible: Best,
    ineligible: Best,
}

/// Both lists, best first.
#[derive(Debug, Default)]
pub(crate) struct Ranked {
    pub(crate) eligible: Vec<Scored>,
    pub(crate) ineligible: Vec<Scored>,
}

impl<'a> Ranking<'a> {
    /// Keeps that many of each, and no score below `least`.
    pub(crate) fn new(place: &'a Place, eligible: usize, ineligible: usize, least: f64) -> Self {
        Self {
            place,
            eligible: Best::new(eligible, least),
            ineligible: Best::new(ineligible, least),
        }
    }

    /// Offers a row; one that the commit does not see is left out.
    #[inline]
    pub(crate) fn offer(&mut self, row: u32, score: f64) {
        let (usable, other) = (self.eligible.wants(score), self.ineligible.wants(score));
        if !usable && !other {
            return;
        }
        let tie = |a, b| self.place.tie(a, b);
        if self.place.eligible.get(row) {
            if usable {
                self.eligible.offer(row, score, tie);
            }
        } else if other && self.place.view.visible.get(row) {
            self.ineligible.offer(row, score, tie);
        }
    }

    /// Offers neighbouring rows, from a multiple of 64 on: word by word of the sets, so that rows with low
    /// scores cost next to nothing.
    pub(crate) fn offer_run(&mut self, first: u32, scores: &[f64]) {
        for (first, scores) in (first..).step_by(64).zip(scores.chunks(64)) {
            for bit in bits(self.wanted(first, scores)) {
                self.offer(first + bit, scores[bit as usize]);
            }
        }
    }

    /// Offers neighbouring rows, from a multiple of 64 on, of which only is known what their scores do not exceed.
    /// `exact` writes the scores of those that may be among the best, named by their bits in a word that starts at
    /// the row it is called with.
    pub(crate) fn offer_bounded(
        &mut self,
        first: u32,
        highest: &[f64],
        mut exact: impl FnMut(u32, u64, &mut [f64; 64]),
    ) {
        let mut scores = [0.0; 64];
        for (first, highest) in (first..).step_by(64).zip(highest.chunks(64)) {
            let wanted = self.wanted(first, highest);
            if wanted == 0 {
                continue;
            }
            exact(first, wanted, &mut scores);
            let best = wanted & self.wanted(first, &scores[..highest.len()]);
            for bit in bits(best) {
                self.offer(first + bit, scores[bit as usize]);
            }
        }
    }

    /// Which of up to 64 rows from a multiple of 64 on may be among the best with scores up to these.
    fn wanted(&self, first: u32, scores: &[f64]) -> u64 {
        let word_of = |rows: &Bitmap| rows.words().get(first as usize / 64).copied().unwrap_or(0);
        let held = u64::MAX >> (64 - scores.len());
        let usable = word_of(&self.place.eligible) & held;
        let others = word_of(&self.place.view.visible) & held & !usable;
        let reaching = |rows: u64, floor: f64| match rows {
            0 => 0,
            rows => rows & reaching(scores, floor),
        };
        reaching(usable, self.eligible.floor()) | reaching(others, self.ineligible.floor())
    }

    /// The lists.
    pub(crate) fn finish(self) -> Ranked {
        let tie = |a, b| self.place.tie(a, b);
        Ranked {
            eligible: self.eligible.into_sorted(tie),
            ineligible: self.ineligible.into_sorted(tie),
        }
    }
}

/// Bits for the scores, at most 64, that are not below the floor.
fn reaching(scores: &[f64], floor: f64) -> u64 {
    let any = |scores: &[f64]| {
        let reach = |any, score: &f64| any | (*score >= floor);
        scores.iter().fold(false, reach)
    };
    let mut found = 0;
    // Mostly none does: whole groups are passed over.
    for (place, group) in (0..).step_by(16).zip(scores.chunks(16)) {
        if any(group) {
            let bit = |(place, score): (u32, &f64)| u64::from(*score >= floor) << place;
            found |= (place..).zip(group).map(bit).sum::<u64>();
        }
    }
    found
}

/// The places of a word's set bits, lowest first.
fn bits(word: u64) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|rest| *rest != 0)
        .map(u64::trailing_zeros)
}

impl Ranked {
    /// Both lists of two shares of the rows, made one.
    pub(crate) fn joined(self, other: Self, place: &Place, limits: (usize, usize)) -> Self {
        let join = |a: Vec<Scored>, b: Vec<Scored>, limit| {
            let tie = |a, b| place.tie(a, b);
            let mut best = Best::new(limit, f64::NEG_INFINITY);
            a.into_iter()
                .chain(b)
                .for_each(|scored| best.offer(scored.row, scored.score, tie));
            best.into_sorted(tie)
        };
        Self {
            eligible: join(self.eligible, other.eligible, limits.0),
            ineligible: join(self.ineligible, other.ineligible, limits.1),
        }
    }
}
