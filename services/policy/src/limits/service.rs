//! The generated server trait: convert, call, convert.

use commonplace_limits::{LeaseAsk, limits_from_proto, limits_to_proto};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::limits_service_server::LimitsService;
use commonplace_rpc::convert::timestamp_to_proto;
use commonplace_rpc::{context, status};
use commonplace_types::{Invalid, TenantName};
use tonic::{Request, Response, Status};

use super::{Keeper, Kept};
use crate::convert::page_size;

/// Longest name of a gateway or a bucket in bytes.
const NAME_BYTES: usize = 512;

/// Answers the calls of `LimitsService`.
#[derive(Clone)]
pub struct Service {
    pub(crate) keeper: Keeper,
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait::async_trait]
impl LimitsService for Service {
    async fn get_limits(
        &self,
        request: Request<proto::GetLimitsRequest>,
    ) -> Answer<proto::GetLimitsResponse> {
        let known = request.into_inner().known_etag;
        let holding = self.keeper.get(&context::tenant()).await.map_err(status)?;
        let changed = holding.etag != known;
        Ok(Response::new(proto::GetLimitsResponse {
            limits: changed.then(|| limits_to_proto(&holding.limits)),
            own: holding.updated.is_some(),
            update_time: holding.updated.map(timestamp_to_proto),
            etag: holding.etag,
        }))
    }

    async fn put_limits(
        &self,
        request: Request<proto::PutLimitsRequest>,
    ) -> Answer<proto::PutLimitsResponse> {
        let request = request.into_inner();
        let limits = request.limits.map(limits_from_proto).transpose();
        let limits = limits
            .map_err(|invalid| invalid.under("limits"))
            .map_err(status)?;
        let expected = Some(request.expected_etag).filter(|etag| !etag.is_empty());
        let put = self.keeper.put(context::tenant(), limits, expected).await;
        let etag = put.map_err(status)?;
        Ok(Response::new(proto::PutLimitsResponse { etag }))
    }

    async fn list_limits(
        &self,
        request: Request<proto::ListLimitsRequest>,
    ) -> Answer<proto::ListLimitsResponse> {
        let request = request.into_inner();
        let count = page_size(request.page_size).map_err(status)?;
        let after = after(request.page_token).map_err(status)?;
        let mut page = self.keeper.list(&after, count + 1).await.map_err(status)?;
        let more = page.len() > count;
        page.truncate(count);
        let last = page.last().filter(|_| more);
        let next_page_token = last.map(|kept| kept.tenant.to_string());
        Ok(Response::new(proto::ListLimitsResponse {
            tenants: page.iter().map(tenant_limits).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn lease_tokens(
        &self,
        request: Request<proto::LeaseTokensRequest>,
    ) -> Answer<proto::LeaseTokensResponse> {
        let request = request.into_inner();
        check_name("gateway", &request.gateway).map_err(status)?;
        let asks = request.asks.into_iter().enumerate().map(|(place, ask)| {
            lease_ask(ask).map_err(|invalid| invalid.under(&format!("asks[{place}]")))
        });
        let asks: Vec<LeaseAsk> = asks.collect::<Result<_, _>>().map_err(status)?;
        let leased = self.keeper.lease(&request.gateway, &asks);
        let (granted, gateways) = leased.map_err(status)?;
        Ok(Response::new(proto::LeaseTokensResponse {
            granted,
            gateways,
        }))
    }
}

fn after(token: String) -> Result<String, Invalid> {
    if token.is_empty() {
        return Ok(token);
    }
    let tenant = TenantName::new(token);
    let tenant =
        tenant.map_err(|_| Invalid::new("page_token", "expected a token of an earlier answer"))?;
    Ok(tenant.to_string())
}

fn tenant_limits(kept: &Kept) -> proto::TenantLimits {
    proto::TenantLimits {
        tenant: kept.tenant.to_string(),
        limits: Some(limits_to_proto(&kept.limits)),
        update_time: Some(timestamp_to_proto(kept.updated)),
    }
}

fn lease_ask(ask: proto::LeaseAsk) -> Result<LeaseAsk, Invalid> {
    check_name("bucket", &ask.bucket)?;
    Ok(LeaseAsk {
        tenant: TenantName::new(ask.tenant)?,
        bucket: ask.bucket,
        per_second: ask.per_second,
        burst: ask.burst,
        returned: ask.returned,
        wanted: ask.wanted,
    })
}

fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    match (1..=NAME_BYTES).contains(&name.len()) {
        true => Ok(()),
        false => Err(Invalid::new(
            field,
            format!("expected 1 to {NAME_BYTES} bytes"),
        )),
    }
}
