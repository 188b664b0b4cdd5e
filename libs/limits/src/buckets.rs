//! The buckets of a tenant in one process.
//!
//! Alone, a bucket begins full and fills with time. Shared, it holds what the policy service granted and nothing
//! more, but that a small advance may be taken before anything was granted: the first calls of somebody wait for
//! nobody. So all gateways together let in no more than the bucket allows and an advance each (`share.rs`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::bucket::{Bucket, Size, time_for};
use crate::rules::{Methods, Per, Rate, Unit};

/// What may be taken in advance: this share of the burst, at least one.
const ADVANCE: f64 = 0.1;
/// Who wants something holds what comes in so many seconds.
const AHEAD: f64 = 0.2;
/// How soon to come again at least where buckets are shared: about as long as a grant takes.
const GRANT: Duration = Duration::from_millis(50);
/// Of those kept, so many are forgotten when there are too many.
const FORGET: usize = 8;

/// Which bucket of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) per: Per,
    pub(crate) name: String,
    pub(crate) methods: Methods,
    pub(crate) unit: Unit,
}

/// Tokens of a bucket that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) size: Size,
    pub(crate) tokens: f64,
}

/// A bucket does not hold what was wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Short {
    pub(crate) key: Key,
    pub(crate) size: Size,
    /// Until it does.
    pub(crate) wait: Duration,
    /// The next grant may bring enough: the last one brought all that was asked for.
    pub(crate) hopeful: bool,
}

/// What a process asks of the one who grants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) key: Key,
    pub(crate) size: Size,
    pub(crate) returned: f64,
    pub(crate) wanted: f64,
}

/// Buckets by key. Those of projects are counted apart, since anybody can name a project that there is not: whoever
/// does so makes no bucket forget what was taken of it, but of projects.
#[derive(Debug)]
pub(crate) struct Buckets {
    kept: HashMap<Key, Kept>,
    /// How many of them are of projects.
    projects: usize,
    shared: bool,
    most: usize,
}

#[derive(Debug)]
struct Kept {
    bucket: Bucket,
    size: Size,
    used: Instant,
    /// Tokens wanted since the last ask, granted or not.
    demand: f64,
    /// The last grant brought less than was asked for: the bucket is empty everywhere.
    dry: bool,
}

impl Buckets {
    /// `shared`: with other processes. `most`: buckets of projects that are kept, and of all else.
    pub(crate) fn new(shared: bool, most: usize) -> Self {
        Self {
            kept: HashMap::new(),
            projects: 0,
            shared,
            most: most.max(FORGET),
        }
    }

    /// Takes all that is wanted, or nothing; says whether a shared bucket runs out, so that the next grant should not
    /// be waited for. Error: the bucket that keeps its taker waiting the longest; it runs out as well.
    pub(crate) fn take(&mut self, wanted: &[Wanted], now: Instant) -> Result<bool, Short> {
        let (mut short, mut low): (Option<Short>, bool) = (None, false);
        for wanted in wanted {
            self.make_room(&wanted.key, now);
            let shared = self.shared;
            let projects = &mut self.projects;
            let kept = self.kept.entry(wanted.key.clone()).or_insert_with(|| {
                *projects += usize::from(wanted.key.of_project());
                let level = if shared { 0.0 } else { wanted.size.burst };
                Kept {
                    bucket: Bucket::new(level, now),
                    size: wanted.size,
                    used: now,
                    demand: 0.0,
                    dry: false,
                }
            });
            kept.size = wanted.size;
            kept.used = now;
            kept.demand += wanted.tokens;
            low |= shared && kept.bucket.level() < kept.demand.min(kept.size.burst) / 2.0;
            if let Some(wait) = kept.wait(shared, wanted.tokens, now)
                && short.as_ref().is_none_or(|short| short.wait < wait)
            {
                short = Some(Short {
                    key: wanted.key.clone(),
                    size: wanted.size,
                    wait,
                    hopeful: shared && !kept.dry,
                });
            }
        }
        if let Some(short) = short {
            return Err(short);
        }
        self.force(wanted);
        Ok(low)
    }

    /// Whether a token of each could be taken, or may be soon; takes none, and keeps no new bucket.
    pub(crate) fn check(&mut self, wanted: &[Wanted], now: Instant) -> Result<(), Short> {
        for wanted in wanted {
            let Some(kept) = self.kept.get_mut(&wanted.key) else {
                continue;
            };
            kept.size = wanted.size;
            let wait = kept.wait(self.shared, 1.0, now);
            if let Some(wait) = wait.filter(|_| kept.dry || !self.shared) {
                // Who waits for tokens is somebody who wants them.
                kept.demand += wanted.tokens;
                kept.used = now;
                return Err(Short {
                    key: wanted.key.clone(),
                    size: wanted.size,
                    wait,
                    hopeful: false,
                });
            }
        }
        Ok(())
    }

