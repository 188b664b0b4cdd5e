//! A node that asks who calls, behind a real port, with a few people who may call.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonplace_access::Mode;
use commonplace_node::{Channels, Node, NodeOptions};
use commonplace_proto::common::{EventDraft, PrincipalKind, Right, Scopes};
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::grantee::Who;
use commonplace_proto::policy::{CreateGrantRequest, CreateKeyRequest, GrantResource, Grantee};
use commonplace_proto::{ingest, retrieval};
use commonplace_rpc::context;
use commonplace_rpc::server::Server;
use commonplace_rpc::{Bearer, Channel, RemoteOptions};
use commonplace_types::{Clock, SystemClock, TenantName};

/// How fast changes take effect here, in milliseconds.
pub const REFRESH_MS: u64 = 200;

/// A node that asks who calls, behind a port.
pub struct House {
    pub node: Node,
    pub server: Server,
    /// Calls as whoever holds the data folder.
    pub operator: Channels,
    _folder: tempfile::TempDir,
}

impl House {
    pub async fn new() -> Self {
        Self::with(Arc::new(SystemClock), |_| {}).await
    }

    /// The same with another clock and other settings.
    pub async fn with(clock: Arc<dyn Clock>, change: impl FnOnce(&mut NodeOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = NodeOptions {
            data_dir: folder.path().join("data"),
            model_dir: "/nonexistent".into(),
            ..NodeOptions::default()
        };
        options.access.mode = Mode::Required;
        options.access.refresh_ms = REFRESH_MS;
        change(&mut options);
        let node = Node::start(&options, clock).await.unwrap();
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        node.open(&server);
        Self {
            operator: node.channels().in_name_of("operator"),
            node,
            server,
            _folder: folder,
        }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A channel through the port that shows a key, or nothing.
    pub fn channel(&self, key: Option<&str>) -> Channel {
        let options = RemoteOptions {
            bearer: key.map(|key| Bearer::new(key).unwrap()),
            ..RemoteOptions::default()
        };
        Channel::remote(&[self.address()], &options).unwrap()
    }

    /// Makes a key in a tenant: its id and its secret.
    pub async fn key(&self, tenant: &str, who: &Person) -> (String, String) {
        make_key(&self.operator.policy, tenant, who).await
    }

    /// Grants an agent of a tenant a right over a project, or a part of it.
    pub async fn grant(&self, tenant: &str, agent: &str, right: Right, resource: GrantResource) {
        let request = CreateGrantRequest {
            grantee: Some(Grantee {
                who: Some(Who::Agent(agent.into())),
            }),
            right: right.into(),
            resource: Some(resource),
        };
        let mut access = AccessServiceClient::new(self.operator.policy.clone());
        let call = async { access.create_grant(request).await.unwrap() };
        context::for_tenant(TenantName::new(tenant).unwrap(), call).await;
    }

    /// Writes an event into a project of a tenant, as the operator.
    pub async fn write(&self, tenant: &str, project: &str, artifact_type: &str, text: &str) {
        let request = ingest::CommitRequest {
            project: project.into(),
            message: format!("message {text}"),
            events: vec![EventDraft {
                artifact_type: artifact_type.into(),
                title: format!("title {text}"),
                text: format!("the passage about {text}"),
                record_id: format!("record:{text}"),
                tags: vec![format!("tag-{text}")],
                ..EventDraft::default()
            }],
            ..ingest::CommitRequest::default()
        };
        let mut client =
            ingest::ingest_service_client::IngestServiceClient::new(self.operator.ingest.clone());
        let call = async { client.commit(request).await.unwrap() };
        context::for_tenant(TenantName::new(tenant).unwrap(), call).await;
    }

    /// Makes a pack in a tenant, as the operator; gives its id.
    pub async fn pack(&self, tenant: &str, project: &str, query: &str) -> String {
        let request = retrieval::RetrieveRequest {
            project: project.into(),
            query: query.into(),
            ..retrieval::RetrieveRequest::default()
        };
        let channel = self.operator.retrieval.clone();
        let mut client = retrieval::retrieval_service_client::RetrievalServiceClient::new(channel);
        let call = async { client.retrieve(request).await.unwrap() };
        let answer = context::for_tenant(TenantName::new(tenant).unwrap(), call).await;
        answer.into_inner().pack.unwrap().id
    }

    pub async fn close(self) {
        self.server.drain(std::time::Duration::from_secs(5)).await;
        self.node.shutdown().await;
    }
}

/// Somebody who is given a key.
#[derive(Default)]
pub struct Person {
    pub name: &'static str,
    pub roles: &'static [&'static str],
    pub scopes: Option<&'static [&'static str]>,
}

pub async fn make_key(policy: &Channel, tenant: &str, who: &Person) -> (String, String) {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let request = CreateKeyRequest {
        kind: PrincipalKind::Agent.into(),
        subject: who.name.into(),
        roles: texts(who.roles),
        scopes: who.scopes.map(|scopes| Scopes {
            scopes: texts(scopes),
        }),
        ..CreateKeyRequest::default()
    };
    let mut access = AccessServiceClient::new(policy.clone());
    let call = async { access.create_key(request).await.unwrap() };
    let answer = context::for_tenant(TenantName::new(tenant).unwrap(), call).await;
    let answer = answer.into_inner();
    (answer.key.unwrap().id, answer.secret)
}

/// Everybody who calls in these tests, by what they are.
pub async fn people(house: &House) -> BTreeMap<&'static str, String> {
    let mut people = BTreeMap::new();
    for (what, tenant, person) in [
        (
            "stranger",
            "rival",
            Person {
                name: "eve",
                roles: &["admin"],
                scopes: None,
            },
        ),
        (
            "member",
            "acme",
            Person {
                name: "member",
                roles: &[],
                scopes: None,
            },
        ),
        (
            "reader",
            "acme",
            Person {
                name: "reader",
                roles: &["reader"],
                scopes: None,
            },
        ),
        (
            "writer",
            "acme",
            Person {
                name: "writer",
                roles: &["writer"],
                scopes: None,
            },
        ),
        (
            "admin",
            "acme",
            Person {
                name: "admin",
                roles: &["admin"],
                scopes: None,
            },
        ),
        (
            "scoped",
            "acme",
            Person {
                name: "scoped",
                roles: &["admin"],
                scopes: Some(&["read:other"]),
            },
        ),
    ] {
        people.insert(what, house.key(tenant, &person).await.1);
    }
    people
}
