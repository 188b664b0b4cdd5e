//! Histories to test with, and what they mean by the plainest reading.

use std::collections::{BTreeMap, BTreeSet};

use commonplace_types::{
    ArtifactType, Attribute, Digest, Draft, Event, EventId, Importance, LaneInterval, Operation,
    RecordId, Timestamp, Visible,
};

use crate::feed::Frame;
use crate::vectors::{Codes, DIMENSION, Embedder};

const WORDS: [&str; 12] = [
    "alpha", "beta", "gamma", "delta", "retry", "timeout", "parser", "lane", "commit", "flaky",
    "login", "cache",
];

/// Numbers that look random and are the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }

    pub(crate) fn words(&mut self, most: usize) -> String {
        let count = self.roll(most + 1);
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.roll(WORDS.len())]).collect();
        words.join(" ")
    }
}

/// A branch of a history.
#[derive(Debug, Clone)]
struct Branch {
    lane: u32,
    position: u32,
    base: Vec<LaneInterval>,
    head: Option<usize>,
}

/// Commits as a journal would make them.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) frames: Vec<Frame>,
    branches: Vec<Branch>,
    lanes: u32,
    made: u64,
}

impl History {
    /// A history of that many commits over several branches.
    pub(crate) fn random(dice: &mut Dice, commits: usize) -> Self {
        let mut history = Self::default();
        history.fork(None);
        history.commit(0, Vec::new());
        while history.frames.len() < commits {
            let branch = dice.roll(history.branches.len());
            match dice.roll(10) {
                0 => history.fork(Some(dice.roll(history.frames.len()))),
                1 => history.merge(dice, branch),
                _ => {
                    let events = (0..dice.roll(4))
                        .map(|_| history.event(dice, branch))
                        .collect();
                    history.commit(branch, events);
                }
            }
        }
        history
    }

    /// Starts a branch at a commit.
    pub(crate) fn fork(&mut self, at: Option<usize>) {
        self.lanes += 1;
        let base = at.map_or(Vec::new(), |at| {
            self.frames[at].visible.intervals().to_vec()
        });
        self.branches.push(Branch {
            lane: self.lanes,
            position: 0,
            base,
            head: at,
        });
    }

    /// Puts events on a branch.
    pub(crate) fn commit(&mut self, branch: usize, events: Vec<Event>) {
        let number = self.frames.len();
        let hash = Digest::of(&[b"commit", &number.to_le_bytes()]);
        let previous = number.checked_sub(1).map(|last| self.frames[last].hash);
        let branch = &mut self.branches[branch];
        let parent = branch.head.map(|head| self.frames[head].hash);
        let first_position = branch.position + 1;
        branch.position += events.len() as u32;
        branch.head = Some(number);
        let mut intervals = branch.base.clone();
        intervals.push(LaneInterval {
            lane: branch.lane,
            position: branch.position,
        });
        self.frames.push(Frame {
            cursor: format!("cursor {number}"),
            number: number as u64,
            hash,
            previous,
            parents: parent.into_iter().collect(),
            time: Timestamp::from_micros(1_000_000 * (number as i64 + 1)).unwrap(),
            lane: branch.lane,
            first_position,
            visible: Visible::new(intervals),
            events,
        });
    }

    /// Places on a branch what another has and it has not.
    fn merge(&mut self, dice: &mut Dice, branch: usize) {
        let other = dice.roll(self.branches.len());
        let seen = |head: Option<usize>| head.map_or(Vec::new(), |head| self.placed(head));
        let own: BTreeSet<EventId> = seen(self.branches[branch].head)
            .iter()
            .map(|e| e.id)
            .collect();
        let mut new = seen(self.branches[other].head);
        new.retain(|event| !own.contains(&event.id));
        self.commit(branch, new);
    }

