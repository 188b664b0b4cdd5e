//! Which policies there are: the active and the newest version of each in memory, the rest on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use commonplace_storage::{Database, Place};
use commonplace_types::{Clock, Invalid, PolicyId, TenantName, Timestamp};
use tracing::Instrument;

use crate::config::Options;
use crate::error::PolicyError;
use crate::rules::Rules;
use crate::store::Store;
use crate::{builtin, parse};

mod follow;

/// One version of a policy: never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The policy.
    pub id: PolicyId,
    /// From 1.
    pub number: u64,
    /// Shipped with the program.
    pub builtin: bool,
    /// `sha256:` over the canonical form of the rules.
    pub hash: String,
    /// When it was put; none for a shipped one.
    pub created: Option<Timestamp>,
    /// The YAML as written.
    pub source: String,
    /// What it says.
    pub rules: Rules,
}

impl Version {
    /// A shipped policy. Error: its YAML is wrong.
    pub(crate) fn shipped(id: PolicyId, source: &str) -> Result<Self, PolicyError> {
        Self::new(id, 1, true, None, source.to_owned())
    }

    /// A version as it was stored. Error: it is not what was stored.
    pub(crate) fn stored(
        id: PolicyId,
        number: u64,
        hash: &str,
        source: String,
        created: Timestamp,
    ) -> Result<Self, PolicyError> {
        let damaged = |id: &PolicyId, problem: String| PolicyError::Damaged {
            id: id.to_string(),
            version: number,
            problem,
        };
        let version = Self::new(id.clone(), number, false, Some(created), source)
            .map_err(|error| damaged(&id, error.to_string()))?;
        if version.hash == hash {
            return Ok(version);
        }
        Err(damaged(
            &id,
            format!("its rules hash to {}, not {hash}", version.hash),
        ))
    }

    fn new(
        id: PolicyId,
        number: u64,
        builtin: bool,
        created: Option<Timestamp>,
        source: String,
    ) -> Result<Self, PolicyError> {
        let rules = parse::rules(&source)?;
        let hash = rules.hash();
        Ok(Self {
            id,
            number,
            builtin,
            hash,
            created,
            source,
            rules,
        })
    }
}

/// What is known of one id: its active and its newest version.
#[derive(Debug, Clone)]
struct Entry {
    active: Arc<Version>,
    newest: Arc<Version>,
}

/// A version and whether it is the active one.
#[derive(Debug, Clone)]
pub struct Found {
    /// The version.
    pub version: Arc<Version>,
    /// Whether it is the active one.
    pub active: bool,
}

type Own = BTreeMap<(TenantName, PolicyId), Entry>;

/// Every policy. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    clock: Arc<dyn Clock>,
    store: Store,
    shipped: BTreeMap<PolicyId, Arc<Version>>,
    /// What tenants stored themselves or chose; the shipped rest is not repeated here.
    own: RwLock<Own>,
    /// Held while something is written, so that this process numbers versions one after the other.
    writing: tokio::sync::Mutex<()>,
    /// Looks for what other processes wrote.
    follower: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// A put starts over this often when another process took the number.
const ATTEMPTS: u32 = 16;

