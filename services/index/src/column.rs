//! Append-only arrays that the one writer shares with many readers.
//!
//! A column is a list of equally long chunks behind `Arc`s. Cloning one costs a counter per chunk, and a
//! clone never changes: the writer copies a chunk before it touches one that a reader holds. So a search
//! works on a fixed state without a lock, and an append costs no more than one chunk.

use std::sync::Arc;

/// Values in a chunk.
const CHUNK: usize = 2_048;

/// An array that grows at its end.
#[derive(Debug)]
pub(crate) struct Column<T> {
    chunks: Vec<Arc<Vec<T>>>,
    length: usize,
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            length: self.length,
        }
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            length: 0,
        }
    }
}

impl<T: Clone> Column<T> {
    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The value at a place below `len`.
    pub(crate) fn at(&self, place: usize) -> &T {
        &self.chunks[place / CHUNK][place % CHUNK]
    }

    /// Adds a value at the end and gives its place.
    pub(crate) fn push(&mut self, value: T) -> usize {
        let place = self.length;
        if place.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::default());
        }
        if let Some(last) = self.chunks.last_mut() {
            grown(last).push(value);
        }
        self.length += 1;
        place
    }

    /// Puts another value at a place below `len`.
    pub(crate) fn set(&mut self, place: usize, value: T) {
        Arc::make_mut(&mut self.chunks[place / CHUNK])[place % CHUNK] = value;
    }

    /// Gives back the memory of whole chunks below a place; those values must not be asked for again. Returns the
    /// first place that is still held.
    pub(crate) fn forget(&mut self, below: usize) -> usize {
        let chunks = below.min(self.length) / CHUNK;
        for chunk in &mut self.chunks[..chunks] {
            if !chunk.is_empty() {
                *chunk = Arc::default();
            }
        }
        chunks * CHUNK
    }

    /// Values in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The chunks that hold the places below `to`, each with the place of its first value.
    pub(crate) fn chunks(&self, to: usize) -> impl Iterator<Item = (usize, &[T])> {
        let chunks = self.chunks.iter().enumerate();
        chunks
            .map(|(number, chunk)| (number * CHUNK, &chunk[..]))
            .take_while(move |(first, _)| *first < to)
            .map(move |(first, chunk)| (first, &chunk[..chunk.len().min(to - first)]))
    }

    /// The values of the places `from..to`.
    pub(crate) fn range(&self, from: usize, to: usize) -> impl Iterator<Item = &T> {
        (from..to).map(|place| self.at(place))
    }
}

/// The chunk, unshared and with room for one more.
fn grown<T: Clone>(chunk: &mut Arc<Vec<T>>) -> &mut Vec<T> {
    if Arc::get_mut(chunk).is_none() {
        let mut copy = Vec::with_capacity((chunk.len() * 2).clamp(16, CHUNK));
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::make_mut(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_never_changes() {
        let mut column = Column::default();
        for value in 0..CHUNK * 2 + 5 {
            assert_eq!(column.push(value), value);
        }
        let before = column.clone();
        column.set(7, 70);
        column.set(CHUNK * 2, 1);
        column.push(99);
        assert_eq!((*before.at(7), *before.at(CHUNK * 2)), (7, CHUNK * 2));
        assert_eq!((before.len(), column.len()), (CHUNK * 2 + 5, CHUNK * 2 + 6));
        assert_eq!((*column.at(7), *column.at(CHUNK * 2)), (70, 1));
        assert_eq!(before.iter().count(), before.len());
        assert!(
            before
                .iter()
                .enumerate()
                .all(|(place, &value)| place == value)
        );
    }
}
