//! Keys, grants and policies as messages, and the page tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use commonplace_access::credential::key::KeyId;
use commonplace_access::decide::{Grantee, Policy, Resource, shipped};
use commonplace_proto::common;
use commonplace_proto::policy as proto;
use commonplace_rpc::View;
use commonplace_rpc::convert::{timestamp_from_proto, timestamp_to_proto};
use commonplace_rpc::principal as principals;
use commonplace_types::{
    AccessScope, Invalid, Principal, PrincipalKind, Right, Subject, TenantName,
};

use super::explain::Explanation;
use super::keys::{Key, KeySpec, KeyUse};
use super::rules::{KeptGrant, KeptPolicy};

/// Longest word about how a principal was proved.
const CREDENTIAL_BYTES: usize = 256;

/// A token that goes on after an id. `list`: what is listed.
pub(super) fn token_after(list: &str, id: &str) -> String {
    hex::encode(format!("{list}/1/{id}"))
}

/// Reads a token; an absent one begins. Error: it is not one of [`token_after`] for this list.
pub(super) fn token(list: &str, text: &str) -> Result<String, Invalid> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let wrong = || Invalid::new("page_token", "expected a token of an earlier answer");
    let bytes = hex::decode(text).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let id = text
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix("/1/"));
    let fits = |id: &&str| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
    id.filter(fits).map(str::to_owned).ok_or_else(wrong)
}

/// Reads what a key is to be. Error: names the field.
pub(super) fn key_spec(request: proto::CreateKeyRequest) -> Result<KeySpec, Invalid> {
    let kind = match request.kind() {
        common::PrincipalKind::Unspecified | common::PrincipalKind::Agent => PrincipalKind::Agent,
        common::PrincipalKind::User => PrincipalKind::User,
        common::PrincipalKind::Service => {
            let problem = "expected a user or an agent; services show certificates";
            return Err(Invalid::new("kind", problem));
        }
    };
    Ok(KeySpec {
        kind,
        description: request.description,
        subject: Subject::new(request.subject)?,
        roles: request.roles.into_iter().collect(),
        scopes: request.scopes.map(scopes).transpose()?,
        lifetime: span("lifetime", request.lifetime)?,
    })
}

fn scopes(scopes: common::Scopes) -> Result<BTreeSet<AccessScope>, Invalid> {
    let read = scopes.scopes.iter().enumerate().map(|(place, scope)| {
        let wrong = |invalid: Invalid| Invalid::new(format!("scopes[{place}]"), invalid.problem);
        scope.parse().map_err(wrong)
    });
    read.collect()
}