impl Catalog {
    /// Opens the store and reads what is in it.
    pub async fn open(
        options: Options,
        place: &Place,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PolicyError> {
        let store = Store::open(place).await?;
        let shipped = builtin::all()?;
        let inner = Inner {
            options,
            clock,
            store,
            shipped: shipped
                .into_iter()
                .map(|v| (v.id.clone(), Arc::new(v)))
                .collect(),
            own: RwLock::default(),
            writing: tokio::sync::Mutex::default(),
            follower: Mutex::default(),
        };
        let seen = inner.store.changes().await?;
        inner.refresh_all().await?;
        let inner = Arc::new(inner);
        if let Some(seen) = seen {
            let task = tokio::spawn(follow::follow(Arc::downgrade(&inner), seen));
            *inner.follower() = Some(task);
        }
        Ok(Self { inner })
    }

    /// One version of a policy; 0 is the active one.
    ///
    /// Errors: [`PolicyError::UnknownPolicy`], [`PolicyError::UnknownVersion`].
    pub async fn get(
        &self,
        tenant: &TenantName,
        id: &str,
        number: u64,
    ) -> Result<Found, PolicyError> {
        let (id, entry) = self.inner.known(tenant, id).await?;
        let active = entry.active.number;
        if number == 0 || number == active {
            return Ok(Found::new(entry.active, active));
        }
        if number == entry.newest.number {
            return Ok(Found::new(entry.newest, active));
        }
        if let Some(version) = self.inner.store.version(tenant, &id, number).await? {
            return Ok(Found::new(Arc::new(version), active));
        }
        match self.inner.shipped.get(&id) {
            Some(shipped) if number == shipped.number => Ok(Found::new(shipped.clone(), active)),
            _ => Err(PolicyError::UnknownVersion {
                id,
                version: number,
                newest: entry.newest.number,
            }),
        }
    }

    /// The active policy for a kind of work: one's own before a shipped one, then by id; `general` when
    /// none names the task.
    pub async fn for_task(&self, tenant: &TenantName, task: &str) -> Result<Found, PolicyError> {
        let names_it = |entry: &&Entry| entry.active.rules.tasks.iter().any(|name| name == task);
        let entries = self.inner.entries(tenant);
        let own = entries
            .values()
            .filter(|entry| !entry.active.builtin)
            .find(names_it);
        match own.or_else(|| entries.values().find(names_it)) {
            Some(entry) => Ok(Found::new(entry.active.clone(), entry.active.number)),
            None => self.get(tenant, builtin::GENERAL, 0).await,
        }
    }

    /// The active versions of at most `count` policies whose ids come after `after`, by id, and whether
    /// there are more.
    pub fn list(
        &self,
        tenant: &TenantName,
        after: Option<&PolicyId>,
        count: usize,
    ) -> (Vec<Found>, bool) {
        let entries = self.inner.entries(tenant);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = entries.range((from, Bound::Unbounded));
        let page = rest
            .by_ref()
            .take(count)
            .map(|(_, entry)| Found::new(entry.active.clone(), entry.active.number))
            .collect();
        (page, rest.next().is_some())
    }

    /// Checks a policy's YAML; unless `only_check`, keeps it as a new version and, if asked or if it is
    /// the id's first, makes it the active one. The newest version's YAML again adds no version.
    ///
    /// Errors: [`PolicyError::Source`], [`PolicyError::TooMany`]; nothing is then kept.
    pub async fn put(
        &self,
        tenant: TenantName,
        id: PolicyId,
        source: String,
        activate: bool,
        only_check: bool,
    ) -> Result<Found, PolicyError> {
        if let Some(at) = source.find('\0') {
            let problem = format!("expected no NUL character, found one at byte {at}");
            return Err(Invalid::new("source", problem).into());
        }
        let checked = Version::new(id, 0, false, Some(self.inner.clock.now()), source)?;
        if only_check {
            return Ok(self.inner.preview(&tenant, checked));
        }
        let inner = self.inner.clone();
        to_the_end(async move { inner.put(tenant, checked, activate).await }).await
    }

    /// The database, for what else is kept in it; open as long as the catalog.
    pub(crate) fn database(&self) -> &Database {
        self.inner.store.database()
    }

    /// Waits for what is being written, then closes the database.
    pub async fn close(self) -> Result<(), PolicyError> {
        let follower = self.inner.follower().take();
        if let Some(follower) = follower {
            follower.abort();
        }
        let _writing = self.inner.writing.lock().await;
        self.inner.store.close().await
    }

    /// Makes a version the active one.
    ///
    /// Errors: [`PolicyError::UnknownPolicy`], [`PolicyError::UnknownVersion`].
    pub async fn activate(
        &self,
        tenant: TenantName,
        id: &str,
        number: u64,
    ) -> Result<Found, PolicyError> {
        if number == 0 {
            return Err(Invalid::new("version", "expected a version from 1, found 0").into());
        }
        let found = self.get(&tenant, id, number).await?;
        let inner = self.inner.clone();
        to_the_end(async move {
            let _writing = inner.writing.lock().await;
            let id = found.version.id.clone();
            let written = inner
                .store
                .activate(tenant.clone(), id.clone(), number)
                .await;
            inner.refresh(&tenant, &id).await?;
            written?;
            Ok(Found::new(found.version, number))
        })
        .await
    }
}

/// Runs work in a task of its own: a caller that goes away cannot leave disk and memory apart.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, PolicyError>> + Send + 'static,
) -> Result<T, PolicyError> {
    tokio::spawn(work.in_current_span())
        .await
        .unwrap_or(Err(PolicyError::Interrupted))
}

impl Inner {
    /// Whether other processes write to the store too.
    fn shared(&self) -> bool {
        self.follower().is_some()
    }

    fn follower(&self) -> MutexGuard<'_, Option<tokio::task::JoinHandle<()>>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings memory in line with the disk.
    async fn refresh_all(&self) -> Result<(), PolicyError> {
        for (tenant, id) in self.store.ids().await? {
            self.refresh(&tenant, &id).await?;
        }
        Ok(())
    }

