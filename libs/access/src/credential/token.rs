//! Tokens: JSON Web Tokens of issuers that are trusted.
//!
//! Taken are EdDSA, ES256 and RS256 by a key of the issuer, for our audience, within their time. Who acts for
//! the subject is the chain of `act` claims, the nearest first. A token that is bound to a certificate (`cnf`,
//! `x5t#S256`) is good over a connection that showed that certificate only, so that it cannot be replayed from
//! elsewhere.
//!
//! Sources: RFC 7515, 7517, 7519; RFC 8693 section 4.1 (`act`); RFC 8705 section 3 (`cnf`).

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use commonplace_rpc::{Failure, PeerIdentity};
use commonplace_types::{
    AccessScope, Actor, Clock, Invalid, Principal, PrincipalKind, Subject, TenantName, Timestamp,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jwks::{Jwks, Place, Times};
use super::{crypto, refused};
use crate::access::expired;
use crate::config::{IssuerOptions, Options};

/// What may sign.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];

/// The issuers that are trusted.
pub(crate) struct Issuers {
    issuers: Vec<Issuer>,
    leeway: i64,
    longest: i64,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    options: IssuerOptions,
    tenant: Option<TenantName>,
    keys: Jwks,
}

/// The claims that are looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is about.
    pub sub: String,
    /// Whom it is for: a text, or several.
    pub aud: Value,
    /// Seconds since 1970 when it ends.
    pub exp: f64,
    /// Seconds since 1970 when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// Seconds since 1970 when it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<f64>,
    /// Names the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Whose data it is about, unless the issuer is of one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `user`, the default, or `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// At most what it may be used for, with spaces between; scopes of others are passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Who acts for the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Act>>,
    /// What the bearer must show besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// Who acts, and for whom that one acts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Act {
    /// Who acts.
    pub sub: String,
    /// `agent`, the default, or `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Who acted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Act>>,
}

/// What the bearer must show besides. Only a certificate can be checked; anything else refuses the token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Confirmation {
    /// SHA-256 of the certificate of the connection, in URL-safe base 64.
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Anything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl Issuers {
    /// Error: names the setting.
    pub(crate) fn new(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        crypto::install();
        let issuers = options.issuers.iter().enumerate();
        let issuers = issuers.map(|(place, options)| {
            issuer(options).map_err(|invalid| invalid.under(&format!("access.issuers[{place}]")))
        });
        let seconds = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Self {
            issuers: issuers.collect::<Result<_, _>>()?,
            leeway: seconds(options.clock_leeway_seconds),
            longest: seconds(options.max_token_seconds),
            clock,
        })
    }

    /// Who a token makes its bearer. Error: UNAUTHENTICATED, or UNAVAILABLE if its issuer's keys cannot be had.
    pub(crate) async fn check(
        &self,
        token: &str,
        peer: Option<&PeerIdentity>,
    ) -> Result<Principal, Failure> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| refused("it is neither a token nor a key"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused("tokens are signed by EdDSA, ES256 or RS256"));
        }
        if header.crit.is_some() {
            return Err(refused("its header asks for what is not known here"));
        }
        let key_id = header.kid.as_deref().filter(|id| !id.is_empty());
        let key_id = key_id.ok_or_else(|| refused("its header names no key"))?;
        // Not believed yet: it only says whose key to try.
        let claimed: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| refused("its claims cannot be read"))?;
        let for_us = |issuer: &&Issuer| issuer.options.issuer == claimed.iss;
        let mut last = refused("its issuer is not trusted here");
        for issuer in self.issuers.iter().filter(for_us) {
            match self
                .by_issuer(issuer, token, header.alg, key_id, peer)
                .await
            {
                Ok(principal) => return Ok(principal),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn by_issuer(
        &self,
        issuer: &Issuer,
        token: &str,
        algorithm: Algorithm,
        key_id: &str,
        peer: Option<&PeerIdentity>,
    ) -> Result<Principal, Failure> {
        let key = issuer.keys.find(key_id, algorithm).await?;
        let key = key.ok_or_else(|| refused("its issuer has no such key for this algorithm"))?;
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&issuer.options.issuer]);
        validation.set_audience(&[&issuer.options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked below, by our clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        let claims = claims.map_err(|error| refused(told(&error)))?.claims;
        self.check_times(&claims)?;
        check_bound(&claims, peer)?;
        issuer
            .principal(claims)
            .map_err(|invalid| refused(&invalid.to_string()))
    }

    fn check_times(&self, claims: &Claims) -> Result<(), Failure> {
        #[allow(clippy::cast_precision_loss)]
        let (now, leeway, longest) = (
            self.clock.now().as_seconds().0 as f64,
            self.leeway as f64,
            self.longest as f64,
        );
        let begins = claims.nbf.unwrap_or(f64::MIN);
        let issued = claims.iat.unwrap_or(now);
        if ![claims.exp, begins, issued]
            .iter()
            .all(|time| time.is_finite())
        {
            return Err(refused("its times are no numbers"));
        }
        if claims.exp + leeway <= now {
            return Err(expired());
        }
        if begins - leeway > now || issued - leeway > now {
            return Err(refused("its time has not begun"));
        }
        if claims.exp - issued.min(now) > longest + leeway {
            return Err(refused(
                "it is good for longer than `access.max_token_seconds`",
            ));
        }
        Ok(())
    }
}

/// What was wrong, as far as it helps the owner.
fn told(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidIssuer => "its issuer is not trusted here",
        ErrorKind::MissingRequiredClaim(_) => "expected the claims exp, iss, aud and sub",
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::Provider(_) => {
            "its signature is not its issuer's"
        }
        _ => "it cannot be read",
    }
}

