//! What a commit sees, as sets of rows.
//!
//! A row is visible at a commit when one of its event's placements lies in the commit's lane intervals,
//! and live when it is visible and no visible event supersedes it. The sets of the commits that were
//! asked for last are kept. Those of a new commit are made from a kept forerunner's by what the commits
//! in between placed and superseded, so that a search right after an append costs what was appended.

use std::sync::{Arc, Mutex, PoisonError};

use commonplace_rpc::convert::Filter;
use commonplace_types::{LaneInterval, Visible};

use crate::bitmap::Bitmap;
use crate::filter::Matcher;
use crate::state::{CommitRow, State};

/// Commits looked back for a kept forerunner.
const LONGEST_PATH: usize = 4_096;

/// The rows that a commit sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Of the commit.
    pub(crate) number: u32,
    pub(crate) intervals: Visible,
    pub(crate) visible: Bitmap,
    pub(crate) live: Arc<Bitmap>,
    /// Number of live rows.
    pub(crate) passages: u64,
    /// Sum of their lengths in terms.
    pub(crate) total_length: u64,
}

impl View {
    /// Looks at every event.
    fn whole(state: &State, number: u32) -> Self {
        let commit = state.commits.at(number as usize);
        let mut view = Self {
            number,
            intervals: state.visible_at(commit),
            visible: Bitmap::with_rows(commit.rows),
            live: Arc::new(Bitmap::with_rows(commit.rows)),
            passages: 0,
            total_length: 0,
        };
        for event in 0..state.events.len() as u32 {
            if state.born.any_seen(event, &view.intervals) {
                view.place(state, event);
            }
        }
        view
    }

    /// Starts from a forerunner's view and adds what the commits of `path`, oldest first, did.
    fn advanced(&self, state: &State, path: &[u32]) -> Self {
        let mut view = self.clone();
        for &number in path {
            view.number = number;
            view.intervals = state.visible_at(state.commits.at(number as usize));
        }
        for &number in path {
            let (from, to) = placed_by(state, number);
            for &event in state.placements.range(from, to) {
                view.place(state, event);
            }
        }
        for &number in path {
            let commit = state.commits.at(number as usize);
            let from = before(state, number).map_or(0, |before| before.deaths);
            for &event in state.deaths.range(from as usize, commit.deaths as usize) {
                view.bury(state, event);
            }
        }
        view
    }

    fn place(&mut self, state: &State, event: u32) {
        let (from, to) = rows_of(state, event);
        if from == to || self.visible.get(from) {
            return;
        }
        self.visible.set_range(from, to);
        if state.died.any_seen(event, &self.intervals) {
            return;
        }
        Arc::make_mut(&mut self.live).set_range(from, to);
        self.passages += u64::from(to - from);
        self.total_length += length_of(state, from, to);
    }

    fn bury(&mut self, state: &State, event: u32) {
        let (from, to) = rows_of(state, event);
        if from == to || !self.live.get(from) {
            return;
        }
        let live = Arc::make_mut(&mut self.live);
        (from..to).for_each(|row| live.clear(row));
        self.passages -= u64::from(to - from);
        self.total_length -= length_of(state, from, to);
    }
}

fn rows_of(state: &State, event: u32) -> (u32, u32) {
    let facts = state.facts.at(event as usize);
    (facts.first_row, facts.first_row + u32::from(facts.rows))
}

fn length_of(state: &State, from: u32, to: u32) -> u64 {
    let rows = state.rows.range(from as usize, to as usize);
    rows.map(|row| u64::from(row.length)).sum()
}

fn before(state: &State, number: u32) -> Option<&CommitRow> {
    let before = (number as usize).checked_sub(1)?;
    Some(state.commits.at(before))
}

/// Where the placements of a commit lie.
fn placed_by(state: &State, number: u32) -> (usize, usize) {
    let from = before(state, number).map_or(0, |before| before.placements);
    let to = state.commits.at(number as usize).placements;
    (from as usize, to as usize)
}

/// Whether a commit sees exactly what its first parent sees and its own events.
fn only_adds(state: &State, number: u32, parent: u32) -> bool {
    let commit = state.commits.at(number as usize);
    let parent = state.commits.at(parent as usize);
    let (from, to) = placed_by(state, number);
    let Some(start) = commit.position.checked_sub((to - from) as u32) else {
        return false;
    };
    if (parent.lane, parent.base) == (commit.lane, commit.base) {
        return parent.position == start;
    }
    let seen = state.visible_at(parent);
    let (own, others): (Vec<LaneInterval>, Vec<LaneInterval>) = seen
        .intervals()
        .iter()
        .partition(|interval| interval.lane == commit.lane);
    own.first().map_or(0, |interval| interval.position) == start
        && others == state.bases.at(commit.base as usize).intervals()
}

/// The views of the commits that were asked for last.
#[derive(Debug)]
pub(crate) struct Views {
    /// Most recently used last.
    kept: Mutex<Vec<Arc<View>>>,
    most: usize,
    /// The lengths of the first rows; only ever longer.
    lengths: Mutex<Arc<Vec<u32>>>,
    /// What filters take of the views of commits, most recently made last.
    taken: Mutex<Vec<(u32, Filter, Arc<Bitmap>)>>,
}

impl Views {
    /// Keeps at most that many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kept: Mutex::new(Vec::new()),
            most,
            lengths: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    /// The live rows of a view that a filter takes.
    pub(crate) fn taken(&self, state: &State, view: &View, filter: &Filter) -> Arc<Bitmap> {
        if *filter == Filter::default() {
            return Arc::clone(&view.live);
        }
        let kept = || self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(number, other, _): &&(u32, Filter, Arc<Bitmap>)| {
            *number == view.number && other == filter
        };
        if let Some((_, _, rows)) = kept().iter().find(same) {
            return Arc::clone(rows);
        }
        let rows = Arc::new(Matcher::new(state, filter).rows(state, &view.live));
        let mut kept = kept();
        if kept.len() >= self.most {
            kept.remove(0);
        }
        kept.push((view.number, filter.clone(), Arc::clone(&rows)));
        rows
    }

    /// The length in terms of every row below `rows`, and maybe of some more.
    pub(crate) fn lengths(&self, state: &State, rows: u32) -> Arc<Vec<u32>> {
        let mut lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, wanted) = (lengths.len(), rows as usize);
        if held < wanted {
            let further = state.rows.range(held, wanted).map(|row| row.length);
            Arc::make_mut(&mut lengths).extend(further);
        }
        Arc::clone(&lengths)
    }

    /// The view of a commit of the state.
    pub(crate) fn at(&self, state: &State, number: u32) -> Arc<View> {
        let kept = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = kept.iter().position(|view| view.number == number) {
                let view = kept.remove(place);
                kept.push(Arc::clone(&view));
                return view;
            }
            kept.clone()
        };
        let view = Arc::new(view_from(state, number, &kept));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.number != number);
        kept.push(Arc::clone(&view));
        if kept.len() > self.most {
            kept.remove(0);
        }
        view
    }
}

fn view_from(state: &State, number: u32, kept: &[Arc<View>]) -> View {
    let mut path = Vec::new();
    let mut at = number;
    while path.len() < LONGEST_PATH {
        if let Some(view) = kept.iter().find(|view| view.number == at) {
            path.reverse();
            return view.advanced(state, &path);
        }
        let Some(parent) = state.commits.at(at as usize).parent.checked_sub(1) else {
            break;
        };
        if !only_adds(state, at, parent) {
            break;
        }
        path.push(at);
        at = parent;
    }
    View::whole(state, number)
}
