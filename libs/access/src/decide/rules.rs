//! The rules that hold in every tenant.

use commonplace_types::Right;

/// Id and statement of each shipped policy.
const POLICIES: [(&str, &str); 6] = [
    (
        "tenant_isolation",
        "forbid (principal, action, resource) unless { principal.tenant == resource.tenant };",
    ),
    (
        "members",
        "permit (principal, action in Action::\"member\", resource);",
    ),
    (
        "services",
        "permit (principal is Service, action, resource);",
    ),
    (
        "role_reader",
        "permit (principal in Role::\"reader\", action in [Action::\"member\", Action::\"read\"], resource);",
    ),
    (
        "role_writer",
        "permit (principal in Role::\"writer\", action in [Action::\"member\", Action::\"read\", Action::\"write\"], resource);",
    ),
    (
        "role_admin",
        "permit (principal in Role::\"admin\", action, resource);",
    ),
];

/// Id and statement of each template; a grant is a link of one.
const TEMPLATES: [(&str, &str); 3] = [
    (
        "grant_read",
        "permit (principal in ?principal, action in [Action::\"member\", Action::\"read\"], resource in ?resource);",
    ),
    (
        "grant_write",
        "permit (principal in ?principal, action in [Action::\"member\", Action::\"read\", Action::\"write\"], resource in ?resource);",
    ),
    (
        "grant_admin",
        "permit (principal in ?principal, action, resource in ?resource);",
    ),
];

/// Id and statement of every shipped policy and template.
pub fn shipped() -> impl Iterator<Item = (&'static str, &'static str)> {
    policies().chain(templates())
}

pub(super) fn policies() -> impl Iterator<Item = (&'static str, &'static str)> {
    POLICIES.into_iter()
}

pub(super) fn templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEMPLATES.into_iter()
}

/// The template of grants of a right. What members may do needs no grant.
pub(super) fn template(right: Right) -> Option<&'static str> {
    match right {
        Right::Member => None,
        Right::Read => Some("grant_read"),
        Right::Write => Some("grant_write"),
        Right::Admin => Some("grant_admin"),
    }
}
