//! Whether a call is allowed, and why.

use std::sync::Arc;

use async_trait::async_trait;
use commonplace_policy::Options;
use commonplace_proto::common::{Actor, Principal as Asked, PrincipalKind, Right, Scopes};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::AccessDecision;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_rpc::methods::{self, Method};
use commonplace_rpc::{Action, Authorize, Channel, Code, Decision, Failure, Layered, Limits, View};
use commonplace_telemetry::Metrics;
use commonplace_testkit::{Backend, Site};
use commonplace_types::{Principal, ProjectName, Right as Own};
use tonic::service::Routes;

use super::common::*;

const APPEND: &str = "JournalService/Append";

fn asked(subject: &str, roles: &[&str]) -> Asked {
    Asked {
        kind: PrincipalKind::User.into(),
        subject: subject.into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        credential: "key".into(),
        ..Default::default()
    }
}

fn request(principal: Asked, method: &str) -> proto::ExplainAccessRequest {
    proto::ExplainAccessRequest {
        principal: Some(principal),
        method: method.into(),
        project: "shop".into(),
    }
}

async fn explain(
    client: &mut Client,
    request: proto::ExplainAccessRequest,
) -> Result<proto::ExplainAccessResponse, Failure> {
    told(by(&admin("acme"), client.explain_access(request)).await)
}

#[tokio::test]
async fn every_way_to_be_allowed_and_denied_is_told() {
    let site = Site::new(Backend::Sqlite);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let acme = admin("acme");

    let denied = explain(&mut client, request(asked("bob", &[]), APPEND))
        .await
        .unwrap();
    assert_eq!(denied.decision(), AccessDecision::Denied);
    assert_eq!(denied.right(), Right::Write);
    assert_eq!(
        denied.reasons,
        ["user bob: denied, as no role, grant or policy allows it"]
    );
    let allowed = explain(&mut client, request(asked("bob", &["writer"]), APPEND))
        .await
        .unwrap();
    assert_eq!(allowed.decision(), AccessDecision::Allowed);
    assert_eq!(allowed.policies, ["role_writer"]);
    assert!(allowed.policy_hash.starts_with("sha256:"));

    // A change holds for the next explanation.
    let grant = proto::CreateGrantRequest {
        right: Right::Write.into(),
        ..reads("bob", "shop")
    };
    let grant = told(by(&acme, client.create_grant(grant)).await)
        .unwrap()
        .grant
        .unwrap();
    let allowed = explain(&mut client, request(asked("bob", &[]), APPEND))
        .await
        .unwrap();
    assert_eq!(
        (allowed.decision(), &allowed.policies[..]),
        (AccessDecision::Allowed, &[grant.id][..])
    );
    assert_ne!(allowed.policy_hash, denied.policy_hash);
    let forbid = "forbid (principal == User::\"acme/bob\", action, resource);";
    told(by(&acme, client.put_access_policy(policy("no_bob", forbid))).await).unwrap();
    let denied = explain(&mut client, request(asked("bob", &["admin"]), APPEND))
        .await
        .unwrap();
    assert_eq!(denied.reasons, ["user bob: denied by no_bob"]);

    // Scopes and actors narrow what is allowed.
    let scoped = Asked {
        scopes: Some(Scopes {
            scopes: vec!["read".into()],
        }),
        ..asked("eve", &["admin"])
    };
    let denied = explain(&mut client, request(scoped, APPEND)).await.unwrap();
    assert_eq!(denied.decision(), AccessDecision::Denied);
    assert!(
        denied.reasons[1].contains("scopes `read` do not cover write"),
        "{denied:?}"
    );
    let through = Asked {
        actors: vec![Actor {
            kind: PrincipalKind::Agent.into(),
            subject: "fixer".into(),
        }],
        ..asked("eve", &["admin"])
    };
    let denied = explain(&mut client, request(through, APPEND))
        .await
        .unwrap();
    assert_eq!(denied.decision(), AccessDecision::Denied);
    assert_eq!(denied.reasons.len(), 2, "{denied:?}");
    assert!(
        denied.reasons[1].starts_with("agent fixer: denied"),
        "{denied:?}"
    );
    let expired = Asked {
        expire_time: Some(prost_types::Timestamp {
            seconds: 9,
            nanos: 0,
        }),
        ..asked("eve", &["admin"])
    };
    let denied = explain(&mut client, request(expired, APPEND))
        .await
        .unwrap();
    assert_eq!(denied.decision(), AccessDecision::Denied);
    assert_eq!(denied.reasons[1], "denied: the credential has expired");
}

