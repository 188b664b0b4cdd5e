//! Buckets that several gateways share.
//!
//! The policy service keeps each bucket and grants tokens out of it; a gateway asks for what it expects to need until
//! it asks again, gives back what it did not need, and asks sooner when a bucket runs out. A call waits for that only
//! where its bucket has just come into use or grew busier, for a moment.
//!
//! What is let in within any span is at most: the burst, what the span brings, and for each gateway an advance (a
//! tenth of the burst, at least one token) and one message that is larger than that. Where the service cannot be
//! reached, a gateway grants itself the share that it would have if all that were there last asked for the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_types::TenantName;
use tokio::task::JoinHandle;

use crate::buckets::Ask;
use crate::limiter::{Inner, Limiter};
use crate::source::{Granted, LeaseAsk, Source};

/// How often tokens are asked for.
const PERIOD: Duration = Duration::from_millis(200);
/// Not more often than this, however fast they run out.
const PAUSE: Duration = Duration::from_millis(20);
/// Most asks in a call.
const ASKS: usize = 1_000;

/// Asks for tokens, until it is dropped.
#[derive(Debug)]
pub struct Sharing {
    asking: JoinHandle<()>,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl Limiter {
    /// Where several gateways count together. `gateway`: names this one, unlike any other. Must be called within a
    /// tokio runtime.
    pub fn shared(source: Arc<dyn Source>, refresh: Duration, gateway: String) -> (Self, Sharing) {
        let limiter = Self::new(source, refresh, true);
        let inner = limiter.inner.clone();
        let asking = tokio::spawn(async move {
            let mut share = Share {
                inner,
                gateway,
                gateways: 1,
                last: Instant::now(),
            };
            loop {
                let _ = tokio::time::timeout(PERIOD, share.inner.low.notified()).await;
                share.round().await;
                share.inner.rounds.send_modify(|rounds| *rounds += 1);
                tokio::time::sleep(PAUSE).await;
            }
        });
        (limiter, Sharing { asking })
    }
}

struct Share {
    inner: Arc<Inner>,
    gateway: String,
    /// How many there were when it was last told.
    gateways: u32,
    last: Instant,
}

impl Share {
    async fn round(&mut self) {
        let mut asks: Vec<(TenantName, Ask)> = Vec::new();
        for (name, tenant) in self.inner.tenants() {
            let of_tenant = tenant.buckets().asks();
            asks.extend(of_tenant.into_iter().map(|ask| (name.clone(), ask)));
        }
        let elapsed = self.last.elapsed();
        self.last = Instant::now();
        for asks in asks.chunks(ASKS) {
            let lease = asks.iter().map(|(tenant, ask)| LeaseAsk {
                tenant: tenant.clone(),
                bucket: ask.key.text(),
                per_second: ask.size.per_second as u64,
                burst: ask.size.burst as u64,
                returned: ask.returned as u64,
                wanted: ask.wanted as u64,
            });
            match self
                .inner
                .source
                .lease(&self.gateway, lease.collect())
                .await
            {
                Ok(granted) => self.take_in(asks, &granted),
                Err(failure) => {
                    tracing::debug!(
                        problem = failure.message,
                        "going on with a share of our own"
                    );
                    self.go_on_alone(asks, elapsed);
                }
            }
        }
    }

    fn take_in(&mut self, asks: &[(TenantName, Ask)], granted: &Granted) {
        self.gateways = granted.gateways;
        for ((tenant, ask), tokens) in asks.iter().zip(&granted.tokens) {
            self.inner.grant(tenant, ask, *tokens as f64);
        }
    }

    fn go_on_alone(&self, asks: &[(TenantName, Ask)], elapsed: Duration) {
        for (tenant, ask) in asks {
            let gained = ask.size.per_second * elapsed.as_secs_f64() / f64::from(self.gateways);
            self.inner.grant(tenant, ask, gained.min(ask.wanted));
        }
    }
}

impl Inner {
    fn grant(&self, name: &TenantName, ask: &Ask, tokens: f64) {
        if let Some(tenant) = self.known_tenant(name) {
            tenant.buckets().grant(ask, tokens);
        }
    }
}
