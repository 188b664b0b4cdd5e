use serde::{Deserialize, Serialize};

/// Settings of the policy service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Policies a tenant may have besides the shipped ones; 1 to 100,000.
    pub max_policies: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_policies: 1_000,
        }
    }
}
