//! Everything the index knows of a project but the words and the vectors, as columns in memory.
//!
//! One row for each passage, one entry for each event and each commit, all in the order of the feed: so
//! their numbers follow from the journal alone, and a rebuilt index has the same ones. A [`State`] is
//! cheap to clone, and a clone is what a search works on. Nothing is ever taken away; that an event is
//! superseded is a lane key in `died`, and what a commit sees is decided by comparing keys.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use commonplace_types::{CommitHash, EventId, LaneInterval, Visible};

use crate::codec::{Decoder, Malformed};
use crate::column::Column;
use crate::feed::LaneKey;
use crate::keys::Keys;
use crate::record::{
    Assert, EventEntry, Head, PassageRow, decode_event, decode_head, split_cursor,
};

/// Bytes of a text entry before the author: the event's checksum.
pub(crate) const TEXT_HEADER: u64 = 48;
/// Stands for a string that no event has.
pub(crate) const NO_STRING: u32 = u32::MAX;

/// One passage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) event: u32,
    /// Bytes of the event's text.
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) tokens: u32,
    pub(crate) length: u32,
    pub(crate) content: [u8; 16],
}

/// What is asked of every event of a project in one go. Strings are numbers of [`State::string`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) time: i64,
    pub(crate) kind: u32,
    pub(crate) agent: u32,
    pub(crate) source: u32,
    /// In millionths.
    pub(crate) importance: u32,
    pub(crate) first_row: u32,
    /// 0 for an event that withdraws.
    pub(crate) rows: u16,
    pub(crate) pinned: bool,
}

/// What is asked of an event by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventRow {
    pub(crate) id: EventId,
    /// [`NO_STRING`]: the event is its own record.
    pub(crate) record: u32,
    pub(crate) correlation: u32,
    pub(crate) tags_at: u32,
    pub(crate) tags: u16,
    pub(crate) attributes_at: u32,
    pub(crate) attributes: u16,
    pub(crate) author_bytes: u16,
    pub(crate) title_bytes: u16,
    pub(crate) text_at: u64,
}

/// One commit, with where the columns ended after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitRow {
    pub(crate) hash: CommitHash,
    pub(crate) time: i64,
    /// Number of the first parent plus 1; 0 is none.
    pub(crate) parent: u32,
    pub(crate) lane: u32,
    /// What it sees of its own lane.
    pub(crate) position: u32,
    /// What it sees of other lanes, as a place in `bases`.
    pub(crate) base: u32,
    pub(crate) rows: u32,
    pub(crate) placements: u32,
    pub(crate) deaths: u32,
}

/// Finds numbers by name. It only grows, and what a reader finds there beyond its own state does not
/// count yet.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) events: HashMap<EventId, u32>,
    pub(crate) strings: HashMap<Arc<str>, u32>,
    pub(crate) commits: HashMap<CommitHash, u32>,
    /// Events by record, but for those that are their own record.
    pub(crate) of_record: HashMap<u32, Vec<u32>>,
    /// Events by tag.
    pub(crate) tagged: HashMap<u32, Vec<u32>>,
}

/// The columns, as they are after some commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) commits: Column<CommitRow>,
    pub(crate) bases: Column<Visible>,
    /// Events in the order in which commits place them.
    pub(crate) placements: Column<u32>,
    /// Events in the order in which commits supersede them.
    pub(crate) deaths: Column<u32>,
    pub(crate) facts: Column<Facts>,
    pub(crate) events: Column<EventRow>,
    pub(crate) born: Keys,
    pub(crate) died: Keys,
    pub(crate) tags: Column<u32>,
    pub(crate) attributes: Column<(u32, u32)>,
    pub(crate) pinned: Column<u32>,
    pub(crate) rows: Column<Row>,
    pub(crate) strings: Column<Arc<str>>,
    directory: Arc<RwLock<Directory>>,
}

impl State {
    /// Names to numbers.
    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn directory_mut(directory: &RwLock<Directory>) -> RwLockWriteGuard<'_, Directory> {
        directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The string of a number.
    pub(crate) fn string(&self, number: u32) -> &str {
        if number == NO_STRING {
            return "";
        }
        self.strings.at(number as usize)
    }

    /// The number of a string that some event has.
    pub(crate) fn string_number(&self, text: &str) -> Option<u32> {
        let found = self.directory().strings.get(text).copied();
        found.filter(|&number| (number as usize) < self.strings.len())
    }

