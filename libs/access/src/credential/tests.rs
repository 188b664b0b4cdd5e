use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use commonplace_types::{ManualClock, SystemClock};
use http::HeaderValue;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::key::{NewKey, SystemRandomness};
use super::*;
use crate::config::IssuerOptions;
use crate::source::Change;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "commonplace";
/// 2033-05-18.
const NOW: i64 = 2_000_000_000;

/// One key of each kind, and one that the issuer does not have.
struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    stranger: Ed25519KeyPair,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = || {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
        };
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let rsa = include_bytes!("../../tests/keys/rsa2048.pk8");
        Self {
            ed: ed(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .unwrap(),
            rsa: RsaKeyPair::from_pkcs8(rsa).unwrap(),
            stranger: ed(),
        }
    }

    fn key_set(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = self.ec.public_key().as_ref();
        let public: RsaPublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let (modulus, exponent) = (public.n, public.e);
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "alg": "EdDSA", "x": text(self.ed.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "RSA", "kid": "rsa", "n": text(&modulus), "e": text(&exponent)},
            {"kty": "RSA", "kid": "short", "n": text(&modulus[..128]), "e": text(&exponent)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "encrypts", "use": "enc", "x": text(self.ed.public_key().as_ref())},
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            {"kty": "made-up"},
        ]})
        .to_string()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", text(header), text(claims));
        let (bytes, random) = (message.as_bytes(), SystemRandom::new());
        let signed = match header["kid"].as_str().unwrap_or_default() {
            "ec" => self.ec.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "rsa" | "short" => {
                let mut signed = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signed)
                    .unwrap();
                signed
            }
            "stranger" => self.stranger.sign(bytes).as_ref().to_vec(),
            _ => self.ed.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}), claims)
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 600, "iat": NOW - 10, "jti": "t1",
        "tenant": "acme", "groups": ["writer"], "scope": "openid read:shop",
        "act": {"sub": "fixer", "act": {"sub": "planner"}},
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

/// Keeps one key, and can be away.
#[derive(Debug, Default)]
struct OneKey {
    key: Mutex<Option<(KeyId, KeyRecord)>>,
    away: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
    uses: Mutex<Vec<(TenantName, KeyId, Timestamp)>>,
}

#[async_trait]
impl Source for OneKey {
    async fn rules(&self, _: &TenantName, _: u64) -> Result<Change, Failure> {
        Ok(Change::None)
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Failure::new(Code::Unavailable, "PEER_UNREACHABLE"));
        }
        let key = self.key.lock().unwrap().clone();
        Ok(key
            .filter(|(known, _)| known == id)
            .map(|(_, record)| record))
    }

    async fn used(&self, uses: Vec<(TenantName, KeyId, Timestamp)>) -> Result<(), Failure> {
        self.uses.lock().unwrap().extend(uses);
        Ok(())
    }
}

struct Setup {
    signer: Signer,
    source: Arc<OneKey>,
    who: Authenticator,
    _folder: tempfile::TempDir,
}

fn issuer(file: &Path) -> IssuerOptions {
    IssuerOptions {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        jwks_file: file.into(),
        roles_claim: "groups".into(),
        ..IssuerOptions::default()
    }
}

fn setup(change: impl FnOnce(&mut Options)) -> Setup {
    let (signer, folder) = (Signer::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("keys.json");
    std::fs::write(&file, signer.key_set()).unwrap();
    let mut options = Options {
        issuers: vec![issuer(&file)],
        refresh_ms: 100,
        stale_seconds: 1,
        ..Options::default()
    };
    change(&mut options);
    let source = Arc::new(OneKey::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(NOW, 0).unwrap()));
    Setup {
        who: Authenticator::new(&options, source.clone(), clock).unwrap(),
        signer,
        source,
        _folder: folder,
    }
}

