//! The texts of the events in one file that only grows, read by position.
//!
//! An entry is a seal (16 bytes), the event's checksum (32 bytes), its author, its title and its text, without
//! marks in between: where they lie and how long they are is kept in the rows. The seal is a hash of the event's
//! id, checksum, author and title, so that a damaged head is noticed; the rows hold one of each passage.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use commonplace_types::{Digest, Event, EventId};

use crate::state::{EventRow, TEXT_HEADER};

/// Bytes of a seal.
const SEAL: usize = 16;

/// What an event's entry starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextHead {
    pub(crate) checksum: Digest,
    pub(crate) author: String,
    pub(crate) title: String,
}

/// The reading end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    file: Arc<File>,
}

impl Texts {
    /// The start of an event's entry. Error: the file does not hold it.
    pub(crate) fn head(&self, event: &EventRow) -> io::Result<TextHead> {
        let (author, title) = (event.author_bytes as usize, event.title_bytes as usize);
        let mut bytes = vec![0; TEXT_HEADER as usize + author + title];
        self.file.read_exact_at(&mut bytes, event.text_at)?;
        let title = bytes.split_off(TEXT_HEADER as usize + author);
        let author = bytes.split_off(TEXT_HEADER as usize);
        let (found, checksum) = bytes.split_at(SEAL);
        if found != seal(event.id, checksum, &author, &title) {
            return Err(damaged());
        }
        Ok(TextHead {
            checksum: Digest::from_slice(checksum).map_err(|_| damaged())?,
            author: text_of(author)?,
            title: text_of(title)?,
        })
    }

    /// Bytes `start..end` of an event's text. Error: the file does not hold them.
    pub(crate) fn text(&self, event: &EventRow, start: u32, end: u32) -> io::Result<String> {
        let before = u64::from(event.author_bytes) + u64::from(event.title_bytes);
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        let at = event.text_at + TEXT_HEADER + before + u64::from(start);
        self.file.read_exact_at(&mut bytes, at)?;
        text_of(bytes)
    }
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct TextWriter {
    file: Arc<File>,
    pending: Vec<u8>,
}

impl TextWriter {
    /// Opens or makes the file and cuts it to `length` bytes. Error: it is shorter than that.
    pub(crate) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        if file.metadata()?.len() < length {
            return Err(damaged());
        }
        file.set_len(length)?;
        Ok(Self {
            file: Arc::new(file),
            pending: Vec::new(),
        })
    }

    /// Adds an event's entry; it can be read after `flush`.
    pub(crate) fn append(&mut self, event: &Event) {
        let (checksum, draft) = (event.checksum.as_bytes(), &event.draft);
        let seal = seal(
            event.id,
            checksum,
            draft.author.as_bytes(),
            draft.title.as_bytes(),
        );
        self.pending.extend_from_slice(&seal);
        self.pending.extend_from_slice(checksum);
        for text in [&event.draft.author, &event.draft.title, &event.draft.text] {
            self.pending.extend_from_slice(text.as_bytes());
        }
    }

    /// Hands what was appended to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        (&*self.file).write_all(&self.pending)?;
        self.pending.clear();
        self.pending.shrink_to(1 << 20);
        Ok(())
    }

    /// Waits until the disk has it.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    /// The reading end.
    pub(crate) fn reader(&self) -> Texts {
        Texts {
            file: Arc::clone(&self.file),
        }
    }
}

/// Stands for the head of an event's entry.
fn seal(event: EventId, checksum: &[u8], author: &[u8], title: &[u8]) -> [u8; SEAL] {
    let mut hasher = blake3::Hasher::new();
    for part in [event.as_bytes(), checksum, author, title] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL]);
    seal
}

fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| damaged())
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the index's texts are damaged")
}
