//! The keys of an issuer: a JSON Web Key Set in a file or at an address, asked for again when it must be.
//!
//! A token with a key that is not known makes the set be fetched again, but not more often than once in ten
//! seconds, so that made-up key ids cannot make us hammer the issuer. A set that cannot be had leaves the last
//! one in force for an hour.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use commonplace_rpc::{Code, Failure};
use commonplace_types::Invalid;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// How long sets from an address hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// How long a fetched set is good without being asked for again.
    pub(crate) fresh: Duration,
    /// Least time between two fetches, whatever for.
    pub(crate) least: Duration,
    /// How long the last set holds when it cannot be had again; that of a file too.
    pub(crate) stale: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(300),
            least: Duration::from_secs(10),
            stale: Duration::from_secs(3_600),
        }
    }
}

/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest set in bytes.
const LARGEST: u64 = 1 << 20;
/// Least bytes of an RSA modulus: 2,048 bits.
const RSA_BYTES: usize = 256;

/// Where a set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file, read again when its time or size changes.
    File(PathBuf),
    /// An address.
    Url(String),
}

impl Place {
    /// Error: an address that is neither `https` nor on this machine.
    pub(crate) fn url(address: &str) -> Result<Self, Invalid> {
        let uri: http::Uri = address
            .parse()
            .map_err(|_| Invalid::new("jwks_url", "expected an address like https://host/keys"))?;
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let local = bare == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(Self::Url(address.to_owned())),
            Some("http") if local => Ok(Self::Url(address.to_owned())),
            _ => {
                let problem = "expected an `https` address, or `http` on a loopback address";
                Err(Invalid::new("jwks_url", problem))
            }
        }
    }
}

/// The keys of one issuer.
pub(crate) struct Jwks {
    place: Place,
    times: Times,
    held: Mutex<Held>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    keys: Arc<Vec<Key>>,
    /// When the set was had, and when it was last asked for.
    had_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// What the file looked like when it was read.
    file: Option<(SystemTime, u64)>,
}

/// One public key, for one algorithm.
#[derive(Clone)]
pub(crate) struct Key {
    id: String,
    algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// What the keys that are held are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// They are used without asking.
    Fresh,
    /// They are used where no others can be had.
    Last,
    /// There are none, or they are too old.
    Nothing,
}

impl Jwks {
    pub(crate) fn new(place: Place, times: Times) -> Self {
        Self {
            place,
            times,
            held: Mutex::new(Held::default()),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The key of that id for that algorithm; nothing if the issuer has none. Error: UNAVAILABLE if the set
    /// cannot be had.
    pub(crate) async fn find(
        &self,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, Failure> {
        let find = |keys: &[Key]| {
            let mut all = keys.iter();
            let found = all.find(|key| key.id == id && key.algorithm == algorithm);
            found.map(|key| key.key.clone())
        };
        let without_asking = || {
            let (keys, worth) = self.held();
            let found = find(&keys);
            match worth {
                Worth::Fresh if found.is_some() => Some(Ok(found)),
                _ if self.may_ask(worth) => None,
                Worth::Fresh | Worth::Last => Some(Ok(found)),
                Worth::Nothing => Some(Err(
                    self.unavailable("it was asked for a moment ago, without success")
                )),
            }
        };
        if let Some(answer) = without_asking() {
            return answer;
        }
        let _fetching = self.fetching.lock().await;
        // Whoever waited finds what the other fetched.
        if let Some(answer) = without_asking() {
            return answer;
        }
        let keys = self.fetch().await?;
        Ok(find(&keys))
    }

    /// The keys that are held, and what they are worth.
    fn held(&self) -> (Arc<Vec<Key>>, Worth) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let had_within = |span| held.had_at.is_some_and(|at| at.elapsed() < span);
        let fresh = match &self.place {
            Place::Url(_) => had_within(self.times.fresh),
            Place::File(path) => held.file.is_some() && look(path) == held.file,
        };
        let worth = match fresh {
            true => Worth::Fresh,
            false if had_within(self.times.stale) => Worth::Last,
            false => Worth::Nothing,
        };
        (held.keys.clone(), worth)
    }

    /// A file is looked at whenever it changes; an address is asked now and then only.
    fn may_ask(&self, worth: Worth) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let least = self.times.least;
        match &self.place {
            Place::File(_) => worth != Worth::Fresh,
            Place::Url(_) => held.asked_at.is_none_or(|at| at.elapsed() >= least),
        }
    }

    async fn fetch(&self) -> Result<Arc<Vec<Key>>, Failure> {
        let place = self.place.clone();
        let seen = match &place {
            Place::File(path) => look(path),
            Place::Url(_) => None,
        };
        let read = tokio::task::spawn_blocking(move || load(&place)).await;
        let read = read.unwrap_or_else(|_| Err("the work was broken off".into()));
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.asked_at = Some(Instant::now());
        match read {
            Ok(keys) => {
                held.keys = Arc::new(keys);
                held.had_at = held.asked_at;
                held.file = seen;
                Ok(held.keys.clone())
            }
            Err(problem)
                if held
                    .had_at
                    .is_some_and(|at| at.elapsed() < self.times.stale) =>
            {
                tracing::warn!(
                    problem,
                    "an issuer's keys cannot be had; going on with the last"
                );
                Ok(held.keys.clone())
            }
            Err(problem) => {
                tracing::error!(problem, "an issuer's keys cannot be had");
                Err(self.unavailable("the log of the server says why"))
            }
        }
    }

    fn unavailable(&self, detail: &str) -> Failure {
        Failure::new(Code::Unavailable, "ISSUER_UNAVAILABLE")
            .retry_after(self.times.least)
            .message(format!(
                "the keys of the token's issuer cannot be had: {detail}"
            ))
    }
}

fn look(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

fn load(place: &Place) -> Result<Vec<Key>, String> {
    let text = match place {
        Place::File(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?,
        Place::Url(address) => get(address).map_err(|error| format!("`{address}`: {error}"))?,
    };
    parse(&text)
}

fn get(address: &str) -> Result<String, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .build()
        .into();
    let mut answer = agent.get(address).call()?;
    answer
        .body_mut()
        .with_config()
        .limit(LARGEST)
        .read_to_string()
}

/// Reads the keys that tokens may be signed with; others are passed over. Error: it is no key set.
fn parse(text: &str) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_str(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let keys = set.keys.into_iter();
    let keys = keys.filter_map(|key| usable(&serde_json::from_value(key).ok()?));
    Ok(keys.collect())
}

/// A key with an id, for one of the algorithms that are taken. Nothing if it is for something else.
fn usable(jwk: &Jwk) -> Option<Key> {
    let id = jwk.common.key_id.clone().filter(|id| !id.is_empty())?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let stated = jwk.common.key_algorithm;
    let fits = stated.is_none_or(|stated| stated.to_string() == format!("{algorithm:?}"));
    let signs = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let long_enough = match key.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES
        }
        jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => true,
    };
    (fits && signs && long_enough).then_some(Key { id, algorithm, key })
}
