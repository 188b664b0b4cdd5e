//! What is changed while calls go on fails none of them: issuers' keys, policies, grants, certificates. What is taken
//! back is honoured for no longer than stated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use commonplace_access::IssuerOptions;
use commonplace_access::credential::token::{Claims, key_set, mint};
use commonplace_node::{NodeOptions, Role};
use commonplace_proto::common::{EventDraft, Right};
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::grantee::Who;
use commonplace_proto::policy::{
    CreateGrantRequest, DeleteAccessPolicyRequest, DeleteGrantRequest, GrantResource, Grantee,
    PutAccessPolicyRequest, RevokeKeyRequest,
};
use commonplace_rpc::{Bearer, Channel, RemoteOptions, Tls, TransportOptions, context};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_types::{SystemClock, TenantName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::common::{House, Person, REFRESH_MS, make_key};
use super::staleness::{Load, read};

/// What a machine under load may add to a stated delay.
const SLACK: Duration = Duration::from_millis(100);
const ISSUER: &str = "https://issuer.example";

fn acme() -> TenantName {
    TenantName::new("acme").unwrap()
}

/// Keys of an issuer, by id.
struct Issuer(Vec<(String, String)>);

impl Issuer {
    fn new(ids: &[&str]) -> Self {
        let key = |id: &&str| {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            ((*id).to_owned(), pair.serialize_pem())
        };
        Self(ids.iter().map(key).collect())
    }

    fn pem(&self, id: &str) -> &str {
        &self.0.iter().find(|(known, _)| known == id).unwrap().1
    }

    /// The public halves of some of them.
    fn set(&self, ids: &[&str]) -> String {
        let keys = ids.iter().flat_map(|id| {
            let set: Value = serde_json::from_str(&key_set(id, self.pem(id)).unwrap()).unwrap();
            set["keys"].as_array().unwrap().clone()
        });
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    }

    /// A token of a reader.
    fn token(&self, id: &str, key: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut rest = serde_json::Map::new();
        rest.insert("roles".into(), json!(["reader"]));
        let claims = Claims {
            iss: ISSUER.into(),
            aud: json!("commonplace"),
            sub: "alice".into(),
            exp: now.unwrap().as_secs_f64() + 600.0,
            tenant: Some("acme".into()),
            rest,
            ..Claims::default()
        };
        mint(&claims, id, self.pem(key)).unwrap()
    }
}

fn trusting(change: impl FnOnce(&mut IssuerOptions)) -> impl FnOnce(&mut NodeOptions) {
    move |options: &mut NodeOptions| {
        let mut issuer = IssuerOptions {
            issuer: ISSUER.into(),
            audience: "commonplace".into(),
            roles_claim: "roles".into(),
            ..IssuerOptions::default()
        };
        change(&mut issuer);
        options.access.issuers = vec![issuer];
    }
}

fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Whether what was taken back at a moment was refused soon enough.
async fn refused_in_time(load: Load, since: Instant, stated: Duration) {
    assert!(load.failed() > 0, "it is refused");
    let last = load.last_success().await.unwrap();
    let honoured = last.saturating_duration_since(since);
    assert!(honoured <= stated + SLACK, "honoured for {honoured:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_in_a_file_change_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let (file, issuer) = (folder.path().join("keys.json"), Issuer::new(&["k1", "k2"]));
    put(&file, &issuer.set(&["k1"]));
    let named = file.clone();
    let change = trusting(|options| options.jwks_file = named);
    let house = House::with(Arc::new(SystemClock), change).await;
    house.write("acme", "vault", "note", "gold").await;
    let by_old = Load::start(&house.channel(Some(&issuer.token("k1", "k1"))));
    pause(300).await;
    put(&file, &issuer.set(&["k1", "k2"]));
    let by_new = Load::start(&house.channel(Some(&issuer.token("k2", "k2"))));
    pause(400).await;
    assert_eq!((by_old.failed(), by_new.failed()), (0, 0));
    assert!(by_old.done() > 20 && by_new.done() > 20);
    put(&file, &issuer.set(&["k2"]));
    let removed = Instant::now();
    pause(400).await;
    assert_eq!(by_new.failed(), 0);
    refused_in_time(by_old, removed, Duration::ZERO).await;
    by_new.last_success().await;
    house.close().await;
}

/// Gives a key set over HTTP, and counts how often it was asked for.
struct Published {
    address: String,
    set: tokio::sync::watch::Sender<String>,
    asked: Arc<AtomicUsize>,
}

impl Published {
    async fn start(set: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/keys", listener.local_addr().unwrap());
        let (set, told) = tokio::sync::watch::channel(set);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4_096]).await;
                count.fetch_add(1, Ordering::SeqCst);
                let set = told.borrow().clone();
                let length = set.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{set}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
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

/// Least time between two fetches.
const SPACING: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_at_an_address_change_without_a_failed_call() {
    let issuer = Issuer::new(&["k1", "k2", "mine"]);
    let published = Published::start(issuer.set(&["k1"])).await;
    let address = published.address.clone();
    let change = trusting(|options| options.jwks_url = address);
    let house = House::with(Arc::new(SystemClock), change).await;
    house.write("acme", "vault", "note", "gold").await;
    let old = house.channel(Some(&issuer.token("k1", "k1")));
    assert!(read(&old).await);
    let fetched = Instant::now();
    let by_old = Load::start(&old);
    // Whoever makes up keys gets nothing, and does not make us ask for them each time.
    for number in 0..200 {
        let made_up = issuer.token(&format!("made-up-{number}"), "mine");
        assert!(!read(&house.channel(Some(&made_up))).await);
    }
    assert_eq!(published.asked(), 1);
    published.set.send_replace(issuer.set(&["k1", "k2"]));
    tokio::time::sleep_until((fetched + SPACING + SLACK).into()).await;
    let by_new = Load::start(&house.channel(Some(&issuer.token("k2", "k2"))));
    pause(400).await;
    assert_eq!((by_old.failed(), by_new.failed()), (0, 0));
    assert_eq!(published.asked(), 2);
    assert!(by_new.done() > 20);
    // What the issuer took away is no good from the next fetch on.
    published.set.send_replace(issuer.set(&["k2"]));
    let fetched = Instant::now();
    tokio::time::sleep_until((fetched + SPACING + SLACK).into()).await;
    let made_up = issuer.token("made-up", "mine");
    assert!(!read(&house.channel(Some(&made_up))).await);
    let asked = Instant::now();
    pause(300).await;
    assert_eq!((published.asked(), by_new.failed()), (3, 0));
    refused_in_time(by_old, asked, Duration::ZERO).await;
    by_new.last_success().await;
    house.close().await;
}

fn vault() -> GrantResource {
    GrantResource {
        project: "vault".into(),
        ..GrantResource::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_change_without_a_failed_call_and_hold_in_time() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let mut access = AccessServiceClient::new(house.operator.policy.clone());
    let to = |agent: &str| CreateGrantRequest {
        grantee: Some(Grantee {
            who: Some(Who::Agent(agent.into())),
        }),
        right: Right::Read.into(),
        resource: Some(vault()),
    };
    let grant = context::for_tenant(acme(), access.create_grant(to("granted"))).await;
    let grant = grant.unwrap().into_inner().grant.unwrap().id;
    let person = |name, roles| Person {
        name,
        roles,
        scopes: None,
    };
    let (_, granted) = house.key("acme", &person("granted", &[])).await;
    let (_, reader) = house.key("acme", &person("reader", &["reader"])).await;
    let stated = Duration::from_millis(REFRESH_MS);
    tokio::time::sleep(stated).await;
    let by_grant = Load::start(&house.channel(Some(&granted)));
    let by_role = Load::start(&house.channel(Some(&reader)));
    for number in 0..12 {
        let policy = PutAccessPolicyRequest {
            id: "changes".into(),
            source: format!(
                "forbid (principal == Agent::\"acme/nobody{number}\", action, resource);"
            ),
            ..PutAccessPolicyRequest::default()
        };
        context::for_tenant(acme(), access.put_access_policy(policy))
            .await
            .unwrap();
        let other = to(&format!("other{number}"));
        context::for_tenant(acme(), access.create_grant(other))
            .await
            .unwrap();
        pause(60).await;
    }
    assert_eq!((by_grant.failed(), by_role.failed()), (0, 0));
    assert!(by_grant.done() > 20 && by_role.done() > 20);

    // A grant is taken back.
    let request = DeleteGrantRequest { id: grant };
    context::for_tenant(acme(), access.delete_grant(request))
        .await
        .unwrap();
    let deleted = Instant::now();
    pause(3 * REFRESH_MS).await;
    assert_eq!(by_role.failed(), 0);
    refused_in_time(by_grant, deleted, stated).await;

    // A policy forbids what a role allows, and goes again.
    let policy = PutAccessPolicyRequest {
        id: "freeze".into(),
        source: "forbid (principal, action in Action::\"read\", resource is Project) \
                 when { resource.name == \"vault\" };"
            .into(),
        ..PutAccessPolicyRequest::default()
    };
    context::for_tenant(acme(), access.put_access_policy(policy))
        .await
        .unwrap();
    let forbidden = Instant::now();
    pause(3 * REFRESH_MS).await;
    refused_in_time(by_role, forbidden, stated).await;
    let request = DeleteAccessPolicyRequest {
        id: "freeze".into(),
    };
    context::for_tenant(acme(), access.delete_access_policy(request))
        .await
        .unwrap();
    tokio::time::sleep(stated + SLACK).await;
    assert!(read(&house.channel(Some(&reader))).await);
    house.close().await;
}

/// A tenant that locked everybody out, its administrators too, is let in again by whoever holds the data folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_locked_itself_out_finds_the_way_back() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let admin = Person {
        name: "admin",
        roles: &["admin"],
        scopes: None,
    };
    let (_, key) = house.key("acme", &admin).await;
    let channel = house.channel(Some(&key));
    let mut own = AccessServiceClient::new(channel.clone());
    let policy = PutAccessPolicyRequest {
        id: "lockout".into(),
        source: "forbid (principal, action, resource);".into(),
        ..PutAccessPolicyRequest::default()
    };
    own.put_access_policy(policy).await.unwrap();
    pause(2 * REFRESH_MS).await;
    assert!(!read(&channel).await);
    let delete = || DeleteAccessPolicyRequest {
        id: "lockout".into(),
    };
    let refused = own.delete_access_policy(delete()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    // Others are none the worse for it.
    let (_, others) = house.key("rival", &admin).await;
    house.write("rival", "vault", "note", "gold").await;
    assert!(read(&house.channel(Some(&others))).await);
    let mut operator = AccessServiceClient::new(house.operator.policy.clone());
    let call = operator.delete_access_policy(delete());
    context::for_tenant(acme(), call).await.unwrap();
    pause(2 * REFRESH_MS).await;
    assert!(read(&channel).await);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_callers_without_a_failed_call() {
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .set("access.refresh_ms", &REFRESH_MS.to_string())
        .start()
        .await;
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let writer = Person {
        name: "writer",
        roles: &["writer"],
        scopes: None,
    };
    let (id, key) = make_key(&policy, "acme", &writer).await;
    let certificates = mesh.certificates().unwrap();
    let options = RemoteOptions {
        tls: Some(Tls::start(&certificates.options("operator"), None).unwrap()),
        bearer: Some(Bearer::new(&key).unwrap()),
        ..TransportOptions::default().remote()
    };
    let channel = Channel::remote(&[mesh.address(Role::Gateway, 0)], &options).unwrap();
    let commit = CommitRequest {
        project: "vault".into(),
        events: vec![EventDraft {
            artifact_type: "note".into(),
            title: "gold".into(),
            ..EventDraft::default()
        }],
        ..CommitRequest::default()
    };
    let mut ingest = IngestServiceClient::new(channel.clone());
    let written = ingest.commit(commit);
    context::with_deadline(Duration::from_secs(20), written)
        .await
        .unwrap();
    let load = Load::start(&channel);
    // Files are looked at every second.
    certificates.rotate(Duration::from_millis(1_500)).await;
    pause(1_500).await;
    assert_eq!(load.failed(), 0);
    assert!(load.done() > 100);
    // What is taken back holds in time, over the new certificates too.
    let mut access = AccessServiceClient::new(policy);
    let call = access.revoke_key(RevokeKeyRequest { id });
    context::for_tenant(acme(), call).await.unwrap();
    let revoked = Instant::now();
    pause(3 * REFRESH_MS).await;
    refused_in_time(load, revoked, Duration::from_millis(REFRESH_MS)).await;
    mesh.shutdown().await;
}
