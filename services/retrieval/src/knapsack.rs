//! The set with the greatest value that fits, exactly.

/// Most things chosen from at once; more are refused by [`choose`]'s caller cutting its list.
pub const MOST_THINGS: usize = 64;
/// Most steps that a capacity is divided into.
pub const MOST_STEPS: usize = 8_192;

/// A thing to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thing {
    /// What it adds; at most a million, so that sums stay small.
    pub value: u32,
    /// What it takes up.
    pub size: u32,
}

/// Which things to take: of all sets that fit, one with the greatest sum of values; among those, the one that
/// takes the earliest things (compared thing by thing from the first). In the order given.
///
/// At most [`MOST_THINGS`] things are looked at. Exact while `capacity` is at most [`MOST_STEPS`]; above,
/// sizes are rounded up to whole steps of `ceil(capacity / MOST_STEPS)`, so a set never outgrows the capacity
/// but may miss a slightly better one. Time: things × steps, at most half a million cells; memory: 16 bytes a step.
/// Source: dynamic programming over capacities, Bellman 1957.
pub fn choose(things: &[Thing], capacity: u32) -> Vec<bool> {
    let things = &things[..things.len().min(MOST_THINGS)];
    let unit = step(capacity);
    let room = (capacity / unit) as usize;
    if total(things) <= u64::from(capacity) {
        return vec![true; things.len()];
    }
    let sizes: Vec<usize> = things
        .iter()
        .map(|t| t.size.div_ceil(unit) as usize)
        .collect();
    let decisions = decide(things, &sizes, room);
    let mut left = room;
    let mut taken = Vec::with_capacity(things.len());
    for (place, size) in sizes.iter().enumerate() {
        let take = decisions[left] >> place & 1 == 1;
        if take {
            left -= size;
        }
        taken.push(take);
    }
    taken
}

/// For each number of steps left, one bit for each thing: whether to take it when it and those after it are
/// still open.
fn decide(things: &[Thing], sizes: &[usize], room: usize) -> Vec<u64> {
    let mut decisions = vec![0_u64; room + 1];
    // The greatest value of the things after the present one, and from it on, by steps left.
    let mut after = vec![0_u32; room + 1];
    let mut from = vec![0_u32; room + 1];
    let mut before: usize = sizes.iter().sum();
    for (place, (thing, size)) in things.iter().zip(sizes).enumerate().rev() {
        // Even if everything before is taken, so many steps are left: fewer never come up.
        before -= size;
        let least = room.saturating_sub(before);
        let first = least.max((*size).min(room + 1));
        from[least..first].copy_from_slice(&after[least..first]);
        let cells = from[first..].iter_mut().zip(&mut decisions[first..]);
        let values = after[first..]
            .iter()
            .zip(&after[first.saturating_sub(*size)..]);
        for ((cell, decision), (without, rest)) in cells.zip(values) {
            let with = rest + thing.value;
            let take = with >= *without;
            *cell = if take { with } else { *without };
            *decision |= u64::from(take) << place;
        }
        std::mem::swap(&mut after, &mut from);
    }
    decisions
}

/// How many tokens one step of the capacity holds.
pub fn step(capacity: u32) -> u32 {
    capacity.div_ceil(MOST_STEPS as u32).max(1)
}

fn total(things: &[Thing]) -> u64 {
    things.iter().map(|thing| u64::from(thing.size)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries every set; sets are tried so that the earliest things come first.
    fn by_trying(things: &[Thing], capacity: u32) -> Vec<bool> {
        let mut best: Option<(u64, Vec<bool>)> = None;
        for set in (0..1_u32 << things.len()).rev() {
            let taken: Vec<bool> = (0..things.len())
                .map(|place| set >> (things.len() - 1 - place) & 1 == 1)
                .collect();
            let of = |part: fn(&Thing) -> u32| -> u64 {
                things
                    .iter()
                    .zip(&taken)
                    .filter(|(_, t)| **t)
                    .map(|(thing, _)| u64::from(part(thing)))
                    .sum()
            };
            let value = of(|thing| thing.value);
            if of(|thing| thing.size) <= u64::from(capacity)
                && best.as_ref().is_none_or(|(most, _)| value > *most)
            {
                best = Some((value, taken));
            }
        }
        best.map(|(_, taken)| taken).unwrap_or_default()
    }

    proptest! {
        #[test]
        fn it_is_what_trying_every_set_gives(
            things in prop::collection::vec((0_u32..6, 0_u32..20), 0..11),
            capacity in 0_u32..80,
        ) {
            let things: Vec<Thing> = things.into_iter().map(|(value, size)| Thing { value, size }).collect();
            prop_assert_eq!(choose(&things, capacity), by_trying(&things, capacity));
        }

        #[test]
        fn a_large_capacity_is_never_outgrown(
            things in prop::collection::vec((0_u32..=1_000_000, 0_u32..200_000), 0..80),
            capacity in 0_u32..=1_000_000,
        ) {
            let things: Vec<Thing> = things.into_iter().map(|(value, size)| Thing { value, size }).collect();
            let taken = choose(&things, capacity);
            let used: u64 = things.iter().zip(&taken).filter(|(_, t)| **t).map(|(t, _)| u64::from(t.size)).sum();
            prop_assert!(used <= u64::from(capacity));
            prop_assert_eq!(taken.len(), things.len().min(MOST_THINGS));
        }
    }
}
