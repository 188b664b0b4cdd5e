//! Lanes: linear runs of positions, and what a commit on one sees.

use commonplace_types::{LaneInterval, Visible};

use crate::JournalError;

/// Lanes of a project stay below this, so that `lane * 2^32 + position` is exact in a double.
pub(crate) const LANES: u32 = 1 << 21;

/// A linear run of positions. A branch gets one at its first commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    /// From 1.
    pub(crate) number: u32,
    /// The lane it forked from, 0 for the first.
    pub(crate) parent: u32,
    /// The parent's last position that it sees.
    pub(crate) fork_position: u32,
    /// All that the fork saw.
    pub(crate) base: Visible,
}

impl Lane {
    /// The lane of `main`.
    pub(crate) fn first() -> Self {
        Self {
            number: 1,
            parent: 0,
            fork_position: 0,
            base: Visible::default(),
        }
    }

    /// A lane that forks from a commit at `fork`, which sees `base`. Error: too many lanes.
    pub(crate) fn fork(
        number: u32,
        fork: LaneInterval,
        base: Visible,
    ) -> Result<Self, JournalError> {
        if number >= LANES {
            return Err(JournalError::Exhausted {
                what: "the project's number of branches",
            });
        }
        Ok(Self {
            number,
            parent: fork.lane,
            fork_position: fork.position,
            base,
        })
    }

    /// What is seen from a position of this lane.
    pub(crate) fn visible(&self, position: u32) -> Visible {
        let mut intervals = self.base.intervals().to_vec();
        intervals.push(LaneInterval {
            lane: self.number,
            position,
        });
        Visible::new(intervals)
    }
}

/// Intervals as bytes: lane and position of each, four little-endian bytes.
pub(crate) fn encode(visible: &Visible) -> Vec<u8> {
    let pair = |interval: &LaneInterval| {
        let (lane, position) = (interval.lane.to_le_bytes(), interval.position.to_le_bytes());
        [lane, position].concat()
    };
    visible.intervals().iter().flat_map(pair).collect()
}

/// Reads [`encode`]d intervals. Error: they are none.
pub(crate) fn decode(bytes: &[u8]) -> Result<Visible, JournalError> {
    let (pairs, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(JournalError::damaged("a lane's base does not read back"));
    }
    let interval = |pair: &[u8; 8]| {
        let value = u64::from_le_bytes(*pair);
        LaneInterval {
            lane: value as u32,
            position: (value >> 32) as u32,
        }
    };
    Ok(Visible::new(pairs.iter().map(interval).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_sees_what_lay_before_it() {
        let main = Lane::first();
        let fork = LaneInterval {
            lane: 1,
            position: 5,
        };
        let side = Lane::fork(2, fork, main.visible(5)).unwrap();
        let visible = side.visible(3);
        assert!(visible.sees(1, 5) && !visible.sees(1, 6));
        assert!(visible.sees(2, 3) && !visible.sees(2, 4));
        assert_eq!(decode(&encode(&visible)).unwrap(), visible);
        assert!(decode(&[1, 2, 3]).is_err());
        assert!(Lane::fork(LANES, fork, Visible::default()).is_err());
    }
}
