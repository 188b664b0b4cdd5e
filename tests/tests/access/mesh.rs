//! The same over processes: who calls goes along from service to service, and nobody can make it up.

use std::time::Duration;

use commonplace_node::Role;
use commonplace_proto::gateway::GetServerInfoRequest;
use commonplace_proto::gateway::gateway_service_client::GatewayServiceClient;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{ListProjectsRequest, ListTenantsRequest};
use commonplace_proto::policy::audit_service_client::AuditServiceClient;
use commonplace_proto::policy::{AuditDecision, ListAuditRecordsRequest};
use commonplace_proto::retrieval::RetrieveRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{Bearer, Channel, RemoteOptions, Tls, TransportOptions, context};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::story;
use tonic::Code;

use super::common::{Person, make_key};

async fn within<T>(call: impl Future<Output = T>) -> T {
    context::with_deadline(Duration::from_secs(20), call).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_goes_along_and_cannot_be_made_up() {
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .start()
        .await;
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let writer = Person {
        name: "writer",
        roles: &["writer"],
        scopes: None,
    };
    let (_, key) = make_key(&policy, "acme", &writer).await;
    let certificates = mesh.certificates().unwrap();
    let gateway = |bearer: Option<&str>| {
        let options = RemoteOptions {
            tls: Some(Tls::start(&certificates.options("operator"), None).unwrap()),
            bearer: bearer.map(|key| Bearer::new(key).unwrap()),
            ..TransportOptions::default().remote()
        };
        Channel::remote(&[mesh.address(Role::Gateway, 0)], &options).unwrap()
    };
    // The client's own certificate counts for nothing at the public port, whatever it calls itself.
    for nobody in [gateway(None), gateway(None).in_name_of("operator")] {
        let mut client = GatewayServiceClient::new(nobody);
        let refused = within(client.get_server_info(GetServerInfoRequest {}))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let channel = gateway(Some(&key));
    let commit = CommitRequest {
        project: "shop".into(),
        events: vec![story_event()],
        ..CommitRequest::default()
    };
    within(IngestServiceClient::new(channel.clone()).commit(commit))
        .await
        .unwrap();
    let retrieve = RetrieveRequest {
        project: "shop".into(),
        query: "which total is off by a cent".into(),
        ..RetrieveRequest::default()
    };
    let answer = within(RetrievalServiceClient::new(channel).retrieve(retrieve))
        .await
        .unwrap();
    assert_eq!(answer.into_inner().pack.unwrap().items.len(), 1);

    // A service may call in its own name and no other; whoever says nothing is nobody.
    let journal = |role: &str, name: Option<&str>| {
        let options = RemoteOptions {
            tls: Some(Tls::start(&certificates.options(role), None).unwrap()),
            peer_role: Some("journal".into()),
            ..TransportOptions::default().remote()
        };
        let channel = Channel::remote(&[mesh.address(Role::Journal, 0)], &options).unwrap();
        JournalServiceClient::new(match name {
            Some(name) => channel.in_name_of(name),
            None => channel,
        })
    };
    let tenants = |role: &'static str, name: Option<&'static str>| {
        let mut client = journal(role, name);
        async move { within(client.list_tenants(ListTenantsRequest::default())).await }
    };
    assert_eq!(
        tenants("index", Some("index"))
            .await
            .unwrap()
            .into_inner()
            .tenants,
        ["acme"]
    );
    assert_eq!(
        tenants("index", Some("operator")).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        tenants("index", None).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        tenants("retrieval", Some("retrieval"))
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let mut nobody = journal("gateway", None);
    let refused = within(nobody.list_projects(ListProjectsRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::Unauthenticated,
        "a gateway that names nobody calls for nobody"
    );
    mesh.shutdown().await;
}

fn story_event() -> commonplace_proto::common::EventDraft {
    commonplace_proto::common::EventDraft {
        artifact_type: "bug".into(),
        title: "An order's total is off by a cent".into(),
        text: "The total is off by a cent when a discount is given.".into(),
        ..Default::default()
    }
}

/// Over processes too, a change is one record, of the service that it reached first, and with whoever called the
/// gateway; what a port for services refuses is recorded as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_over_processes_is_one_record() {
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .start()
        .await;
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let mut keys = Vec::new();
    for (tenant, name, roles) in [
        ("acme", "writer", &["writer"][..]),
        ("acme", "admin", &["admin"]),
        ("default", "keeper", &["admin"]),
    ] {
        let person = Person {
            name,
            roles,
            scopes: None,
        };
        keys.push(make_key(&policy, tenant, &person).await.1);
    }
    let certificates = mesh.certificates().unwrap();
    let channel = |key: &str| {
        let options = RemoteOptions {
            tls: Some(Tls::start(&certificates.options("operator"), None).unwrap()),
            bearer: Some(Bearer::new(key).unwrap()),
            ..TransportOptions::default().remote()
        };
        Channel::remote(&[mesh.address(Role::Gateway, 0)], &options).unwrap()
    };
    let commit = CommitRequest {
        project: "shop".into(),
        events: vec![story_event()],
        ..CommitRequest::default()
    };
    within(IngestServiceClient::new(channel(&keys[0])).commit(commit))
        .await
        .unwrap();
    let list = async |key: &str, request: ListAuditRecordsRequest| {
        let mut client = AuditServiceClient::new(channel(key));
        let listed = within(client.list_audit_records(request)).await.unwrap();
        listed.into_inner().records
    };
    let by_writer = ListAuditRecordsRequest {
        subject: "writer".into(),
        ..ListAuditRecordsRequest::default()
    };
    let records = list(&keys[1], by_writer).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!(
        (
            record.method.as_str(),
            record.service.as_str(),
            record.peer.as_str()
        ),
        (
            "commonplace.ingest.v1.IngestService/Commit",
            "ingest",
            "127.0.0.1"
        )
    );
    // Retrieval has no way to the journal.
    let options = RemoteOptions {
        tls: Some(Tls::start(&certificates.options("retrieval"), None).unwrap()),
        peer_role: Some("journal".into()),
        ..TransportOptions::default().remote()
    };
    let journal = Channel::remote(&[mesh.address(Role::Journal, 0)], &options).unwrap();
    let mut journal = JournalServiceClient::new(journal.in_name_of("retrieval"));
    let refused = within(journal.list_projects(ListProjectsRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    for _ in 0..50 {
        let denied = ListAuditRecordsRequest {
            decision: AuditDecision::Denied.into(),
            ..ListAuditRecordsRequest::default()
        };
        let records = list(&keys[2], denied).await;
        if records
            .iter()
            .any(|record| record.reason == "PEER_NOT_ALLOWED")
        {
            mesh.shutdown().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the refusal of the port is not recorded");
}

/// The story that every form is told holds for a caller who shows a key as it does for a developer.
#[tokio::test(flavor = "multi_thread")]
async fn the_story_holds_where_callers_are_asked() {
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .start()
        .await;
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let admin = Person {
        name: "admin",
        roles: &["admin"],
        scopes: None,
    };
    let (_, key) = make_key(&policy, "default", &admin).await;
    let options = RemoteOptions {
        tls: Some(Tls::start(&mesh.certificates().unwrap().options("operator"), None).unwrap()),
        bearer: Some(Bearer::new(&key).unwrap()),
        ..TransportOptions::default().remote()
    };
    let channel = Channel::remote(&[mesh.address(Role::Gateway, 0)], &options).unwrap();
    let written = story::write(&commonplace_node::Channels::all(channel)).await;
    assert!(written.reports.len() > 5);
    mesh.shutdown().await;
}