/// A token that is bound to a certificate is no good without it.
fn check_bound(claims: &Claims, peer: Option<&PeerIdentity>) -> Result<(), Failure> {
    let Some(bound) = &claims.cnf else {
        return Ok(());
    };
    let shown = peer.map(|peer| URL_SAFE_NO_PAD.encode(peer.fingerprint));
    match &bound.certificate {
        Some(expected) if bound.rest.is_empty() && shown.as_ref() == Some(expected) => Ok(()),
        Some(_) if bound.rest.is_empty() => Err(refused(
            "it is bound to a certificate that this connection did not show",
        )),
        _ => Err(refused("it is bound to what cannot be checked here")),
    }
}

fn issuer(options: &IssuerOptions) -> Result<Issuer, Invalid> {
    for (name, value) in [("issuer", &options.issuer), ("audience", &options.audience)] {
        if value.is_empty() {
            return Err(Invalid::new(name, "expected a text"));
        }
    }
    let file = !options.jwks_file.as_os_str().is_empty();
    let place = match (file, options.jwks_url.is_empty()) {
        (true, true) => Place::File(options.jwks_file.clone()),
        (false, false) => Place::url(&options.jwks_url)?,
        _ => {
            let problem = "expected its keys, in `jwks_file` or at `jwks_url`";
            return Err(Invalid::new("jwks_file", problem));
        }
    };
    let tenant = match options.tenant.as_str() {
        "" => None,
        name => Some(TenantName::new(name)?),
    };
    Ok(Issuer {
        options: options.clone(),
        tenant,
        keys: Jwks::new(place, Times::default()),
    })
}

