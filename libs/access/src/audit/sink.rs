//! Delivers what a process recorded to the policy service.

use std::time::Duration;

use async_trait::async_trait;
use commonplace_proto::policy as proto;
use commonplace_proto::policy::audit_service_client::AuditServiceClient;
use commonplace_rpc::audit::{Entry, Sink};
use commonplace_rpc::{Channel, Failure, context};
use commonplace_types::TenantName;

use super::convert::entry_to_proto;

/// How long one delivery may take; what is not known to be kept by then is delivered again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The policy service, which keeps the log.
#[derive(Debug, Clone)]
pub struct PolicySink {
    channel: Channel,
}

impl PolicySink {
    /// Over a channel that calls in a service's own name.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }
}

#[async_trait]
impl Sink for PolicySink {
    async fn keep(&self, entries: Vec<Entry>) -> Result<(), Failure> {
        let records = entries.iter().map(entry_to_proto).collect();
        let mut client = AuditServiceClient::new(self.channel.clone());
        let call = async {
            client
                .record_calls(proto::RecordCallsRequest { records })
                .await
        };
        context::own_call(&TenantName::default_tenant(), PATIENCE, call).await?;
        Ok(())
    }
}
