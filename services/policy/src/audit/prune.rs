//! What was kept long enough goes, from the beginning of the chain on.

use std::time::Duration;

use super::{AuditError, Log};

/// How often it is looked for.
const PERIOD: Duration = Duration::from_secs(3_600);

/// Prunes now and then, until the task is ended.
pub(super) async fn now_and_then(log: Log) {
    loop {
        match log.prune().await {
            Ok(0) => {}
            Ok(pruned) => {
                tracing::info!(pruned, "audit records were kept long enough and are gone")
            }
            Err(error) => tracing::warn!(%error, "audit records cannot be pruned"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

impl Log {
    /// Removes the records that were kept long enough, of every tenant, up to the first that was not. Gives how
    /// many.
    pub(crate) async fn prune(&self) -> Result<u64, AuditError> {
        let Some(keep) = self.keep else {
            return Ok(0);
        };
        let oldest = self.clock.now().minus(keep);
        let mut pruned = 0;
        for tenant in self.store.stale(oldest).await? {
            loop {
                let gone = self.store.prune(tenant.clone(), oldest).await?;
                pruned += gone;
                if gone == 0 {
                    break;
                }
            }
        }
        Ok(pruned)
    }
}
