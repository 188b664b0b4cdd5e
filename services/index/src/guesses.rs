//! Which commit a branch or tag will name next: the one that it named last, as long as that holds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use commonplace_types::{ProjectName, Reference, TenantName};

use crate::client::Resolved;

/// References remembered.
const MOST: usize = 256;

type Key = (TenantName, ProjectName, Reference);

#[derive(Debug)]
struct Known {
    key: Key,
    commit: Resolved,
    /// It named the same commit the time before.
    steady: bool,
}

/// What references named last.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<VecDeque<Known>>);

impl Guesses {
    /// What a reference is expected to name. None: it changed the last time, or was not asked for lately.
    pub(crate) fn expect(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        reference: &Reference,
    ) -> Option<Resolved> {
        let known = self.known();
        let found = known.iter().find(|known| {
            (&known.key.0, &known.key.1, &known.key.2) == (tenant, project, reference)
        });
        found.filter(|known| known.steady).map(|known| known.commit)
    }

    /// Notes what a reference was found to name.
    pub(crate) fn learn(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        reference: &Reference,
        commit: Resolved,
    ) {
        let key = (tenant.clone(), project.clone(), reference.clone());
        let mut known = self.known();
        let before = known.iter().position(|known| known.key == key);
        let before = before.and_then(|place| known.remove(place));
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back(Known {
            key,
            commit,
            steady: before.is_some_and(|before| before.commit == commit),
        });
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use commonplace_types::Digest;

    use super::*;

    #[test]
    fn only_what_did_not_change_is_expected_again() {
        let guesses = Guesses::default();
        let (tenant, project) = (TenantName::default_tenant(), ProjectName::default_project());
        let main = Reference::main();
        let commit = |number: u64| Resolved {
            number,
            hash: Digest::of(&[&number.to_le_bytes()]),
        };
        let expect = || guesses.expect(&tenant, &project, &main);
        assert_eq!(expect(), None);
        for (named, expected) in [
            (1, None),
            (1, Some(1)),
            (2, None),
            (2, Some(2)),
            (2, Some(2)),
        ] {
            guesses.learn(&tenant, &project, &main, commit(named));
            assert_eq!(expect(), expected.map(commit), "after {named}");
        }
        let other = ProjectName::new("other").unwrap();
        assert_eq!(guesses.expect(&tenant, &other, &main), None);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let guesses = Guesses::default();
        let tenant = TenantName::default_tenant();
        let main = Reference::main();
        let commit = Resolved {
            number: 1,
            hash: Digest::of(&[b"commit"]),
        };
        for number in 0..=MOST {
            let project = ProjectName::new(format!("p{number}")).unwrap();
            (0..2).for_each(|_| guesses.learn(&tenant, &project, &main, commit));
        }
        let expect = |number: usize| {
            let project = ProjectName::new(format!("p{number}")).unwrap();
            guesses.expect(&tenant, &project, &main)
        };
        assert_eq!(expect(0), None);
        assert_eq!(expect(1), Some(commit));
    }
}
