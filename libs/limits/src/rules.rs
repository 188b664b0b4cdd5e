//! What limits say.

use commonplace_types::{Invalid, Principal, ProjectName};
use serde::{Deserialize, Serialize};

/// Most rates, and most quotas, of a tenant.
const MOST: usize = 64;
/// Most that a limit may say.
const LARGEST: u64 = 1_000_000_000_000;
/// Longest name in bytes.
const NAME_BYTES: usize = 256;

/// What is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// All of the tenant together.
    Tenant,
    /// A project.
    Project,
    /// A user or an agent.
    Principal,
}

/// Which calls are counted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Methods {
    /// Every call.
    #[default]
    All,
    /// Whatever does not write, searches left out.
    Reads,
    /// Whatever asks for the right to write or to administer.
    Writes,
    /// Retrieving, searching and verifying.
    Searches,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Calls.
    Requests,
    /// Bytes of messages that come in; of a quota, bytes stored.
    Bytes,
    /// Events that are appended; of a quota, events stored.
    Events,
}

/// A token bucket for each of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Of what.
    pub per: Per,
    /// Of this one only, in place of the rate without a name; empty: of each.
    #[serde(default)]
    pub name: String,
    /// Which calls.
    #[serde(default)]
    pub methods: Methods,
    /// What of them.
    pub unit: Unit,
    /// So many are gained in a second.
    pub per_second: u64,
    /// So many are held at most; 0: twice as many as are gained in a second.
    #[serde(default)]
    pub burst: u64,
}

/// What may be stored at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Of a tenant or a project.
    pub per: Per,
    /// As for a rate.
    #[serde(default)]
    pub name: String,
    /// Events or bytes.
    pub unit: Unit,
    /// So many.
    pub most: u64,
}

/// The limits of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How much at once.
    pub rates: Vec<Rate>,
    /// How much in all.
    pub quotas: Vec<Quota>,
}

/// What may be stored, as it applies to one project. None: as much as there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Events of the project.
    pub project_events: Option<u64>,
    /// Bytes of the project.
    pub project_bytes: Option<u64>,
    /// Events of all projects of the tenant.
    pub tenant_events: Option<u64>,
    /// Bytes of all projects of the tenant.
    pub tenant_bytes: Option<u64>,
}

impl Per {
    /// Its name in messages and buckets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Project => "project",
            Self::Principal => "principal",
        }
    }
}

impl Methods {
    /// Its name in messages and buckets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Searches => "searches",
        }
    }
}

impl Unit {
    /// Its name in messages and buckets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Events => "events",
        }
    }
}

impl Limits {
    /// Checks the bounds, and says what was left to be said. Error: names the field.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        for (field, count) in [("rates", self.rates.len()), ("quotas", self.quotas.len())] {
            if count > MOST {
                let problem = format!("expected at most {MOST}, found {count}");
                return Err(Invalid::new(field, problem));
            }
        }
        for rate in self.rates.iter_mut().filter(|rate| rate.burst == 0) {
            rate.burst = rate.per_second.saturating_mul(2);
        }
        for (place, rate) in self.rates.iter().enumerate() {
            let checked = rate.check(&self.rates[..place]);
            checked.map_err(|invalid| invalid.under(&format!("rates[{place}]")))?;
        }
        for (place, quota) in self.quotas.iter().enumerate() {
            let checked = quota.check(&self.quotas[..place]);
            checked.map_err(|invalid| invalid.under(&format!("quotas[{place}]")))?;
        }
        Ok(self)
    }

    /// The rates that count a call. `principal`: who makes it; `project`: which it is about, if one.
    pub(crate) fn of<'a>(
        &'a self,
        principal: &'a Principal,
        project: Option<&'a ProjectName>,
        methods: Methods,
        unit: Unit,
    ) -> impl Iterator<Item = (&'a Rate, &'a str)> {
        let name = move |per: Per| match per {
            Per::Tenant => Some(""),
            Per::Project => project.map(ProjectName::as_str),
            Per::Principal => Some(principal.subject.as_str()),
        };
        self.rates.iter().filter_map(move |rate| {
            let name = name(rate.per)?;
            let counts = rate.unit == unit
                && (rate.methods == Methods::All || rate.methods == methods)
                && self.is_for(rate, name);
            counts.then_some((rate, name))
        })
    }

    /// A rate with a name takes the place of the one without, for who has the name.
    fn is_for(&self, rate: &Rate, name: &str) -> bool {
        if rate.per == Per::Tenant || !rate.name.is_empty() {
            return rate.per == Per::Tenant || rate.name == name;
        }
        let own = |other: &Rate| {
            (other.per, other.methods, other.unit) == (rate.per, rate.methods, rate.unit)
                && other.name == name
        };
        !self.rates.iter().any(own)
    }

    /// What may be stored, as it applies to a project.
    pub fn room(&self, project: &ProjectName) -> Room {
        let most = |per: Per, unit: Unit| {
            let fits = |quota: &&Quota| quota.per == per && quota.unit == unit;
            let all = || self.quotas.iter().filter(fits);
            let named = all().find(|quota| quota.name == project.as_str());
            let most = named.or_else(|| all().find(|quota| quota.name.is_empty()));
            most.map(|quota| quota.most)
        };
        Room {
            project_events: most(Per::Project, Unit::Events),
            project_bytes: most(Per::Project, Unit::Bytes),
            tenant_events: most(Per::Tenant, Unit::Events),
            tenant_bytes: most(Per::Tenant, Unit::Bytes),
        }
    }
}

