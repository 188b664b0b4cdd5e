//! The life of a key: made, given a new secret, revoked, expired.

use std::collections::BTreeSet;
use std::time::Duration;

use commonplace_access::credential::key::{KeyId, NewKey};
use commonplace_types::{
    AccessScope, Digest, Invalid, Principal, PrincipalKind, Subject, TenantName, Timestamp,
};

use super::{AccessError, Keeper, Page, within};

/// Longest description in bytes.
const DESCRIPTION_BYTES: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);
/// Longest life of a key.
const LONGEST_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// Life of a key that is made without one.
const USUAL_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Longest time that two secrets of a key are good.
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 86_400);
/// Uses that are told at once, at most.
const USES: usize = 1_000;
/// Ids are random; another one is made this often when one is taken.
const ATTEMPTS: usize = 4;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) description: String,
    pub(crate) kind: PrincipalKind,
    pub(crate) subject: Subject,
    pub(crate) roles: BTreeSet<String>,
    /// None: whatever policies allow.
    pub(crate) scopes: Option<BTreeSet<AccessScope>>,
    /// Who made it; empty: nobody who is known.
    pub(crate) author: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) revoked: Option<Timestamp>,
    pub(crate) last_used: Option<Timestamp>,
    /// SHA-256 of the secret.
    pub(crate) hash: Digest,
    /// The one before, and until when it is good.
    pub(crate) previous: Option<(Digest, Timestamp)>,
}

impl Key {
    /// The hashes of the secrets that are good, the newest first.
    pub(crate) fn good_hashes(&self, now: Timestamp) -> Vec<Digest> {
        if self.ended(now).is_some() {
            return Vec::new();
        }
        let previous = self.previous.filter(|(_, end)| now < *end);
        let previous = previous.map(|(hash, _)| hash);
        [Some(self.hash), previous].into_iter().flatten().collect()
    }

    /// How it ended, if it did.
    fn ended(&self, now: Timestamp) -> Option<&'static str> {
        match self.revoked {
            Some(_) => Some("is revoked"),
            None if self.expires <= now => Some("has expired"),
            None => None,
        }
    }
}

/// What a key is to be.
#[derive(Debug, Clone)]
pub(crate) struct KeySpec {
    pub(crate) description: String,
    pub(crate) kind: PrincipalKind,
    pub(crate) subject: Subject,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) scopes: Option<BTreeSet<AccessScope>>,
    /// From now.
    pub(crate) lifetime: Option<Duration>,
}

impl KeySpec {
    /// Error: names the field.
    fn check(&self, tenant: &TenantName) -> Result<(), Invalid> {
        let text = &self.description;
        if text.len() > DESCRIPTION_BYTES || text.chars().any(char::is_control) {
            let problem =
                format!("expected at most {DESCRIPTION_BYTES} bytes without control characters");
            return Err(Invalid::new("description", problem));
        }
        // The bounds of roles and scopes are those of whoever shows the key.
        let shown = Principal {
            tenant: tenant.clone(),
            kind: self.kind,
            subject: self.subject.clone(),
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            actors: Vec::new(),
            credential: "key".into(),
            expires: None,
        };
        shown.checked().map(drop)
    }
}

/// When a key was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyUse {
    pub(crate) tenant: TenantName,
    pub(crate) id: KeyId,
    pub(crate) time: Timestamp,
}

/// A span from now as a moment. Error: names the field.
fn end(
    field: &str,
    now: Timestamp,
    span: Duration,
    least: Duration,
    most: Duration,
) -> Result<Timestamp, Invalid> {
    if !(least..=most).contains(&span) {
        let days = most.as_secs() / DAY.as_secs();
        let above = if least.is_zero() { "0" } else { "1 second" };
        return Err(Invalid::new(
            field,
            format!("expected {above} to {days} days"),
        ));
    }
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let late = |_| Invalid::new(field, "expected an end before the year 9999");
    Timestamp::from_micros(now.as_micros().saturating_add(micros)).map_err(late)
}

fn end_of_life(now: Timestamp, span: Duration) -> Result<Timestamp, Invalid> {
    end("lifetime", now, span, Duration::from_secs(1), LONGEST_LIFE)
}

impl Keeper {
    fn make(&self, id: Option<KeyId>) -> Result<NewKey, AccessError> {
        let made = NewKey::make(id, &*self.surroundings.randomness);
        made.map_err(|_| AccessError::Interrupted)
    }

