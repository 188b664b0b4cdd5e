//! Rules one by one, and a simulated service under three times the load that it can bear.

use super::*;

fn state(limit: usize, waiting: usize) -> State<u64> {
    let limit = AdaptiveLimit::new(limit, limit, 2);
    let wait = Duration::from_secs(1);
    State::new(limit, Bounds { waiting, wait })
}

fn call(cost: Cost, now: Instant) -> Call {
    Call {
        cost,
        method: "m",
        now,
        deadline: None,
    }
}

fn runs(arrival: Arrival) -> Running {
    match arrival {
        Arrival::Runs(running) => running,
        other => panic!("expected it to run: {other:?}"),
    }
}

fn told(served: Vec<(u64, Running)>) -> Vec<u64> {
    served.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn cheap_calls_run_beside_a_full_house_and_expensive_ones_leave_room() {
    let (mut state, now) = (state(8, 8), Instant::now());
    for _ in 0..6 {
        runs(state.arrive(call(Cost::Expensive, now), 0));
    }
    assert!(matches!(
        state.arrive(call(Cost::Expensive, now), 0),
        Arrival::Waits { .. }
    ));
    for _ in 0..2 {
        runs(state.arrive(call(Cost::Usual, now), 0));
    }
    assert!(matches!(
        state.arrive(call(Cost::Usual, now), 0),
        Arrival::Waits { .. }
    ));
    for _ in 0..2 {
        runs(state.arrive(call(Cost::Cheap, now), 0));
    }
    assert!(matches!(
        state.arrive(call(Cost::Cheap, now), 0),
        Arrival::Waits { .. }
    ));
    assert_eq!((state.running(), state.waiting()), (10, 3));
}

#[test]
fn who_waits_is_served_cheap_before_expensive_and_in_order() {
    let (mut state, now) = (state(1, 8), Instant::now());
    let running = runs(state.arrive(call(Cost::Usual, now), 0));
    let cheap = runs(state.arrive(call(Cost::Cheap, now), 9));
    for (number, cost) in [
        (1, Cost::Expensive),
        (2, Cost::Usual),
        (3, Cost::Usual),
        (4, Cost::Cheap),
    ] {
        state.arrive(call(cost, now), number);
    }
    let served = state.leave(&cheap, now, true);
    assert_eq!(told(served), [4]);
    let served = state.leave(&running, now, true);
    assert!(served.is_empty(), "the cheap one takes the only place");
}

#[test]
fn a_full_queue_refuses_who_comes() {
    let (mut state, now) = (state(1, 1), Instant::now());
    runs(state.arrive(call(Cost::Usual, now), 0));
    state.arrive(call(Cost::Usual, now), 1);
    assert!(state.turns_away(Cost::Usual, now));
    assert!(!state.turns_away(Cost::Cheap, now));
    assert!(matches!(
        state.arrive(call(Cost::Usual, now), 2),
        Arrival::Refused
    ));
    assert_eq!(state.waiting(), 1);
}

#[test]
fn a_call_that_cannot_be_served_in_time_is_refused_when_it_comes() {
    let (mut state, start) = (state(1, 64), Instant::now());
    let mut now = start;
    // Each takes 20 ms.
    for _ in 0..50 {
        let running = runs(state.arrive(call(Cost::Usual, now), 0));
        now += Duration::from_millis(20);
        state.leave(&running, now, true);
    }
    runs(state.arrive(call(Cost::Usual, now), 0));
    for number in 0..10 {
        state.arrive(call(Cost::Usual, now), number);
    }
    let with = |millis| Call {
        deadline: Some(now + Duration::from_millis(millis)),
        ..call(Cost::Usual, now)
    };
    assert!(matches!(state.arrive(with(15), 11), Arrival::Refused));
    assert!(matches!(state.arrive(with(120), 11), Arrival::Refused));
    assert!(matches!(state.arrive(with(900), 11), Arrival::Waits { .. }));
}

#[test]
fn a_queue_that_stands_for_long_is_kept_short() {
    let (mut state, start) = (state(1, 64), Instant::now());
    let mut now = start;
    // Ten a second, of which each takes the only place.
    let mut running = runs(state.arrive(call(Cost::Usual, now), 0));
    for number in 1..30 {
        if number < 20 {
            let arrival = state.arrive(call(Cost::Usual, now), number);
            assert!(matches!(arrival, Arrival::Waits { .. }), "{number}");
        }
        now += Duration::from_millis(100);
        state.stir(now);
        let mut served = state.leave(&running, now, true);
        running = match served.pop() {
            Some((_, running)) => running,
            None => runs(state.arrive(call(Cost::Usual, now), 0)),
        };
    }
    assert!(!state.turns_away(Cost::Usual, now), "nobody waits");
    let before = now;
    while now < before + Duration::from_millis(950) {
        let arrival = state.arrive(call(Cost::Usual, now), 0);
        assert!(matches!(arrival, Arrival::Waits { .. }), "a burst may wait");
        assert!(!state.turns_away(Cost::Usual, now));
        now += Duration::from_millis(190);
    }
    now += Duration::from_millis(60);
    assert!(state.turns_away(Cost::Usual, now));
    assert!(
        !state.turns_away(Cost::Cheap, now),
        "of others nobody waits"
    );
    let arrival = state.arrive(call(Cost::Usual, now), 0);
    assert!(matches!(arrival, Arrival::Refused));
    while state.waiting() > 0 {
        let served = state.leave(&running, now, true);
        running = served
            .into_iter()
            .next()
            .map(|(_, running)| running)
            .unwrap();
    }
    assert!(!state.turns_away(Cost::Usual, now), "nobody waits any more");
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let (mut state, now) = (state(1, 8), Instant::now());
    let running = runs(state.arrive(call(Cost::Usual, now), 0));
    let Arrival::Waits { number, .. } = state.arrive(call(Cost::Usual, now), 1) else {
        panic!("it waits");
    };
    assert!(state.give_up(Cost::Usual, number));
    assert!(!state.give_up(Cost::Usual, number));
    assert!(state.leave(&running, now, false).is_empty());
    assert_eq!((state.running(), state.waiting()), (0, 0));
}

#[test]
fn a_call_that_waits_for_something_else_leaves_its_place() {
    let (mut state, start) = (state(1, 8), Instant::now());
    let first = runs(state.arrive(call(Cost::Usual, start), 0));
    state.leave(&first, start + Duration::from_millis(5), true);
    let stuck = runs(state.arrive(call(Cost::Usual, start), 0));
    state.arrive(call(Cost::Usual, start), 1);
    assert!(state.stir(start + Duration::from_millis(90)).is_empty());
    let mut served = state.stir(start + Duration::from_millis(110));
    let (number, next) = served.remove(0);
    assert_eq!((number, state.running()), (1, 1));
    state.leave(&stuck, start + Duration::from_secs(9), true);
    assert_eq!(state.running(), 1, "its place was gone");
    state.leave(&next, start + Duration::from_secs(9), true);
    assert_eq!((state.running(), state.waiting()), (0, 0));
}

/// A service of two cores that its calls share, and those who call it.
struct Simulation {
    state: State<u64>,
    now: Instant,
    seed: u64,
    /// Calls by number: when they came, when they give up if they wait.
    calls: Vec<Caller>,
    /// Numbers and what is left to do for each, in seconds of a core.
    under_way: Vec<(u64, Running, f64)>,
    waits: Vec<(u64, u64, Instant)>,
    answered: Vec<(Cost, Duration)>,
    refused: u64,
    /// Of these, when they came and before anything was done for them.
    at_the_door: u64,
    most_running: usize,
}

struct Caller {
    came: Instant,
    cost: Cost,
    work: f64,
}

const CORES: f64 = 2.0;
const STEP: Duration = Duration::from_micros(100);
/// Of a core, for an expensive call and for a cheap one.
const WORK: (f64, f64) = (0.004, 0.0004);

impl Simulation {
    fn new(seed: u64) -> Self {
        let limit = AdaptiveLimit::new(64, 1_024, 2);
        let bounds = Bounds {
            waiting: 256,
            wait: Duration::from_secs(2),
        };
        Self {
            state: State::new(limit, bounds),
            now: Instant::now(),
            seed,
            calls: Vec::new(),
            under_way: Vec::new(),
            waits: Vec::new(),
            answered: Vec::new(),
            refused: 0,
            at_the_door: 0,
            most_running: 0,
        }
    }

    /// 0 to 1.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn come(&mut self, cost: Cost) {
        let mean = match cost {
            Cost::Cheap => WORK.1,
            _ => WORK.0,
        };
        let work = -mean * (1.0 - self.random()).ln();
        let number = self.calls.len() as u64;
        let method = if cost == Cost::Cheap { "cheap" } else { "long" };
        self.calls.push(Caller {
            came: self.now,
            cost,
            work,
        });
        let call = Call {
            cost,
            method,
            now: self.now,
            deadline: Some(self.now + Duration::from_secs(2)),
        };
        if self.state.turns_away(cost, self.now) {
            self.refused += 1;
            self.at_the_door += 1;
            return;
        }
        match self.state.arrive(call, number) {
            Arrival::Runs(running) => self.under_way.push((number, running, work)),
            Arrival::Refused => self.refused += 1,
            Arrival::Waits {
                number: place,
                until,
            } => {
                self.waits.push((number, place, until));
            }
        }
    }

    /// Goes on for so many seconds, with so many calls a second of each cost.
    fn run(&mut self, seconds: f64, expensive: f64, cheap: f64) {
        let steps = (seconds / STEP.as_secs_f64()) as u64;
        for _ in 0..steps {
            self.now += STEP;
            for (cost, rate) in [(Cost::Expensive, expensive), (Cost::Cheap, cheap)] {
                if self.random() < rate * STEP.as_secs_f64() {
                    self.come(cost);
                }
            }
            self.expire();
            self.work();
            self.most_running = self.most_running.max(self.under_way.len());
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        let (over, waits): (Vec<_>, Vec<_>) =
            self.waits.drain(..).partition(|(.., until)| *until <= now);
        self.waits = waits;
        for (number, place, _) in over {
            let cost = self.calls[number as usize].cost;
            self.refused += u64::from(self.state.give_up(cost, place));
        }
    }

    fn work(&mut self) {
        let each = STEP.as_secs_f64() * (CORES / self.under_way.len().max(1) as f64).min(1.0);
        self.under_way
            .iter_mut()
            .for_each(|(.., left)| *left -= each);
        while let Some(place) = self.under_way.iter().position(|(.., left)| *left <= 0.0) {
            let (number, running, _) = self.under_way.swap_remove(place);
            let caller = &self.calls[number as usize];
            self.answered.push((caller.cost, self.now - caller.came));
            for (next, running) in self.state.leave(&running, self.now, true) {
                self.waits.retain(|(number, ..)| *number != next);
                let work = self.calls[next as usize].work;
                self.under_way.push((next, running, work));
            }
        }
    }

    /// The answers of a cost since the last time, and their 99th percentile.
    fn account(&mut self, cost: Cost) -> (usize, Duration) {
        let mut spans: Vec<Duration> = self
            .answered
            .iter()
            .filter(|(other, _)| *other == cost)
            .map(|(_, span)| *span)
            .collect();
        spans.sort();
        let slow = spans.get(spans.len() * 99 / 100).copied();
        (spans.len(), slow.unwrap_or_default())
    }
}

#[test]
fn under_three_times_the_load_the_work_done_stays_and_what_is_let_in_is_soon_served() {
    let capacity = CORES / WORK.0;
    for seed in 1..=3 {
        let mut simulation = Simulation::new(seed);
        simulation.run(5.0, 0.5 * capacity, 20.0);
        let (calm, slow) = simulation.account(Cost::Expensive);
        assert_eq!(
            simulation.refused, 0,
            "seed {seed}: nothing is refused in calm times"
        );
        assert!(
            calm > 1_100 && slow < Duration::from_millis(60),
            "{calm} {slow:?}"
        );

        simulation.answered.clear();
        simulation.run(10.0, 3.0 * capacity, 20.0);
        let (goodput, slow) = simulation.account(Cost::Expensive);
        let goodput = goodput as f64 / 10.0 / capacity;
        assert!(goodput >= 0.9, "seed {seed}: {goodput:.3} of the capacity");
        let cheaply = simulation.at_the_door as f64 / simulation.refused as f64;
        assert!(cheaply >= 0.75, "seed {seed}: {cheaply:.3} of the refusals");
        assert!(
            slow <= Duration::from_millis(1_000),
            "seed {seed}: p99 {slow:?}"
        );
        let (cheap, slow) = simulation.account(Cost::Cheap);
        assert!(cheap >= 170, "seed {seed}: {cheap} cheap calls");
        assert!(
            slow <= Duration::from_millis(150),
            "seed {seed}: cheap p99 {slow:?}"
        );
        assert!(
            simulation.most_running <= 256,
            "{}",
            simulation.most_running
        );
        assert!(simulation.state.waiting() <= 3 * 256);

        let refused = simulation.refused;
        simulation.run(2.0, 0.5 * capacity, 20.0);
        simulation.answered.clear();
        let recovering = simulation.refused;
        simulation.run(5.0, 0.5 * capacity, 20.0);
        let (_, slow) = simulation.account(Cost::Expensive);
        assert_eq!(
            simulation.refused, recovering,
            "seed {seed}: after two seconds all is well"
        );
        assert!(
            slow < Duration::from_millis(60),
            "seed {seed}: {slow:?} after {refused} refusals"
        );
    }
}
