//! What the journal's feed tells, in the index's own words.

use commonplace_types::{CommitHash, Event, LaneInterval, Timestamp, Visible};

/// Text that is enough for a batch: about what one commit may hold.
const BATCH_BYTES: usize = 16 << 20;

/// One commit with its events, as `journal.Tail` sends it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where to resume after this commit; the journal's secret.
    pub cursor: String,
    /// Dense within a project, from 0.
    pub number: u64,
    /// Names the commit.
    pub hash: CommitHash,
    /// Hash of the commit before in number; none for commit 0.
    pub previous: Option<CommitHash>,
    /// The commits it follows from; the first is the one on its own branch.
    pub parents: Vec<CommitHash>,
    /// When it was made.
    pub time: Timestamp,
    /// The lane its events stand in.
    pub lane: u32,
    /// Position of the first event.
    pub first_position: u32,
    /// What the commit sees, itself included.
    pub visible: Visible,
    /// In order of position.
    pub events: Vec<Event>,
}

/// What the feed told at once.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Commits, in order.
    pub(crate) frames: Vec<Frame>,
    /// Number of the journal's newest commit, if it said so.
    pub(crate) head: Option<u64>,
    events: usize,
    bytes: usize,
}

impl Told {
    /// Adds the next commit.
    pub(crate) fn push(&mut self, frame: Frame) {
        let bytes = |event: &Event| event.draft.title.len() + event.draft.text.len();
        self.events += frame.events.len().max(1);
        self.bytes += frame.events.iter().map(bytes).sum::<usize>();
        self.frames.push(frame);
    }

    /// Whether there is enough to be taken in: that many events, or much text.
    pub(crate) fn is_enough(&self, events: usize) -> bool {
        self.events >= events || self.bytes >= BATCH_BYTES
    }
}

impl Frame {
    /// What the commit sees of its own lane; 0 is nothing.
    pub(crate) fn own_position(&self) -> u32 {
        let own = |interval: &&LaneInterval| interval.lane == self.lane;
        let found = self.visible.intervals().iter().find(own);
        found.map_or(0, |interval| interval.position)
    }
}

/// A place in a lane as one number that orders like (lane, position). Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey(pub(crate) u64);

impl LaneKey {
    pub(crate) fn new(lane: u32, position: u32) -> Self {
        Self(u64::from(lane) << 32 | u64::from(position))
    }

    pub(crate) fn lane(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn position(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn seen_by(self, visible: &Visible) -> bool {
        visible.sees(self.lane(), self.position())
    }
}
