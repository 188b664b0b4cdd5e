//! How many calls may run at once: a limit that follows what they take.
//!
//! More calls at once make a service faster only until something is used up; from then on each takes longer. So each
//! method's usual span is learned while little runs, and the limit moves by how much longer calls take now: up while
//! it is used and they take no longer than a few times as long, down in proportion when they do.
//!
//! Source: the gradient of the adaptive concurrency filter of Envoy and of Netflix's concurrency-limits: new limit =
//! limit × gradient + headroom, headroom = √limit. Ours differs in two points: spans are compared method by method (a
//! mix of calls has no one span), by their geometric mean (one call may be a hundred times as large as the next); and
//! nothing is held back to measure the usual span anew, since calls that begin while little runs teach it all along.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The limit is looked at this often.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer calls than this say nothing yet.
const SAMPLES: u32 = 10;
/// Calls may take so many times what they usually do.
const TOLERANCE: f64 = 4.0;
/// At the least limit they may take so many times what sharing the cores explains; then what was learned is out of date.
const OUTDATED: f64 = 2.0;
/// What a new span counts beside those before it.
const WEIGHT: f64 = 1.0 / 64.0;
/// No window lowers the limit by more than to this share.
const STEEPEST: f64 = 0.7;
/// What a new span counts beside those lately.
const LATELY: f64 = 1.0 / 16.0;
/// Shorter spans are noise.
const SHORTEST: Duration = Duration::from_micros(50);

/// A call that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Which method.
    pub(crate) method: &'static str,
    /// How long it ran, waiting not counted.
    pub(crate) took: Duration,
    /// Calls that ran when it began, itself included.
    pub(crate) began_with: usize,
}

/// The limit and what it follows.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    limit: f64,
    least: usize,
    most: usize,
    /// So few calls at once do not slow each other down.
    few: usize,
    usual: BTreeMap<&'static str, Usual>,
    window: Option<Window>,
    /// Calls that ended in a second, lately.
    pace: f64,
}

/// The usual span of a method, as the logarithm of seconds.
#[derive(Debug, Clone, Copy)]
struct Usual {
    log: f64,
    samples: u32,
    /// From calls that began while little ran.
    trusted: bool,
    /// What calls take lately, however much runs; in seconds.
    lately: f64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    log_ratios: f64,
    samples: u32,
    /// All that ended, whatever they say of spans.
    ended: u32,
    busiest: usize,
}

impl AdaptiveLimit {
    /// `least`, `most`: bounds of the limit, which begins at the least. `few`: calls at once that do not slow each
    /// other down, usually one for each core.
    pub(crate) fn new(least: usize, most: usize, few: usize) -> Self {
        let least = least.clamp(1, most.max(1));
        Self {
            limit: least as f64,
            least,
            most: most.max(least),
            few: few.max(1),
            usual: BTreeMap::new(),
            window: None,
            pace: 0.0,
        }
    }

    /// Calls that may run at once.
    pub(crate) fn now(&self) -> usize {
        (self.limit as usize).clamp(self.least, self.most)
    }

    /// What a method usually takes; nothing until it is known.
    pub(crate) fn usual(&self, method: &str) -> Option<Duration> {
        let usual = self.usual.get(method)?;
        Some(Duration::from_secs_f64(usual.log.exp().min(3_600.0)))
    }

    /// What calls of a method take lately, however much runs; nothing until it is known.
    pub(crate) fn lately(&self, method: &str) -> Option<Duration> {
        let usual = self.usual.get(method)?;
        Some(Duration::from_secs_f64(usual.lately.min(3_600.0)))
    }

    /// Calls that ended in a second, lately; 0 until that is known.
    pub(crate) fn pace(&self) -> f64 {
        self.pace
    }

    /// Notes that a call ended, and how long it ran if that says something; `running`: how many ran until then.
    pub(crate) fn ended(&mut self, now: Instant, running: usize, sample: Option<Sample>) {
        let log_ratio = sample.map(|sample| self.learn(sample));
        let window = self.window.get_or_insert(Window {
            began: now,
            log_ratios: 0.0,
            samples: 0,
            ended: 0,
            busiest: 0,
        });
        window.busiest = window.busiest.max(running);
        window.ended += 1;
        if let Some(log_ratio) = log_ratio {
            window.log_ratios += log_ratio;
            window.samples += 1;
        }
        let span = now.saturating_duration_since(window.began);
        if span < WINDOW {
            return;
        }
        let pace = f64::from(window.ended) / span.as_secs_f64();
        self.pace = match self.pace > 0.0 {
            true => 0.5 * self.pace + 0.5 * pace,
            false => pace,
        };
        if window.samples >= SAMPLES {
            let (mean, busiest) = (
                window.log_ratios / f64::from(window.samples),
                window.busiest,
            );
            self.window = None;
            self.adjust(mean.exp(), busiest);
        } else if span >= 10 * WINDOW {
            self.window = None;
        }
    }