fn bearer(text: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {text}")).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

impl Setup {
    async fn show(&self, token: &str) -> Result<Arc<Principal>, Failure> {
        let shown = self.who.authenticate(&bearer(token), None).await;
        shown.map(|principal| principal.expect("something was shown"))
    }
}

#[tokio::test]
async fn a_token_says_who_calls_for_whom_and_for_what_at_most() {
    let setup = setup(|_| {});
    for (algorithm, key) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa")] {
        let token = setup
            .signer
            .sign(&json!({"alg": algorithm, "kid": key}), &claims());
        let principal = setup.show(&token).await.unwrap();
        assert_eq!(
            principal.to_string(),
            "user alice of acme through agent fixer through agent planner"
        );
        assert_eq!(principal.roles, ["writer".to_owned()].into());
        assert_eq!(
            principal.scopes,
            Some(["read:shop".parse().unwrap()].into())
        );
        assert_eq!(principal.credential, "token:t1");
        assert_eq!(principal.expires.unwrap().as_seconds().0, NOW + 600);
    }
    let unbound = with(|claims| claims["scope"] = Value::Null);
    assert_eq!(
        setup
            .show(&setup.signer.token(&unbound))
            .await
            .unwrap()
            .scopes,
        None
    );
    let others = with(|claims| claims["scope"] = "openid".into());
    assert_eq!(
        setup
            .show(&setup.signer.token(&others))
            .await
            .unwrap()
            .scopes,
        Some([].into())
    );
    let nothing = setup
        .who
        .authenticate(&HeaderMap::new(), None)
        .await
        .unwrap();
    assert_eq!(nothing, None);
}