impl Issuer {
    /// Who the claims make their bearer. Error: names the claim.
    fn principal(&self, claims: Claims) -> Result<Principal, Invalid> {
        let tenant = match (&self.tenant, claims.tenant) {
            (Some(own), Some(claimed)) if own.as_str() != claimed => {
                let problem = "is not the tenant of its issuer";
                return Err(Invalid::new("tenant", problem));
            }
            (Some(own), _) => own.clone(),
            (None, Some(claimed)) => TenantName::new(claimed)?,
            (None, None) => return Err(Invalid::new("tenant", "expected a tenant's name")),
        };
        let scopes = claims.scope.map(|scope| {
            let ours = scope
                .split_ascii_whitespace()
                .filter_map(|one| one.parse().ok());
            ours.collect::<BTreeSet<AccessScope>>()
        });
        let kind = kind_of(claims.kind.as_deref(), PrincipalKind::User)?;
        Principal {
            tenant,
            kind,
            subject: Subject::new(claims.sub).map_err(|invalid| in_claim("sub", invalid))?,
            roles: self.roles(&claims.rest)?,
            scopes,
            actors: actors(claims.act.as_deref())?,
            credential: format!("token:{}", claims.jti.unwrap_or_default()),
            expires: Some(moment(claims.exp)?),
        }
        .checked()
    }

    fn roles(&self, rest: &serde_json::Map<String, Value>) -> Result<BTreeSet<String>, Invalid> {
        let name = &self.options.roles_claim;
        if name.is_empty() {
            return Ok(BTreeSet::new());
        }
        let wrong = || Invalid::new(name.as_str(), "expected texts");
        match rest.get(name) {
            None => Ok(BTreeSet::new()),
            Some(Value::Array(roles)) => {
                let texts = roles.iter().map(|role| role.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }
}

fn kind_of(text: Option<&str>, default: PrincipalKind) -> Result<PrincipalKind, Invalid> {
    text.map_or(Ok(default), str::parse)
}

fn in_claim(claim: &str, invalid: Invalid) -> Invalid {
    Invalid::new(claim, invalid.problem)
}

fn actors(mut act: Option<&Act>) -> Result<Vec<Actor>, Invalid> {
    let mut actors = Vec::new();
    while let Some(actor) = act {
        let subject = Subject::new(&*actor.sub).map_err(|invalid| in_claim("act.sub", invalid))?;
        let kind = kind_of(actor.kind.as_deref(), PrincipalKind::Agent)?;
        actors.push(Actor { kind, subject });
        act = actor.act.as_deref();
    }
    Ok(actors)
}

#[allow(clippy::cast_possible_truncation)]
fn moment(seconds: f64) -> Result<Timestamp, Invalid> {
    Timestamp::from_seconds(seconds.floor() as i64, 0).map_err(|invalid| in_claim("exp", invalid))
}

/// Signs a token. `key`: an Ed25519 key as PKCS #8 in PEM. Error: the key is none.
pub fn mint(claims: &Claims, key_id: &str, key: &str) -> Result<String, Invalid> {
    crypto::install();
    let wrong = |error: jsonwebtoken::errors::Error| {
        Invalid::new("key", format!("expected an Ed25519 key in PEM: {error}"))
    };
    let key = EncodingKey::from_ed_pem(key.as_bytes()).map_err(wrong)?;
    let header = Header {
        kid: Some(key_id.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    jsonwebtoken::encode(&header, claims, &key).map_err(wrong)
}

/// The public half of an Ed25519 key as a JSON Web Key Set. Error: the key is none.
pub fn key_set(key_id: &str, key: &str) -> Result<String, Invalid> {
    let wrong = || Invalid::new("key", "expected an Ed25519 key in PEM");
    let encoding = EncodingKey::from_ed_pem(key.as_bytes()).map_err(|_| wrong())?;
    let pair =
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(encoding.as_bytes()).map_err(|_| wrong())?;
    let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let set = serde_json::json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key_id, "x": public,
    }]});
    Ok(format!("{set:#}\n"))
}

/// Reads a token's claims without believing them, for people who want to see them. Error: it is no token.
pub fn inspect(token: &str) -> Result<(Value, Claims), Invalid> {
    let wrong = || Invalid::new("token", "expected a JSON Web Token");
    let header = jsonwebtoken::decode_header(token).map_err(|_| wrong())?;
    let header = serde_json::to_value(header).map_err(|_| wrong())?;
    let claims = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| wrong())?;
    Ok((header, claims))
}
