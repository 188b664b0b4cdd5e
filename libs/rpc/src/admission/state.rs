//! Which call runs, waits or is refused: everything but time, threads and messages, so that it can be simulated.
//!
//! Calls run up to the [`AdaptiveLimit`]; those of each cost wait in a short queue of their own.
//! - Cheap calls go first and have a share of their own on top of the limit: they run however much else does. A share
//!   of the limit is kept from expensive calls, so that those of usual cost find room beside them.
//! - Who waits is served in order.
//! - A call whose caller would not wait that long is refused when it comes, not when it is too late.
//! - Who finds the queue full is refused, at the door, where that costs least. Once somebody has waited all through the
//!   longest wait, it is no burst that goes by: then the queue is full when the next would wait for longer than it
//!   should. Source: B. Maurer, Fail at Scale, ACM Queue 2015 (controlled delay).
//! - A call that takes much longer than calls of its method do lately waits for something else, such as a service that
//!   restarts: its place goes to the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::limit::{AdaptiveLimit, Sample};
use crate::methods::Cost;

const COSTS: [Cost; 3] = [Cost::Cheap, Cost::Usual, Cost::Expensive];

/// A call may take so many times what calls of its method take lately, before its place goes to the next.
const STUCK: u32 = 8;
/// It keeps its place for this long at least; and for so long where nothing is known of its method.
const KEEPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Bounds of what waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Calls of one cost that wait at most.
    pub(crate) waiting: usize,
    /// Nobody waits for longer.
    pub(crate) wait: Duration,
}

impl Bounds {
    /// Nobody should wait for longer, but in a burst.
    fn should(&self) -> Duration {
        self.wait / 16
    }
}

/// Who runs and who waits. `T` is told when its call may run.
#[derive(Debug)]
pub(crate) struct State<T> {
    limit: AdaptiveLimit,
    bounds: Bounds,
    /// Those that have a place, by number.
    placed: BTreeMap<u64, Placed>,
    running: [usize; 3],
    waiting: [VecDeque<Waiter<T>>; 3],
    /// Since when there has always been somebody who waits; of a queue in which nobody does, the last time.
    waited_since: [Option<Instant>; 3],
    next: u64,
}

#[derive(Debug)]
struct Placed {
    cost: Cost,
    method: &'static str,
    began: Instant,
}

#[derive(Debug)]
struct Waiter<T> {
    number: u64,
    method: &'static str,
    tell: T,
}

/// A call that runs: to be given back.
#[derive(Debug)]
pub(crate) struct Running {
    number: u64,
    pub(crate) method: &'static str,
    pub(crate) began: Instant,
    began_with: usize,
}

/// What becomes of a call that comes.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It runs.
    Runs(Running),
    /// It waits under a number, until then at most.
    Waits { number: u64, until: Instant },
    /// It is refused.
    Refused,
}

/// A call that comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) cost: Cost,
    pub(crate) method: &'static str,
    pub(crate) now: Instant,
    /// When its caller stops waiting.
    pub(crate) deadline: Option<Instant>,
}

