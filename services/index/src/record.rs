//! One commit in the form in which the index keeps it.
//!
//! [`encode`] makes it from the feed; `State::apply` alone reads it, whether the commit has just come in
//! or the index starts from its files. So what a restart finds is what was there before.

use std::ops::Range;

use commonplace_types::{CommitHash, Event, EventId, LaneInterval, Operation, Visible};

use crate::codec::{Decoder, Encoder, Malformed};
use crate::feed::Frame;

/// A passage of an event as the rows keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassageRow {
    /// Bytes of the event's text.
    pub(crate) range: Range<u32>,
    /// Of title and text, by the budget tokenizer.
    pub(crate) tokens: u32,
    /// In terms.
    pub(crate) length: u32,
    /// First 16 bytes of the BLAKE3 of title and text.
    pub(crate) content: [u8; 16],
}

/// What one event of a commit does.
pub(crate) enum EventEntry<'a> {
    /// Is placed once more.
    Again,
    /// Comes in for the first time and withdraws.
    Retract,
    /// Comes in for the first time and states something.
    Assert(Assert<'a>),
}

/// The part of an event that the rows keep; strings are those of the payload.
pub(crate) struct Assert<'a> {
    /// Empty: the event is its own record.
    pub(crate) record: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) time: i64,
    pub(crate) importance: u32,
    pub(crate) pinned: bool,
    pub(crate) agent: &'a str,
    pub(crate) source: &'a str,
    pub(crate) correlation: &'a str,
    pub(crate) tags: Vec<&'a str>,
    pub(crate) attributes: Vec<(&'a str, &'a str)>,
    pub(crate) author_bytes: u32,
    pub(crate) title_bytes: u32,
    pub(crate) text_bytes: u32,
    pub(crate) passages: Vec<PassageRow>,
}

/// What stands before the events of a commit.
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) hash: CommitHash,
    pub(crate) parent: Option<CommitHash>,
    pub(crate) time: i64,
    pub(crate) lane: u32,
    pub(crate) first_position: u32,
    pub(crate) own_position: u32,
    /// What it sees of other lanes.
    pub(crate) base: Visible,
    pub(crate) events: u32,
}

/// The commit as bytes. `fresh` says of each event whether it comes in here; `passages` holds the passages
/// of those that do and state something.
pub(crate) fn encode<'a>(
    frame: &Frame,
    fresh: &[bool],
    passages: impl Fn(usize) -> &'a [PassageRow],
) -> Vec<u8> {
    let mut out = Encoder::default();
    out.text(&frame.cursor);
    encode_head(&mut out, frame);
    for (place, event) in frame.events.iter().enumerate() {
        let flag = match (fresh[place], event.draft.operation) {
            (false, _) => 0,
            (true, Operation::Retract) => 1,
            (true, Operation::Assert) => 2,
        };
        out.number(flag);
        out.fixed(event.id.as_bytes());
        out.number(event.draft.supersedes.len() as u64);
        for target in &event.draft.supersedes {
            out.fixed(target.as_bytes());
        }
        if flag == 2 {
            encode_assert(&mut out, event, passages(place));
        }
    }
    out.finish()
}

fn encode_head(out: &mut Encoder, frame: &Frame) {
    out.number(frame.number);
    out.fixed(frame.hash.as_bytes());
    match frame.parents.first() {
        Some(parent) => {
            out.number(1);
            out.fixed(parent.as_bytes());
        }
        None => out.number(0),
    }
    out.number(frame.time.as_micros() as u64);
    out.number(frame.lane.into());
    out.number(frame.first_position.into());
    out.number(frame.own_position().into());
    let others = frame.visible.intervals().iter();
    let others: Vec<_> = others.filter(|other| other.lane != frame.lane).collect();
    out.number(others.len() as u64);
    for interval in others {
        out.number(interval.lane.into());
        out.number(interval.position.into());
    }
    out.number(frame.events.len() as u64);
}