#[tokio::test]
async fn what_is_no_good_is_refused_with_what_is_wrong() {
    let setup = setup(|_| {});
    let token = |claims: &Value| setup.signer.token(claims);
    let header = |header: Value| setup.signer.sign(&header, &claims());
    let bare = |header: Value| {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", text(&header), text(&claims()))
    };
    for (token, reason, expected) in [
        (
            token(&with(|c| c["exp"] = (NOW - 60).into())),
            "CREDENTIALS_EXPIRED",
            "expired",
        ),
        (
            token(&with(|c| c["nbf"] = (NOW + 60).into())),
            "CREDENTIALS_INVALID",
            "not begun",
        ),
        (
            token(&with(|c| c["iat"] = (NOW + 60).into())),
            "CREDENTIALS_INVALID",
            "not begun",
        ),
        (
            token(&with(|c| c["exp"] = (NOW + 90_000).into())),
            "CREDENTIALS_INVALID",
            "max_token_seconds",
        ),
        (
            token(&with(|c| c["exp"] = "soon".into())),
            "CREDENTIALS_INVALID",
            "cannot be read",
        ),
        (
            token(&with(|c| c["aud"] = "other".into())),
            "CREDENTIALS_INVALID",
            "audience",
        ),
        (
            token(&with(|c| c["aud"] = json!(["a", "b"]))),
            "CREDENTIALS_INVALID",
            "audience",
        ),
        (
            token(&with(|c| c["aud"] = Value::Null)),
            "CREDENTIALS_INVALID",
            "exp, iss, aud and sub",
        ),
        (
            token(&with(|c| c["iss"] = "https://other".into())),
            "CREDENTIALS_INVALID",
            "not trusted",
        ),
        (
            token(&with(|c| c["tenant"] = Value::Null)),
            "CREDENTIALS_INVALID",
            "tenant",
        ),
        (
            token(&with(|c| c["tenant"] = "A/B".into())),
            "CREDENTIALS_INVALID",
            "tenant",
        ),
        (
            token(&with(|c| c["sub"] = "".into())),
            "CREDENTIALS_INVALID",
            "sub",
        ),
        (
            token(&with(|c| c["kind"] = "service".into())),
            "CREDENTIALS_INVALID",
            "kind",
        ),
        (
            token(&with(|c| c["groups"] = "admin".into())),
            "CREDENTIALS_INVALID",
            "groups",
        ),
        (
            token(&with(|c| c["act"] = json!({"sub": "x", "kind": "service"}))),
            "CREDENTIALS_INVALID",
            "kind",
        ),
        (
            token(&with(|c| c["cnf"] = json!({"x5t#S256": "AAAA"}))),
            "CREDENTIALS_INVALID",
            "bound",
        ),
        (
            token(&with(|c| c["cnf"] = json!({"jkt": "AAAA"}))),
            "CREDENTIALS_INVALID",
            "bound",
        ),
        (
            header(json!({"alg": "EdDSA", "kid": "stranger"})),
            "CREDENTIALS_INVALID",
            "no such key",
        ),
        (
            header(json!({"alg": "EdDSA"})),
            "CREDENTIALS_INVALID",
            "names no key",
        ),
        (
            header(json!({"alg": "EdDSA", "kid": "ec"})),
            "CREDENTIALS_INVALID",
            "no such key",
        ),
        (
            header(json!({"alg": "ES256", "kid": "ed"})),
            "CREDENTIALS_INVALID",
            "no such key",
        ),
        (
            header(json!({"alg": "RS256", "kid": "short"})),
            "CREDENTIALS_INVALID",
            "no such key",
        ),
        (
            header(json!({"alg": "EdDSA", "kid": "encrypts"})),
            "CREDENTIALS_INVALID",
            "no such key",
        ),
        (
            header(json!({"alg": "HS256", "kid": "secret"})),
            "CREDENTIALS_INVALID",
            "EdDSA, ES256 or RS256",
        ),
        (
            header(json!({"alg": "PS256", "kid": "rsa"})),
            "CREDENTIALS_INVALID",
            "EdDSA, ES256 or RS256",
        ),
        (
            header(json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"], "exp": 1})),
            "CREDENTIALS_INVALID",
            "not known here",
        ),
        (
            bare(json!({"alg": "none", "kid": "ed"})),
            "CREDENTIALS_INVALID",
            "neither a token nor a key",
        ),
        (
            bare(json!({"alg": "EdDSA", "kid": "ed"})),
            "CREDENTIALS_INVALID",
            "signature",
        ),
        (
            "not.a.token".into(),
            "CREDENTIALS_INVALID",
            "neither a token nor a key",
        ),
        (
            "com_short_key".into(),
            "CREDENTIALS_INVALID",
            "neither a token nor a key",
        ),
    ] {
        let failure = setup.show(&token).await.unwrap_err();
        assert_eq!(failure.code, Code::Unauthenticated, "{token}");
        assert_eq!(failure.reason, reason, "{failure:?}");
        assert!(
            failure.message.contains(expected),
            "{expected}: {}",
            failure.message
        );
        assert!(!failure.message.contains(&token));
    }
}

/// A thousand tokens, each with one bit of a good one changed: none is taken.
#[tokio::test]
async fn a_forged_token_is_refused_wherever_it_was_changed() {
    let setup = setup(|_| {});
    let good = setup.signer.token(&claims());
    assert!(setup.show(&good).await.is_ok());
    let (mut tried, mut place) = (0, 0);
    while tried < 1_000 {
        place = (place + 7_919) % (good.len() * 7);
        let mut bytes = good.clone().into_bytes();
        bytes[place / 7] ^= 1 << (place % 7);
        let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", &bytes[..]].concat()) else {
            place += 1;
            continue;
        };
        // The last digit of base 64 has bits that mean nothing; a decoder refuses or ignores them.
        let forged = String::from_utf8_lossy(&bytes).into_owned();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let taken = setup.who.authenticate(&headers, None).await;
        assert!(taken.is_err(), "{forged}");
        tried += 1;
        place += 1;
    }
}

/// Any JSON, now and then what a claim may be.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        (NOW - 100..NOW + 1_000).prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        Just(json!("acme")),
        Just(json!(AUDIENCE)),
        Just(json!(ISSUER)),
        Just(json!("admin write:shop")),
        Just(json!({"sub": "fixer", "act": {"sub": "planner"}})),
        Just(json!({"x5t#S256": "AAAA"})),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("sub|act|kind|x5t#S256|[a-z]{1,4}", inner, 0..4)
                .prop_map(|fields| json!(fields)),
        ]
    })
}

/// Changes of a good token: a claim or a part of the header, and what it becomes; nothing: it is left out.
fn any_changes() -> impl Strategy<Value = Vec<(bool, String, Option<Value>)>> {
    let name =
        "iss|aud|sub|exp|nbf|iat|jti|tenant|kind|scope|act|cnf|groups|alg|kid|typ|crit|x5c|jwk";
    let change = (any::<bool>(), name, proptest::option::of(any_value()));
    proptest::collection::vec(change, 0..4)
}

