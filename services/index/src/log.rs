//! A file of checked frames that only grows.
//!
//! A frame is its length (4 bytes), the first 8 bytes of its BLAKE3 and its payload. Frames are collected
//! in memory and written together; a reader stops at the first frame that is cut off or damaged, and the
//! writer goes on from there. So after a crash a log holds a prefix of what was appended.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes before a payload.
pub(crate) const HEADER: usize = 12;
/// A longer frame is damage.
const LONGEST: usize = 256 << 20;

/// The writing end of a log.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    pending: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

impl Log {
    /// Opens or makes the log, hands each whole frame to `take` as long as that says true, and cuts off
    /// what follows. Errors: the file cannot be read or written, or those of `take`.
    pub(crate) fn open<E: From<io::Error>>(
        path: &Path,
        mut take: impl FnMut(&[u8]) -> Result<bool, E>,
    ) -> Result<Self, E> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut kept = 0;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut payload = Vec::new();
        while read_frame(&mut reader, &mut payload)? && take(&payload)? {
            kept += (HEADER + payload.len()) as u64;
        }
        file.set_len(kept)?;
        file.seek(SeekFrom::Start(kept))?;
        Ok(Self {
            file,
            pending: Vec::new(),
            written: kept,
        })
    }

    /// Adds a frame; it is on its way to the file after `flush`. Returns where its payload will stand in it.
    pub(crate) fn append(&mut self, payload: &[u8]) -> u64 {
        let at = self.written + (self.pending.len() + HEADER) as u64;
        self.pending
            .extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.pending.extend_from_slice(&check_of(payload));
        self.pending.extend_from_slice(payload);
        at
    }

    /// The file, to read what was flushed.
    pub(crate) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes what was appended, and waits for the disk when `durably`.
    pub(crate) fn flush(&mut self, durably: bool) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(1 << 20);
        if durably {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Bytes waiting for `flush`.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }
}

/// The whole frames of a log that nobody writes, in order.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: BufReader<File>,
}

impl Frames {
    /// Opens a log to read. Error: there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        Ok(Self { reader })
    }

    /// The next payload; none at the end and where the log is damaged.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        let read = read_frame(&mut self.reader, &mut payload);
        read.unwrap_or(false).then_some(payload)
    }
}

/// Reads the next frame's payload. False: there is no further whole frame.
fn read_frame(reader: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<bool> {
    let mut header = [0; HEADER];
    if !filled(reader, &mut header)? {
        return Ok(false);
    }
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > LONGEST {
        return Ok(false);
    }
    payload.clear();
    reader.take(length as u64).read_to_end(payload)?;
    Ok(payload.len() == length && check_of(payload) == header[4..])
}

fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn check_of(payload: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::hash(payload).as_bytes()[..8]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(path: &Path, most: usize) -> (Log, Vec<Vec<u8>>) {
        let mut found = Vec::new();
        let log = Log::open::<io::Error>(path, |payload| {
            if found.len() == most {
                return Ok(false);
            }
            found.push(payload.to_vec());
            Ok(true)
        });
        (log.unwrap(), found)
    }

    #[test]
    fn keeps_a_prefix_whatever_happens_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let all: Vec<Vec<u8>> = (0..5u8).map(|byte| vec![byte; byte as usize * 7]).collect();
        let (mut log, _) = frames(&path, usize::MAX);
        for payload in &all {
            log.append(payload);
        }
        log.flush(true).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (_, found) = frames(&path, usize::MAX);
            assert!(all.starts_with(&found), "cut at {cut}");
        }
        let mut damaged = whole.clone();
        damaged[whole.len() - 1] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(frames(&path, usize::MAX).1, all[..4]);
    }

    #[test]
    fn is_cut_where_the_reader_stops_and_goes_on_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, _) = frames(&path, usize::MAX);
        for payload in [b"one", b"two", b"six"] {
            log.append(payload);
        }
        log.flush(false).unwrap();
        let (mut log, found) = frames(&path, 2);
        assert_eq!(found, [b"one", b"two"]);
        log.append(b"three");
        log.flush(false).unwrap();
        let (_, found) = frames(&path, usize::MAX);
        assert_eq!(found, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    }
}
