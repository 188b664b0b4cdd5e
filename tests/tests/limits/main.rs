//! How much callers may do: overload, rates, quotas, with real processes and real ports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

// Not all of what the tests about access need is needed here.
#[allow(dead_code)]
#[path = "../access/common.rs"]
mod common;
mod overload;
mod quotas;
mod rates;
mod shared;

use commonplace_limits::{Limits, limits_to_proto};
use commonplace_proto::policy::PutLimitsRequest;
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_rpc::{Channel, context};
use commonplace_types::TenantName;

/// Puts limits of a tenant, over a channel in an operator's name.
async fn put(policy: &Channel, tenant: &str, limits: &str) {
    let limits: Limits = serde_json::from_str(limits).unwrap();
    let request = PutLimitsRequest {
        limits: Some(limits_to_proto(&limits)),
        ..Default::default()
    };
    let mut client = LimitsServiceClient::new(policy.clone());
    let call = async { client.put_limits(request).await.unwrap() };
    context::for_tenant(TenantName::new(tenant).unwrap(), call).await;
}