impl Rate {
    fn check(&self, before: &[Self]) -> Result<(), Invalid> {
        check_name(self.per, &self.name)?;
        if !(1..=LARGEST).contains(&self.per_second) {
            let problem = format!("expected 1 to {LARGEST}, found {}", self.per_second);
            return Err(Invalid::new("per_second", problem));
        }
        if !(1..=2 * LARGEST).contains(&self.burst) {
            let problem = format!("expected 1 to {}, found {}", 2 * LARGEST, self.burst);
            return Err(Invalid::new("burst", problem));
        }
        let same = |other: &Self| {
            (other.per, &other.name, other.methods, other.unit)
                == (self.per, &self.name, self.methods, self.unit)
        };
        match before.iter().any(same) {
            true => Err(Invalid::new("per", "expected one rate for the same thing")),
            false => Ok(()),
        }
    }
}

impl Quota {
    fn check(&self, before: &[Self]) -> Result<(), Invalid> {
        check_name(self.per, &self.name)?;
        if self.per == Per::Principal {
            let problem = "expected a tenant or a project: who wrote an event does not own it";
            return Err(Invalid::new("per", problem));
        }
        if self.unit == Unit::Requests {
            return Err(Invalid::new("unit", "expected events or bytes"));
        }
        let same = |other: &Self| {
            (other.per, &other.name, other.unit) == (self.per, &self.name, self.unit)
        };
        match before.iter().any(same) {
            true => Err(Invalid::new("per", "expected one quota for the same thing")),
            false => Ok(()),
        }
    }
}

fn check_name(per: Per, name: &str) -> Result<(), Invalid> {
    if per == Per::Tenant && !name.is_empty() {
        return Err(Invalid::new(
            "name",
            "expected none: the tenant is that of the call",
        ));
    }
    match name.len() > NAME_BYTES {
        true => Err(Invalid::new(
            "name",
            format!("expected at most {NAME_BYTES} bytes"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per: Per, name: &str, per_second: u64) -> Rate {
        Rate {
            per,
            name: name.into(),
            methods: Methods::All,
            unit: Unit::Requests,
            per_second,
            burst: 1,
        }
    }

    #[test]
    fn a_rate_with_a_name_takes_the_place_of_the_one_without() {
        let limits = Limits {
            rates: vec![
                rate(Per::Principal, "", 1),
                rate(Per::Principal, "developer", 2),
                rate(Per::Tenant, "", 3),
            ],
            ..Limits::default()
        };
        let mut somebody = Principal::developer();
        let of = |principal: &Principal| -> Vec<u64> {
            limits
                .of(principal, None, Methods::Reads, Unit::Requests)
                .map(|(rate, _)| rate.per_second)
                .collect()
        };
        somebody.subject = commonplace_types::Subject::new("developer").unwrap();
        assert_eq!(of(&somebody), [2, 3]);
        somebody.subject = commonplace_types::Subject::new("other").unwrap();
        assert_eq!(of(&somebody), [1, 3]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |limits: Limits| limits.checked().unwrap_err().field;
        let rates = |rates: Vec<Rate>| Limits {
            rates,
            ..Limits::default()
        };
        let zero = rates(vec![rate(Per::Tenant, "", 0)]);
        assert_eq!(wrong(zero), "rates[0].per_second");
        let twice = rates(vec![rate(Per::Project, "", 1), rate(Per::Project, "", 2)]);
        assert_eq!(wrong(twice), "rates[1].per");
        let named = rates(vec![rate(Per::Tenant, "acme", 1)]);
        assert_eq!(wrong(named), "rates[0].name");
        let quota = Quota {
            per: Per::Tenant,
            name: String::new(),
            unit: Unit::Requests,
            most: 1,
        };
        let quotas = Limits {
            quotas: vec![quota],
            ..Limits::default()
        };
        assert_eq!(wrong(quotas), "quotas[0].unit");
    }
}
