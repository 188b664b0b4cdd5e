//! Nobody gives away more than they have.
//!
//! Whoever may administer the tenant may give any role in it; the layer around the service asks for that
//! right. But a credential may be narrower than its owner, and what is given must not be wider than it.

use std::collections::BTreeSet;

use commonplace_types::{AccessScope, Principal, ProjectName, Right};

use super::AccessError;

/// Checks that a key with these scopes does no more than its giver's credential. Without a giver there is
/// nothing to go beyond: the call came from this process itself.
pub(super) fn scopes(
    giver: Option<&Principal>,
    given: Option<&BTreeSet<AccessScope>>,
) -> Result<(), AccessError> {
    let Some(own) = giver.and_then(|giver| giver.scopes.as_ref()) else {
        return Ok(());
    };
    let everything = BTreeSet::from([AccessScope {
        right: Right::Admin,
        project: None,
    }]);
    let asked = given.unwrap_or(&everything);
    let covered = |scope: &AccessScope| {
        let wider = |own: &AccessScope| own.covers(scope.right, scope.project.as_ref());
        own.iter().any(wider)
    };
    match asked.iter().find(|scope| !covered(scope)) {
        None => Ok(()),
        Some(_) if given.is_none() => Err(AccessError::Exceeds {
            field: "scopes",
            what: "a key without scopes".into(),
        }),
        Some(scope) => Err(AccessError::Exceeds {
            field: "scopes",
            what: format!("the scope `{scope}`"),
        }),
    }
}

/// Checks that a right over a project, or over the tenant, is one that the giver's credential covers.
pub(super) fn right(
    giver: Option<&Principal>,
    right: Right,
    project: Option<&ProjectName>,
) -> Result<(), AccessError> {
    if giver.is_none_or(|giver| giver.in_scope(right, project)) {
        return Ok(());
    }
    let what = match project {
        Some(project) => format!("to {right} project `{project}`"),
        None => format!("to {right} the tenant"),
    };
    Err(AccessError::Exceeds {
        field: "right",
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scopes: &[&str]) -> BTreeSet<AccessScope> {
        scopes.iter().map(|scope| scope.parse().unwrap()).collect()
    }

    fn giver(scopes: Option<&[&str]>) -> Principal {
        Principal {
            scopes: scopes.map(set),
            ..Principal::developer()
        }
    }

    #[test]
    fn a_key_is_never_wider_than_the_credential_that_made_it() {
        type Scopes<'a> = Option<&'a [&'a str]>;
        let cases: [(Scopes<'_>, Scopes<'_>, bool); 9] = [
            (None, None, true),
            (None, Some(&["admin"]), true),
            (Some(&["admin"]), None, true),
            (Some(&["admin:shop"]), None, false),
            (Some(&["admin:shop"]), Some(&["write:shop"]), true),
            (
                Some(&["admin:shop"]),
                Some(&["write:shop", "read:other"]),
                false,
            ),
            (Some(&["admin:shop"]), Some(&["read"]), false),
            (Some(&["write"]), Some(&["admin:shop"]), false),
            (Some(&[]), Some(&[]), true),
        ];
        for (own, given, allowed) in cases {
            let given = given.map(set);
            let checked = scopes(Some(&giver(own)), given.as_ref());
            assert_eq!(checked.is_ok(), allowed, "{own:?} {given:?}");
        }
        assert!(scopes(None, None).is_ok());
    }

    #[test]
    fn a_grant_is_never_wider_than_the_credential_that_made_it() {
        let shop = ProjectName::new("shop").unwrap();
        let giver = giver(Some(&["admin:shop"]));
        assert!(right(Some(&giver), Right::Write, Some(&shop)).is_ok());
        assert!(right(Some(&giver), Right::Read, None).is_err());
        let other = ProjectName::new("other").unwrap();
        assert!(right(Some(&giver), Right::Read, Some(&other)).is_err());
    }
}
