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
    /// Keys a tenant may have; where there are as many, a new one takes the place of the one that was revoked
    /// or expired longest ago. 1 to 1,000,000.
    pub max_keys: usize,
    /// Grants a tenant may have; 1 to 100,000.
    pub max_grants: usize,
    /// Authorization policies a tenant may have besides the shipped ones, 1 MiB together; 1 to 1,000.
    pub max_access_policies: usize,
    /// Limits of tenants without any of their own (`com limits put`): `rates` of `per`, `name`, `methods`, `unit`,
    /// `per_second` and `burst`, and `quotas` of `per`, `name`, `unit` and `most`, as docs/limits.md says. None by
    /// default.
    pub limits: commonplace_limits::Limits,
    /// Days for which audit records are kept, at most 36,500; 0: for good.
    pub audit_keep_days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_policies: 1_000,
            refresh_ms: 250,
            max_keys: 10_000,
            max_grants: 10_000,
            max_access_policies: 100,
            limits: commonplace_limits::Limits::default(),
            audit_keep_days: 365,
        }
    }
}