    fn own(&self) -> RwLockReadGuard<'_, Own> {
        // Whoever panicked while holding it left whole entries behind.
        self.own.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, tenant: &TenantName, id: &PolicyId) -> Option<Entry> {
        let key = (tenant.clone(), id.clone());
        let own = self.own().get(&key).cloned();
        own.or_else(|| self.shipped.get(id).map(Entry::shipped))
    }

    /// Every policy of a tenant, shipped ones included, by id.
    fn entries(&self, tenant: &TenantName) -> BTreeMap<PolicyId, Entry> {
        let shipped = self.shipped.iter();
        let mut entries: BTreeMap<_, _> = shipped
            .map(|(id, version)| (id.clone(), Entry::shipped(version)))
            .collect();
        let own = self.own();
        let of_tenant = own.iter().filter(|((owner, _), _)| owner == tenant);
        entries.extend(of_tenant.map(|((_, id), entry)| (id.clone(), entry.clone())));
        entries
    }

    async fn known(&self, tenant: &TenantName, id: &str) -> Result<(PolicyId, Entry), PolicyError> {
        let parsed = PolicyId::new(id).map_err(|invalid| Invalid::new("id", invalid.problem))?;
        if let Some(entry) = self.entry(tenant, &parsed) {
            return Ok((parsed, entry));
        }
        // Another process may have put it just now.
        if self.shared()
            && let Some(entry) = self.refresh(tenant, &parsed).await?
        {
            return Ok((parsed, entry));
        }
        let known = self.entries(tenant).into_keys().collect();
        Err(PolicyError::UnknownPolicy {
            id: id.to_owned(),
            known,
        })
    }

    /// What a put would answer.
    fn preview(&self, tenant: &TenantName, checked: Version) -> Found {
        let entry = self.entry(tenant, &checked.id);
        let number = entry.as_ref().map_or(1, |entry| entry.newest.number + 1);
        match entry {
            Some(entry) if entry.newest.source == checked.source => {
                Found::new(entry.newest, entry.active.number)
            }
            _ => Found {
                version: Arc::new(Version { number, ..checked }),
                active: false,
            },
        }
    }

    async fn put(
        &self,
        tenant: TenantName,
        checked: Version,
        activate: bool,
    ) -> Result<Found, PolicyError> {
        let _writing = self.writing.lock().await;
        for _ in 0..ATTEMPTS {
            let kept = self.try_put(&tenant, &checked, activate).await;
            // Even after an error: a commit whose answer was lost may have been kept.
            let entry = self.refresh(&tenant, &checked.id).await?;
            if let Some(number) = kept? {
                let entry = entry.ok_or(PolicyError::Interrupted)?;
                let active = entry.active.number;
                if entry.newest.number == number {
                    return Ok(Found::new(entry.newest, active));
                }
                // Another process has put the next one already.
                let own = self.store.version(&tenant, &checked.id, number).await?;
                let own = own.ok_or(PolicyError::Interrupted)?;
                return Ok(Found::new(Arc::new(own), active));
            }
        }
        Err(PolicyError::Contended)
    }

    /// Gives the version's number, or none when another process took it.
    async fn try_put(
        &self,
        tenant: &TenantName,
        checked: &Version,
        activate: bool,
    ) -> Result<Option<u64>, PolicyError> {
        let id = &checked.id;
        let before = match self.shared() {
            true => self.refresh(tenant, id).await?,
            false => self.entry(tenant, id),
        };
        self.check_room(tenant, id)?;
        match &before {
            Some(entry) if entry.newest.source == checked.source => {
                let number = entry.newest.number;
                if activate && entry.active.number != number {
                    let (tenant, id) = (tenant.clone(), id.clone());
                    self.store.activate(tenant, id, number).await?;
                }
                Ok(Some(number))
            }
            _ => {
                let number = before.as_ref().map_or(1, |entry| entry.newest.number + 1);
                let activate = activate || before.is_none();
                let version = Version {
                    number,
                    ..checked.clone()
                };
                let kept = self.store.put(tenant.clone(), version, activate).await?;
                Ok(kept.then_some(number))
            }
        }
    }

    fn check_room(&self, tenant: &TenantName, id: &PolicyId) -> Result<(), PolicyError> {
        let own = self.own();
        let count = own.keys().filter(|(owner, _)| owner == tenant).count();
        let most = self.options.max_policies;
        if count < most
            || self.shipped.contains_key(id)
            || own.contains_key(&(tenant.clone(), id.clone()))
        {
            return Ok(());
        }
        Err(PolicyError::TooMany { most })
    }

    /// Brings memory in line with the disk for one id.
    async fn refresh(
        &self,
        tenant: &TenantName,
        id: &PolicyId,
    ) -> Result<Option<Entry>, PolicyError> {
        let kept = self.store.kept(tenant, id).await?;
        let shipped = self.shipped.get(id).cloned();
        let newest = kept.newest.map(Arc::new).or_else(|| shipped.clone());
        let Some(newest) = newest else {
            return Ok(None);
        };
        let active = match (kept.active, shipped) {
            (Some(number), _) if number == newest.number => newest.clone(),
            (Some(number), shipped) => match self.store.version(tenant, id, number).await? {
                Some(version) => Arc::new(version),
                None => shipped.unwrap_or_else(|| newest.clone()),
            },
            (None, shipped) => shipped.unwrap_or_else(|| newest.clone()),
        };
        let entry = Entry { active, newest };
        let key = (tenant.clone(), id.clone());
        self.own
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, entry.clone());
        Ok(Some(entry))
    }
}

impl Entry {
    fn shipped(version: &Arc<Version>) -> Self {
        Self {
            active: version.clone(),
            newest: version.clone(),
        }
    }
}

impl Found {
    fn new(version: Arc<Version>, active: u64) -> Self {
        let active = version.number == active;
        Self { version, active }
    }
}
