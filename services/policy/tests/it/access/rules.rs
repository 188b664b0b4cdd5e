//! Grants and authorization policies: what a process fetches, and what is refused before it is kept.

use commonplace_access::decide;
use commonplace_policy::Options;
use commonplace_proto::common::Right;
use commonplace_proto::policy as proto;
use commonplace_proto::policy::grantee::Who;
use commonplace_rpc::Code;
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::Principal;

use super::common::*;

each_backend!(
    every_change_is_a_new_revision_and_nothing_else_is,
    the_same_grant_is_there_once,
    tenants_never_see_each_others_rules,
    wrong_grants_are_refused_by_their_field,
    a_policy_that_does_not_fit_is_refused_with_every_complaint,
    shipped_policies_are_listed_first_and_stay,
    bounds_hold,
    puts_at_the_same_time_are_each_checked_with_the_others,
);

const FORBID: &str = "forbid (principal, action in Action::\"write\", resource is Project) when { resource.name == \"frozen\" };";

async fn access(
    client: &mut Client,
    tenant: &str,
    known_revision: u64,
) -> proto::GetAccessResponse {
    let request = proto::GetAccessRequest { known_revision };
    told(by(&admin(tenant), client.get_access(request)).await).unwrap()
}

async fn every_change_is_a_new_revision_and_nothing_else_is(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let acme = admin("acme");
    let empty = access(&mut client, "acme", 0).await;
    assert_eq!((empty.revision, empty.unchanged), (1, false));
    assert!(access(&mut client, "acme", 1).await.unchanged);

    let grant = told(by(&acme, client.create_grant(reads("bob", "shop"))).await).unwrap();
    let grant = grant.grant.unwrap();
    assert_eq!(grant.author, "developer");
    let now = access(&mut client, "acme", 1).await;
    assert_eq!((now.revision, &now.grants[..]), (2, &[grant.clone()][..]));
    told(by(&acme, client.create_grant(reads("bob", "shop"))).await).unwrap();
    told(by(&acme, client.create_key(agent("a"))).await).unwrap();
    assert!(
        access(&mut client, "acme", 2).await.unchanged,
        "keys are no rules"
    );

    let put = told(by(&acme, client.put_access_policy(policy("frozen", FORBID))).await).unwrap();
    told(by(&acme, client.put_access_policy(policy("frozen", FORBID))).await).unwrap();
    let now = access(&mut client, "acme", 2).await;
    assert_eq!((now.revision, now.policies), (3, vec![put.policy.unwrap()]));
    let delete = proto::DeleteAccessPolicyRequest {
        id: "frozen".into(),
    };
    told(by(&acme, client.delete_access_policy(delete.clone())).await).unwrap();
    let again = told(by(&acme, client.delete_access_policy(delete)).await).unwrap_err();
    assert_eq!(again.reason, "ACCESS_POLICY_NOT_FOUND");
    let delete = proto::DeleteGrantRequest { id: grant.id };
    told(by(&acme, client.delete_grant(delete.clone())).await).unwrap();
    let again = told(by(&acme, client.delete_grant(delete)).await).unwrap_err();
    assert_eq!(
        (again.code, again.reason.as_str()),
        (Code::NotFound, "GRANT_NOT_FOUND")
    );

    running.policies.shutdown().await.unwrap();
    let running = Running::start(&site, Options::default()).await;
    let now = access(&mut running.client(), "acme", 3).await;
    assert_eq!(
        (now.revision, now.grants.len(), now.policies.len()),
        (5, 0, 0)
    );
}

async fn the_same_grant_is_there_once(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let calls = (0..8).map(|_| {
        let mut client = running.client();
        tokio::spawn(async move {
            told(by(&admin("acme"), client.create_grant(reads("bob", "shop"))).await).unwrap()
        })
    });
    let mut grants = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        grants.push(call.await.unwrap().grant.unwrap());
    }
    grants.dedup();
    assert_eq!(grants.len(), 1, "{grants:?}");
    let id = &grants[0].id;
    assert!(id.starts_with("gr_") && id.len() == 35, "{id}");
    assert_eq!(access(&mut running.client(), "acme", 0).await.revision, 2);
}