fn changed(mut value: Value, changes: &[(bool, String, Option<Value>)], header: bool) -> Value {
    for (of_header, name, new) in changes {
        let Some(fields) = value.as_object_mut().filter(|_| *of_header == header) else {
            continue;
        };
        match new {
            Some(new) => fields.insert(name.clone(), new.clone()),
            None => fields.remove(name),
        };
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]
    /// Signed by the right key, whatever it says: taken is only what says what it must.
    #[test]
    fn a_token_is_taken_only_if_every_claim_is_right(changes in any_changes(), cut in proptest::option::weighted(0.1, any::<proptest::sample::Index>())) {
        let setup = setup(|_| {});
        let header = changed(json!({"alg": "EdDSA", "kid": "ed"}), &changes, true);
        let claims = changed(claims(), &changes, false);
        let mut token = setup.signer.sign(&header, &claims);
        let whole = token.len();
        token.truncate(cut.map_or(whole, |cut| cut.index(whole)));
        let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) else {
            return Ok(());
        };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let Ok(taken) = runtime.block_on(setup.who.authenticate(&headers, None)) else {
            return Ok(());
        };
        let principal = taken.expect("something was shown");
        prop_assert_eq!(token.len(), whole);
        prop_assert_eq!(&header["alg"], "EdDSA");
        prop_assert_eq!(&header["kid"], "ed");
        prop_assert_eq!(&claims["iss"], ISSUER);
        let audience = &claims["aud"];
        let for_us = audience == AUDIENCE
            || audience.as_array().is_some_and(|all| all.contains(&json!(AUDIENCE)));
        prop_assert!(for_us, "{}", audience);
        prop_assert!(claims["exp"].as_f64().unwrap() > NOW as f64 - 31.0);
        prop_assert_eq!(claims["sub"].as_str(), Some(principal.subject.as_str()));
        prop_assert_eq!(claims["tenant"].as_str(), Some(principal.tenant.as_str()));
        prop_assert!(!principal.is_service());
        prop_assert!(claims.get("cnf").is_none_or(Value::is_null));
        let actors = std::iter::successors(claims.get("act"), |act| act.get("act"));
        prop_assert_eq!(principal.actors.len(), actors.filter(|act| !act.is_null()).count());
        let scope = claims.get("scope").filter(|scope| !scope.is_null());
        prop_assert_eq!(principal.scopes.is_some(), scope.is_some());
    }
}

/// How many cases are tried; `COM_FUZZ_CASES` may ask for more.
fn fuzz_cases() -> u32 {
    let asked = std::env::var("COM_FUZZ_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(256)
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_only() {
    let setup = setup(|_| {});
    let peer = |byte: u8| PeerIdentity {
        fingerprint: [byte; 32],
        ..PeerIdentity::default()
    };
    let bound = with(|c| c["cnf"] = json!({"x5t#S256": URL_SAFE_NO_PAD.encode([7; 32])}));
    let headers = bearer(&setup.signer.token(&bound));
    let taken = async |peer: Option<PeerIdentity>| {
        setup
            .who
            .authenticate(&headers, peer.as_ref())
            .await
            .is_ok()
    };
    assert!(taken(Some(peer(7))).await);
    assert!(!taken(Some(peer(8))).await);
    assert!(!taken(None).await);
}

#[tokio::test]
async fn an_issuer_of_one_tenant_speaks_for_no_other() {
    let setup = setup(|options| options.issuers[0].tenant = "acme".into());
    assert!(setup.show(&setup.signer.token(&claims())).await.is_ok());
    let silent = with(|c| c["tenant"] = Value::Null);
    let principal = setup.show(&setup.signer.token(&silent)).await.unwrap();
    assert_eq!(principal.tenant.as_str(), "acme");
    let other = with(|c| c["tenant"] = "rival".into());
    assert!(setup.show(&setup.signer.token(&other)).await.is_err());
}

#[tokio::test]
async fn keys_of_an_issuer_are_read_again_when_their_file_changes() {
    let setup = setup(|_| {});
    let token = setup
        .signer
        .sign(&json!({"alg": "EdDSA", "kid": "stranger"}), &claims());
    assert!(setup.show(&token).await.is_err());
    let public = URL_SAFE_NO_PAD.encode(setup.signer.stranger.public_key().as_ref());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "stranger", "x": public}]});
    std::fs::write(setup._folder.path().join("keys.json"), set.to_string()).unwrap();
    assert!(setup.show(&token).await.is_ok());
    assert!(
        setup.show(&setup.signer.token(&claims())).await.is_err(),
        "the old key is gone"
    );
}