#[tokio::test]
async fn parts_of_a_project_are_named() {
    let site = Site::new(Backend::Sqlite);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let grant = proto::CreateGrantRequest {
        resource: Some(proto::GrantResource {
            project: "shop".into(),
            artifact_type: "test".into(),
            author: String::new(),
        }),
        ..reads("bob", "shop")
    };
    told(by(&admin("acme"), client.create_grant(grant)).await).unwrap();
    let whole = explain(&mut client, request(asked("bob", &[]), APPEND))
        .await
        .unwrap();
    assert_eq!(
        whole.decision(),
        AccessDecision::Denied,
        "parts are not the whole"
    );
    let makes_do = |method: &&Method| method.access.as_ref().is_some_and(|access| access.parts);
    let partial: Vec<_> = methods::all()
        .map(|(_, method)| method)
        .filter(makes_do)
        .collect();
    for method in partial {
        let partly = request(asked("bob", &[]), &method.name);
        let partly = explain(&mut client, partly).await.unwrap();
        assert_eq!(
            partly.decision(),
            AccessDecision::PartlyAllowed,
            "{partly:?}"
        );
        assert_eq!(
            (partly.artifact_types, partly.authors.len()),
            (vec!["test".to_owned()], 0)
        );
    }
}

#[tokio::test]
async fn oneself_services_and_what_is_unknown() {
    let site = Site::new(Backend::Sqlite);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let myself = proto::ExplainAccessRequest {
        method: APPEND.into(),
        ..Default::default()
    };
    let answer = explain(&mut client, myself.clone()).await.unwrap();
    let me = answer.principal.clone().unwrap();
    assert_eq!(
        (answer.decision(), me.tenant.as_str()),
        (AccessDecision::Allowed, "acme")
    );
    let find = request(asked("bob", &["admin"]), "AccessService/FindKey");
    let denied = explain(&mut client, find).await.unwrap();
    assert_eq!(
        (denied.decision(), denied.right()),
        (AccessDecision::Denied, Right::Service)
    );
    for (method, code, reason) in [
        ("JournalService/Nothing", Code::NotFound, "METHOD_NOT_FOUND"),
        ("", Code::NotFound, "METHOD_NOT_FOUND"),
    ] {
        let failure = explain(&mut client, request(asked("bob", &[]), method))
            .await
            .unwrap_err();
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            (code, reason),
            "{method}"
        );
    }
    for (field, wrong) in [
        (
            "principal.tenant",
            Asked {
                tenant: "other".into(),
                ..asked("bob", &[])
            },
        ),
        ("principal.subject", asked("", &[])),
        (
            "principal.kind",
            Asked {
                kind: 0,
                ..asked("bob", &[])
            },
        ),
        (
            "principal.credential",
            Asked {
                credential: "c".repeat(257),
                ..asked("bob", &[])
            },
        ),
    ] {
        let failure = explain(&mut client, request(wrong, APPEND))
            .await
            .unwrap_err();
        assert_eq!(fields(&failure), [field]);
    }
    let unnamed = told(client.explain_access(myself).await).unwrap_err();
    assert_eq!(fields(&unnamed), ["principal"]);
}

/// Lets members do what members may, and nobody anything else.
#[derive(Debug)]
struct MembersOnly;

#[async_trait]
impl Authorize for MembersOnly {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        Err(Failure::new(Code::Unauthenticated, "CREDENTIALS_MISSING"))
    }

    async fn decide(
        &self,
        _: &Arc<Principal>,
        action: Action,
        _: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        let answer = match action.right {
            Own::Member => Ok(View::Whole),
            _ => Err(Failure::new(Code::PermissionDenied, "ACCESS_DENIED")),
        };
        Ok(Decision {
            answer,
            because: Default::default(),
        })
    }
}

#[tokio::test]
async fn a_member_asks_about_themselves_only() {
    let site = Site::new(Backend::Sqlite);
    let running = Running::start(&site, Options::default()).await;
    let routes = Routes::new(running.policies.access_service()).prepare();
    let layered = Layered::new(routes, Limits::default(), Metrics::new());
    let channel = Channel::in_process(layered.authorized(Arc::new(MembersOnly)));
    let mut client = AccessServiceClient::new(channel);
    let bob = Principal {
        roles: Default::default(),
        ..admin("acme")
    };
    let myself = proto::ExplainAccessRequest {
        method: APPEND.into(),
        ..Default::default()
    };
    let own = told(by(&bob, client.explain_access(myself.clone())).await).unwrap();
    assert_eq!(own.decision(), AccessDecision::Denied);
    // The same, said in full.
    let in_full = proto::ExplainAccessRequest {
        principal: own.principal,
        ..myself
    };
    told(by(&bob, client.explain_access(in_full)).await).unwrap();
    let failure = told(
        by(
            &bob,
            client.explain_access(request(asked("eve", &[]), APPEND)),
        )
        .await,
    );
    let failure = failure.unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::PermissionDenied, "ACCESS_DENIED")
    );
    let failure = told(by(&bob, client.create_key(agent("a"))).await).unwrap_err();
    assert_eq!(failure.code, Code::PermissionDenied);
}
