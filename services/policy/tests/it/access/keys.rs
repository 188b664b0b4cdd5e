//! Keys: made, found, rotated, revoked, listed; bounded, and each tenant's own.

use std::time::Duration;

use commonplace_access::credential::key::ShownKey;
use commonplace_policy::Options;
use commonplace_proto::common::{PrincipalKind, Scopes};
use commonplace_proto::policy as proto;
use commonplace_rpc::Code;
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::{Digest, Principal};

use super::common::*;

each_backend!(
    a_key_is_told_once_and_kept_as_its_hash,
    what_is_wrong_is_refused_by_its_field,
    a_key_of_another_tenant_is_a_key_that_is_not_there,
    nobody_makes_a_key_that_does_more_than_their_own,
    as_many_keys_as_allowed_and_ended_ones_make_room,
    uses_are_kept_to_the_minute_and_never_go_back,
    keys_are_listed_page_by_page,
    keys_made_at_the_same_time_stay_within_the_bound,
);

fn shown(secret: &str) -> (String, Vec<u8>) {
    let shown = ShownKey::parse(secret).expect("a key");
    let (_, text) = secret.rsplit_once('_').unwrap();
    let hash = Digest::of(&[text.as_bytes()]);
    (shown.id.to_string(), hash.as_bytes().to_vec())
}

async fn find(
    client: &mut Client,
    id: &str,
) -> Result<proto::FindKeyResponse, commonplace_rpc::Failure> {
    told(
        client
            .find_key(proto::FindKeyRequest { id: id.into() })
            .await,
    )
}

async fn a_key_is_told_once_and_kept_as_its_hash(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let request = proto::CreateKeyRequest {
        description: "for the shop's CI".into(),
        scopes: Some(Scopes {
            scopes: vec!["write:shop".into(), "read".into()],
        }),
        ..agent("ci")
    };
    let made = by(&admin("acme"), client.create_key(request)).await;
    let made = told(made).unwrap();
    let key = made.key.unwrap();
    let (id, hash) = shown(&made.secret);
    assert_eq!(id, key.id);
    assert_eq!(
        (key.kind(), key.subject.as_str()),
        (PrincipalKind::Agent, "ci")
    );
    assert_eq!(key.roles, ["reader", "writer"]);
    assert_eq!(key.scopes.as_ref().unwrap().scopes, ["read", "write:shop"]);
    assert_eq!(key.author, "developer");
    let life =
        key.expire_time.as_ref().unwrap().seconds - key.create_time.as_ref().unwrap().seconds;
    assert_eq!(life, 90 * 86_400);
    let found = find(&mut client, &id).await.unwrap();
    assert_eq!(
        (found.tenant.as_str(), found.key.unwrap()),
        ("acme", key.clone())
    );
    assert_eq!(found.secret_hashes, [hash]);

    // The same after a restart.
    running.policies.shutdown().await.unwrap();
    let running = Running::start(&site, Options::default()).await;
    assert_eq!(
        find(&mut running.client(), &id).await.unwrap().key.unwrap(),
        key
    );
    let missing = find(&mut running.client(), "aaaaaaaaaaaaaaa7")
        .await
        .unwrap_err();
    assert_eq!(
        (missing.code, missing.reason.as_str()),
        (Code::NotFound, "KEY_NOT_FOUND")
    );
}

