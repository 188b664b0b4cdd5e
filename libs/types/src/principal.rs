//! Who a call is made for, and what it may do at most.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Invalid, ProjectName, TenantName, Timestamp};

/// Longest subject in bytes.
const SUBJECT_BYTES: usize = 256;
/// Most roles of a principal.
const ROLES: usize = 32;
/// Most scopes of a principal.
const SCOPES: usize = 64;
/// Longest chain of actors.
const ACTORS: usize = 8;

/// What an rpc asks of its caller. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To belong to the tenant.
    Member,
    /// To see what is there.
    Read,
    /// To add to it.
    Write,
    /// To change how it works, and for whom.
    Admin,
}

impl Right {
    /// Its name in scopes, policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Right {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "member" => Ok(Self::Member),
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => {
                let found = text.escape_debug();
                let problem = format!("expected `read`, `write` or `admin`, found `{found}`");
                Err(Invalid::new("right", problem))
            }
        }
    }
}

/// What kind of somebody a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program that works for somebody.
    Agent,
    /// A service of the mesh, in its own name.
    Service,
}

impl PrincipalKind {
    /// Its name in tokens, policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for PrincipalKind {
    type Err = Invalid;

    /// A caller from outside is a user or an agent; a service is one by its certificate alone.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "user" => Ok(Self::User),
            "agent" => Ok(Self::Agent),
            _ => {
                let problem = format!(
                    "expected `user` or `agent`, found `{}`",
                    text.escape_debug()
                );
                Err(Invalid::new("kind", problem))
            }
        }
    }
}

/// The name of a principal, unique within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// Error: not 1 to 256 bytes without control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let fits = (1..=SUBJECT_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        let problem =
            format!("expected 1 to {SUBJECT_BYTES} bytes of UTF-8 without control characters");
        Err(Invalid::new("subject", problem))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// At most what a credential may be used for: a right, over everything or over one project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessScope {
    /// The right, with those that it includes.
    pub right: Right,
    /// The only project; none: all of the tenant.
    pub project: Option<ProjectName>,
}

impl AccessScope {
    /// Whether it covers a right over a project, or over the whole tenant where none is given. Whoever may do
    /// anything at all may do what a member may.
    pub fn covers(&self, right: Right, project: Option<&ProjectName>) -> bool {
        right == Right::Member
            || right <= self.right
                && self
                    .project
                    .as_ref()
                    .is_none_or(|only| project == Some(only))
    }
}

impl fmt::Display for AccessScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(project) => write!(formatter, "{}:{project}", self.right),
            None => self.right.fmt(formatter),
        }
    }
}

impl FromStr for AccessScope {
    type Err = Invalid;

    /// Reads `read`, `write`, `admin`, or one of them with a project: `read:shop`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (right, project) = match text.split_once(':') {
            Some((right, project)) => (right, Some(project)),
            None => (text, None),
        };
        let within = |invalid: Invalid| Invalid::new("scope", invalid.problem);
        let right: Right = right.parse().map_err(within)?;
        if right == Right::Member {
            let problem = "expected `read`, `write` or `admin`, found `member`";
            return Err(Invalid::new("scope", problem));
        }
        let project = project.map(ProjectName::new).transpose().map_err(within)?;
        Ok(Self { right, project })
    }
}

/// Somebody who acts for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// What kind of somebody.
    pub kind: PrincipalKind,
    /// Its name, in the tenant of the principal.
    pub subject: Subject,
}

/// Who a call is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Whose data it may see.
    pub tenant: TenantName,
    /// What kind of somebody.
    pub kind: PrincipalKind,
    /// Its name within the tenant.
    pub subject: Subject,
    /// `reader`, `writer`, `admin`, and other names that policies use.
    pub roles: BTreeSet<String>,
    /// At most what the call may do; none: whatever its policies allow.
    pub scopes: Option<BTreeSet<AccessScope>>,
    /// Who acts for it, the nearest first; each must be allowed the call as well.
    pub actors: Vec<Actor>,
    /// How it was proved: `token`, `key`, `certificate`, `mesh` or `development`, and the public id of the
    /// proof after a colon.
    pub credential: String,
    /// When the proof ends.
    pub expires: Option<Timestamp>,
}

