//! Keeps writes: each a kind, a length and a message, in the order in which they were done.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;

use prost::Message;
use qdrant_client::qdrant::{
    CreateCollection, CreateFieldIndexCollection, DeleteCollection, DeletePoints, SetPayloadPoints,
    UpsertPoints,
};

/// A change of what is held.
// Collections are made once; boxing them would only get in the way.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Create(CreateCollection),
    Drop(DeleteCollection),
    Index(CreateFieldIndexCollection),
    Upsert(UpsertPoints),
    Delete(DeletePoints),
    /// Adds to the payload.
    Set(SetPayloadPoints),
    /// Replaces the payload.
    Overwrite(SetPayloadPoints),
}

impl Write {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Create(message) => (0, message.encode_to_vec()),
            Self::Drop(message) => (1, message.encode_to_vec()),
            Self::Index(message) => (2, message.encode_to_vec()),
            Self::Upsert(message) => (3, message.encode_to_vec()),
            Self::Delete(message) => (4, message.encode_to_vec()),
            Self::Set(message) => (5, message.encode_to_vec()),
            Self::Overwrite(message) => (6, message.encode_to_vec()),
        }
    }

    fn decode(kind: u8, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            0 => Self::Create(Message::decode(bytes).ok()?),
            1 => Self::Drop(Message::decode(bytes).ok()?),
            2 => Self::Index(Message::decode(bytes).ok()?),
            3 => Self::Upsert(Message::decode(bytes).ok()?),
            4 => Self::Delete(Message::decode(bytes).ok()?),
            5 => Self::Set(Message::decode(bytes).ok()?),
            6 => Self::Overwrite(Message::decode(bytes).ok()?),
            _ => return None,
        })
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

impl Log {
    /// Opens or makes the log, hands each whole write to `take`, and cuts off what a crash left of one.
    pub(crate) fn open(path: &Path, mut take: impl FnMut(Write)) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut kept = 0;
        while let Some((write, end)) = next(&bytes, kept) {
            take(write);
            kept = end;
        }
        file.set_len(kept as u64)?;
        Ok(Self { file })
    }

    /// Adds a write; a killed process does not lose it.
    pub(crate) fn append(&mut self, write: &Write) -> io::Result<()> {
        let (kind, message) = write.encode();
        let mut record = vec![kind];
        record.extend_from_slice(&(message.len() as u32).to_le_bytes());
        record.extend_from_slice(&message);
        self.file.write_all(&record)
    }
}

fn next(bytes: &[u8], at: usize) -> Option<(Write, usize)> {
    let header = bytes.get(at..at + 5)?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let message = bytes.get(at + 5..at + 5 + length)?;
    Some((Write::decode(header[0], message)?, at + 5 + length))
}