async fn what_is_wrong_is_refused_by_its_field(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let scopes = |scope: &str| {
        Some(Scopes {
            scopes: vec!["read".into(), scope.into()],
        })
    };
    let cases: Vec<(&str, proto::CreateKeyRequest)> = vec![
        ("subject", agent("")),
        ("subject", agent("a\nb")),
        ("subject", agent(&"a".repeat(257))),
        (
            "kind",
            proto::CreateKeyRequest {
                kind: PrincipalKind::Service.into(),
                ..agent("a")
            },
        ),
        (
            "roles",
            proto::CreateKeyRequest {
                roles: vec!["a b".into()],
                ..agent("a")
            },
        ),
        (
            "roles",
            proto::CreateKeyRequest {
                roles: (0..33).map(|n| n.to_string()).collect(),
                ..agent("a")
            },
        ),
        (
            "scopes[1]",
            proto::CreateKeyRequest {
                scopes: scopes("delete"),
                ..agent("a")
            },
        ),
        (
            "scopes[1]",
            proto::CreateKeyRequest {
                scopes: scopes("read:NO"),
                ..agent("a")
            },
        ),
        (
            "description",
            proto::CreateKeyRequest {
                description: "d".repeat(257),
                ..agent("a")
            },
        ),
        (
            "description",
            proto::CreateKeyRequest {
                description: "a\0b".into(),
                ..agent("a")
            },
        ),
        (
            "lifetime",
            proto::CreateKeyRequest {
                lifetime: seconds(0),
                ..agent("a")
            },
        ),
        (
            "lifetime",
            proto::CreateKeyRequest {
                lifetime: seconds(-1),
                ..agent("a")
            },
        ),
        (
            "lifetime",
            proto::CreateKeyRequest {
                lifetime: seconds(3_651 * 86_400),
                ..agent("a")
            },
        ),
        (
            "lifetime",
            proto::CreateKeyRequest {
                lifetime: seconds(i64::MAX),
                ..agent("a")
            },
        ),
    ];
    for (field, request) in cases {
        let failure =
            told(by(&admin("acme"), client.create_key(request.clone())).await).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{request:?}");
        assert_eq!(fields(&failure), [field], "{request:?}");
    }
    let made = told(by(&admin("acme"), client.create_key(agent("a"))).await).unwrap();
    let id = made.key.unwrap().id;
    let rotate = |id: &str, overlap, lifetime| proto::RotateKeyRequest {
        id: id.into(),
        overlap,
        lifetime,
    };
    for (field, request) in [
        ("id", rotate("no", None, None)),
        ("overlap", rotate(&id, seconds(31 * 86_400), None)),
        ("overlap", rotate(&id, seconds(-1), None)),
        ("lifetime", rotate(&id, None, seconds(0))),
    ] {
        let failure = told(by(&admin("acme"), client.rotate_key(request)).await).unwrap_err();
        assert_eq!(fields(&failure), [field]);
    }
    let list = |page_size, page_token: String| proto::ListKeysRequest {
        page_size,
        page_token,
    };
    let other_list = hex::encode("grants/1/gr_a");
    for (field, request) in [
        ("page_size", list(-1, String::new())),
        ("page_token", list(0, "zz".into())),
        ("page_token", list(0, hex::encode("keys/2/a"))),
        ("page_token", list(0, other_list)),
    ] {
        let failure = told(by(&admin("acme"), client.list_keys(request)).await).unwrap_err();
        assert_eq!(fields(&failure), [field]);
    }
    let uses = vec![proto::KeyUse::default(); 1_001];
    let failure = told(
        client
            .record_key_uses(proto::RecordKeyUsesRequest { uses })
            .await,
    );
    assert_eq!(fields(&failure.unwrap_err()), ["uses[0].time"]);
}

async fn a_key_of_another_tenant_is_a_key_that_is_not_there(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let made = told(by(&admin("acme"), client.create_key(agent("a"))).await).unwrap();
    let theirs = made.key.unwrap().id;
    let nowhere = "zzzzzzzzzzzzzzzz".to_owned();
    let other = admin("other");
    let mut failures = Vec::new();
    for id in [&theirs, &nowhere] {
        let rotate = proto::RotateKeyRequest {
            id: id.clone(),
            ..Default::default()
        };
        let rotated = told(by(&other, client.rotate_key(rotate)).await).map(drop);
        let revoke = proto::RevokeKeyRequest { id: id.clone() };
        let revoked = told(by(&other, client.revoke_key(revoke)).await).map(drop);
        let texts = [rotated, revoked].map(|answer| {
            let failure = answer.unwrap_err();
            assert_eq!(failure.reason, "KEY_NOT_FOUND");
            failure.message.replace(id.as_str(), "ID")
        });
        failures.push(texts);
    }
    assert_eq!(
        failures[0], failures[1],
        "nothing tells whether it is there"
    );
    let listed = told(by(&other, client.list_keys(proto::ListKeysRequest::default())).await);
    assert!(listed.unwrap().keys.is_empty());
    let found = find(&mut client, &theirs).await.unwrap();
    assert_eq!(
        (found.secret_hashes.len(), found.key.unwrap().revoke_time),
        (1, None)
    );
    // A use that is told of another tenant is none of this key.
    let used = proto::KeyUse {
        tenant: "other".into(),
        id: theirs.clone(),
        time: Some(prost_types::Timestamp {
            seconds: 9,
            nanos: 0,
        }),
    };
    let uses = proto::RecordKeyUsesRequest { uses: vec![used] };
    told(client.record_key_uses(uses).await).unwrap();
    assert_eq!(
        find(&mut client, &theirs)
            .await
            .unwrap()
            .key
            .unwrap()
            .last_use_time,
        None
    );
}

