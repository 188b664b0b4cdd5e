//! Where limits come from, and who grants what is shared.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use commonplace_proto::policy as proto;
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_rpc::{Channel, Code, Failure, context};
use commonplace_types::{Invalid, TenantName};

use crate::convert::limits_from_proto;
use crate::rules::Limits;

/// How long the policy service may take; a caller may wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// The limits of a tenant, and what tells whether they are still these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Changes whenever the limits do.
    pub etag: String,
    /// What they say.
    pub limits: Limits,
}

/// What a gateway asks for, of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Whose bucket.
    pub tenant: TenantName,
    /// Which of the tenant's.
    pub bucket: String,
    /// Tokens that it gains in a second.
    pub per_second: u64,
    /// Tokens that it holds at most.
    pub burst: u64,
    /// Granted before and not taken.
    pub returned: u64,
    /// How many are wanted.
    pub wanted: u64,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// For each ask, in order.
    pub tokens: Vec<u64>,
    /// Gateways that asked lately; at least 1.
    pub gateways: u32,
}

/// Keeps limits, and grants tokens of shared buckets.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// A tenant's limits; nothing if they still have the etag.
    async fn limits(&self, tenant: &TenantName, known: &str) -> Result<Option<Fetched>, Failure>;

    /// Grants tokens to a gateway.
    async fn lease(&self, gateway: &str, asks: Vec<LeaseAsk>) -> Result<Granted, Failure>;
}

/// The policy service.
#[derive(Debug, Clone)]
pub struct PolicySource {
    channel: Channel,
}

impl PolicySource {
    /// Over a channel that calls in a service's own name.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn client(&self) -> LimitsServiceClient<Channel> {
        LimitsServiceClient::new(self.channel.clone())
    }

    /// Every gateway asks the same replica about a bucket: that is who knows what the others took.
    fn keeper(&self) -> Channel {
        match self.channel.endpoints().first() {
            Some(first) => self.channel.to(first),
            None => self.channel.clone(),
        }
    }
}

#[async_trait]
impl Source for PolicySource {
    async fn limits(&self, tenant: &TenantName, known: &str) -> Result<Option<Fetched>, Failure> {
        let request = proto::GetLimitsRequest {
            known_etag: known.to_owned(),
        };
        let call = async { self.client().get_limits(request).await };
        let answer = context::own_call(tenant, PATIENCE, call).await?;
        let Some(limits) = answer.limits else {
            return Ok(None);
        };
        Ok(Some(Fetched {
            etag: answer.etag,
            limits: limits_from_proto(limits).map_err(damaged)?,
        }))
    }

    async fn lease(&self, gateway: &str, asks: Vec<LeaseAsk>) -> Result<Granted, Failure> {
        let ask = |ask: LeaseAsk| proto::LeaseAsk {
            tenant: ask.tenant.to_string(),
            bucket: ask.bucket,
            per_second: ask.per_second,
            burst: ask.burst,
            returned: ask.returned,
            wanted: ask.wanted,
        };
        let request = proto::LeaseTokensRequest {
            gateway: gateway.to_owned(),
            asks: asks.into_iter().map(ask).collect(),
        };
        let mut client = LimitsServiceClient::new(self.keeper());
        let call = async { client.lease_tokens(request).await };
        let answer = context::own_call(&TenantName::default_tenant(), PATIENCE, call).await?;
        Ok(Granted {
            tokens: answer.granted,
            gateways: answer.gateways.max(1),
        })
    }
}

fn damaged(invalid: Invalid) -> Failure {
    Failure::new(Code::Internal, "LIMITS_DAMAGED").message(format!(
        "the policy service sent limits that cannot be read: {invalid}"
    ))
}