    /// Takes what is wanted, whether it is there or not, of buckets that are kept.
    pub(crate) fn force(&mut self, wanted: &[Wanted]) {
        for wanted in wanted {
            if let Some(kept) = self.kept.get_mut(&wanted.key) {
                kept.bucket.take(wanted.tokens);
            }
        }
    }

    /// What to ask the one who grants. What is returned is no longer here; what nobody uses is forgotten.
    pub(crate) fn asks(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (key, kept) in &mut self.kept {
            let level = kept.bucket.level();
            // Demand may double from one ask to the next, and comes in bursts.
            let hold = match kept.demand > 0.0 {
                true => (2.0 * kept.demand).max(AHEAD * kept.size.per_second),
                false => 0.0,
            };
            let hold = hold.min(kept.size.burst);
            kept.demand = 0.0;
            let (returned, wanted) = ((level - hold).max(0.0), (hold - level).max(0.0));
            // Whole tokens travel; what is left of one stays here.
            let (returned, wanted) = (returned.floor(), wanted.ceil());
            kept.bucket.take(returned);
            if returned > 0.0 || wanted > 0.0 {
                asks.push(Ask {
                    key: key.clone(),
                    size: kept.size,
                    returned,
                    wanted,
                });
            }
        }
        self.forget(|key, kept| {
            let idle = (0.0..1.0).contains(&kept.bucket.level());
            idle && !asks.iter().any(|ask| ask.key == *key)
        });
        asks.sort_by(|one, other| one.key.cmp(&other.key));
        asks
    }

    /// Takes in what was granted of what was asked for.
    pub(crate) fn grant(&mut self, ask: &Ask, tokens: f64) {
        if let Some(kept) = self.kept.get_mut(&ask.key) {
            kept.bucket.give(tokens, kept.size);
            kept.dry = tokens < ask.wanted;
        }
    }

    /// Buckets that are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Full buckets are as good as none; if there are none of those, the longest unused are forgotten, who then begin
    /// with a full bucket again.
    fn make_room(&mut self, key: &Key, now: Instant) {
        let of_project = key.of_project();
        if self.count(of_project) < self.most || self.kept.contains_key(key) {
            return;
        }
        let shared = self.shared;
        self.forget(|key, kept| {
            key.of_project() == of_project && !shared && kept.bucket.is_full(kept.size, now)
        });
        if self.count(of_project) < self.most {
            return;
        }
        let same = self
            .kept
            .iter()
            .filter(|(key, _)| key.of_project() == of_project);
        let mut used: Vec<Instant> = same.map(|(_, kept)| kept.used).collect();
        used.sort();
        let oldest = used[used.len() / FORGET];
        self.forget(|key, kept| key.of_project() == of_project && kept.used <= oldest);
    }

    fn count(&self, of_project: bool) -> usize {
        match of_project {
            true => self.projects,
            false => self.kept.len() - self.projects,
        }
    }

    fn forget(&mut self, which: impl Fn(&Key, &mut Kept) -> bool) {
        let projects = &mut self.projects;
        self.kept.retain(|key, kept| {
            let stays = !which(key, kept);
            *projects -= usize::from(!stays && key.of_project());
            stays
        });
    }
}

impl Kept {
    /// How long until so many tokens may be taken; nothing: now.
    fn wait(&mut self, shared: bool, tokens: f64, now: Instant) -> Option<Duration> {
        if !shared {
            self.bucket.fill(self.size, now);
            let missing = self.bucket.missing(tokens, self.size.burst);
            return (missing > 0.0).then(|| time_for(missing, self.size));
        }
        let advance = (ADVANCE * self.size.burst).max(1.0);
        let missing = self.bucket.missing(tokens, advance) - advance;
        (missing > 1e-6).then(|| time_for(missing, self.size).max(GRANT))
    }
}

/// The bucket that a rate keeps for a name.
pub(crate) fn key(rate: &Rate, name: &str) -> Key {
    Key {
        per: rate.per,
        name: name.to_owned(),
        methods: rate.methods,
        unit: rate.unit,
    }
}

/// How large a bucket of a rate is.
pub(crate) fn size(rate: &Rate) -> Size {
    Size {
        per_second: rate.per_second as f64,
        burst: rate.burst as f64,
    }
}