async fn tenants_never_see_each_others_rules(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let (acme, other) = (admin("acme"), admin("other"));
    let grant = told(by(&acme, client.create_grant(reads("bob", "shop"))).await).unwrap();
    told(by(&acme, client.put_access_policy(policy("frozen", FORBID))).await).unwrap();
    let theirs = access(&mut client, "other", 0).await;
    assert_eq!(
        (theirs.revision, theirs.grants.len(), theirs.policies.len()),
        (1, 0, 0)
    );
    let id = grant.grant.unwrap().id;
    let delete = proto::DeleteGrantRequest { id };
    let failure = told(by(&other, client.delete_grant(delete)).await).unwrap_err();
    assert_eq!(failure.reason, "GRANT_NOT_FOUND");
    let delete = proto::DeleteAccessPolicyRequest {
        id: "frozen".into(),
    };
    let failure = told(by(&other, client.delete_access_policy(delete)).await).unwrap_err();
    assert_eq!(failure.reason, "ACCESS_POLICY_NOT_FOUND");
    let listed = told(
        by(
            &other,
            client.list_grants(proto::ListGrantsRequest::default()),
        )
        .await,
    );
    assert!(listed.unwrap().grants.is_empty());
    let listed = by(
        &other,
        client.list_access_policies(proto::ListAccessPoliciesRequest {}),
    )
    .await;
    assert!(
        told(listed)
            .unwrap()
            .policies
            .iter()
            .all(|policy| policy.builtin)
    );
    let kept = access(&mut client, "acme", 0).await;
    assert_eq!(
        (kept.revision, kept.grants.len(), kept.policies.len()),
        (3, 1, 1)
    );
}

async fn wrong_grants_are_refused_by_their_field(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let good = || reads("bob", "shop");
    let to = |who: Option<Who>| proto::CreateGrantRequest {
        grantee: Some(proto::Grantee { who }),
        ..good()
    };
    let over = |project: &str, artifact_type: &str, author: &str| proto::CreateGrantRequest {
        resource: Some(proto::GrantResource {
            project: project.into(),
            artifact_type: artifact_type.into(),
            author: author.into(),
        }),
        ..good()
    };
    let right = |right: Right| proto::CreateGrantRequest {
        right: right.into(),
        ..good()
    };
    for (field, request) in [
        ("grantee", to(None)),
        ("grantee", to(Some(Who::User(String::new())))),
        ("grantee.role", to(Some(Who::Role(String::new())))),
        ("grantee.role", to(Some(Who::Role("a b".into())))),
        ("right", right(Right::Member)),
        ("right", right(Right::Service)),
        ("right", right(Right::Unspecified)),
        ("resource.project", over("", "test", "")),
        ("resource.project", over("NO", "", "")),
        ("resource.artifact_type", over("shop", "No Type", "")),
        ("resource.author", over("shop", "test", "bob")),
        ("resource.author", over("shop", "", "a\0b")),
        ("resource.author", over("shop", "", &"a".repeat(257))),
    ] {
        let failure = told(by(&admin("acme"), client.create_grant(request.clone())).await);
        let failure = failure.expect_err(&format!("{request:?}"));
        assert_eq!(failure.code, Code::InvalidArgument, "{request:?}");
        assert_eq!(fields(&failure), [field], "{request:?}");
    }
    let delete = proto::DeleteGrantRequest { id: "gr_no".into() };
    let failure = told(by(&admin("acme"), client.delete_grant(delete)).await).unwrap_err();
    assert_eq!(fields(&failure), ["id"]);
    let narrow = Principal {
        scopes: Some(["admin:shop".parse().unwrap()].into()),
        ..admin("acme")
    };
    let failure = told(by(&narrow, client.create_grant(over("other", "", ""))).await).unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::PermissionDenied, "SCOPE_EXCEEDED")
    );
    told(by(&narrow, client.create_grant(good())).await).unwrap();
}

