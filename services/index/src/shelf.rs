//! Vectors on disk, read by row number.
//!
//! With a vector store elsewhere, memory holds only the newest vectors; the log that keeps all of them is read
//! where a score is wanted. So every score is computed here, from the same whole numbers, whoever proposed the
//! row, and even while the store cannot be reached.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::column::Column;
use crate::vectors::{Codes, DIMENSION};

/// Bytes of a vector in the log: the content hash it was made for, then its codes.
pub(crate) const RECORD: usize = 16 + DIMENSION;
/// Vectors read at once.
const MOST_AT_ONCE: usize = 1_024;

/// Where the vectors of the first rows stand in the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    file: Option<Arc<File>>,
    /// The first row of each frame and where its vectors start, in order.
    frames: Column<(u32, u64)>,
    rows: usize,
}

impl Shelf {
    /// Reads from this file from now on.
    pub(crate) fn read_from(&mut self, file: File) {
        self.file = Some(Arc::new(file));
    }

    /// Notes a frame of `count` vectors that start at byte `at`; it may be read once it was flushed.
    pub(crate) fn add(&mut self, at: u64, count: usize) {
        if count > 0 {
            self.frames.push((self.rows as u32, at));
            self.rows += count;
        }
    }

    /// Hands the vectors of `rows` to `take`, some at a time, each time with the number of the first. Error: they
    /// are not there, or the disk failed.
    pub(crate) fn read(
        &self,
        rows: Range<usize>,
        mut take: impl FnMut(usize, &[Codes]),
    ) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "vectors are not on disk");
        let file = self.file.as_ref().ok_or_else(missing)?;
        if rows.end > self.rows {
            return Err(missing());
        }
        let mut bytes = Vec::new();
        let mut codes = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let (at, end) = self.place(row);
            let count = rows.end.min(end).min(row + MOST_AT_ONCE) - row;
            bytes.resize(count * RECORD, 0);
            file.read_exact_at(&mut bytes, at)?;
            codes.clear();
            let records = bytes.as_chunks::<RECORD>().0;
            codes.extend(records.iter().map(codes_of));
            take(row, &codes);
            row += count;
        }
        Ok(())
    }

    /// Where a row's vector starts, and the row after its frame.
    fn place(&self, row: usize) -> (u64, usize) {
        let (mut low, mut high) = (0, self.frames.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            match self.frames.at(middle).0 as usize <= row {
                true => low = middle,
                false => high = middle,
            }
        }
        let (first, at) = *self.frames.at(low);
        let end = match high < self.frames.len() {
            true => self.frames.at(high).0 as usize,
            false => self.rows,
        };
        (at + ((row - first as usize) * RECORD) as u64, end)
    }
}

fn codes_of(record: &[u8; RECORD]) -> Codes {
    std::array::from_fn(|place| record[16 + place] as i8)
}
