//! Calls that are not sent because their like are being refused.
//!
//! A server that is sent much more than it can serve spends itself on refusals. So whoever calls it keeps count of
//! what it took and what it refused as OVERLOADED, and sends about twice as much as it takes; what goes beyond is
//! refused here, as the server did. What is sent at random beyond what it takes finds out when it takes more again.
//! Source: B. Beyer et al., Site Reliability Engineering, 2016, chapter 21 (adaptive throttling).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Response;
use tonic::body::Body;

use super::random::Random;
use crate::methods::Cost;
use crate::{Code, Failure};

/// So many calls are sent for each that is taken.
const SENT_FOR_TAKEN: f64 = 2.0;
/// What was longer ago than this counts for little.
const MEMORY: Duration = Duration::from_secs(2);
/// The reason of a server that has too much to do.
const OVERLOADED: &str = "OVERLOADED";

/// What became of calls lately, by how much they cost: cheap ones are taken when others are not.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    seen: Mutex<[Seen; 3]>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// Calls that ended, those that were not sent among them.
    calls: f64,
    /// Of these, those that the server took.
    taken: f64,
    /// When that was counted.
    at: Option<Instant>,
    /// How soon the server last said to come again.
    again: Duration,
}

impl Seen {
    /// Lets what was long ago count less.
    fn fade(&mut self, now: Instant) {
        if let Some(at) = self.at {
            let passed = now.saturating_duration_since(at).as_secs_f64();
            let left = (-passed / MEMORY.as_secs_f64()).exp();
            self.calls *= left;
            self.taken *= left;
        }
        self.at = Some(now);
    }

    /// The share of calls that are not sent.
    fn held_back(&self) -> f64 {
        ((self.calls - SENT_FOR_TAKEN * self.taken) / (self.calls + 1.0)).max(0.0)
    }
}

impl Throttle {
    /// Whether a call may be sent. Error: RESOURCE_EXHAUSTED, as the server would say.
    pub(crate) fn admit(&self, cost: Cost, random: &Random, now: Instant) -> Result<(), Failure> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut seen[cost as usize];
        seen.fade(now);
        if random.share() >= seen.held_back() {
            return Ok(());
        }
        seen.calls += 1.0;
        Err(Failure::new(Code::ResourceExhausted, OVERLOADED)
            .metadata("refused_by", "caller")
            .retry_after(seen.again + random.up_to(seen.again))
            .message("the server refuses most calls at present; try again after the given delay"))
    }

    /// Counts a call that ended.
    pub(crate) fn ended(
        &self,
        cost: Cost,
        answer: &Result<Response<Body>, tonic::Status>,
        now: Instant,
    ) {
        let refusal = answer.as_ref().ok().and_then(refusal);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut seen[cost as usize];
        seen.fade(now);
        seen.calls += 1.0;
        match refusal {
            Some(again) => seen.again = again,
            None => seen.taken += 1.0,
        }
    }
}

/// How soon to come again, if a server says that it has too much to do.
fn refusal(answer: &Response<Body>) -> Option<Duration> {
    let exhausted = tonic::Code::ResourceExhausted as i32;
    if crate::serve::grpc_status(answer.headers()) != exhausted {
        return None;
    }
    let failure = Failure::from_status(&tonic::Status::from_header_map(answer.headers())?);
    (failure.reason == OVERLOADED).then(|| failure.retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reason: &str) -> Result<Response<Body>, tonic::Status> {
        let failure = Failure::new(Code::ResourceExhausted, reason);
        let failure = failure.retry_after(Duration::from_millis(200));
        Ok(failure.into_status().into_http())
    }

    /// Of so many calls a second, a millisecond apart or more, how many a server saw that takes so many.
    fn sent(throttle: &Throttle, now: &mut Instant, calls: u32, taken: u32) -> u32 {
        let random = Random::new(Some(7));
        let (mut sent, mut room) = (0, 0.0);
        for _ in 0..calls {
            *now += Duration::from_secs(1) / calls;
            room += f64::from(taken) / f64::from(calls);
            if throttle.admit(Cost::Expensive, &random, *now).is_err() {
                continue;
            }
            sent += 1;
            let answer = match room >= 1.0 {
                true => Ok(Response::new(Body::empty())),
                false => answer(OVERLOADED),
            };
            room -= f64::from(u8::from(room >= 1.0));
            throttle.ended(Cost::Expensive, &answer, *now);
        }
        sent
    }

    #[test]
    fn about_twice_as_much_is_sent_as_is_taken() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(sent(&throttle, &mut now, 400, 400), 400);
        }
        assert_eq!(
            sent(&throttle, &mut now, 600, 400),
            600,
            "a little too much is for the server to refuse"
        );
        for _ in 0..10 {
            sent(&throttle, &mut now, 1_600, 200);
        }
        let still = sent(&throttle, &mut now, 1_600, 200);
        assert!((350..500).contains(&still), "{still}");
        for _ in 0..10 {
            sent(&throttle, &mut now, 200, 200);
        }
        assert_eq!(sent(&throttle, &mut now, 200, 200), 200, "all is well");
    }

    #[test]
    fn other_calls_and_other_refusals_hold_nothing_back() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let random = Random::new(Some(7));
        for _ in 0..1_000 {
            throttle.ended(Cost::Usual, &answer("RATE_LIMITED"), now);
            throttle.ended(Cost::Expensive, &answer(OVERLOADED), now);
        }
        let admit = |cost| throttle.admit(cost, &random, now).is_ok();
        let admitted = |cost| (0..100).filter(|_| admit(cost)).count();
        assert_eq!((admitted(Cost::Cheap), admitted(Cost::Usual)), (100, 100));
        assert!(admitted(Cost::Expensive) < 10);
        let refused = throttle.admit(Cost::Expensive, &random, now);
        let refused = refused.or_else(|_| throttle.admit(Cost::Expensive, &random, now));
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, OVERLOADED);
        assert!(refused.retry_after >= Some(Duration::from_millis(200)));
    }
}