    fn event(&mut self, dice: &mut Dice, branch: usize) -> Event {
        self.made += 1;
        let kind = ["bug", "runlog", "decision"][dice.roll(3)];
        let mut draft = Draft::new(
            ArtifactType::new(kind).unwrap(),
            dice.words(3),
            dice.words(9),
        );
        if dice.roll(6) == 0 {
            // Long enough for several passages.
            draft.text = (0..80).map(|_| dice.words(9) + ".\n\n").collect();
        }
        if draft.title.is_empty() && draft.text.is_empty() {
            draft.title = "empty".into();
        }
        draft.tags = [["ci"].as_slice(), &["ci", "slow"], &[]][dice.roll(3)]
            .iter()
            .map(|tag| (*tag).to_owned())
            .collect();
        draft.pinned = dice.roll(8) == 0;
        draft.importance = Importance::new(dice.roll(5) as f64 / 4.0).unwrap();
        draft.agent = ["ann", "bob"][dice.roll(2)].into();
        draft.author = ["carla", "dan", ""][self.made as usize % 3].into();
        draft.source = ["jenkins", "junit", "git"][dice.roll(3)].into();
        draft.attributes = vec![Attribute::new(
            "verdict",
            ["passed", "failed"][dice.roll(2)],
        )];
        draft.correlation_id = ["", "run-1"][dice.roll(2)].into();
        let head = self.branches[branch].head;
        let seen = head.map_or(Vec::new(), |head| self.placed(head));
        // Now and then something of another branch, or from nowhere at all.
        let any: Vec<EventId> = self
            .frames
            .iter()
            .flat_map(|f| &f.events)
            .map(|e| e.id)
            .collect();
        match dice.roll(6) {
            0 if !seen.is_empty() => draft.supersedes = vec![seen[dice.roll(seen.len())].id],
            1 if !any.is_empty() => draft.supersedes = vec![any[dice.roll(any.len())]],
            2 => {
                draft.supersedes =
                    vec![EventId::derive(&[b"event", &(self.made + 2).to_le_bytes()])]
            }
            _ => {}
        }
        if !draft.supersedes.is_empty() && dice.roll(3) == 0 {
            draft.operation = Operation::Retract;
        }
        let id = EventId::derive(&[b"event", &self.made.to_le_bytes()]);
        let record = match dice.roll(2) {
            0 => id.to_string(),
            _ => format!("record:{}", dice.roll(4)),
        };
        let time = Timestamp::from_micros(1_000_000 * dice.roll(50) as i64).unwrap();
        draft.event_time = Some(time);
        event(id, record, draft)
    }

    /// The events that the commits up to one placed, each once, in order.
    pub(crate) fn placed(&self, commit: usize) -> Vec<Event> {
        let numbers: BTreeMap<_, _> = self
            .frames
            .iter()
            .map(|f| (f.hash, f.number as usize))
            .collect();
        let mut chain = vec![commit];
        while let Some(parent) = self.frames[chain[chain.len() - 1]].parents.first() {
            chain.push(numbers[parent]);
        }
        chain.reverse();
        let mut known = BTreeSet::new();
        let events = chain.iter().flat_map(|&number| &self.frames[number].events);
        events
            .filter(|event| known.insert(event.id))
            .cloned()
            .collect()
    }

    /// What can be found at a commit: the events that state something, and whether each is live.
    pub(crate) fn found(&self, commit: usize) -> Vec<(Event, bool)> {
        let placed = self.placed(commit);
        let dead: BTreeSet<EventId> = placed
            .iter()
            .flat_map(|event| event.draft.supersedes.clone())
            .collect();
        let states = placed
            .into_iter()
            .filter(|e| e.draft.operation == Operation::Assert);
        states
            .map(|event| {
                let live = !dead.contains(&event.id);
                (event, live)
            })
            .collect()
    }
}

/// An event as the journal would record the draft.
pub(crate) fn event(id: EventId, record: String, draft: Draft) -> Event {
    let draft = draft.checked().unwrap();
    Event {
        id,
        record_id: RecordId::new(record).unwrap(),
        checksum: draft.checksum(),
        draft,
        recorded_time: Timestamp::from_micros(7).unwrap(),
        traceparent: String::new(),
    }
}

/// Makes vectors of words: equal texts have equal vectors, like texts have like ones.
#[derive(Debug, Default)]
pub(crate) struct WordVectors;

impl Embedder for WordVectors {
    fn fingerprint(&self) -> &str {
        "words/1"
    }

    fn embed(&self, text: &str) -> Codes {
        let mut codes = [0i8; DIMENSION];
        for word in text.split_whitespace() {
            let hash = blake3::hash(word.as_bytes());
            for (place, byte) in hash.as_bytes().iter().enumerate() {
                let code = &mut codes[(place * 11 + *byte as usize) % DIMENSION];
                *code = code.saturating_add(*byte as i8 / 16);
            }
        }
        codes
    }
}