async fn nobody_makes_a_key_that_does_more_than_their_own(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let narrow = Principal {
        scopes: Some(["admin:shop".parse().unwrap()].into()),
        ..admin("acme")
    };
    let with = |scopes: Option<&str>| proto::CreateKeyRequest {
        scopes: scopes.map(|scope| Scopes {
            scopes: vec![scope.into()],
        }),
        ..agent("a")
    };
    for scopes in [None, Some("read"), Some("write:other")] {
        let failure = told(by(&narrow, client.create_key(with(scopes))).await).unwrap_err();
        assert_eq!(
            (failure.code, failure.reason.as_str(), fields(&failure)),
            (Code::PermissionDenied, "SCOPE_EXCEEDED", vec!["scopes"]),
            "{scopes:?}"
        );
    }
    told(by(&narrow, client.create_key(with(Some("write:shop")))).await).unwrap();
    // A new secret is what the key is good for, too.
    let wide = told(by(&admin("acme"), client.create_key(with(None))).await).unwrap();
    let rotate = proto::RotateKeyRequest {
        id: wide.key.unwrap().id,
        ..Default::default()
    };
    let failure = told(by(&narrow, client.rotate_key(rotate)).await).unwrap_err();
    assert_eq!(failure.reason, "SCOPE_EXCEEDED");
}

async fn as_many_keys_as_allowed_and_ended_ones_make_room(backend: Backend) {
    let site = Site::new(backend);
    let two = Options {
        max_keys: 2,
        ..Options::default()
    };
    let running = Running::start(&site, two).await;
    let mut client = running.client();
    let acme = admin("acme");
    let first = told(by(&acme, client.create_key(agent("a"))).await).unwrap();
    told(by(&acme, client.create_key(agent("b"))).await).unwrap();
    let failure = told(by(&acme, client.create_key(agent("c"))).await).unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::ResourceExhausted, "ACCESS_LIMIT")
    );
    told(by(&admin("other"), client.create_key(agent("a"))).await).unwrap();
    let id = first.key.unwrap().id;
    let revoke = proto::RevokeKeyRequest { id: id.clone() };
    told(by(&acme, client.revoke_key(revoke)).await).unwrap();
    assert!(
        find(&mut client, &id).await.is_ok(),
        "kept while there is room"
    );
    told(by(&acme, client.create_key(agent("c"))).await).unwrap();
    let listed = told(by(&acme, client.list_keys(proto::ListKeysRequest::default())).await);
    let subjects: Vec<_> = listed
        .unwrap()
        .keys
        .into_iter()
        .map(|key| key.subject)
        .collect();
    assert_eq!(subjects.len(), 2);
    assert!(!subjects.contains(&"a".to_owned()), "{subjects:?}");
}

async fn uses_are_kept_to_the_minute_and_never_go_back(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let made = told(by(&admin("acme"), client.create_key(agent("a"))).await).unwrap();
    let key = made.key.unwrap();
    let now = key.create_time.as_ref().unwrap().seconds;
    running.clock.advance(Duration::from_secs(600));
    for (at, kept) in [
        (now + 65, now + 60),
        (now + 5, now + 60),
        (now + 600, now + 600),
        // Of a machine whose clock is ahead.
        (now + 90_000, now + 600),
    ] {
        let used = proto::KeyUse {
            tenant: "acme".into(),
            id: key.id.clone(),
            time: Some(prost_types::Timestamp {
                seconds: at,
                nanos: 0,
            }),
        };
        let unknown = proto::KeyUse {
            id: "zzzzzzzzzzzzzzzz".into(),
            ..used.clone()
        };
        let uses = vec![unknown, used];
        told(
            client
                .record_key_uses(proto::RecordKeyUsesRequest { uses })
                .await,
        )
        .unwrap();
        let found = find(&mut client, &key.id).await.unwrap().key.unwrap();
        let minute = kept - kept % 60;
        assert_eq!(found.last_use_time.unwrap().seconds, minute, "at {at}");
    }
}

async fn keys_are_listed_page_by_page(backend: Backend) {
    let site = Site::new(backend);
    let running = Running::start(&site, Options::default()).await;
    let mut client = running.client();
    let acme = admin("acme");
    let mut made = Vec::new();
    for number in 0..7 {
        let answer = by(&acme, client.create_key(agent(&format!("agent {number}")))).await;
        made.push(told(answer).unwrap().key.unwrap());
    }
    made.sort_by(|a, b| a.id.cmp(&b.id));
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListKeysRequest {
            page_size: 3,
            page_token,
        };
        let page = told(by(&acme, client.list_keys(request)).await).unwrap();
        assert!(page.keys.len() <= 3);
        listed.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, made);
}

async fn keys_made_at_the_same_time_stay_within_the_bound(backend: Backend) {
    let site = Site::new(backend);
    let five = Options {
        max_keys: 5,
        ..Options::default()
    };
    let running = Running::start(&site, five).await;
    let calls = (0..12).map(|number| {
        let mut client = running.client();
        tokio::spawn(async move {
            let request = agent(&format!("agent {number}"));
            told(by(&admin("acme"), client.create_key(request)).await).is_ok()
        })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        made += usize::from(call.await.unwrap());
    }
    assert_eq!(made, 5);
}