    /// The number of an event.
    pub(crate) fn event_number(&self, id: EventId) -> Option<u32> {
        let found = self.directory().events.get(&id).copied();
        found.filter(|&number| (number as usize) < self.events.len())
    }

    /// The number of a commit.
    pub(crate) fn commit_number(&self, hash: &CommitHash) -> Option<u32> {
        let found = self.directory().commits.get(hash).copied();
        found.filter(|&number| (number as usize) < self.commits.len())
    }

    /// The name of the record that an event is about.
    pub(crate) fn record_name(&self, event: &EventRow) -> String {
        match event.record {
            NO_STRING => event.id.to_string(),
            number => self.string(number).to_owned(),
        }
    }

    /// Whether an event is its own record.
    pub(crate) fn is_own_record(&self, event: u32) -> bool {
        self.events.at(event as usize).record == NO_STRING
    }

    /// The tags of an event, as numbers.
    pub(crate) fn tags_of(&self, event: &EventRow) -> impl Iterator<Item = u32> {
        let from = event.tags_at as usize;
        self.tags.range(from, from + event.tags as usize).copied()
    }

    /// The attributes of an event, as numbers of key and value.
    pub(crate) fn attributes_of(&self, event: &EventRow) -> impl Iterator<Item = (u32, u32)> {
        let from = event.attributes_at as usize;
        let to = from + event.attributes as usize;
        self.attributes.range(from, to).copied()
    }

    /// What a commit sees.
    pub(crate) fn visible_at(&self, commit: &CommitRow) -> Visible {
        let mut intervals = self.bases.at(commit.base as usize).intervals().to_vec();
        intervals.push(LaneInterval {
            lane: commit.lane,
            position: commit.position,
        });
        Visible::new(intervals)
    }
}

/// The columns with what only their writer needs.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub(crate) state: State,
    /// Keys of superseders of events that have not come in yet.
    awaited: HashMap<EventId, Vec<LaneKey>>,
    /// Where the next text goes.
    pub(crate) text_end: u64,
    /// Where to resume the feed.
    pub(crate) cursor: String,
    digest: blake3::Hasher,
}

impl Builder {
    /// Takes in the next commit. Error: not one that `encode` made, or not the next; the builder is then
    /// of no further use.
    pub(crate) fn apply(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (cursor, body) = split_cursor(payload)?;
        let mut input = Decoder::new(body);
        let head = decode_head(&mut input)?;
        if head.number != self.state.commits.len() as u64 {
            return Err(Malformed);
        }
        for offset in 0..head.events {
            let position = head.first_position.checked_add(offset).ok_or(Malformed)?;
            let (id, targets, entry) = decode_event(&mut input)?;
            self.place(id, LaneKey::new(head.lane, position), &targets, &entry)?;
        }
        input.end()?;
        self.close(&head);
        self.digest.update(&(body.len() as u64).to_le_bytes());
        self.digest.update(body);
        cursor.clone_into(&mut self.cursor);
        Ok(())
    }

    /// Depends on every commit taken in and on nothing else. 64 hex digits.
    pub(crate) fn digest(&self) -> String {
        self.digest.finalize().to_hex().to_string()
    }

    fn place(
        &mut self,
        id: EventId,
        key: LaneKey,
        targets: &[EventId],
        entry: &EventEntry<'_>,
    ) -> Result<(), Malformed> {
        let event = match entry {
            EventEntry::Again => self.state.event_number(id).ok_or(Malformed)?,
            EventEntry::Retract => self.add_event(id, None)?,
            EventEntry::Assert(assert) => self.add_event(id, Some(assert))?,
        };
        self.state.born.add(event, key);
        self.state.placements.push(event);
        for &target in targets {
            match self.state.event_number(target) {
                Some(target) => {
                    self.state.died.add(target, key);
                    self.state.deaths.push(target);
                }
                None => self.awaited.entry(target).or_default().push(key),
            }
        }
        Ok(())
    }

    fn add_event(&mut self, id: EventId, assert: Option<&Assert<'_>>) -> Result<u32, Malformed> {
        let event = self.state.events.len() as u32;
        let (facts, row) = match assert {
            None => withdrawal(id),
            Some(assert) => (self.facts(assert)?, self.event_row(id, event, assert)?),
        };
        self.state.facts.push(facts);
        self.state.events.push(row);
        self.state.born.open();
        self.state.died.open();
        for key in self.awaited.remove(&id).unwrap_or_default() {
            self.state.died.add(event, key);
        }
        let mut directory = State::directory_mut(&self.state.directory);
        if directory.events.insert(id, event).is_some() {
            return Err(Malformed);
        }
        if row.record != NO_STRING {
            directory
                .of_record
                .entry(row.record)
                .or_default()
                .push(event);
        }
        for tag in self.state.tags_of(&row) {
            directory.tagged.entry(tag).or_default().push(event);
        }
        Ok(event)
    }