impl<T> State<T> {
    pub(crate) fn new(limit: AdaptiveLimit, bounds: Bounds) -> Self {
        Self {
            limit,
            bounds,
            placed: BTreeMap::new(),
            running: [0; 3],
            waiting: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            waited_since: [None; 3],
            next: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.now()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.iter().sum()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Decides about a call. `tell` is kept if it waits.
    pub(crate) fn arrive(&mut self, call: Call, tell: T) -> Arrival {
        let nobody_before = self.waiting[call.cost as usize].is_empty();
        if nobody_before && !self.has_room(call.cost) {
            self.take_places(call.now);
        }
        if nobody_before && self.has_room(call.cost) {
            return Arrival::Runs(self.run(call.cost, call.method, call.now));
        }
        let until = call.now + self.bounds.wait;
        let until = match call.deadline {
            Some(deadline) => until.min(self.latest_start(call.method, deadline)),
            None => until,
        };
        if until <= call.now || call.now + self.expected_wait(call.cost) > until {
            return Arrival::Refused;
        }
        if self.bounds.waiting == 0 || self.turns_away(call.cost, call.now) {
            return Arrival::Refused;
        }
        let queue = &mut self.waiting[call.cost as usize];
        if queue.is_empty() {
            self.waited_since[call.cost as usize] = Some(call.now);
        }
        let number = self.next;
        self.next += 1;
        queue.push_back(Waiter {
            number,
            method: call.method,
            tell,
        });
        Arrival::Waits { number, until }
    }

    /// Whether a call of a cost that comes now is refused, whoever makes it.
    pub(crate) fn turns_away(&self, cost: Cost, now: Instant) -> bool {
        let waiting = self.waiting[cost as usize].len();
        if waiting == 0 || waiting >= self.bounds.waiting {
            return waiting > 0;
        }
        let since = self.waited_since[cost as usize];
        let waited = since.map(|since| now.saturating_duration_since(since));
        waited.is_some_and(|waited| waited >= self.bounds.wait)
            && self.expected_wait(cost) > self.bounds.should()
    }

    /// Takes a call back that ran; `answered`: it was answered, so that how long it took says something. Gives those
    /// that may run now.
    pub(crate) fn leave(
        &mut self,
        running: &Running,
        now: Instant,
        answered: bool,
    ) -> Vec<(T, Running)> {
        let sample = Sample {
            method: running.method,
            took: now.saturating_duration_since(running.began),
            began_with: running.began_with,
        };
        let all = self.running();
        let placed = self.placed.remove(&running.number);
        let says_something = answered && placed.is_some();
        self.limit.ended(now, all, says_something.then_some(sample));
        if let Some(placed) = placed {
            self.running[placed.cost as usize] -= 1;
        }
        self.serve(now)
    }

    /// Lets run what may run after a while in which nothing else happened.
    pub(crate) fn stir(&mut self, now: Instant) -> Vec<(T, Running)> {
        self.take_places(now);
        self.serve(now)
    }

    /// Takes the places of calls that wait for something else.
    fn take_places(&mut self, now: Instant) {
        let (limit, running) = (&self.limit, &mut self.running);
        self.placed.retain(|_, placed| {
            let lately = limit.lately(placed.method);
            let keeps = lately.map_or(KEEPS.1, |lately| (STUCK * lately).max(KEEPS.0));
            let stays = now.saturating_duration_since(placed.began) <= keeps;
            running[placed.cost as usize] -= usize::from(!stays);
            stays
        });
    }

    /// Takes a call out of the queue. False: it runs already.
    pub(crate) fn give_up(&mut self, cost: Cost, number: u64) -> bool {
        let queue = &mut self.waiting[cost as usize];
        let place = queue.iter().position(|waiter| waiter.number == number);
        place.and_then(|place| queue.remove(place)).is_some()
    }

    /// About how long a call of a cost that comes now would wait.
    pub(crate) fn expected_wait(&self, cost: Cost) -> Duration {
        let pace = self.limit.pace();
        if pace <= 0.0 {
            return Duration::ZERO;
        }
        let ahead: usize = COSTS
            .iter()
            .filter(|other| **other <= cost)
            .map(|other| self.waiting[*other as usize].len())
            .sum();
        Duration::from_secs_f64((ahead as f64 / pace).min(60.0))
    }

    /// Lets run what may run, cheap calls first.
    fn serve(&mut self, now: Instant) -> Vec<(T, Running)> {
        let mut served = Vec::new();
        for cost in COSTS {
            while self.has_room(cost) {
                let Some(waiter) = self.waiting[cost as usize].pop_front() else {
                    break;
                };
                let running = self.run(cost, waiter.method, now);
                served.push((waiter.tell, running));
            }
        }
        served
    }

    fn run(&mut self, cost: Cost, method: &'static str, now: Instant) -> Running {
        self.running[cost as usize] += 1;
        let number = self.next;
        self.next += 1;
        let began = now;
        let placed = Placed {
            cost,
            method,
            began,
        };
        self.placed.insert(number, placed);
        Running {
            number,
            method,
            began: now,
            began_with: self.running(),
        }
    }

    fn has_room(&self, cost: Cost) -> bool {
        let limit = self.limit.now();
        let share = (limit / 4).max(1);
        match cost {
            Cost::Cheap => self.running() < limit || self.running[Cost::Cheap as usize] < share,
            Cost::Usual => self.running() < limit,
            Cost::Expensive => self.running() < limit.saturating_sub(share).max(1),
        }
    }

    /// The last moment at which a call may begin to run and be answered in time.
    fn latest_start(&self, method: &str, deadline: Instant) -> Instant {
        let usual = self.limit.usual(method).unwrap_or_default();
        deadline.checked_sub(usual).unwrap_or(deadline)
    }
}

#[cfg(test)]
mod tests;
