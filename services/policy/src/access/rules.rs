//! Grants and authorization policies: what a tenant adds to the shipped rules.

use commonplace_access::decide::{self, Complaint, Grant, Grantee, Policy, Resource};
use commonplace_types::{Digest, Invalid, Principal, ProjectName, Right, TenantName, Timestamp};

use super::{AccessError, Keeper, Page, within};

/// Longest source of a policy in bytes.
const SOURCE_BYTES: usize = 64 << 10;
/// Longest source of all policies of a tenant: every process reads them after each change.
const ALL_SOURCES_BYTES: usize = 1 << 20;
/// Longest id of a policy.
const ID_BYTES: usize = 64;
/// What ids of grants begin with; ids of policies must not.
const GRANT_PREFIX: &str = "gr_";
/// A put starts over this often when the tenant's rules changed in between.
const ATTEMPTS: usize = 16;

/// A grant as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptGrant {
    pub(crate) grant: Grant,
    /// Who made it; empty: nobody who is known.
    pub(crate) author: String,
    pub(crate) created: Timestamp,
}

/// A policy as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptPolicy {
    pub(crate) policy: Policy,
    pub(crate) updated: Timestamp,
}

/// All rules of a tenant as of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRules {
    pub(crate) revision: u64,
    /// By id.
    pub(crate) policies: Vec<KeptPolicy>,
    /// By id.
    pub(crate) grants: Vec<KeptGrant>,
}

/// The id of a grant: `gr_` and 32 hex digits of what it says.
fn grant_id(grantee: &Grantee, right: Right, resource: &Resource) -> String {
    let (kind, name) = grantee_words(grantee);
    let (project, artifact_type, author) = resource_words(resource);
    let said = serde_json::json!([kind, name, right.as_str(), project, artifact_type, author]);
    let digest = Digest::of(&[said.to_string().as_bytes()]).to_string();
    format!("{GRANT_PREFIX}{}", &digest[..32])
}

/// What kind of grantee, and its name.
pub(super) fn grantee_words(grantee: &Grantee) -> (&'static str, &str) {
    match grantee {
        Grantee::Subject(kind, subject) => (kind.as_str(), subject.as_str()),
        Grantee::Role(role) => ("role", role),
    }
}

/// Project, artifact type and author of events.
pub(super) fn resource_words(resource: &Resource) -> (Option<&str>, Option<&str>, Option<&str>) {
    match resource {
        Resource::Tenant => (None, None, None),
        Resource::Project(project) => (Some(project.as_str()), None, None),
        Resource::ArtifactType(project, name) => {
            (Some(project.as_str()), Some(name.as_str()), None)
        }
        Resource::Author(project, name) => (Some(project.as_str()), None, Some(name)),
    }
}

fn project_of(resource: &Resource) -> Option<&ProjectName> {
    match resource {
        Resource::Tenant => None,
        Resource::Project(project)
        | Resource::ArtifactType(project, _)
        | Resource::Author(project, _) => Some(project),
    }
}

/// Checks what the types leave open. Error: names the field.
fn check_grant(grantee: &Grantee, resource: &Resource) -> Result<(), Invalid> {
    if let Grantee::Role(role) = grantee {
        let named = Principal {
            roles: [role.clone()].into(),
            ..Principal::developer()
        };
        let wrong = |invalid: Invalid| Invalid::new("grantee.role", invalid.problem);
        named.checked().map_err(wrong)?;
    }
    match resource {
        Resource::Author(_, name) if name.chars().any(char::is_control) => {
            let problem = "expected no control characters";
            Err(Invalid::new("resource.author", problem))
        }
        _ => Ok(()),
    }
}

fn check_policy(id: &str, source: &str) -> Result<(), Invalid> {
    check_policy_id(id)?;
    if source.len() > SOURCE_BYTES {
        let problem = format!(
            "expected at most {SOURCE_BYTES} bytes, found {}",
            source.len()
        );
        return Err(Invalid::new("source", problem));
    }
    if let Some(at) = source.find('\0') {
        let problem = format!("expected no NUL character, found one at byte {at}");
        return Err(Invalid::new("source", problem));
    }
    Ok(())
}

