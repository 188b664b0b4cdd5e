//! Where calls go: one channel to each service.

use commonplace_rpc::Channel;

use crate::Role;

/// A channel to each service, of this process or of others.
#[derive(Debug, Clone)]
pub struct Channels {
    /// To ingest.
    pub ingest: Channel,
    /// To the journal.
    pub journal: Channel,
    /// To the index.
    pub index: Channel,
    /// To the policy service.
    pub policy: Channel,
    /// To retrieval.
    pub retrieval: Channel,
    /// To the gateway's own service.
    pub gateway: Channel,
    /// To what the process tells about itself.
    pub telemetry: Channel,
}

impl Channels {
    /// All services behind one address.
    pub fn all(channel: Channel) -> Self {
        Self {
            ingest: channel.clone(),
            journal: channel.clone(),
            index: channel.clone(),
            policy: channel.clone(),
            retrieval: channel.clone(),
            gateway: channel.clone(),
            telemetry: channel,
        }
    }

    /// The same channels for a service or for whoever holds the data folder: calls that are made for nobody are
    /// made in that name.
    pub fn in_name_of(&self, name: &str) -> Self {
        Self {
            ingest: self.ingest.in_name_of(name),
            journal: self.journal.in_name_of(name),
            index: self.index.in_name_of(name),
            policy: self.policy.in_name_of(name),
            retrieval: self.retrieval.in_name_of(name),
            gateway: self.gateway.in_name_of(name),
            telemetry: self.telemetry.in_name_of(name),
        }
    }

    /// The channel to a role.
    pub fn to(&self, role: Role) -> &Channel {
        match role {
            Role::Ingest => &self.ingest,
            Role::Journal => &self.journal,
            Role::Index => &self.index,
            Role::Policy => &self.policy,
            Role::Retrieval => &self.retrieval,
            Role::Gateway => &self.gateway,
        }
    }
}
