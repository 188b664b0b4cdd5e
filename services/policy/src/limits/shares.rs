//! Buckets that several gateways take from.
//!
//! A gateway gets of a bucket what it wants, or, if others wanted tokens of it lately too, the share of what is there
//! that its want has among all: nobody empties a bucket before others ask.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use commonplace_limits::LeaseAsk;
use commonplace_limits::Per;
use commonplace_limits::bucket::{Bucket, Size};
use commonplace_types::TenantName;

/// A gateway that did not ask for this long wants nothing any more.
const LATELY: Duration = Duration::from_secs(1);
/// Buckets of projects that are kept at most, and of all else: anybody can name a project that there is not. Then full
/// ones are forgotten, or else an eighth, those that were asked for longest ago.
const BUCKETS: usize = 100_000;
/// Gateways that are known at most; beyond them nobody is counted.
const GATEWAYS: usize = 1_000;

/// Buckets by tenant and name.
#[derive(Debug, Default)]
pub(super) struct Shares {
    buckets: HashMap<(TenantName, String), Shared>,
    /// How many of them are of projects.
    projects: usize,
    gateways: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    size: Size,
    asked: Instant,
    /// What each gateway wanted, and when.
    wants: BTreeMap<String, (f64, Instant)>,
}

impl Shares {
    /// Grants a gateway of a bucket what it may take.
    pub(super) fn grant(&mut self, gateway: &str, ask: &LeaseAsk, now: Instant) -> u64 {
        let name = (ask.tenant.clone(), ask.bucket.clone());
        self.make_room(&name, now);
        let size = Size {
            per_second: ask.per_second.max(1) as f64,
            burst: ask.burst.max(1) as f64,
        };
        let of_project = of_project(&name.1);
        let projects = &mut self.projects;
        let shared = self.buckets.entry(name).or_insert_with(|| {
            *projects += usize::from(of_project);
            Shared {
                bucket: Bucket::new(size.burst, now),
                size,
                asked: now,
                wants: BTreeMap::new(),
            }
        });
        shared.size = size;
        shared.asked = now;
        shared.bucket.fill(size, now);
        shared.bucket.give(ask.returned as f64, size);
        shared.grant(gateway, ask.wanted as f64, now)
    }

    /// How many gateways asked lately, the one that asks now included.
    pub(super) fn gateways(&mut self, gateway: &str, now: Instant) -> u32 {
        self.gateways
            .retain(|_, asked| now.saturating_duration_since(*asked) < 10 * LATELY);
        if self.gateways.len() < GATEWAYS {
            self.gateways.insert(gateway.to_owned(), now);
        }
        u32::try_from(self.gateways.len()).unwrap_or(u32::MAX)
    }

    fn make_room(&mut self, name: &(TenantName, String), now: Instant) {
        let kind = of_project(&name.1);
        if self.count(kind) < BUCKETS || self.buckets.contains_key(name) {
            return;
        }
        self.forget(kind, |shared| shared.bucket.is_full(shared.size, now));
        if self.count(kind) < BUCKETS {
            return;
        }
        let same = self
            .buckets
            .iter()
            .filter(|((_, name), _)| of_project(name) == kind);
        let mut asked: Vec<Instant> = same.map(|(_, shared)| shared.asked).collect();
        asked.sort();
        let oldest = asked[asked.len() / 8];
        self.forget(kind, |shared| shared.asked <= oldest);
    }

    fn count(&self, of_projects: bool) -> usize {
        match of_projects {
            true => self.projects,
            false => self.buckets.len() - self.projects,
        }
    }

    fn forget(&mut self, of_projects: bool, which: impl Fn(&mut Shared) -> bool) {
        let projects = &mut self.projects;
        self.buckets.retain(|(_, name), shared| {
            let goes = of_project(name) == of_projects && which(shared);
            *projects -= usize::from(goes && of_projects);
            !goes
        });
    }
}

/// Whether a bucket is a project's, by the name that gateways give it.
fn of_project(bucket: &str) -> bool {
    bucket.split('/').nth(2) == Some(Per::Project.as_str())
}

impl Shared {
    fn grant(&mut self, gateway: &str, wanted: f64, now: Instant) -> u64 {
        self.wants
            .retain(|_, (_, asked)| now.saturating_duration_since(*asked) < LATELY);
        if self.wants.len() < GATEWAYS {
            self.wants.insert(gateway.to_owned(), (wanted, now));
        }
        let all: f64 = self.wants.values().map(|(wanted, _)| wanted).sum();
        let share = if all > 0.0 { wanted / all } else { 0.0 };
        let there = self.bucket.level().max(0.0);
        // A share below one would never be granted.
        let granted = wanted.min((there * share).max(1.0)).min(there).floor();
        self.bucket.take(granted);
        granted as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(returned: u64, wanted: u64) -> LeaseAsk {
        LeaseAsk {
            tenant: TenantName::default_tenant(),
            bucket: "requests/all/principal/ci".into(),
            per_second: 100,
            burst: 50,
            returned,
            wanted,
        }
    }

    #[test]
    fn who_asks_first_leaves_something_to_the_others() {
        let (mut shares, mut now) = (Shares::default(), Instant::now());
        let (mut first, mut second) = (0, 0);
        for _ in 0..50 {
            now += Duration::from_millis(200);
            first += shares.grant("a", &ask(0, 100), now);
            second += shares.grant("b", &ask(0, 100), now);
        }
        let all = first + second;
        assert!((1_000..=1_050).contains(&all), "{all}");
        assert!(second * 4 > all, "{first} and {second}");
        assert_eq!(shares.gateways("b", now), 1);
        assert_eq!(shares.gateways("a", now), 2);
    }

    #[test]
    fn invented_projects_make_nobody_else_forgotten() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        assert_eq!(shares.grant("a", &ask(0, 50), now), 50);
        for number in 0..=BUCKETS {
            let invented = LeaseAsk {
                bucket: format!("requests/all/project/{number}"),
                ..ask(0, 1)
            };
            shares.grant("a", &invented, now);
            assert!(shares.buckets.len() <= BUCKETS + 1);
        }
        assert_eq!(shares.grant("a", &ask(0, 50), now), 0, "it is still empty");
    }

    proptest! {
        /// However gateways ask and give back, they never hold more than the bucket allows.
        #[test]
        fn no_more_is_granted_than_the_bucket_gains(
            steps in prop::collection::vec((0_u64..300, 0_usize..3, 0_u64..200, any::<bool>()), 1..200),
        ) {
            let start = Instant::now();
            let (mut shares, mut now) = (Shares::default(), start);
            let (mut held, mut granted) = ([0_u64; 3], 0_u64);
            let mut spent = 0_u64;
            for (pause, gateway, wanted, gives_back) in steps {
                now += Duration::from_millis(pause);
                let returned = if gives_back { held[gateway] } else { 0 };
                spent += held[gateway] - returned;
                let name = ["a", "b", "c"][gateway];
                held[gateway] = shares.grant(name, &ask(returned, wanted), now);
                granted += held[gateway];
                let bound = 50.0 + 100.0 * now.duration_since(start).as_secs_f64();
                let all = spent + held.iter().sum::<u64>();
                prop_assert!(all as f64 <= bound + 1e-6, "{all} of {bound}, {granted} granted");
            }
        }
    }
}