fn check_policy_id(id: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !(1..=ID_BYTES).contains(&id.len()) || !id.bytes().all(allowed) {
        let problem = format!("expected 1 to {ID_BYTES} of a-z, 0-9 and `_`");
        return Err(Invalid::new("id", problem));
    }
    if id.starts_with(GRANT_PREFIX) {
        let problem =
            format!("expected another beginning than `{GRANT_PREFIX}`, which grants have");
        return Err(Invalid::new("id", problem));
    }
    if decide::shipped().any(|(shipped, _)| shipped == id) {
        let problem = format!("`{id}` is shipped with the program and stays as it is");
        return Err(Invalid::new("id", problem));
    }
    Ok(())
}

impl Keeper {
    /// All rules of a tenant, unless they are those of a known revision.
    pub(crate) async fn rules(
        &self,
        tenant: &TenantName,
        known: u64,
    ) -> Result<Option<TenantRules>, AccessError> {
        if self.store.revision(tenant).await? == known {
            return Ok(None);
        }
        self.store.rules(tenant.clone()).await.map(Some)
    }

    /// Grants a right; the same grant is there once.
    ///
    /// Errors: [`AccessError::Invalid`], [`AccessError::Exceeds`], [`AccessError::TooMany`].
    pub(crate) async fn create_grant(
        &self,
        tenant: &TenantName,
        giver: Option<&Principal>,
        grantee: Grantee,
        right: Right,
        resource: Resource,
    ) -> Result<KeptGrant, AccessError> {
        check_grant(&grantee, &resource)?;
        within::right(giver, right, project_of(&resource))?;
        let kept = KeptGrant {
            author: giver.map_or_else(String::new, |giver| giver.subject.to_string()),
            created: self.surroundings.clock.now(),
            grant: Grant {
                id: grant_id(&grantee, right, &resource),
                grantee,
                right,
                resource,
            },
        };
        let most = self.options().max_grants;
        self.store.add_grant(tenant.clone(), kept, most).await
    }

    /// Takes a grant back. Error: [`AccessError::UnknownGrant`].
    pub(crate) async fn delete_grant(
        &self,
        tenant: &TenantName,
        id: String,
    ) -> Result<(), AccessError> {
        match self.store.delete_grant(tenant.clone(), id.clone()).await? {
            true => Ok(()),
            false => Err(AccessError::UnknownGrant(id)),
        }
    }

    /// The grants of a tenant whose ids come after one, by id.
    pub(crate) async fn list_grants(
        &self,
        tenant: &TenantName,
        after: &str,
        count: usize,
    ) -> Result<Page<KeptGrant>, AccessError> {
        let grants = self.store.grants(tenant, after, count + 1).await?;
        Ok(Page::of(grants, count))
    }

    /// The policies of a tenant's own, by id.
    pub(crate) async fn policies(
        &self,
        tenant: &TenantName,
    ) -> Result<Vec<KeptPolicy>, AccessError> {
        self.store.policies(tenant).await
    }

    /// Checks a policy and, unless `only_check`, keeps it in place of the
    /// one of its id. The same source again changes nothing.
    ///
    /// Errors: [`AccessError::Invalid`], [`AccessError::Refused`], [`AccessError::TooMany`]; nothing is kept.
    pub(crate) async fn put_policy(
        &self,
        tenant: &TenantName,
        id: String,
        source: String,
        only_check: bool,
    ) -> Result<KeptPolicy, AccessError> {
        check_policy(&id, &source)?;
        let put = KeptPolicy {
            policy: Policy { id, source },
            updated: self.surroundings.clock.now(),
        };
        // Each policy is checked by itself, against the schema: what the others say is nothing to it.
        check_alone(put.policy.clone()).await?;
        for _ in 0..ATTEMPTS {
            let known = self.store.rules(tenant.clone()).await?;
            let before = known
                .policies
                .iter()
                .find(|kept| kept.policy.id == put.policy.id);
            if let Some(same) = before.filter(|kept| kept.policy.source == put.policy.source) {
                return Ok(same.clone());
            }
            let revision = known.revision;
            self.check_room(&known.policies, &put.policy)?;
            if only_check
                || self
                    .store
                    .put_policy(tenant.clone(), put.clone(), revision)
                    .await?
            {
                return Ok(put);
            }
        }
        Err(AccessError::Contended)
    }

