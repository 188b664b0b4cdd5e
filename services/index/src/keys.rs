//! Short lists of lane keys, one list for each event.

use commonplace_types::Visible;

use crate::column::Column;
use crate::feed::LaneKey;

/// For each event a list of keys. Nearly every list holds none or one, which is kept in place; what is
/// more hangs off it in a chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    /// 0 is an empty list.
    first: Column<u64>,
    /// Place of the newest further key in `more`, plus 1; 0 is none.
    newest: Column<u32>,
    /// A further key, and the place of the next plus 1.
    more: Column<(u64, u32)>,
}

impl Keys {
    /// Gives the next event an empty list.
    pub(crate) fn open(&mut self) {
        self.first.push(0);
        self.newest.push(0);
    }

    /// Adds a key to an event's list.
    pub(crate) fn add(&mut self, event: u32, key: LaneKey) {
        let event = event as usize;
        if *self.first.at(event) == 0 {
            return self.first.set(event, key.0);
        }
        let place = self.more.push((key.0, *self.newest.at(event)));
        self.newest.set(event, place as u32 + 1);
    }

    /// Whether one of an event's keys is seen.
    #[inline]
    pub(crate) fn any_seen(&self, event: u32, visible: &Visible) -> bool {
        let first = *self.first.at(event as usize);
        first != 0 && (LaneKey(first).seen_by(visible) || self.further_seen(event, visible))
    }

    /// An event's keys, lowest first.
    pub(crate) fn of(&self, event: u32) -> Vec<u64> {
        let mut keys = Vec::new();
        let first = *self.first.at(event as usize);
        let mut place = *self.newest.at(event as usize);
        if first != 0 {
            keys.push(first);
        }
        while place != 0 {
            let (key, next) = *self.more.at(place as usize - 1);
            keys.push(key);
            place = next;
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn further_seen(&self, event: u32, visible: &Visible) -> bool {
        let mut place = *self.newest.at(event as usize);
        while place != 0 {
            let (key, next) = *self.more.at(place as usize - 1);
            if LaneKey(key).seen_by(visible) {
                return true;
            }
            place = next;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonplace_types::LaneInterval;

    #[test]
    fn any_key_of_the_list_counts() {
        let mut keys = Keys::default();
        (0..3).for_each(|_| keys.open());
        for (lane, position) in [(1, 5), (2, 3), (7, 1)] {
            keys.add(1, LaneKey::new(lane, position));
        }
        keys.add(2, LaneKey::new(2, 9));
        let sees = |lane, position| Visible::new(vec![LaneInterval { lane, position }]);
        for (lane, position, expected) in [
            (1, 4, [false, false, false]),
            (1, 5, [false, true, false]),
            (2, 3, [false, true, false]),
            (2, 9, [false, true, true]),
            (7, 1, [false, true, false]),
            (3, 99, [false, false, false]),
        ] {
            let found = [0, 1, 2].map(|event| keys.any_seen(event, &sees(lane, position)));
            assert_eq!(found, expected, "lane {lane} position {position}");
        }
    }
}
