use serde::{Deserialize, Serialize};

/// Settings of the retrieval service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Packs kept in memory for repeated requests; 1 to 1,000,000.
    pub cached_packs: usize,
    /// Bytes of passages' texts kept in memory for further packs; 0 keeps none.
    pub cached_text_bytes: usize,
    /// Packs waiting to be written to disk; when as many wait, requests wait too. 1 to 100,000.
    pub write_queue: usize,
    /// How long a pack may wait for others to be written with, in milliseconds; 0 to 1,000.
    pub write_delay_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cached_packs: 256,
            cached_text_bytes: 16 << 20,
            write_queue: 256,
            write_delay_ms: 20,
        }
    }
}
