//! How often and how late a call is sent again.
//!
//! Two cases are told apart. A call that certainly did not begin at any server (no connection, a stream the
//! server refused, a server that starts or drains) may go elsewhere whatever it does; it waits within the
//! channel's patience. A call that may have begun is repeated only if its contract says that this is safe,
//! a few times, and out of a budget, so that repeats cannot become most of the load of a struggling peer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::RetryOptions;
use super::random::Random;

/// Seconds of the floor that an unused budget can save up, and calls' worth of the ratio.
const SAVED_SECONDS: f64 = 1.0;
const SAVED_CALLS: f64 = 100.0;

/// What repeats are paid from: a share of the calls, and a trickle. A token bucket.
#[derive(Debug)]
pub(crate) struct Budget {
    ratio: f64,
    floor: f64,
    tokens: Mutex<(f64, Instant)>,
}

impl Budget {
    pub(crate) fn new(options: &RetryOptions) -> Self {
        let (ratio, floor) = (options.budget_ratio.max(0.0), options.budget_floor.max(0.0));
        Self {
            ratio,
            floor,
            tokens: Mutex::new((floor * SAVED_SECONDS, Instant::now())),
        }
    }

    /// Counts a call.
    pub(crate) fn deposit(&self) {
        self.change(self.ratio, Instant::now());
    }

    /// Pays for one repeat. False: the budget is spent.
    pub(crate) fn withdraw(&self) -> bool {
        self.change(-1.0, Instant::now())
    }

    fn change(&self, amount: f64, now: Instant) -> bool {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let trickle = now.saturating_duration_since(tokens.1).as_secs_f64() * self.floor;
        let most = self.floor * SAVED_SECONDS + self.ratio * SAVED_CALLS;
        let after = (tokens.0 + trickle).min(most) + amount;
        let enough = after >= 0.0;
        *tokens = (
            if enough {
                after.min(most)
            } else {
                after - amount
            },
            now,
        );
        enough
    }
}

/// A delay before the attempt after `attempts`: drawn from zero up to a bound that doubles, and at least what
/// the server asked for.
/// Source: Brooker, "Exponential backoff and jitter", 2015 ("full jitter").
pub(crate) fn delay(
    options: &RetryOptions,
    random: &Random,
    attempts: u32,
    asked: Option<Duration>,
) -> Duration {
    let doubled = options
        .first_delay
        .saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let drawn = random.up_to(doubled.min(options.longest_delay));
    drawn.max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ratio: f64, floor: f64) -> RetryOptions {
        RetryOptions {
            budget_ratio: ratio,
            budget_floor: floor,
            ..RetryOptions::default()
        }
    }

    #[test]
    fn a_budget_allows_its_share_and_its_floor() {
        let budget = Budget::new(&options(0.2, 10.0));
        let start = budget.tokens.lock().unwrap().1;
        let granted = |now| (0..100).filter(|_| budget.change(-1.0, now)).count();
        assert_eq!(granted(start), 10, "the floor of one second");
        (0..50).for_each(|_| assert!(budget.change(0.2, start)));
        assert!((9..=10).contains(&granted(start)), "a fifth of fifty calls");
        let later = start + Duration::from_millis(500);
        assert!((5..=6).contains(&granted(later)), "half a second");
        (0..1_000_000).for_each(|_| assert!(budget.change(0.2, later)));
        assert_eq!(granted(later), 30, "it does not save without end");
    }

    #[test]
    fn delays_grow_are_spread_and_honour_the_server() {
        let random = Random::new(Some(1));
        let options = options(0.2, 10.0);
        for attempts in 1..40 {
            let bound = options
                .first_delay
                .saturating_mul(1 << (attempts - 1).min(16))
                .min(options.longest_delay);
            assert!(delay(&options, &random, attempts, None) <= bound);
        }
        let asked = Duration::from_secs(3);
        assert_eq!(delay(&options, &random, 1, Some(asked)), asked);
    }
}
