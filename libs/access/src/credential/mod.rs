//! What a caller shows, and who that makes it.

mod crypto;
mod jwks;
pub mod key;
pub mod token;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use commonplace_rpc::{Code, Failure, PeerIdentity};
use commonplace_types::{
    AccessScope, Clock, Invalid, Principal, PrincipalKind, Subject, TenantName, Timestamp,
};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::access::expired;
use crate::config::{CertificateOptions, Options};
use crate::source::Source;
use key::{KeyId, KeyRecord, ShownKey};
use token::Issuers;

/// Where a key may be shown besides `authorization`.
const API_KEY: &str = "x-api-key";
/// Longest value of a credential in bytes.
const LONGEST: usize = 16 << 10;
/// Keys that are remembered at most, known or not.
const REMEMBERED: usize = 10_000;

/// Turns what callers show into principals. Shared.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    issuers: Issuers,
    certificates: HashMap<String, Arc<Principal>>,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authenticator")
    }
}

impl Authenticator {
    /// Error: a setting of an issuer or a certificate is wrong.
    pub fn new(
        options: &Options,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Invalid> {
        options.check()?;
        let certificates = options.certificates.iter().enumerate();
        let certificates = certificates.map(|(place, one)| {
            let under = |invalid: Invalid| invalid.under(&format!("access.certificates[{place}]"));
            let principal = certificate_principal(one).map_err(under)?;
            Ok((one.spiffe_id.clone(), Arc::new(principal)))
        });
        Ok(Self {
            inner: Arc::new(Inner {
                issuers: Issuers::new(options, clock.clone())?,
                certificates: certificates.collect::<Result<_, Invalid>>()?,
                keys: Keys {
                    source,
                    fresh: Duration::from_millis(options.refresh_ms),
                    stale: Duration::from_secs(options.stale_seconds),
                    known: Mutex::new(HashMap::new()),
                    uses: Mutex::new(HashMap::new()),
                },
                clock,
            }),
        })
    }

    /// Who calls. Nothing: no credential is shown. A token or key counts before the certificate of the
    /// connection. Error: UNAUTHENTICATED for what is shown and is no good; which part of it is no good is told
    /// where it helps the owner and no one else.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerIdentity>,
    ) -> Result<Option<Arc<Principal>>, Failure> {
        let Some(shown) = shown(headers)? else {
            return Ok(peer.and_then(|peer| self.by_certificate(peer)));
        };
        if let Some(key) = ShownKey::parse(shown) {
            let now = self.inner.clock.now();
            return self.inner.keys.check(&key, now).await.map(Some);
        }
        let principal = self.inner.issuers.check(shown, peer).await?;
        Ok(Some(Arc::new(principal)))
    }

    fn by_certificate(&self, peer: &PeerIdentity) -> Option<Arc<Principal>> {
        let found = peer
            .ids
            .iter()
            .find_map(|id| self.inner.certificates.get(id));
        found.cloned()
    }

    /// Tells the source which keys were used since the last time. To be called now and then.
    pub async fn record_uses(&self) -> Result<(), Failure> {
        self.inner.keys.record_uses().await
    }
}

/// The one credential in the headers. Error: more than one, or one that cannot be read.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let authorization = headers.get_all(AUTHORIZATION).iter();
    let keys = headers.get_all(API_KEY).iter();
    let all: Vec<_> = authorization
        .map(|value| (true, value))
        .chain(keys.map(|value| (false, value)))
        .collect();
    let (bearer, value) = match all.as_slice() {
        [] => return Ok(None),
        [one] => *one,
        _ => return Err(refused("expected one credential, found several")),
    };
    let text = value
        .to_str()
        .map_err(|_| refused("it is not visible ASCII"))?;
    if text.len() > LONGEST {
        return Err(refused("it is too long"));
    }
    if !bearer {
        return Ok(Some(text.trim()));
    }
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || rest.trim().is_empty() {
        return Err(refused(
            "expected `authorization: Bearer` and a token or key",
        ));
    }
    Ok(Some(rest.trim()))
}