    /// Checks that a policy may stand beside the tenant's others. Error: too many, or too long together.
    fn check_room(&self, kept: &[KeptPolicy], put: &Policy) -> Result<(), AccessError> {
        let others = kept.iter().map(|kept| &kept.policy);
        let others = others.filter(|other| other.id != put.id);
        let most = self.options().max_access_policies;
        if others.clone().count() >= most {
            let what = "authorization policies";
            return Err(AccessError::TooMany { what, most });
        }
        let bytes: usize = others.chain([put]).map(|policy| policy.source.len()).sum();
        if bytes > ALL_SOURCES_BYTES {
            let problem = format!(
                "expected at most {ALL_SOURCES_BYTES} bytes in all policies of a tenant, found {bytes}"
            );
            return Err(Invalid::new("source", problem).into());
        }
        Ok(())
    }

    /// Removes a policy. Errors: [`AccessError::UnknownPolicy`], [`AccessError::Invalid`] for a shipped one.
    pub(crate) async fn delete_policy(
        &self,
        tenant: &TenantName,
        id: String,
    ) -> Result<(), AccessError> {
        check_policy_id(&id)?;
        match self.store.delete_policy(tenant.clone(), id.clone()).await? {
            true => Ok(()),
            false => Err(AccessError::UnknownPolicy(id)),
        }
    }
}

/// Parsing and checking takes a processor for a while, so not one that answers calls.
async fn check_alone(policy: Policy) -> Result<(), AccessError> {
    let checked = tokio::task::spawn_blocking(move || decide::check(&[policy])).await;
    let refused = |complaints: Vec<Complaint>| AccessError::Refused(complaints);
    checked
        .map_err(|_| AccessError::Interrupted)?
        .map_err(refused)
}

#[cfg(test)]
mod tests {
    use commonplace_types::{ArtifactType, PrincipalKind, Subject};

    use super::*;

    #[test]
    fn the_id_of_a_grant_is_what_it_says() {
        let shop = ProjectName::new("shop").unwrap();
        let alice = Grantee::Subject(PrincipalKind::User, Subject::new("alice").unwrap());
        let agent = Grantee::Subject(PrincipalKind::Agent, Subject::new("alice").unwrap());
        let kind = ArtifactType::new("test").unwrap();
        let all = [
            grant_id(&alice, Right::Read, &Resource::Tenant),
            grant_id(&alice, Right::Write, &Resource::Tenant),
            grant_id(&agent, Right::Read, &Resource::Tenant),
            grant_id(
                &Grantee::Role("alice".into()),
                Right::Read,
                &Resource::Tenant,
            ),
            grant_id(&alice, Right::Read, &Resource::Project(shop.clone())),
            grant_id(
                &alice,
                Right::Read,
                &Resource::ArtifactType(shop.clone(), kind),
            ),
            grant_id(&alice, Right::Read, &Resource::Author(shop, "test".into())),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        // Ids are kept and told: they never change.
        assert_eq!(all[0], "gr_fe0760612aaa66a5511895a2edaf4e79");
    }

    #[test]
    fn ids_of_policies_are_their_tenants_own() {
        for wrong in ["", "No", "a-b", "gr_1", "role_admin", &"a".repeat(65)] {
            assert_eq!(check_policy_id(wrong).unwrap_err().field, "id", "{wrong}");
        }
        assert!(check_policy_id(&"a".repeat(64)).is_ok());
    }
}
