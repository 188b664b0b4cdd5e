//! Settings of the gateway.

use serde::{Deserialize, Serialize};

/// What the gateway lets in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Web origins that browsers may call from, for example `https://console.example`; `*`: any. Empty: none,
    /// so that no web page can call.
    pub allowed_origins: Vec<String>,
    /// Host names that callers may use for a server that listens on a loopback address, besides `localhost`
    /// and the loopback addresses themselves; without port. `*`: any. A server that listens on other addresses
    /// takes any name.
    pub allowed_hosts: Vec<String>,
    /// Connections at the same time; more are told to come back, and closed. `com serve` lowers it to three
    /// quarters of the files that the process may have open.
    pub max_connections: usize,
    /// Calls of one cost (cheap, usual, expensive) that wait at most while as many run as can be served in time.
    pub waiting_calls: usize,
    /// Milliseconds that a call waits at most to be let in; then it is refused.
    pub max_wait_ms: u64,
    /// Messages of gRPC answers from so many bytes on are compressed for callers that name gzip or zstd; 0: never.
    pub compress_from_bytes: usize,
    /// Largest JSON body in bytes.
    pub max_json_bytes: usize,
    /// Bytes of all JSON bodies together that are being read or served; more are refused for the moment.
    pub max_json_bytes_in_flight: usize,
    /// Bytes beyond 64 KiB each of all calls' messages together that are being read or served, half of them of one
    /// caller; more are refused for the moment. What they take in memory is a small multiple. At least 130 MiB.
    pub max_message_bytes_in_flight: usize,
    /// Seconds that a call may take, body included, when its caller sets no `grpc-timeout`.
    pub timeout_seconds: u64,
    /// Seconds that a body may take to arrive, whatever deadline its caller set.
    pub body_seconds: u64,
    /// Least bytes that must arrive of a body in every ten seconds.
    pub min_body_bytes_per_ten_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            max_connections: 10_000,
            waiting_calls: 256,
            max_wait_ms: 2_000,
            compress_from_bytes: 16 << 10,
            max_json_bytes: 32 << 20,
            max_json_bytes_in_flight: 128 << 20,
            max_message_bytes_in_flight: 512 << 20,
            timeout_seconds: 60,
            body_seconds: 60,
            min_body_bytes_per_ten_seconds: 1_024,
        }
    }
}
