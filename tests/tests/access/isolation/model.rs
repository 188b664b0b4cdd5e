//! Who may do what, told once more: plain Rust, nothing of the product's rules.

use commonplace_rpc::methods::{Method, Over};
use commonplace_types::Right;

/// Types of the events that are written.
pub const TYPES: [&str; 3] = ["note", "bug", "test"];

/// What kind of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Agent,
}

/// Somebody who is given a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    One(Kind, String),
    Role(String),
}

impl Grantee {
    fn is(&self, kind: Kind, subject: &str, roles: &[String]) -> bool {
        match self {
            Self::One(of_kind, name) => *of_kind == kind && name == subject,
            Self::Role(role) => roles.contains(role),
        }
    }
}

/// A right over a project, or over the tenant where none is named.
#[derive(Debug, Clone)]
pub struct Grant {
    pub to: Grantee,
    pub right: Right,
    pub project: Option<String>,
}

/// Events of one type in a project, which somebody may see.
#[derive(Debug, Clone)]
pub struct Part {
    pub to: Grantee,
    pub project: String,
    pub artifact_type: String,
}

/// What a tenant's own policy says of calls that ask for exactly one right over one project.
#[derive(Debug, Clone)]
pub enum Policy {
    /// Unless the caller has the role.
    Forbid {
        right: Right,
        project: String,
        unless: String,
    },
    /// For one agent.
    Permit {
        right: Right,
        project: String,
        agent: String,
    },
}

/// What a tenant adds to the shipped rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub grants: Vec<Grant>,
    pub parts: Vec<Part>,
    pub policies: Vec<Policy>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    pub tenant: String,
    pub kind: Kind,
    pub subject: String,
    pub roles: Vec<String>,
    /// A right, over one project or over all.
    pub scopes: Option<Vec<(Right, Option<String>)>>,
    /// Agents that act for it.
    pub actors: Vec<String>,
}

impl Caller {
    pub fn name(&self) -> String {
        format!("{} of {} {:?}", self.subject, self.tenant, self.actors)
    }

    fn in_scope(&self, right: Right, project: Option<&str>) -> bool {
        let covers = |(most, only): &(Right, Option<String>)| {
            right <= *most && (only.is_none() || only.as_deref() == project)
        };
        match &self.scopes {
            None => true,
            Some(scopes) if right == Right::Member => !scopes.is_empty(),
            Some(scopes) => scopes.iter().any(covers),
        }
    }

    /// Whether everybody in the chain may do something to a project, or to the tenant where none is named.
    pub fn may(&self, rules: &Rules, right: Right, project: Option<&str>) -> bool {
        let agents = self.actors.iter();
        self.in_scope(right, project)
            && rules.allow(self.kind, &self.subject, &self.roles, right, project)
            && agents
                .into_iter()
                .all(|name| rules.allow(Kind::Agent, name, &[], right, project))
    }

    /// Whether everybody in the chain may see events of a type in a project.
    pub fn sees(&self, rules: &Rules, project: &str, artifact_type: &str) -> bool {
        let shows = |kind, name: &str, roles: &[String]| {
            rules.allow(kind, name, roles, Right::Read, Some(project))
                || rules.parts.iter().any(|part| {
                    part.to.is(kind, name, roles)
                        && part.project == project
                        && part.artifact_type == artifact_type
                })
        };
        let mut agents = self.actors.iter();
        self.in_scope(Right::Read, Some(project))
            && shows(self.kind, &self.subject, &self.roles)
            && agents.all(|name| shows(Kind::Agent, name, &[]))
    }

    /// Whether it may see anything of a project.
    pub fn sees_some(&self, rules: &Rules, project: &str) -> bool {
        TYPES.iter().any(|kind| self.sees(rules, project, kind))
    }

    /// Whether it gets past the door of an rpc about a project.
    pub fn let_in(&self, rules: &Rules, method: &Method, project: &str) -> bool {
        let Some(access) = &method.access else {
            return false;
        };
        // Only services make these; one of them is closed at the gateway.
        let (Some(right), false) = (access.right, method.name.ends_with("/Append")) else {
            return false;
        };
        match access.over {
            Over::Tenant => self.may(rules, right, None),
            Over::Service => self.may(rules, Right::Member, None),
            Over::Project(_) => {
                let some = access.parts && self.sees_some(rules, project);
                some || self.may(rules, right, Some(project))
            }
        }
    }
}

impl Rules {
    fn allow(
        &self,
        kind: Kind,
        subject: &str,
        roles: &[String],
        right: Right,
        project: Option<&str>,
    ) -> bool {
        let has = |role: &str| roles.iter().any(|own| own == role);
        let forbidden = self.policies.iter().any(|policy| match policy {
            Policy::Forbid {
                right: only,
                project: of,
                unless,
            } => *only == right && project == Some(of.as_str()) && !has(unless),
            Policy::Permit { .. } => false,
        });
        if forbidden {
            return false;
        }
        let by_role = has("admin")
            || has("writer") && right <= Right::Write
            || has("reader") && right <= Right::Read;
        let by_grant = self.grants.iter().any(|grant| {
            let to = grant.to.is(kind, subject, roles);
            let over = grant.project.is_none() || grant.project.as_deref() == project;
            to && over && right <= grant.right
        });
        let by_policy = self.policies.iter().any(|policy| match policy {
            Policy::Permit {
                right: only,
                project: of,
                agent,
            } => {
                *only == right
                    && project == Some(of.as_str())
                    && kind == Kind::Agent
                    && agent == subject
            }
            Policy::Forbid { .. } => false,
        });
        right == Right::Member || by_role || by_grant || by_policy
    }
}