async fn a_policy_that_does_not_fit_is_refused_with_every_complaint(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let acme = admin("acme");
    for source in [
        "",
        "permit (principal, action, resource",
        "permit (principal in ?principal, action, resource);",
        "permit (principal, action in Action::\"delete\", resource);",
        "permit (principal, action, resource) when { resource.colour == \"red\" };",
        "permit (principal, action, resource) when { 1 + \"a\" };",
    ] {
        let failure = told(by(&acme, client.put_access_policy(policy("mine", source))).await);
        let failure = failure.expect_err(source);
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            (Code::InvalidArgument, "ACCESS_POLICY_INVALID"),
            "{source}"
        );
        assert!(
            fields(&failure).iter().all(|field| *field == "source"),
            "{failure:?}"
        );
        assert!(failure.message.contains("mine"), "{failure:?}");
    }
    let two = "permit (principal, action in Action::\"delete\", resource);
        permit (principal, action in Action::\"erase\", resource);";
    let failure = told(by(&acme, client.put_access_policy(policy("mine", two))).await).unwrap_err();
    assert!(failure.fields.len() >= 2, "{failure:?}");
    for (id, source, field) in [
        ("No", FORBID, "id"),
        ("role_admin", FORBID, "id"),
        ("gr_1", FORBID, "id"),
        (
            "mine",
            "permit (principal, action, resource); // \0",
            "source",
        ),
        ("mine", &" ".repeat(65_537), "source"),
    ] {
        let failure = told(by(&acme, client.put_access_policy(policy(id, source))).await);
        assert_eq!(fields(&failure.unwrap_err()), [field]);
    }
    let check = proto::PutAccessPolicyRequest {
        validate_only: true,
        ..policy("mine", FORBID)
    };
    told(by(&acme, client.put_access_policy(check)).await).unwrap();
    assert_eq!(
        access(&mut client, "acme", 0).await.revision,
        1,
        "nothing was kept"
    );
}

async fn shipped_policies_are_listed_first_and_stay(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let acme = admin("acme");
    told(by(&acme, client.put_access_policy(policy("a", FORBID))).await).unwrap();
    let request = proto::ListAccessPoliciesRequest {};
    let listed = told(by(&acme, client.list_access_policies(request)).await).unwrap();
    let shipped: Vec<&str> = decide::shipped().map(|(id, _)| id).collect();
    let ids: Vec<&str> = listed
        .policies
        .iter()
        .map(|policy| policy.id.as_str())
        .collect();
    assert_eq!(ids[..shipped.len()], shipped);
    assert_eq!(ids[shipped.len()..], ["a"]);
    assert_eq!(listed.schema, decide::schema());
    let delete = proto::DeleteAccessPolicyRequest {
        id: "role_admin".into(),
    };
    let failure = told(by(&acme, client.delete_access_policy(delete)).await).unwrap_err();
    assert_eq!(fields(&failure), ["id"]);
}

async fn bounds_hold(backend: Backend) {
    let site = Site::new(backend);
    let one = Options {
        max_grants: 1,
        max_access_policies: 1,
        ..Options::default()
    };
    let running = Running::start(&site, one).await;
    let mut client = running.client();
    let acme = admin("acme");
    told(by(&acme, client.create_grant(reads("bob", "shop"))).await).unwrap();
    told(by(&acme, client.create_grant(reads("bob", "shop"))).await).unwrap();
    let failure = told(by(&acme, client.create_grant(reads("eve", "shop"))).await).unwrap_err();
    assert_eq!(failure.reason, "ACCESS_LIMIT");
    told(by(&acme, client.put_access_policy(policy("a", FORBID))).await).unwrap();
    let changed = format!("{FORBID}\n{FORBID}");
    told(by(&acme, client.put_access_policy(policy("a", &changed))).await).unwrap();
    let failure = told(by(&acme, client.put_access_policy(policy("b", FORBID))).await).unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::ResourceExhausted, "ACCESS_LIMIT")
    );
    told(
        by(
            &admin("other"),
            client.put_access_policy(policy("b", FORBID)),
        )
        .await,
    )
    .unwrap();
}

async fn puts_at_the_same_time_are_each_checked_with_the_others(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let puts = (0..6).map(|number| {
        let mut client = running.client();
        tokio::spawn(async move {
            let put = client.put_access_policy(policy(&format!("p{number}"), FORBID));
            told(by(&admin("acme"), put).await).unwrap();
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    let now = access(&mut running.client(), "acme", 0).await;
    assert_eq!((now.revision, now.policies.len()), (7, 6));
}
