//! What may be stored in a project and in all of a tenant: counted here, since nobody else writes.
//!
//! Events are counted once each. Bytes are those of the contents that commits place, so an event that is placed on
//! another branch counts again.

use std::ops::Add;

use commonplace_limits::Room;
use commonplace_types::{ProjectName, TenantName};

use crate::JournalError;

/// How much is stored, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Add for Stored {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// What an append must stay within.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Within {
    room: Room,
    /// What the tenant stores, where its room says something about that; filled in by the store.
    pub(crate) in_tenant: Stored,
}

impl Within {
    /// None where there is room for anything.
    pub(crate) fn new(room: Room) -> Option<Box<Self>> {
        let in_tenant = Stored::default();
        (room != Room::default()).then(|| Box::new(Self { room, in_tenant }))
    }

    /// Whether what the tenant stores must be known.
    pub(crate) fn asks_for_tenant(&self) -> bool {
        self.room.tenant_events.is_some() || self.room.tenant_bytes.is_some()
    }

    /// Checks that there is room for more. `added`: what was added to the project and is not stored yet.
    /// Error: [`JournalError::QuotaExceeded`].
    pub(crate) fn check(
        &self,
        names: (&TenantName, &ProjectName),
        in_project: Stored,
        added: Stored,
        new: Stored,
    ) -> Result<(), JournalError> {
        let stored = (self.in_tenant + added, in_project + added);
        check(&self.room, names, stored, new)
    }
}

fn check(
    room: &Room,
    (tenant, project): (&TenantName, &ProjectName),
    (in_tenant, in_project): (Stored, Stored),
    new: Stored,
) -> Result<(), JournalError> {
    let whole = format!("tenant:{tenant}");
    let part = format!("project:{tenant}/{project}");
    for (subject, unit, most, stored, new) in [
        (
            &part,
            "events",
            room.project_events,
            in_project.events,
            new.events,
        ),
        (
            &part,
            "bytes",
            room.project_bytes,
            in_project.bytes,
            new.bytes,
        ),
        (
            &whole,
            "events",
            room.tenant_events,
            in_tenant.events,
            new.events,
        ),
        (
            &whole,
            "bytes",
            room.tenant_bytes,
            in_tenant.bytes,
            new.bytes,
        ),
    ] {
        // Who writes nothing new is not held to what is there already.
        let exceeded = most.filter(|most| new > 0 && stored + new > *most);
        if let Some(most) = exceeded {
            return Err(JournalError::QuotaExceeded {
                subject: subject.clone(),
                unit,
                most,
                stored,
                new,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_quota_that_does_not_hold_is_named() {
        let names = (
            &TenantName::default_tenant(),
            &ProjectName::default_project(),
        );
        let stored = |events, bytes| Stored { events, bytes };
        let room = Room {
            project_events: Some(10),
            tenant_bytes: Some(100),
            ..Room::default()
        };
        let checked = |tenant, project, new| check(&room, names, (tenant, project), new);
        assert!(checked(stored(0, 50), stored(9, 0), stored(1, 50)).is_ok());
        assert!(checked(stored(0, 200), stored(20, 0), stored(0, 0)).is_ok());
        let full = checked(stored(0, 0), stored(9, 0), stored(2, 0)).unwrap_err();
        assert!(
            full.to_string().contains("project:default/default"),
            "{full}"
        );
        let full = checked(stored(0, 90), stored(0, 0), stored(1, 11)).unwrap_err();
        assert!(full.to_string().contains("tenant:default"), "{full}");
    }
}
