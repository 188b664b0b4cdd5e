//! Following what other processes write to the same database.

use std::sync::Weak;
use std::time::Duration;

use super::Inner;
use crate::error::PolicyError;

/// Looks for changes until the catalog is gone. `seen`: the counter that memory stands for.
pub(super) async fn follow(catalog: Weak<Inner>, mut seen: u64) {
    let mut away = false;
    loop {
        let Some(delay) = catalog.upgrade().map(|inner| inner.options.refresh_ms) else {
            return;
        };
        tokio::time::sleep(Duration::from_millis(delay.clamp(10, 60_000))).await;
        let Some(inner) = catalog.upgrade() else {
            return;
        };
        match look(&inner, seen).await {
            Ok(now) => (seen, away) = (now, false),
            Err(error) if !away => {
                away = true;
                tracing::warn!(%error, "policies of other processes cannot be seen; these may be old");
            }
            Err(_) => {}
        }
    }
}

async fn look(inner: &Inner, seen: u64) -> Result<u64, PolicyError> {
    // The counter first: what is written after it is seen the next time.
    let now = inner.store.changes().await?.unwrap_or(seen);
    if now != seen {
        inner.refresh_all().await?;
    }
    Ok(now)
}