    /// Gives the logarithm of how many times its usual span the call took.
    fn learn(&mut self, sample: Sample) -> f64 {
        let span = sample.took.max(SHORTEST).as_secs_f64();
        let log = span.ln();
        let explained = self.least as f64 / self.few as f64;
        let usual = self.usual.get(sample.method);
        let outdated = self.now() == self.least
            && usual.is_some_and(|usual| log - usual.log > (OUTDATED * explained).ln());
        let trusted = sample.began_with <= self.few;
        let usual = self.usual.entry(sample.method).or_insert(Usual {
            log,
            samples: 0,
            trusted,
            lately: span,
        });
        usual.lately += LATELY * (span - usual.lately);
        if trusted && !usual.trusted {
            (usual.log, usual.samples, usual.trusted) = (log, 0, true);
        }
        if trusted || outdated || !usual.trusted {
            usual.samples = usual.samples.saturating_add(1);
            let weight = (1.0 / f64::from(usual.samples)).max(WEIGHT);
            usual.log += weight * (log - usual.log);
        }
        log - usual.log
    }

    fn adjust(&mut self, ratio: f64, busiest: usize) {
        if ratio > TOLERANCE {
            self.limit *= (TOLERANCE / ratio).max(STEEPEST);
        } else if 2 * busiest >= self.now() {
            self.limit += self.limit.sqrt();
        }
        self.limit = self.limit.clamp(self.least as f64, self.most as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends `count` calls that took so long, a millisecond apart.
    fn run(limit: &mut AdaptiveLimit, now: &mut Instant, count: u32, took: u64, running: usize) {
        for _ in 0..count {
            *now += Duration::from_millis(1);
            let sample = Sample {
                method: "m",
                took: Duration::from_micros(took),
                began_with: running,
            };
            limit.ended(*now, running, Some(sample));
        }
    }

    #[test]
    fn the_limit_grows_while_it_is_used_and_calls_take_no_longer() {
        let (mut limit, mut now) = (AdaptiveLimit::new(8, 256, 2), Instant::now());
        run(&mut limit, &mut now, 300, 1_000, 1);
        assert_eq!(limit.now(), 8, "nothing asks for more");
        run(&mut limit, &mut now, 3_000, 1_500, 8);
        assert!(limit.now() > 8);
        for _ in 0..100 {
            let running = limit.now();
            run(&mut limit, &mut now, 101, 1_500, running);
        }
        assert_eq!(limit.now(), 256, "and not beyond its bound");
    }

    #[test]
    fn the_limit_falls_when_calls_take_longer_and_not_below_its_bound() {
        let (mut limit, mut now) = (AdaptiveLimit::new(8, 256, 2), Instant::now());
        run(&mut limit, &mut now, 300, 1_000, 1);
        for _ in 0..60 {
            let running = limit.now();
            run(&mut limit, &mut now, 101, 1_000, running);
        }
        let before = limit.now();
        assert!(before > 100, "{before}");
        run(&mut limit, &mut now, 305, 20_000, before);
        assert!(limit.now() < before / 2, "{} of {before}", limit.now());
        run(&mut limit, &mut now, 5_000, 7_000, 8);
        assert_eq!(limit.now(), 8);
    }

    #[test]
    fn a_service_that_became_slower_for_good_is_learned_anew() {
        let (mut limit, mut now) = (AdaptiveLimit::new(8, 256, 2), Instant::now());
        run(&mut limit, &mut now, 300, 1_000, 1);
        run(&mut limit, &mut now, 5_000, 50_000, 8);
        assert!(limit.usual("m").unwrap() > Duration::from_millis(5));
        run(&mut limit, &mut now, 5_000, 20_000, 8);
        assert!(
            limit.now() > 8,
            "what is usual now is no reason to hold calls back"
        );
    }

    #[test]
    fn a_mix_of_short_and_long_methods_is_no_slowness() {
        let (mut limit, mut now) = (AdaptiveLimit::new(8, 64, 2), Instant::now());
        for round in 0..5_000_u32 {
            now += Duration::from_millis(1);
            let long = round % 3 == 0;
            let sample = Sample {
                method: if long { "long" } else { "short" },
                took: Duration::from_millis(if long { 200 } else { 1 }),
                began_with: if round < 100 { 1 } else { 8 },
            };
            let running = limit.now();
            limit.ended(now, running, Some(sample));
        }
        assert_eq!(limit.now(), 64);
    }
}
