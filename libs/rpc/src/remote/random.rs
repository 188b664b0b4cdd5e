//! Randomness for choices and delays: repeatable from a seed, shared without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        let mut mixed = self
            .0
            .fetch_add(GOLDEN, Ordering::Relaxed)
            .wrapping_add(GOLDEN);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from 0 up to 1, which is never drawn.
    pub(crate) fn share(&self) -> f64 {
        // 53 bits are what a float holds exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A span from zero up to `bound`.
    pub(crate) fn up_to(&self, bound: Duration) -> Duration {
        bound.mul_f64(self.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_from_a_seed_and_stay_in_bounds() {
        let draw = |seed| {
            let random = Random::new(Some(seed));
            (0..1_000).map(|_| random.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for number in 0..7 {
            let count = draw(1).iter().filter(|drawn| **drawn == number).count();
            assert!((90..200).contains(&count), "{number}: {count}");
        }
        let random = Random::new(Some(3));
        assert!(
            (0..100).all(|_| random.up_to(Duration::from_millis(5)) <= Duration::from_millis(5))
        );
        assert_eq!(random.below(0), 0);
    }
}
