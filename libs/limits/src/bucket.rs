//! The token bucket: it holds at most `burst` tokens and gains `per_second`.
//!
//! Whoever takes more than it holds at most waits until it is full, and then leaves it owing. So a message larger than
//! the burst is not refused for good, and what follows pays for it.

use std::time::{Duration, Instant};

/// How large a bucket is and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Tokens gained in a second; above 0.
    pub per_second: f64,
    /// Tokens held at most; at least 1.
    pub burst: f64,
}

/// Tokens at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    /// With so many tokens.
    pub fn new(level: f64, now: Instant) -> Self {
        Self { level, at: now }
    }

    /// Gains what the time since the last look brings. Time never goes backwards here.
    pub fn fill(&mut self, size: Size, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * size.per_second;
        self.at = self.at.max(now);
        self.give(gained, size);
    }

    /// Gains tokens, as far as there is room for them.
    pub fn give(&mut self, tokens: f64, size: Size) {
        self.level = (self.level + tokens).min(size.burst);
    }

    /// Tokens held; below 0: owed.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Tokens that are missing for so many to be taken; 0 if none are.
    pub fn missing(&self, tokens: f64, most: f64) -> f64 {
        // A rounding error keeps nobody out.
        let missing = tokens.min(most) - self.level;
        if missing > 1e-6 { missing } else { 0.0 }
    }

    /// Takes tokens, whether they are there or not.
    pub fn take(&mut self, tokens: f64) {
        self.level -= tokens;
    }

    /// Whether it holds all that it may.
    pub fn is_full(&self, size: Size, now: Instant) -> bool {
        let mut later = *self;
        later.fill(size, now);
        later.level >= size.burst
    }
}

/// How long a bucket takes to gain tokens.
pub fn time_for(tokens: f64, size: Size) -> Duration {
    Duration::from_secs_f64((tokens / size.per_second).clamp(0.0, 86_400.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size {
        per_second: 10.0,
        burst: 5.0,
    };

    #[test]
    fn tokens_come_with_time_and_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5.0, start);
        bucket.take(5.0);
        assert!(bucket.missing(1.0, SIZE.burst) > 0.0);
        bucket.fill(SIZE, start + Duration::from_millis(100));
        assert_eq!(bucket.missing(1.0, SIZE.burst), 0.0);
        bucket.fill(SIZE, start + Duration::from_secs(60));
        assert_eq!(bucket.level(), 5.0);
    }

    #[test]
    fn more_than_the_burst_is_let_in_once_and_paid_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5.0, start);
        assert_eq!(bucket.missing(20.0, SIZE.burst), 0.0);
        bucket.take(20.0);
        assert_eq!(
            time_for(bucket.missing(1.0, SIZE.burst), SIZE),
            Duration::from_millis(1_600)
        );
    }

    proptest! {
        /// In any span no more is taken than the burst, what the span brings, and one take too large.
        #[test]
        #[test]
        fn what_is_taken_stays_within_the_bound(
            steps in prop::collection::vec((0_u64..400, 1_u32..9), 1..200),
            per_second in 1_u32..50,
            burst in 1_u32..20,
        ) {
            let size = Size { per_second: f64::from(per_second), burst: f64::from(burst) };
            let start = Instant::now();
            let (mut bucket, mut now) = (Bucket::new(size.burst, start), start);
            let mut taken: Vec<(Instant, f64)> = Vec::new();
            // The model: tokens by hand, in millionths.
            let mut model = i64::from(burst) * 1_000_000;
            for (pause, tokens) in steps {
                now += Duration::from_millis(pause);
                bucket.fill(size, now);
                model = (model + pause as i64 * i64::from(per_second) * 1_000)
                    .min(i64::from(burst) * 1_000_000);
                let wanted = f64::from(tokens);
                let allowed = bucket.missing(wanted, size.burst) == 0.0;
                let by_model = model + 1 >= i64::from(tokens.min(burst)) * 1_000_000;
                prop_assert_eq!(allowed, by_model);
                if allowed {
                    bucket.take(wanted);
                    model -= i64::from(tokens) * 1_000_000;
                    taken.push((now, wanted));
                }
            }
            for (place, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0.0;
                for (at, tokens) in &taken[place..] {
                    sum += tokens;
                    let span = at.duration_since(*from).as_secs_f64();
                    let bound = size.burst + size.per_second * span + tokens;
                    prop_assert!(sum <= bound + 1e-6, "{} of {}", sum, bound);
                }
            }
        }
    }
}