/// Reads a span of the named field. Error: negative, or not a span.
pub(super) fn span(
    field: &str,
    span: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Invalid> {
    span.map(|span| {
        Duration::try_from(span).map_err(|_| Invalid::new(field, "expected a time span from 0"))
    })
    .transpose()
}

/// Reads a key's id.
pub(super) fn key_id(text: String) -> Result<KeyId, Invalid> {
    KeyId::new(text)
}

/// Writes a key, without its hashes.
pub(super) fn key(key: &Key) -> proto::Key {
    let scopes = key.scopes.as_ref().map(|scopes| common::Scopes {
        scopes: scopes.iter().map(ToString::to_string).collect(),
    });
    proto::Key {
        id: key.id.to_string(),
        description: key.description.clone(),
        kind: principals::kind_to_proto(key.kind).into(),
        subject: key.subject.to_string(),
        roles: key.roles.iter().cloned().collect(),
        scopes,
        create_time: Some(timestamp_to_proto(key.created)),
        expire_time: Some(timestamp_to_proto(key.expires)),
        revoke_time: key.revoked.map(timestamp_to_proto),
        last_use_time: key.last_used.map(timestamp_to_proto),
        overlap_end_time: key.previous.map(|(_, end)| timestamp_to_proto(end)),
        author: key.author.clone(),
    }
}

/// Reads uses of keys. Error: names the field.
pub(super) fn key_uses(uses: Vec<proto::KeyUse>) -> Result<Vec<KeyUse>, Invalid> {
    let read = uses.into_iter().enumerate().map(|(place, used)| {
        let under = |invalid: Invalid| invalid.under(&format!("uses[{place}]"));
        let time = used
            .time
            .as_ref()
            .ok_or_else(|| under(Invalid::new("time", "expected a time")))?;
        Ok(KeyUse {
            tenant: TenantName::new(used.tenant).map_err(under)?,
            id: KeyId::new(used.id).map_err(under)?,
            time: timestamp_from_proto(time, "time").map_err(under)?,
        })
    });
    read.collect()
}

/// Reads a grant's id. Error: it is none.
pub(super) fn grant_id(text: String) -> Result<String, Invalid> {
    let digits = text.strip_prefix("gr_").unwrap_or_default();
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() == 32 && digits.bytes().all(hex) {
        return Ok(text);
    }
    let problem = "expected a grant's id: gr_ and 32 hex digits";
    Err(Invalid::new("id", problem))
}

/// Writes a grant.
pub(super) fn grant(kept: &KeptGrant) -> proto::Grant {
    use proto::grantee::Who;
    let who = match &kept.grant.grantee {
        Grantee::Subject(PrincipalKind::User, subject) => Who::User(subject.to_string()),
        Grantee::Subject(_, subject) => Who::Agent(subject.to_string()),
        Grantee::Role(role) => Who::Role(role.clone()),
    };
    proto::Grant {
        id: kept.grant.id.clone(),
        grantee: Some(proto::Grantee { who: Some(who) }),
        right: right(Some(kept.grant.right)).into(),
        resource: Some(resource(&kept.grant.resource)),
        create_time: Some(timestamp_to_proto(kept.created)),
        author: kept.author.clone(),
    }
}

fn resource(resource: &Resource) -> proto::GrantResource {
    let (project, artifact_type, author) = super::rules::resource_words(resource);
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    proto::GrantResource {
        project: text(project),
        artifact_type: text(artifact_type),
        author: text(author),
    }
}

/// Writes a right; none is that of services.
fn right(right: Option<Right>) -> common::Right {
    match right {
        Some(Right::Member) => common::Right::Member,
        Some(Right::Read) => common::Right::Read,
        Some(Right::Write) => common::Right::Write,
        Some(Right::Admin) => common::Right::Admin,
        None => common::Right::Service,
    }
}

/// Writes a policy of a tenant's own.
pub(super) fn policy(kept: &KeptPolicy) -> proto::AccessPolicy {
    let Policy { id, source } = kept.policy.clone();
    proto::AccessPolicy {
        id,
        source,
        builtin: false,
        update_time: Some(timestamp_to_proto(kept.updated)),
    }
}

/// Writes the shipped policies and templates, in their order.
pub(super) fn shipped_policies() -> impl Iterator<Item = proto::AccessPolicy> {
    shipped().map(|(id, source)| proto::AccessPolicy {
        id: id.to_owned(),
        source: source.to_owned(),
        builtin: true,
        update_time: None,
    })
}

/// Reads whom to explain a call of: of the caller's tenant, whether it is named or not. Error: names the field.
pub(super) fn asked_about(
    mut asked: common::Principal,
    tenant: &TenantName,
) -> Result<Principal, Invalid> {
    let under = |invalid: Invalid| invalid.under("principal");
    if asked.tenant.is_empty() {
        asked.tenant = tenant.to_string();
    }
    if asked.tenant != tenant.as_str() {
        return Err(under(Invalid::new("tenant", "expected your own")));
    }
    if asked.credential.len() > CREDENTIAL_BYTES {
        let problem = format!("expected at most {CREDENTIAL_BYTES} bytes");
        return Err(under(Invalid::new("credential", problem)));
    }
    principals::from_proto(asked).map_err(under)
}

/// Writes an explanation.
pub(super) fn explanation(
    explained: Explanation,
    principal: &Principal,
) -> proto::ExplainAccessResponse {
    use proto::AccessDecision;
    let (decision, parts) = match &explained.view {
        None => (AccessDecision::Denied, None),
        Some(View::Whole) => (AccessDecision::Allowed, None),
        Some(View::Parts(parts)) => (AccessDecision::PartlyAllowed, Some(parts)),
    };
    let artifact_types = parts.iter().flat_map(|parts| &parts.artifact_types);
    let authors = parts.iter().flat_map(|parts| &parts.authors);
    proto::ExplainAccessResponse {
        decision: decision.into(),
        artifact_types: artifact_types.map(ToString::to_string).collect(),
        authors: authors.cloned().collect(),
        reasons: explained.reasons,
        policies: explained.policies,
        policy_hash: format!("sha256:{}", explained.rules),
        principal: Some(principals::to_proto(principal)),
        right: right(explained.right).into(),
    }
}
