use serde::{Deserialize, Serialize};

/// Settings of the policy service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Policies a tenant may have besides the shipped ones; 1 to 100,000.
    pub max_policies: usize,
    /// Milliseconds between looks at what other processes wrote, where several share a database; so an
    /// active policy may be this old. 10 to 60,000.
    pub refresh_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_policies: 1_000,
            refresh_ms: 250,
        }
    }
}
