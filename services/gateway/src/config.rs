//! Settings of the gateway.

use serde::{Deserialize, Serialize};

/// What the gateway lets in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Web origins that browsers may call from, for example `https://console.example`. Empty: none.
    pub allowed_origins: Vec<String>,
    /// Largest JSON body in bytes.
    pub max_json_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            max_json_bytes: 32 << 20,
        }
    }
}
