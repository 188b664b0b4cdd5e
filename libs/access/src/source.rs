//! Where keys, grants and policies come from.

use std::fmt;

use async_trait::async_trait;
use commonplace_proto::common;
use commonplace_proto::policy as proto;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_rpc::{Channel, Code, Failure, context, convert, principal};
use commonplace_types::{
    ArtifactType, Digest, Invalid, PrincipalKind, ProjectName, Right, Subject, TenantName,
    Timestamp,
};

use crate::credential::key::{KeyId, KeyRecord};
use crate::decide::{Grant, Grantee, Policy, Resource};

/// What changed of a tenant's rules since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Something: all of it as it is now.
    Now {
        /// From 1; grows with every change.
        revision: u64,
        /// The tenant's own policies, by id.
        policies: Vec<Policy>,
        /// Its grants, by id.
        grants: Vec<Grant>,
    },
}

/// Keeps keys, grants and policies.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// A tenant's rules, if they changed since a revision; 0: at all events.
    async fn rules(&self, tenant: &TenantName, known: u64) -> Result<Change, Failure>;

    /// A key of any tenant, as it is now; nothing if there is none of that id.
    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Failure>;

    /// Tells when keys were last used.
    async fn used(&self, uses: Vec<(TenantName, KeyId, Timestamp)>) -> Result<(), Failure>;
}

/// The policy service.
#[derive(Debug, Clone)]
pub struct PolicySource {
    channel: Channel,
}

impl PolicySource {
    /// Over a channel that calls in a service's own name.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn client(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.channel.clone())
            .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES)
    }
}

/// How long the policy service may take; a caller waits meanwhile.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

#[async_trait]
impl Source for PolicySource {
    async fn rules(&self, tenant: &TenantName, known: u64) -> Result<Change, Failure> {
        let request = proto::GetAccessRequest {
            known_revision: known,
        };
        let call = async { self.client().get_access(request).await };
        let answer = context::own_call(tenant, PATIENCE, call).await?;
        if answer.unchanged {
            return Ok(Change::None);
        }
        let grants = answer.grants.into_iter().map(grant_from_proto);
        let policies = answer.policies.into_iter().map(|policy| Policy {
            id: policy.id,
            source: policy.source,
        });
        Ok(Change::Now {
            revision: answer.revision,
            policies: policies.collect(),
            grants: grants.collect::<Result<_, _>>().map_err(damaged)?,
        })
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
        let request = proto::FindKeyRequest { id: id.to_string() };
        let call = async { self.client().find_key(request).await };
        match context::own_call(&TenantName::default_tenant(), PATIENCE, call).await {
            Ok(found) => Ok(Some(key_from_proto(found).map_err(damaged)?)),
            Err(failure) if failure.code == Code::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn used(&self, uses: Vec<(TenantName, KeyId, Timestamp)>) -> Result<(), Failure> {
        let uses = uses.into_iter().map(|(tenant, id, time)| proto::KeyUse {
            tenant: tenant.to_string(),
            id: id.to_string(),
            time: Some(convert::timestamp_to_proto(time)),
        });
        let request = proto::RecordKeyUsesRequest {
            uses: uses.collect(),
        };
        let call = async { self.client().record_key_uses(request).await };
        context::own_call(&TenantName::default_tenant(), PATIENCE, call).await?;
        Ok(())
    }
}

fn damaged(invalid: Invalid) -> Failure {
    Failure::new(Code::Internal, "ACCESS_DAMAGED").message(format!(
        "the policy service sent what cannot be read: {invalid}"
    ))
}

/// Reads a grant. Error: names the field.
pub fn grant_from_proto(grant: proto::Grant) -> Result<Grant, Invalid> {
    let right = right_from_proto(grant.right())?;
    Ok(Grant {
        grantee: grantee_from_proto(grant.grantee)?,
        right,
        resource: resource_from_proto(grant.resource)?,
        id: grant.id,
    })
}

/// Reads to whom. Error: nobody is named, or with a wrong name.
pub fn grantee_from_proto(grantee: Option<proto::Grantee>) -> Result<Grantee, Invalid> {
    use proto::grantee::Who;
    let under = |invalid: Invalid| Invalid::new("grantee", invalid.problem);
    let subject = |kind, name: String| {
        let subject = Subject::new(name).map_err(under)?;
        Ok(Grantee::Subject(kind, subject))
    };
    match grantee.and_then(|grantee| grantee.who) {
        Some(Who::User(name)) => subject(PrincipalKind::User, name),
        Some(Who::Agent(name)) => subject(PrincipalKind::Agent, name),
        Some(Who::Role(name)) if (1..=64).contains(&name.len()) => Ok(Grantee::Role(name)),
        Some(Who::Role(_)) => Err(Invalid::new("grantee.role", "expected 1 to 64 bytes")),
        None => Err(Invalid::new(
            "grantee",
            "expected a user, an agent or a role",
        )),
    }
}

/// Reads over what. Error: names the field.
pub fn resource_from_proto(resource: Option<proto::GrantResource>) -> Result<Resource, Invalid> {
    let Some(resource) = resource else {
        return Ok(Resource::Tenant);
    };
    let (artifact_type, author) = (resource.artifact_type, resource.author);
    if resource.project.is_empty() {
        if artifact_type.is_empty() && author.is_empty() {
            return Ok(Resource::Tenant);
        }
        let problem = "expected a project, as a type or an author is given";
        return Err(Invalid::new("resource.project", problem));
    }
    let project = ProjectName::new(resource.project).map_err(|error| error.under("resource"))?;
    match (artifact_type.is_empty(), author.is_empty()) {
        (true, true) => Ok(Resource::Project(project)),
        (false, true) => {
            let name = ArtifactType::new(artifact_type);
            let name =
                name.map_err(|error| Invalid::new("resource.artifact_type", error.problem))?;
            Ok(Resource::ArtifactType(project, name))
        }
        (true, false) if author.len() <= 256 => Ok(Resource::Author(project, author)),
        (true, false) => Err(Invalid::new(
            "resource.author",
            "expected at most 256 bytes",
        )),
        (false, false) => {
            let problem = "expected a type or an author, not both";
            Err(Invalid::new("resource.author", problem))
        }
    }
}

/// Reads a right that can be granted. Error: it is none.
pub fn right_from_proto(right: common::Right) -> Result<Right, Invalid> {
    match right {
        common::Right::Read => Ok(Right::Read),
        common::Right::Write => Ok(Right::Write),
        common::Right::Admin => Ok(Right::Admin),
        _ => Err(Invalid::new("right", "expected read, write or admin")),
    }
}

fn key_from_proto(found: proto::FindKeyResponse) -> Result<KeyRecord, Invalid> {
    let key = found.key.unwrap_or_default();
    let principal = common::Principal {
        tenant: found.tenant,
        kind: key.kind,
        subject: key.subject,
        roles: key.roles,
        scopes: key.scopes,
        actors: Vec::new(),
        credential: format!("key:{}", key.id),
        expire_time: key.expire_time,
    };
    let hashes = found
        .secret_hashes
        .iter()
        .map(|hash| Digest::from_slice(hash));
    Ok(KeyRecord {
        principal: principal::from_proto(principal)?,
        secret_hashes: hashes.collect::<Result<_, _>>()?,
    })
}