    /// Makes a key. Gives it with its secret, which is kept nowhere.
    ///
    /// Errors: [`AccessError::Invalid`], [`AccessError::Exceeds`], [`AccessError::TooMany`].
    pub(crate) async fn create_key(
        &self,
        tenant: &TenantName,
        giver: Option<&Principal>,
        spec: KeySpec,
    ) -> Result<(Key, String), AccessError> {
        let now = self.surroundings.clock.now();
        spec.check(tenant)?;
        let expires = end_of_life(now, spec.lifetime.unwrap_or(USUAL_LIFE))?;
        within::scopes(giver, spec.scopes.as_ref())?;
        let author = giver.map_or_else(String::new, |giver| giver.subject.to_string());
        for _ in 0..ATTEMPTS {
            let made = self.make(None)?;
            let spec = spec.clone();
            let key = Key {
                id: made.id,
                description: spec.description,
                kind: spec.kind,
                subject: spec.subject,
                roles: spec.roles,
                scopes: spec.scopes,
                author: author.clone(),
                created: now,
                expires,
                revoked: None,
                last_used: None,
                hash: made.hash,
                previous: None,
            };
            let most = self.options().max_keys;
            if self
                .store
                .add_key(tenant.clone(), key.clone(), most)
                .await?
            {
                return Ok((key, made.secret));
            }
        }
        Err(AccessError::Contended)
    }

    /// Gives a key a new secret; the old one is good for the overlap.
    ///
    /// Errors: [`AccessError::Invalid`], [`AccessError::UnknownKey`], [`AccessError::KeyEnded`],
    /// [`AccessError::Exceeds`]: whoever gets the secret gets what it is good for.
    pub(crate) async fn rotate_key(
        &self,
        tenant: &TenantName,
        giver: Option<&Principal>,
        id: KeyId,
        overlap: Option<Duration>,
        lifetime: Option<Duration>,
    ) -> Result<(Key, String), AccessError> {
        let now = self.surroundings.clock.now();
        let overlap = overlap.unwrap_or(DAY);
        let overlap_end = end("overlap", now, overlap, Duration::ZERO, LONGEST_OVERLAP)?;
        let expires = lifetime.map(|span| end_of_life(now, span)).transpose()?;
        let made = self.make(Some(id.clone()))?;
        let (giver, hash) = (giver.cloned(), made.hash);
        let rotated = self
            .store
            .change_key(tenant.clone(), id, move |mut key| {
                if let Some(how) = key.ended(now) {
                    let id = key.id.to_string();
                    return Err(AccessError::KeyEnded { id, how });
                }
                within::scopes(giver.as_ref(), key.scopes.as_ref())?;
                key.previous = (now < overlap_end).then_some((key.hash, overlap_end));
                key.hash = hash;
                key.expires = expires.unwrap_or(key.expires);
                Ok(key)
            })
            .await?;
        Ok((rotated, made.secret))
    }

    /// Ends a key for good; one that is revoked stays as it is. Error: [`AccessError::UnknownKey`].
    pub(crate) async fn revoke_key(
        &self,
        tenant: &TenantName,
        id: KeyId,
    ) -> Result<Key, AccessError> {
        let now = self.surroundings.clock.now();
        let revoke = move |mut key: Key| {
            key.revoked = key.revoked.or(Some(now));
            key.previous = None;
            Ok(key)
        };
        self.store.change_key(tenant.clone(), id, revoke).await
    }

    /// The keys of a tenant whose ids come after one, by id, ended ones too.
    pub(crate) async fn list_keys(
        &self,
        tenant: &TenantName,
        after: &str,
        count: usize,
    ) -> Result<Page<Key>, AccessError> {
        let keys = self.store.keys(tenant, after, count + 1).await?;
        Ok(Page::of(keys, count))
    }

    /// A key of any tenant with the hashes that are good now. For services, that were shown it.
    pub(crate) async fn find_key(
        &self,
        id: &KeyId,
    ) -> Result<(TenantName, Key, Vec<Digest>), AccessError> {
        let found = self.store.key_of_any_tenant(id).await?;
        let (tenant, key) = found.ok_or_else(|| AccessError::UnknownKey(id.to_string()))?;
        let hashes = key.good_hashes(self.surroundings.clock.now());
        Ok((tenant, key, hashes))
    }

    /// Notes when keys were last used, to the minute; what is earlier than what is known changes nothing, and
    /// what is unknown is passed over. Error: too many at once.
    pub(crate) async fn record_key_uses(&self, mut uses: Vec<KeyUse>) -> Result<(), AccessError> {
        if uses.len() > USES {
            let problem = format!("expected at most {USES}, found {}", uses.len());
            return Err(Invalid::new("uses", problem).into());
        }
        let now = self.surroundings.clock.now();
        for used in &mut uses {
            // Another machine's clock may be ahead; nothing is used in the future.
            used.time = used.time.min(now).floor_to_minute();
        }
        uses.sort();
        self.store.record_key_uses(uses).await
    }
}