    fn facts(&mut self, assert: &Assert<'_>) -> Result<Facts, Malformed> {
        Ok(Facts {
            time: assert.time,
            kind: self.intern(assert.kind),
            agent: self.intern(assert.agent),
            source: self.intern(assert.source),
            importance: assert.importance,
            first_row: self.state.rows.len() as u32,
            rows: u16::try_from(assert.passages.len()).map_err(|_| Malformed)?,
            pinned: assert.pinned,
        })
    }

    fn event_row(
        &mut self,
        id: EventId,
        event: u32,
        assert: &Assert<'_>,
    ) -> Result<EventRow, Malformed> {
        let small = |value: usize| u16::try_from(value).map_err(|_| Malformed);
        let row = EventRow {
            id,
            record: match assert.record {
                "" => NO_STRING,
                record => self.intern(record),
            },
            correlation: self.intern(assert.correlation),
            tags_at: self.state.tags.len() as u32,
            tags: small(assert.tags.len())?,
            attributes_at: self.state.attributes.len() as u32,
            attributes: small(assert.attributes.len())?,
            author_bytes: small(assert.author_bytes as usize)?,
            title_bytes: small(assert.title_bytes as usize)?,
            text_at: self.text_end,
        };
        for tag in &assert.tags {
            let tag = self.intern(tag);
            self.state.tags.push(tag);
        }
        for (key, value) in &assert.attributes {
            let attribute = (self.intern(key), self.intern(value));
            self.state.attributes.push(attribute);
        }
        if assert.pinned {
            self.state.pinned.push(event);
        }
        for passage in &assert.passages {
            self.state.rows.push(passage_row(event, passage));
        }
        let bytes = [assert.author_bytes, assert.title_bytes, assert.text_bytes];
        self.text_end += TEXT_HEADER + bytes.map(u64::from).iter().sum::<u64>();
        Ok(row)
    }

    fn intern(&mut self, text: &str) -> u32 {
        let mut directory = State::directory_mut(&self.state.directory);
        if let Some(&number) = directory.strings.get(text) {
            return number;
        }
        let text: Arc<str> = text.into();
        let number = self.state.strings.push(Arc::clone(&text)) as u32;
        directory.strings.insert(text, number);
        number
    }

    fn close(&mut self, head: &Head) {
        let state = &mut self.state;
        let parent = head.parent.and_then(|hash| state.commit_number(&hash));
        let commit = CommitRow {
            hash: head.hash,
            time: head.time,
            parent: parent.map_or(0, |number| number + 1),
            lane: head.lane,
            position: head.own_position,
            base: base_number(&mut state.bases, &head.base),
            rows: state.rows.len() as u32,
            placements: state.placements.len() as u32,
            deaths: state.deaths.len() as u32,
        };
        let number = state.commits.push(commit) as u32;
        State::directory_mut(&state.directory)
            .commits
            .insert(head.hash, number);
    }
}

/// Neighbouring commits mostly see the same of other lanes, so a short look back finds it.
fn base_number(bases: &mut Column<Visible>, base: &Visible) -> u32 {
    let length = bases.len();
    let recent = length.saturating_sub(64)..length;
    let found = recent.rev().find(|&place| bases.at(place) == base);
    found.unwrap_or_else(|| bases.push(base.clone())) as u32
}

fn passage_row(event: u32, passage: &PassageRow) -> Row {
    Row {
        event,
        start: passage.range.start,
        end: passage.range.end,
        tokens: passage.tokens,
        length: passage.length,
        content: passage.content,
    }
}

/// A retract has no rows: nobody finds it, it only makes others dead.
fn withdrawal(id: EventId) -> (Facts, EventRow) {
    let facts = Facts {
        time: 0,
        kind: NO_STRING,
        agent: NO_STRING,
        source: NO_STRING,
        importance: 0,
        first_row: 0,
        rows: 0,
        pinned: false,
    };
    let row = EventRow {
        id,
        record: NO_STRING,
        correlation: NO_STRING,
        tags_at: 0,
        tags: 0,
        attributes_at: 0,
        attributes: 0,
        author_bytes: 0,
        title_bytes: 0,
        text_at: 0,
    };
    (facts, row)
}