impl Principal {
    /// Whoever calls a server in development mode: may do everything in the default tenant.
    pub fn developer() -> Self {
        Self {
            tenant: TenantName::default_tenant(),
            kind: PrincipalKind::User,
            subject: Subject("developer".into()),
            roles: ["admin".to_owned()].into(),
            scopes: None,
            actors: Vec::new(),
            credential: "development".into(),
            expires: None,
        }
    }

    /// A service of the mesh in its own name, about a tenant's data.
    pub fn service(name: &str, tenant: TenantName) -> Self {
        Self {
            tenant,
            kind: PrincipalKind::Service,
            subject: Subject(name.to_owned()),
            roles: BTreeSet::new(),
            scopes: None,
            actors: Vec::new(),
            credential: "mesh".into(),
            expires: None,
        }
    }

    /// Whether it is a service of the mesh in its own name.
    pub fn is_service(&self) -> bool {
        self.kind == PrincipalKind::Service
    }

    /// Whether its scopes cover a right over a project, or over the tenant where none is given.
    pub fn in_scope(&self, right: Right, project: Option<&ProjectName>) -> bool {
        let Some(scopes) = &self.scopes else {
            return true;
        };
        scopes.iter().any(|scope| scope.covers(right, project))
    }

    /// Checks the bounds of what came from outside. Error: names the field.
    pub fn checked(self) -> Result<Self, Invalid> {
        let name = |role: &String| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
            (1..=64).contains(&role.len()) && role.bytes().all(allowed)
        };
        if self.roles.len() > ROLES || !self.roles.iter().all(name) {
            let problem = format!(
                "expected at most {ROLES}, each 1 to 64 of letters, digits, `.`, `_`, `-`, `/`"
            );
            return Err(Invalid::new("roles", problem));
        }
        if self
            .scopes
            .as_ref()
            .is_some_and(|scopes| scopes.len() > SCOPES)
        {
            return Err(Invalid::new("scopes", format!("expected at most {SCOPES}")));
        }
        if self.actors.len() > ACTORS {
            return Err(Invalid::new("actors", format!("expected at most {ACTORS}")));
        }
        Ok(self)
    }
}

impl fmt::Display for Principal {
    /// `user alice of acme`, with `through agent fixer` for each actor.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} of {}",
            self.kind, self.subject, self.tenant
        )?;
        for actor in &self.actors {
            write!(formatter, " through {} {}", actor.kind, actor.subject)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written() {
        for text in ["read", "write:shop", "admin"] {
            assert_eq!(text.parse::<AccessScope>().unwrap().to_string(), text);
        }
        for wrong in ["", "member", "read:", "read:UPPER", "delete", "read:shop:x"] {
            assert!(wrong.parse::<AccessScope>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scope_covers_its_right_and_lesser_ones_in_its_project_only() {
        let covers = |scope: &str, right, project: Option<&str>| {
            let project = project.map(|name| ProjectName::new(name).unwrap());
            let scope: AccessScope = scope.parse().unwrap();
            scope.covers(right, project.as_ref())
        };
        for (scope, right, project, expected) in [
            ("read", Right::Read, Some("shop"), true),
            ("read", Right::Write, Some("shop"), false),
            ("admin", Right::Write, None, true),
            ("write:shop", Right::Read, Some("shop"), true),
            ("write:shop", Right::Read, Some("other"), false),
            ("write:shop", Right::Read, None, false),
            ("read:shop", Right::Member, None, true),
        ] {
            assert_eq!(
                covers(scope, right, project),
                expected,
                "{scope} {right} {project:?}"
            );
        }
    }

    #[test]
    fn a_principal_without_scopes_is_bound_by_policies_alone_and_one_with_none_by_nothing_else() {
        let mut principal = Principal::developer();
        assert!(principal.in_scope(Right::Admin, None));
        principal.scopes = Some(BTreeSet::new());
        assert!(!principal.in_scope(Right::Member, None));
    }
}