impl Key {
    fn of_project(&self) -> bool {
        self.per == Per::Project
    }

    /// Its name among the buckets of the tenant.
    pub(crate) fn text(&self) -> String {
        let (per, methods, unit) = (self.per.as_str(), self.methods.as_str(), self.unit.as_str());
        format!("{unit}/{methods}/{per}/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, tokens: f64) -> Wanted {
        Wanted {
            key: Key {
                per: Per::Principal,
                name: name.into(),
                methods: Methods::All,
                unit: Unit::Requests,
            },
            size: Size {
                per_second: 10.0,
                burst: 20.0,
            },
            tokens,
        }
    }

    #[test]
    fn all_that_is_wanted_is_taken_or_nothing() {
        let (mut buckets, now) = (Buckets::new(false, 100), Instant::now());
        buckets.take(&[wanted("a", 20.0)], now).unwrap();
        let short = buckets.take(&[wanted("b", 1.0), wanted("a", 1.0)], now);
        let short = short.unwrap_err();
        assert_eq!(
            (short.key.name.as_str(), short.wait),
            ("a", Duration::from_millis(100))
        );
        buckets.take(&[wanted("b", 20.0)], now).unwrap();
    }

    #[test]
    fn so_many_are_kept_and_the_longest_unused_are_forgotten() {
        let (mut buckets, start) = (Buckets::new(false, 64), Instant::now());
        for number in 0..1_000_u64 {
            let now = start + Duration::from_micros(number);
            buckets
                .take(&[wanted(&number.to_string(), 20.0)], now)
                .unwrap();
            assert!(buckets.len() <= 64);
        }
        let now = start + Duration::from_millis(1);
        assert!(
            buckets.take(&[wanted("999", 1.0)], now).is_err(),
            "the newest is known"
        );
        // All are full again, and make room.
        let later = start + Duration::from_secs(60);
        buckets.take(&[wanted("new", 1.0)], later).unwrap();
        assert!(buckets.len() <= 64);
    }

    #[test]
    fn invented_projects_make_nobody_else_forgotten() {
        let (mut buckets, start) = (Buckets::new(false, 64), Instant::now());
        buckets.take(&[wanted("a", 20.0)], start).unwrap();
        for number in 0..1_000_u64 {
            let now = start + Duration::from_micros(number);
            let mut invented = wanted(&number.to_string(), 20.0);
            invented.key.per = Per::Project;
            buckets.take(&[invented], now).unwrap();
            assert!(buckets.len() <= 65);
        }
        let now = start + Duration::from_millis(1);
        assert!(buckets.take(&[wanted("a", 1.0)], now).is_err());
    }

    #[test]
    fn shared_buckets_hold_what_was_granted_and_an_advance() {
        let (mut buckets, now) = (Buckets::new(true, 100), Instant::now());
        for _ in 0..2 {
            assert!(
                buckets.take(&[wanted("a", 1.0)], now).unwrap(),
                "it runs out"
            );
        }
        assert!(buckets.take(&[wanted("a", 1.0)], now).is_err());
        let asks = buckets.asks();
        // Twice the three that were wanted, and the two that were taken in advance.
        assert_eq!((asks[0].wanted, asks[0].returned), (8.0, 0.0));
        buckets.grant(&asks[0], 8.0);
        for _ in 0..8 {
            buckets.take(&[wanted("a", 1.0)], now).unwrap();
        }
        assert!(buckets.take(&[wanted("a", 1.0)], now).unwrap_err().hopeful);
        assert!(buckets.check(&[wanted("a", 1.0)], now).is_ok());
        let asks = buckets.asks();
        buckets.grant(&asks[0], asks[0].wanted - 1.0);
        for _ in 0..asks[0].wanted as usize - 1 {
            buckets.take(&[wanted("a", 1.0)], now).unwrap();
        }
        let short = buckets.take(&[wanted("a", 1.0)], now).unwrap_err();
        assert!(!short.hopeful, "the bucket is empty everywhere");
    }

    #[test]
    fn what_nobody_wants_is_given_back_and_forgotten() {
        let (mut buckets, now) = (Buckets::new(true, 100), Instant::now());
        buckets.take(&[wanted("a", 1.0)], now).unwrap();
        let asks = buckets.asks();
        let wanted = asks[0].wanted;
        buckets.grant(&asks[0], wanted);
        let asks = buckets.asks();
        assert_eq!((asks[0].wanted, asks[0].returned), (0.0, 2.0));
        assert!(buckets.asks().is_empty());
        assert_eq!(buckets.len(), 0);
    }
}
