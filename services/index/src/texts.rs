//! The texts of the events in one file that only grows, read by position.
//!
//! An entry is the event's checksum (32 bytes), its author, its title and its text, without marks in
//! between: where they lie and how long they are is kept in the rows.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use commonplace_types::{Digest, Event};

use crate::state::{EventRow, TEXT_HEADER};

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
        Ok(TextHead {
            checksum: Digest::from_slice(&bytes).map_err(|_| damaged())?,
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
        self.pending.extend_from_slice(event.checksum.as_bytes());
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

fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| damaged())
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the index's texts are damaged")
}