fn encode_assert(out: &mut Encoder, event: &Event, passages: &[PassageRow]) {
    let draft = &event.draft;
    let own_record = event.record_id.as_str() == event.id.to_string();
    out.text(if own_record {
        ""
    } else {
        event.record_id.as_str()
    });
    out.text(draft.artifact_type.as_str());
    out.number(event.event_time().as_micros() as u64);
    out.number(draft.importance.millionths().into());
    out.number(draft.pinned.into());
    out.text(&draft.agent);
    out.text(&draft.source);
    out.text(&draft.correlation_id);
    out.number(draft.tags.len() as u64);
    draft.tags.iter().for_each(|tag| out.text(tag));
    out.number(draft.attributes.len() as u64);
    for attribute in &draft.attributes {
        out.text(&attribute.key);
        out.text(&attribute.value);
    }
    for text in [&draft.author, &draft.title, &draft.text] {
        out.number(text.len() as u64);
    }
    out.number(passages.len() as u64);
    for passage in passages {
        out.number(passage.range.start.into());
        out.number(passage.range.end.into());
        out.number(passage.tokens.into());
        out.number(passage.length.into());
        out.fixed(&passage.content);
    }
}

/// Splits a commit into its cursor and what the cursor does not touch.
pub(crate) fn split_cursor(payload: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let mut input = Decoder::new(payload);
    let cursor = input.text()?;
    Ok((cursor, input.rest()))
}

pub(crate) fn decode_head(input: &mut Decoder<'_>) -> Result<Head, Malformed> {
    Ok(Head {
        number: input.number()?,
        hash: input.digest()?,
        parent: match input.number()? {
            0 => None,
            _ => Some(input.digest()?),
        },
        time: input.number()? as i64,
        lane: input.small()?,
        first_position: input.small()?,
        own_position: input.small()?,
        base: decode_base(input)?,
        events: input.small()?,
    })
}

fn decode_base(input: &mut Decoder<'_>) -> Result<Visible, Malformed> {
    let count = input.small()?;
    let read = |_| {
        Ok(LaneInterval {
            lane: input.small()?,
            position: input.small()?,
        })
    };
    Ok(Visible::new(
        (0..count).map(read).collect::<Result<_, _>>()?,
    ))
}

/// Reads an event: its id, what it supersedes, and the rest.
pub(crate) fn decode_event<'a>(
    input: &mut Decoder<'a>,
) -> Result<(EventId, Vec<EventId>, EventEntry<'a>), Malformed> {
    let flag = input.number()?;
    let id = input.event_id()?;
    let count = input.small()?;
    let targets = (0..count)
        .map(|_| input.event_id())
        .collect::<Result<_, _>>()?;
    let entry = match flag {
        0 => EventEntry::Again,
        1 => EventEntry::Retract,
        2 => EventEntry::Assert(decode_assert(input)?),
        _ => return Err(Malformed),
    };
    Ok((id, targets, entry))
}

fn decode_assert<'a>(input: &mut Decoder<'a>) -> Result<Assert<'a>, Malformed> {
    Ok(Assert {
        record: input.text()?,
        kind: input.text()?,
        time: input.number()? as i64,
        importance: input.small()?,
        pinned: input.number()? != 0,
        agent: input.text()?,
        source: input.text()?,
        correlation: input.text()?,
        tags: list(input, Decoder::text)?,
        attributes: list(input, |input| Ok((input.text()?, input.text()?)))?,
        author_bytes: input.small()?,
        title_bytes: input.small()?,
        text_bytes: input.small()?,
        passages: list(input, decode_passage)?,
    })
}

fn decode_passage(input: &mut Decoder<'_>) -> Result<PassageRow, Malformed> {
    Ok(PassageRow {
        range: input.small()?..input.small()?,
        tokens: input.small()?,
        length: input.small()?,
        content: input.fixed()?,
    })
}

fn list<'a, T>(
    input: &mut Decoder<'a>,
    mut read: impl FnMut(&mut Decoder<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = input.small()?;
    (0..count).map(|_| read(input)).collect()
}