/// UNAUTHENTICATED; never says what the credential was.
pub(crate) fn refused(problem: &str) -> Failure {
    Failure::new(Code::Unauthenticated, "CREDENTIALS_INVALID")
        .message(format!("the credential is refused: {problem}"))
}

fn certificate_principal(options: &CertificateOptions) -> Result<Principal, Invalid> {
    let id = &options.spiffe_id;
    if !id.starts_with("spiffe://") {
        return Err(Invalid::new(
            "spiffe_id",
            "expected an id like spiffe://domain/name",
        ));
    }
    let kind = match options.kind.as_str() {
        "" => PrincipalKind::Agent,
        kind => kind.parse()?,
    };
    let scopes = options.scopes.iter().map(|scope| scope.parse());
    let scopes: BTreeSet<AccessScope> = scopes.collect::<Result<_, Invalid>>()?;
    Principal {
        tenant: TenantName::new(&*options.tenant)?,
        kind,
        subject: Subject::new(&*options.subject)?,
        roles: options.roles.iter().cloned().collect(),
        scopes: (!options.scopes.is_empty()).then_some(scopes),
        actors: Vec::new(),
        credential: format!("certificate:{id}"),
        expires: None,
    }
    .checked()
}

/// When a key was asked for, and what it was then; nothing: there was none.
type Remembered = HashMap<KeyId, (Instant, Option<Arc<KeyRecord>>)>;

/// Keys, as they were last asked for.
struct Keys {
    source: Arc<dyn Source>,
    fresh: Duration,
    stale: Duration,
    known: Mutex<Remembered>,
    uses: Mutex<HashMap<KeyId, (TenantName, Timestamp)>>,
}

impl Keys {
    /// Who shows the key. Error: UNAUTHENTICATED, the same for a key that is not there and a wrong secret.
    async fn check(&self, shown: &ShownKey, now: Timestamp) -> Result<Arc<Principal>, Failure> {
        let record = self.record(&shown.id).await?;
        let good = record.filter(|record| record.has(shown));
        let record = good.ok_or_else(|| refused("the key is not known, or no longer good"))?;
        let principal = &record.principal;
        if principal.expires.is_some_and(|expires| expires <= now) {
            return Err(expired());
        }
        self.note_use(&shown.id, &principal.tenant, now);
        Ok(Arc::new(principal.clone()))
    }

    async fn record(&self, id: &KeyId) -> Result<Option<Arc<KeyRecord>>, Failure> {
        if let Some(record) = self.remembered(id, self.fresh) {
            return Ok(record);
        }
        let asked_at = Instant::now();
        match self.source.key(id).await {
            Ok(record) => {
                let record = record.map(Arc::new);
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(id.clone(), (asked_at, record.clone()));
                Ok(record)
            }
            Err(failure) => self.remembered(id, self.stale).ok_or_else(|| {
                Failure::new(Code::Unavailable, "ACCESS_UNKNOWN")
                    .retry_after(Duration::from_millis(200))
                    .message(format!(
                        "keys cannot be looked up at present: {}",
                        failure.message
                    ))
            }),
        }
    }

    fn remembered(&self, id: &KeyId, span: Duration) -> Option<Option<Arc<KeyRecord>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked_at, record) = known.get(id)?;
        (asked_at.elapsed() < span).then(|| record.clone())
    }

    fn note_use(&self, id: &KeyId, tenant: &TenantName, now: Timestamp) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < REMEMBERED || uses.contains_key(id) {
            uses.insert(id.clone(), (tenant.clone(), now));
        }
    }

    async fn record_uses(&self) -> Result<(), Failure> {
        let uses = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        let mut uses: Vec<_> = uses
            .into_iter()
            .map(|(id, (tenant, time))| (tenant, id, time))
            .collect();
        uses.sort();
        for part in uses.chunks(1_000) {
            self.source.used(part.to_vec()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
