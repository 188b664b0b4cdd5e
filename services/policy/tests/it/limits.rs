//! Limits as their callers see them, on both backends: through the generated client.

use std::sync::Arc;

use commonplace_limits::{Limits, Per, Quota, Unit, limits_to_proto};
use commonplace_policy::{Options, Policies};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_rpc::{Channel, Code, Failure, context};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::{ManualClock, TenantName, Timestamp};
use tonic::service::Routes;

each_backend!(limits_are_kept_for_each_tenant_and_guarded);

type Client = LimitsServiceClient<Channel>;

async fn start(site: &Site) -> (Policies, Client) {
    let clock = Arc::new(ManualClock::new(Timestamp::MIN));
    let options = Options {
        limits: limits(7),
        ..Options::default()
    };
    let policies = commonplace_policy::start(options, site.place("policy"), clock)
        .await
        .unwrap();
    let channel = Channel::in_process(Routes::new(policies.limits_service()).prepare());
    (policies, LimitsServiceClient::new(channel))
}

fn limits(most: u64) -> Limits {
    Limits {
        quotas: vec![Quota {
            per: Per::Project,
            name: String::new(),
            unit: Unit::Events,
            most,
        }],
        ..Limits::default()
    }
}

async fn for_tenant<T>(
    tenant: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    let tenant = TenantName::new(tenant).unwrap();
    let answer = context::for_tenant(tenant, call).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::from_status(&status))
}

async fn get(client: &mut Client, tenant: &str, known: &str) -> proto::GetLimitsResponse {
    let request = proto::GetLimitsRequest {
        known_etag: known.into(),
    };
    for_tenant(tenant, client.get_limits(request))
        .await
        .unwrap()
}

async fn put(
    client: &mut Client,
    tenant: &str,
    limits: Option<Limits>,
    expected: &str,
) -> Result<String, Failure> {
    let request = proto::PutLimitsRequest {
        limits: limits.as_ref().map(limits_to_proto),
        expected_etag: expected.into(),
    };
    let put = for_tenant(tenant, client.put_limits(request)).await;
    put.map(|answer| answer.etag)
}

async fn limits_are_kept_for_each_tenant_and_guarded(backend: Backend) {
    let site = Site::new(backend);
    let (policies, mut client) = start(&site).await;
    let usual = get(&mut client, "acme", "").await;
    assert!(!usual.own);
    assert_eq!(usual.limits.unwrap(), limits_to_proto(&limits(7)));
    let same = get(&mut client, "acme", &usual.etag).await;
    assert_eq!(same.limits, None, "known already");

    let etag = put(&mut client, "acme", Some(limits(9)), &usual.etag)
        .await
        .unwrap();
    let own = get(&mut client, "acme", &usual.etag).await;
    assert!(own.own && own.etag == etag);
    assert_eq!(own.limits.unwrap(), limits_to_proto(&limits(9)));
    assert_eq!(get(&mut client, "rival", "").await.etag, usual.etag);

    let stale = put(&mut client, "acme", Some(limits(10)), &usual.etag).await;
    let stale = stale.unwrap_err();
    assert_eq!(
        (stale.code, stale.reason.as_str()),
        (Code::Aborted, "LIMITS_CHANGED")
    );
    assert_eq!(stale.metadata["etag"], etag);
    let mut wrong = limits(1);
    wrong.quotas[0].per = Per::Principal;
    let wrong = put(&mut client, "acme", Some(wrong), "").await.unwrap_err();
    assert_eq!(wrong.fields[0].field, "limits.quotas[0].per");

    put(&mut client, "rival", Some(limits(3)), "")
        .await
        .unwrap();
    let mut listed = Vec::new();
    let mut request = proto::ListLimitsRequest {
        page_size: 1,
        ..Default::default()
    };
    loop {
        let page = for_tenant("default", client.list_limits(request.clone())).await;
        let page = page.unwrap();
        listed.extend(page.tenants.into_iter().map(|tenant| tenant.tenant));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed, ["acme", "rival"]);
    policies.shutdown().await.unwrap();

    let (policies, mut client) = start(&site).await;
    assert_eq!(get(&mut client, "acme", "").await.etag, etag, "kept");
    assert_eq!(
        put(&mut client, "acme", None, "").await.unwrap(),
        usual.etag
    );
    assert!(!get(&mut client, "acme", "").await.own);
    policies.shutdown().await.unwrap();
}