/// Gives a key set over HTTP as long as there is one, and counts how often it was asked for.
struct KeyServer {
    address: String,
    set: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(set: &str) -> Self {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/keys", listener.local_addr().unwrap());
        let set = Arc::new(Mutex::new(Some(set.to_owned())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (told, count) = (set.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4_096]);
                count.fetch_add(1, Ordering::SeqCst);
                let answer = match told.lock().unwrap().clone() {
                    Some(set) => format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{set}",
                        set.len()
                    ),
                    None => "HTTP/1.1 503 Away\r\nconnection: close\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            address,
            set,
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn keys_at_an_address_are_asked_for_seldom_and_hold_while_it_is_away() {
    let signer = Signer::new();
    let server = KeyServer::start(&signer.key_set());
    let times = jwks::Times {
        fresh: Duration::from_millis(300),
        least: Duration::from_millis(100),
        stale: Duration::from_millis(1_500),
    };
    let keys = jwks::Jwks::new(jwks::Place::url(&server.address).unwrap(), times);
    let find = async |id: &str| keys.find(id, jsonwebtoken::Algorithm::EdDSA).await;
    assert!(find("ed").await.unwrap().is_some());
    // Whoever makes up keys does not make us ask for them each time.
    for _ in 0..500 {
        assert!(find("made-up").await.unwrap().is_none());
    }
    assert!(server.asked() <= 3, "asked {} times", server.asked());
    // A new key is found at once, if none was looked for in vain a moment ago.
    tokio::time::sleep(Duration::from_millis(120)).await;
    let public = URL_SAFE_NO_PAD.encode(signer.stranger.public_key().as_ref());
    let next = json!({"kty": "OKP", "crv": "Ed25519", "kid": "next", "x": public});
    *server.set.lock().unwrap() = Some(json!({ "keys": [next] }).to_string());
    assert!(find("next").await.unwrap().is_some());
    assert!(find("ed").await.unwrap().is_none(), "it was taken away");
    // The issuer is away: its last keys hold, for every call, and then no longer.
    *server.set.lock().unwrap() = None;
    let away = Instant::now();
    tokio::time::sleep(Duration::from_millis(350)).await;
    while away.elapsed() < Duration::from_millis(1_200) {
        assert!(
            find("next").await.unwrap().is_some(),
            "after {:?}",
            away.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let both = tokio::join!(find("next"), find("next"));
    for failure in [both.0, both.1] {
        assert_eq!(failure.unwrap_err().reason, "ISSUER_UNAVAILABLE");
    }
}

#[tokio::test]
async fn keys_are_good_by_their_secret_until_they_are_not() {
    let setup = setup(|_| {});
    let key = NewKey::make(None, &SystemRandomness).unwrap();
    assert!(setup.show(&key.secret).await.is_err(), "not known yet");
    let record = KeyRecord {
        principal: Principal {
            credential: format!("key:{}", key.id),
            ..Principal::developer()
        },
        secret_hashes: vec![key.hash],
    };
    tokio::time::sleep(Duration::from_millis(120)).await;
    *setup.source.key.lock().unwrap() = Some((key.id.clone(), record));
    assert_eq!(
        setup.show(&key.secret).await.unwrap().credential,
        format!("key:{}", key.id)
    );
    let wrong = NewKey::make(Some(key.id.clone()), &SystemRandomness).unwrap();
    assert!(setup.show(&wrong.secret).await.is_err());
    let asked = setup.source.asked.load(Ordering::SeqCst);
    setup.show(&key.secret).await.unwrap();
    assert_eq!(
        setup.source.asked.load(Ordering::SeqCst),
        asked,
        "it is remembered for a moment"
    );
    setup.who.record_uses().await.unwrap();
    assert_eq!(setup.source.uses.lock().unwrap().len(), 1);
    // Gone: refused once the moment is over.
    *setup.source.key.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(setup.show(&key.secret).await.is_err());
}

#[tokio::test]
async fn a_source_that_is_away_is_done_without_for_a_while_only() {
    let setup = setup(|_| {});
    let key = NewKey::make(None, &SystemRandomness).unwrap();
    let record = KeyRecord {
        principal: Principal::developer(),
        secret_hashes: vec![key.hash],
    };
    *setup.source.key.lock().unwrap() = Some((key.id.clone(), record));
    setup.show(&key.secret).await.unwrap();
    setup.source.away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(setup.show(&key.secret).await.is_ok());
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let failure = setup.show(&key.secret).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::Unavailable, "ACCESS_UNKNOWN")
    );
}

#[tokio::test]
async fn certificates_stand_for_whom_the_settings_say() {
    let setup = setup(|options| {
        options.certificates = vec![CertificateOptions {
            spiffe_id: "spiffe://commonplace.local/ci".into(),
            tenant: "acme".into(),
            subject: "ci".into(),
            roles: vec!["writer".into()],
            scopes: vec!["write:shop".into()],
            ..CertificateOptions::default()
        }];
    });
    let peer = |id: &str| PeerIdentity {
        ids: [id.to_owned()].into(),
        ..PeerIdentity::default()
    };
    let by = async |id: &str| {
        let shown = setup
            .who
            .authenticate(&HeaderMap::new(), Some(&peer(id)))
            .await;
        shown.unwrap()
    };
    let principal = by("spiffe://commonplace.local/ci").await.unwrap();
    assert_eq!(principal.to_string(), "agent ci of acme");
    assert_eq!(by("spiffe://commonplace.local/other").await, None);
}

#[tokio::test]
async fn more_than_one_credential_is_refused() {
    let setup = setup(|_| {});
    let token = setup.signer.token(&claims());
    let mut headers = bearer(&token);
    headers.insert(API_KEY, HeaderValue::from_str(&token).unwrap());
    assert!(setup.who.authenticate(&headers, None).await.is_err());
    for wrong in ["Basic YTpi", "Bearer", "Bearer ", "token"] {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(wrong))]);
        assert!(
            setup.who.authenticate(&headers, None).await.is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn settings_of_issuers_are_checked_by_name() {
    let check = |change: fn(&mut IssuerOptions)| {
        let mut one = issuer(Path::new("keys.json"));
        change(&mut one);
        let options = Options {
            issuers: vec![one],
            ..Options::default()
        };
        let refused =
            Authenticator::new(&options, Arc::new(OneKey::default()), Arc::new(SystemClock));
        refused.err().map(|invalid| invalid.field)
    };
    assert_eq!(check(|_| {}), None);
    for (change, field) in [
        (
            (|one| one.issuer.clear()) as fn(&mut IssuerOptions),
            "issuer",
        ),
        (|one| one.audience.clear(), "audience"),
        (
            |one| one.jwks_url = "https://issuer.example/keys".into(),
            "jwks_file",
        ),
        (|one| one.tenant = "NO".into(), "tenant"),
        (
            |one| {
                one.jwks_file = Default::default();
                one.jwks_url = "http://issuer.example/keys".into();
            },
            "jwks_url",
        ),
    ] {
        assert_eq!(check(change), Some(format!("access.issuers[0].{field}")));
    }
}

#[test]
fn a_minted_token_names_its_key_and_can_be_looked_at() {
    let random = SystemRandom::new();
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(document.as_ref())
    );
    let claims = token::Claims {
        sub: "alice".into(),
        ..token::Claims::default()
    };
    let minted = token::mint(&claims, "k1", &pem).unwrap();
    let (header, seen) = token::inspect(&minted).unwrap();
    assert_eq!(
        (header["kid"].as_str(), seen.sub.as_str()),
        (Some("k1"), "alice")
    );
    assert!(
        token::key_set("k1", &pem)
            .unwrap()
            .contains("\"kid\": \"k1\"")
    );
    assert!(token::mint(&claims, "k1", "no key").is_err());
}
