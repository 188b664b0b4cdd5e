//! A stream outlasts neither the credential nor the grant that it began by.

use std::time::{Duration, Instant};

use commonplace_proto::common::Right;
use commonplace_proto::journal::TailRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::{
    DeleteGrantRequest, GrantResource, ListGrantsRequest, RevokeKeyRequest,
};
use commonplace_rpc::{Channel, Failure, context};
use commonplace_types::TenantName;
use tokio::task::JoinHandle;

use super::common::{House, Person, REFRESH_MS};

/// What a machine under load may add to the stated delay.
const SLACK: Duration = Duration::from_millis(100);

/// Follows a project until that ends: how many messages came, when the last did, and how it ended.
fn follow(channel: Channel) -> JoinHandle<(usize, Instant, Failure)> {
    tokio::spawn(async move {
        let request = TailRequest {
            project: "vault".into(),
            cursor: String::new(),
        };
        let mut tail = JournalServiceClient::new(channel)
            .tail(request)
            .await
            .unwrap()
            .into_inner();
        let (mut count, mut last) = (0, Instant::now());
        loop {
            match tail.message().await {
                Ok(Some(_)) => (count, last) = (count + 1, Instant::now()),
                Ok(None) => panic!("a tail has no end"),
                Err(status) => return (count, last, Failure::from_status(&status)),
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_caller_may_no_longer_call() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let resource = GrantResource {
        project: "vault".into(),
        ..GrantResource::default()
    };
    house.grant("acme", "granted", Right::Read, resource).await;
    let person = |name, roles| Person {
        name,
        roles,
        scopes: None,
    };
    let (id, revoked) = house.key("acme", &person("revoked", &["reader"])).await;
    let (_, granted) = house.key("acme", &person("granted", &[])).await;
    let (_, kept) = house.key("acme", &person("kept", &["reader"])).await;
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
    let [by_key, by_grant, kept] =
        [revoked, granted, kept].map(|key| follow(house.channel(Some(&key))));
    // Something is written all the time.
    let steadily = async |from: usize, count: usize| {
        for number in from..from + count {
            house
                .write("acme", "vault", "note", &format!("nugget {number}"))
                .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    steadily(0, 15).await;
    assert!(!by_key.is_finished() && !by_grant.is_finished());

    let acme = || TenantName::new("acme").unwrap();
    let mut access = AccessServiceClient::new(house.operator.policy.clone());
    let call = access.revoke_key(RevokeKeyRequest { id });
    context::for_tenant(acme(), call).await.unwrap();
    let call = access.list_grants(ListGrantsRequest::default());
    let grants = context::for_tenant(acme(), call)
        .await
        .unwrap()
        .into_inner();
    let request = DeleteGrantRequest {
        id: grants.grants[0].id.clone(),
    };
    let call = access.delete_grant(request);
    context::for_tenant(acme(), call).await.unwrap();
    let taken_back = Instant::now();
    steadily(15, 30).await;
    for (stream, reason) in [(by_key, "CREDENTIALS_INVALID"), (by_grant, "ACCESS_DENIED")] {
        let ended = tokio::time::timeout(Duration::from_secs(10), stream).await;
        let (count, last, failure) = ended.expect("the stream ends").unwrap();
        assert_eq!(failure.reason, reason);
        assert!(count > 10, "{count}");
        let honoured = last.saturating_duration_since(taken_back);
        let stated = Duration::from_millis(REFRESH_MS);
        assert!(
            honoured <= stated + SLACK,
            "{reason}: honoured for {honoured:?}"
        );
    }
    assert!(!kept.is_finished());
    kept.abort();
    house.close().await;
}
