//! How remote services are reached, as settings and as the channel takes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Bearer;
use crate::Compression;
use crate::tls::{Tls, Trust};

/// How remote services are reached.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// How long one attempt to connect may take: name, TCP, TLS and the peer's first bytes together.
    pub connect_timeout: Duration,
    /// How often a connection is probed.
    pub keep_alive: Duration,
    /// When a connection that does not answer a probe is given up.
    pub keep_alive_timeout: Duration,
    /// How long a call waits for an endpoint that takes it, within its deadline.
    pub patience: Duration,
    /// How often names are resolved again.
    pub resolve_every: Duration,
    /// The least time between two resolutions of a name, whatever fails.
    pub resolve_spacing: Duration,
    /// Which calls are repeated, and how often.
    pub retry: RetryOptions,
    /// With what messages are compressed, where the peer agrees.
    pub compression: Compression,
    /// Shorter messages go as they are.
    pub compress_from: usize,
    /// Our certificate and whom we trust; this or `trust` is needed for `https` addresses.
    pub tls: Option<Tls>,
    /// Whom we trust where we have no certificate.
    pub trust: Option<Trust>,
    /// The role that the peer's certificate must carry. Without one its name must be the address's host.
    pub peer_role: Option<String>,
    /// A token or key that is shown with every call.
    pub bearer: Option<Bearer>,
    /// An endpoint counts as live only while `grpc.health.v1` says that this service is serving.
    pub health_service: Option<String>,
    /// Seed of the choice between endpoints and of the spread of delays; none takes one at random.
    pub seed: Option<u64>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        TransportOptions::default().remote()
    }
}

/// Which calls are repeated, and how often. Only calls that the contracts mark as safe to repeat are, and
/// those of which it is certain that no server began with them.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// How often a call is sent at most when it may have reached a server before.
    pub attempts: u32,
    /// The first delay is drawn from zero up to this; the bound doubles each time.
    pub first_delay: Duration,
    /// The bound stops to double here.
    pub longest_delay: Duration,
    /// Repeats per call, over all calls of the channel.
    pub budget_ratio: f64,
    /// Repeats per second that are allowed however few calls there are.
    pub budget_floor: f64,
    /// A request over this size is sent once.
    pub buffer_bytes: usize,
}

impl Default for RetryOptions {
    fn default() -> Self {
        TransportOptions::default().remote().retry
    }
}

/// The settings of calls between services.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransportOptions {
    /// Milliseconds that one attempt to connect may take, TLS included.
    pub connect_timeout_ms: u64,
    /// Seconds between two probes of a connection.
    pub keep_alive_seconds: u64,
    /// Seconds after which a connection that does not answer a probe is given up.
    pub keep_alive_timeout_seconds: u64,
    /// Milliseconds that a call waits for an endpoint that takes it, within its deadline: long enough for a
    /// restart of the peer.
    pub patience_ms: u64,
    /// Seconds after which a name is resolved again.
    pub resolve_every_seconds: u64,
    /// The least milliseconds between two resolutions of a name, whatever fails.
    pub resolve_spacing_ms: u64,
    /// How often a call that is safe to repeat is sent at most.
    pub retry_attempts: u32,
    /// Milliseconds up to which the first delay between attempts is drawn; doubles each time.
    pub retry_first_delay_ms: u64,
    /// Milliseconds that a delay between attempts never exceeds, unless the server asks for more.
    pub retry_longest_delay_ms: u64,
    /// Repeats per hundred calls.
    pub retry_budget_percent: u32,
    /// Repeats per second that are allowed however few calls there are.
    pub retry_budget_per_second: u32,
    /// A request over this many bytes is sent once.
    pub retry_buffer_bytes: usize,
    /// With what messages between services are compressed: `none`, `gzip` or `zstd`. Worth its time where bytes
    /// are slow or are paid for, between zones for example.
    pub compression: Compression,
    /// Messages of fewer bytes go as they are.
    pub compress_from_bytes: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            keep_alive_seconds: 30,
            keep_alive_timeout_seconds: 15,
            patience_ms: 10_000,
            resolve_every_seconds: 30,
            resolve_spacing_ms: 1_000,
            retry_attempts: 3,
            retry_first_delay_ms: 20,
            retry_longest_delay_ms: 1_000,
            retry_budget_percent: 20,
            retry_budget_per_second: 10,
            retry_buffer_bytes: 4 << 20,
            compression: Compression::None,
            compress_from_bytes: 4_096,
        }
    }
}

impl TransportOptions {
    /// The settings as a channel takes them; TLS, role and health service are added by the caller.
    pub fn remote(&self) -> RemoteOptions {
        RemoteOptions {
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            keep_alive: Duration::from_secs(self.keep_alive_seconds),
            keep_alive_timeout: Duration::from_secs(self.keep_alive_timeout_seconds),
            patience: Duration::from_millis(self.patience_ms),
            resolve_every: Duration::from_secs(self.resolve_every_seconds),
            resolve_spacing: Duration::from_millis(self.resolve_spacing_ms),
            retry: RetryOptions {
                attempts: self.retry_attempts,
                first_delay: Duration::from_millis(self.retry_first_delay_ms),
                longest_delay: Duration::from_millis(self.retry_longest_delay_ms),
                budget_ratio: f64::from(self.retry_budget_percent) / 100.0,
                budget_floor: f64::from(self.retry_budget_per_second),
                buffer_bytes: self.retry_buffer_bytes,
            },
            compression: self.compression,
            compress_from: self.compress_from_bytes,
            tls: None,
            trust: None,
            peer_role: None,
            bearer: None,
            health_service: None,
            seed: None,
        }
    }
}
