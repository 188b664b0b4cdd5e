//! What a principal may do, by Cedar.
//!
//! The schema is made from the contracts: each rpc is an action, in the group of the right that it asks for.
//! The shipped rules keep tenants apart and give the roles `reader`, `writer` and `admin` their meaning; grants
//! are links of shipped templates; a tenant's own policies come on top and may forbid. Decisions are kept while
//! the rules stay the same, as nothing in them depends on the moment.
//!
//! Source: Cedar (cedarpolicy.com); an erroring policy is passed over there, so any error denies here.

mod bounds;
mod rules;
mod schema;
mod snapshot;

use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression,
};
use commonplace_rpc::{Action, View};
use commonplace_types::{Principal, PrincipalKind, ProjectName, Subject, TenantName};

pub use rules::shipped;
pub use schema::schema;
pub use snapshot::{Complaint, Grant, Grantee, Policy, Resource, Rules, Snapshot, check};

/// Whether the shipped rules alone hold for a principal. What services may do is no tenant's to say, and who keeps
/// the rules is asked by services; nor what whoever calls in development mode may do.
pub fn by_shipped_rules_alone(principal: &Principal) -> bool {
    principal.is_service() || *principal == Principal::developer()
}

/// The answer about one principal or actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who was asked about, for example `user alice`.
    pub who: String,
    /// Whether it is allowed over all that was asked about.
    pub allowed: bool,
    /// Ids of the policies and grants that decided, sorted; none: nothing allows it.
    pub policies: Vec<String>,
    /// What could not be evaluated; anything here denies.
    pub errors: Vec<String>,
}

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What is allowed; nothing: denied.
    pub view: Option<View>,
    /// One answer for the principal and each actor, in order.
    pub answers: Vec<Answer>,
}

/// Something in a tenant that actions are done to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target<'a> {
    Tenant,
    Project(&'a ProjectName),
    ArtifactType(&'a ProjectName, &'a str),
    Author(&'a ProjectName, &'a str),
}

/// Names of entity types, as the schema has them.
struct Types {
    tenant: EntityTypeName,
    role: EntityTypeName,
    user: EntityTypeName,
    agent: EntityTypeName,
    service: EntityTypeName,
    project: EntityTypeName,
    artifact_type: EntityTypeName,
    author: EntityTypeName,
    action: EntityTypeName,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |text: &str| match text.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("`{text}` is a constant that is a type's name: {error}"),
    };
    Types {
        tenant: name("Tenant"),
        role: name("Role"),
        user: name("User"),
        agent: name("Agent"),
        service: name("Service"),
        project: name("Project"),
        artifact_type: name("ArtifactType"),
        author: name("Author"),
        action: name("Action"),
    }
});

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn kind_type(kind: PrincipalKind) -> &'static EntityTypeName {
    match kind {
        PrincipalKind::User => &TYPES.user,
        PrincipalKind::Agent => &TYPES.agent,
        PrincipalKind::Service => &TYPES.service,
    }
}

fn subject_uid(tenant: &TenantName, kind: PrincipalKind, subject: &Subject) -> EntityUid {
    uid(kind_type(kind), &format!("{tenant}/{subject}"))
}

impl Target<'_> {
    fn uid(&self, tenant: &TenantName) -> EntityUid {
        match self {
            Self::Tenant => uid(&TYPES.tenant, tenant.as_str()),
            Self::Project(project) => uid(&TYPES.project, &format!("{tenant}/{project}")),
            Self::ArtifactType(project, name) => {
                uid(&TYPES.artifact_type, &format!("{tenant}/{project}/{name}"))
            }
            Self::Author(project, name) => {
                uid(&TYPES.author, &format!("{tenant}/{project}/{name}"))
            }
        }
    }

    fn name<'a>(&'a self, tenant: &'a TenantName) -> &'a str {
        match self {
            Self::Tenant => tenant.as_str(),
            Self::Project(project) => project.as_str(),
            Self::ArtifactType(_, name) | Self::Author(_, name) => name,
        }
    }

    /// What it is in, the nearest first.
    fn around(&self) -> Vec<Target<'_>> {
        match self {
            Self::Tenant => Vec::new(),
            Self::Project(_) => vec![Target::Tenant],
            Self::ArtifactType(project, _) | Self::Author(project, _) => {
                vec![Target::Project(project), Target::Tenant]
            }
        }
    }
}

