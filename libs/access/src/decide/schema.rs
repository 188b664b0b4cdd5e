//! The Cedar schema, made from the contracts.

use std::fmt::Write as _;
use std::sync::LazyLock;

use commonplace_rpc::{Action, methods};
use commonplace_types::Right;

/// What does not depend on the contracts.
const NOUNS: &str = r#"// Whose data it is.
entity Tenant = { "tenant": Tenant, "name": String };
// `reader`, `writer`, `admin`, and whatever names a tenant gives.
entity Role;
// Ids are `tenant/subject`.
entity User, Agent in [Role] = { "tenant": Tenant };
// A service of the mesh in its own name.
entity Service = { "tenant": Tenant };
// Ids are `tenant/project`.
entity Project in [Tenant] = { "tenant": Tenant, "name": String };
// Events of a type, or of an author: ids are `tenant/project/name`.
entity ArtifactType, Author in [Project] = { "tenant": Tenant, "name": String };
// `credential`: how the principal was proved: `token`, `key`, `certificate`, `mesh` or `development`.
type Call = { "method": String, "right": String, "credential": String };
"#;

const APPLIES: &str = "appliesTo { principal: [User, Agent, Service], resource: [Tenant, Project, ArtifactType, Author], context: Call }";

/// The groups of actions, by right.
pub(super) const RIGHTS: [Right; 4] = [Right::Member, Right::Read, Right::Write, Right::Admin];

/// The schema as text.
pub fn schema() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = NOUNS.to_owned();
        for right in RIGHTS {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "action \"{right}\" {APPLIES};");
        }
        for (name, right) in actions() {
            let _ = writeln!(text, "action \"{name}\" in [\"{right}\"] {APPLIES};");
        }
        text
    });
    &TEXT
}

/// Every rpc that asks for a right, as an action with its group; by name.
pub(super) fn actions() -> Vec<(&'static str, Right)> {
    let of = |method: &'static methods::Method| {
        let right = method.access.as_ref()?.right?;
        Some((short(&method.name), right))
    };
    let mut all: Vec<_> = methods::all()
        .filter_map(|(_, method)| of(method))
        .collect();
    all.sort();
    all
}

/// `JournalService/Append` of `commonplace.journal.v1.JournalService/Append`.
fn short(method: &str) -> &str {
    let service = method.split('/').next().unwrap_or_default();
    let package = service.rfind('.').map_or(0, |dot| dot + 1);
    &method[package..]
}

/// The action that a call is. What every member may do is asked without naming the rpc where that asks for more.
pub(super) fn action_name(action: &Action) -> String {
    let stated = methods::method(&format!("/{}", action.method));
    let right = stated.access.as_ref().and_then(|access| access.right);
    match right {
        Some(right) if right == action.right => short(action.method).to_owned(),
        _ => action.right.to_string(),
    }
}