/// One question to Cedar.
struct Question<'a> {
    tenant: &'a TenantName,
    kind: PrincipalKind,
    subject: &'a Subject,
    /// The roles of the principal; an actor brings none.
    roles: Vec<&'a str>,
    credential: &'a str,
    action: Action,
    target: Target<'a>,
}

impl<'a> Question<'a> {
    /// One about the principal, then one about each actor.
    fn chain(principal: &'a Principal, action: Action, target: &Target<'a>) -> Vec<Self> {
        let of = |kind, subject, roles| Self {
            tenant: &principal.tenant,
            kind,
            subject,
            roles,
            credential: principal.credential.split(':').next().unwrap_or_default(),
            action,
            target: target.clone(),
        };
        let roles = principal.roles.iter().map(String::as_str).collect();
        let mut chain = vec![of(principal.kind, &principal.subject, roles)];
        for actor in &principal.actors {
            chain.push(of(actor.kind, &actor.subject, Vec::new()));
        }
        chain
    }

    /// Anything that goes wrong on the way is an error of the answer, and denies.
    fn ask(&self, rules: &Rules) -> Answer {
        let who = format!("{} {}", self.kind, self.subject);
        let (allowed, policies, errors) = match self.evaluate(rules) {
            Ok(response) => {
                let reasons = response.diagnostics().reason();
                let mut policies: Vec<String> = reasons.map(ToString::to_string).collect();
                policies.sort();
                let mut errors: Vec<String> = response
                    .diagnostics()
                    .errors()
                    .map(ToString::to_string)
                    .collect();
                errors.sort();
                let allowed = response.decision() == Decision::Allow && errors.is_empty();
                (allowed, policies, errors)
            }
            Err(problem) => (false, Vec::new(), vec![problem]),
        };
        Answer {
            who,
            allowed,
            policies,
            errors,
        }
    }

    fn evaluate(&self, rules: &Rules) -> Result<cedar_policy::Response, String> {
        let request = Request::new(
            subject_uid(self.tenant, self.kind, self.subject),
            uid(&TYPES.action, &schema::action_name(&self.action)),
            self.target.uid(self.tenant),
            self.context()?,
            None,
        )
        .map_err(|error| error.to_string())?;
        let entities = self.entities()?;
        Ok(Authorizer::new().is_authorized(&request, rules.policies(), &entities))
    }

    fn context(&self) -> Result<Context, String> {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        Context::from_pairs([
            ("method".to_owned(), text(self.action.method)),
            ("right".to_owned(), text(self.action.right.as_str())),
            ("credential".to_owned(), text(self.credential)),
        ])
        .map_err(|error| error.to_string())
    }

    /// The principal with its roles, and the target with all that it is in.
    fn entities(&self) -> Result<Entities, String> {
        let tenant = uid(&TYPES.tenant, self.tenant.as_str());
        let of_tenant = || RestrictedExpression::new_entity_uid(tenant.clone());
        let principal = Entity::new(
            subject_uid(self.tenant, self.kind, self.subject),
            [("tenant".to_owned(), of_tenant())].into(),
            self.roles
                .iter()
                .map(|role| uid(&TYPES.role, role))
                .collect(),
        );
        let mut all = vec![principal.map_err(|error| error.to_string())?];
        let mut targets = vec![self.target.clone()];
        targets.extend(self.target.around());
        for target in &targets {
            let name = RestrictedExpression::new_string(target.name(self.tenant).to_owned());
            let parents = target.around();
            let entity = Entity::new(
                target.uid(self.tenant),
                [
                    ("tenant".to_owned(), of_tenant()),
                    ("name".to_owned(), name),
                ]
                .into(),
                parents
                    .first()
                    .map(|parent| parent.uid(self.tenant))
                    .into_iter()
                    .collect(),
            );
            all.push(entity.map_err(|error| error.to_string())?);
        }
        all.extend(self.action_entities());
        Entities::from_entities(all, None).map_err(|error| error.to_string())
    }

    /// The action, in the group of the right that it asks for.
    fn action_entities(&self) -> Option<Entity> {
        let name = schema::action_name(&self.action);
        let group = self.action.right.as_str();
        let in_group = [uid(&TYPES.action, group)].into();
        (name != group).then(|| Entity::new_no_attrs(uid(&TYPES.action, &name), in_group))
    }
}

#[cfg(test)]
mod tests;
