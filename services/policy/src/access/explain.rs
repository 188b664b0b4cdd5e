//! Why a call is allowed or not, by the rules as they are kept at this moment.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_access::decide::{Answer, Decided, Rules, Snapshot, by_shipped_rules_alone};
use commonplace_rpc::methods::{self, Access, Method, Over};
use commonplace_rpc::{Action, View};
use commonplace_types::{Digest, Principal, ProjectName, Right, TenantName};

use super::rules::TenantRules;
use super::{AccessError, Keeper};

/// Tenants whose rules are kept ready at most; then all are forgotten.
const TENANTS: usize = 64;
/// Methods that are named where several end the same, at most.
const NAMED: usize = 8;

/// Rules that are ready to be asked, by tenant.
#[derive(Default)]
pub(super) struct Explained {
    ready: Mutex<HashMap<TenantName, Arc<Snapshot>>>,
}

/// Whether a call is allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What is allowed; nothing: denied.
    pub(crate) view: Option<View>,
    /// For people.
    pub(crate) reasons: Vec<String>,
    /// Ids of what decided, sorted.
    pub(crate) policies: Vec<String>,
    /// Over all that was asked.
    pub(crate) rules: Digest,
    /// What the method asks for; none: to be a service.
    pub(crate) right: Option<Right>,
}

impl Keeper {
    /// Explains a call of a method, or of the one that ends in what is given, as if a principal made it now.
    ///
    /// Errors: [`AccessError::UnknownMethod`], [`AccessError::Invalid`] if several end in it.
    pub(crate) async fn explain(
        &self,
        principal: &Principal,
        method: &str,
        project: ProjectName,
    ) -> Result<Explanation, AccessError> {
        let (method, access) = find_method(method)?;
        let snapshot = self.ready(principal).await?;
        let rules = snapshot.rules().hash();
        let Some(right) = access.right else {
            return Ok(for_services(principal, method, rules));
        };
        let project = match access.over {
            Over::Tenant => None,
            Over::Project(_) | Over::Service => Some(project),
        };
        let action = Action {
            method: &method.name,
            right,
            parts: access.parts,
        };
        let decided = snapshot.explain(principal, action, project.as_ref());
        let now = self.surroundings.clock.now();
        let expired = principal.expires.is_some_and(|expires| expires <= now);
        let policies: BTreeSet<String> = decided
            .answers
            .iter()
            .flat_map(|answer| answer.policies.clone())
            .collect();
        Ok(Explanation {
            reasons: reasons(principal, &decided, right, project.as_ref(), expired),
            view: decided.view.filter(|_| !expired),
            policies: policies.into_iter().collect(),
            rules,
            right: Some(right),
        })
    }

    /// The rules that hold for a principal, as they are kept now.
    async fn ready(&self, principal: &Principal) -> Result<Arc<Snapshot>, AccessError> {
        let tenant = &principal.tenant;
        if by_shipped_rules_alone(principal) {
            let none = TenantRules {
                revision: 0,
                policies: Vec::new(),
                grants: Vec::new(),
            };
            return compiled(tenant.clone(), none).await;
        }
        let revision = self.store.revision(tenant).await?;
        if let Some(snapshot) = self.explained.find(tenant, revision) {
            return Ok(snapshot);
        }
        let rules = self.store.rules(tenant.clone()).await?;
        let snapshot = compiled(tenant.clone(), rules).await?;
        self.explained.keep(tenant, snapshot.clone());
        Ok(snapshot)
    }
}

impl Explained {
    fn find(&self, tenant: &TenantName, revision: u64) -> Option<Arc<Snapshot>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ready.get(tenant)?;
        (found.revision == revision).then(|| found.clone())
    }

    fn keep(&self, tenant: &TenantName, snapshot: Arc<Snapshot>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= TENANTS {
            ready.clear();
        }
        ready.insert(tenant.clone(), snapshot);
    }
}

/// Parses and checks rules; takes a processor for a while.
async fn compiled(tenant: TenantName, kept: TenantRules) -> Result<Arc<Snapshot>, AccessError> {
    let compile = move || {
        let policies: Vec<_> = kept.policies.into_iter().map(|kept| kept.policy).collect();
        let grants: Vec<_> = kept.grants.into_iter().map(|kept| kept.grant).collect();
        let rules = Rules::new(&tenant, &policies, &grants).map_err(|complaints| {
            let first = complaints.first();
            let text = first.map(|complaint| format!("`{}`: {}", complaint.id, complaint.problem));
            AccessError::Damaged(text.unwrap_or_default())
        })?;
        Ok(Arc::new(Snapshot::new(kept.revision, rules)))
    };
    let compiled = tokio::task::spawn_blocking(compile).await;
    compiled.unwrap_or(Err(AccessError::Interrupted))
}

/// The method that is named, or the only one whose name ends in what is given after a `.` or `/`.
fn find_method(text: &str) -> Result<(&'static Method, &'static Access), AccessError> {
    let wanted = text.trim_start_matches('/');
    let ends = |name: &str| {
        let before = name.strip_suffix(wanted);
        before.is_some_and(|before| before.is_empty() || before.ends_with(['.', '/']))
    };
    let mut found: Vec<_> = methods::all()
        .filter_map(|(_, method)| Some((method, method.access.as_ref()?)))
        .filter(|(method, _)| !wanted.is_empty() && ends(&method.name))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(AccessError::UnknownMethod(text.chars().take(256).collect())),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<&str> = found
                .iter()
                .map(|(method, _)| method.name.as_str())
                .collect();
            let shown = names
                .iter()
                .take(NAMED)
                .copied()
                .collect::<Vec<_>>()
                .join("`, `");
            let problem = format!("expected one of `{shown}`, as several end in it");
            Err(commonplace_types::Invalid::new("method", problem).into())
        }
    }
}

fn for_services(principal: &Principal, method: &Method, rules: Digest) -> Explanation {
    let allowed = principal.is_service();
    let word = if allowed { "allowed" } else { "denied" };
    Explanation {
        view: allowed.then_some(View::Whole),
        reasons: vec![format!(
            "{} {}: {word}, `{}` is for services only",
            principal.kind, principal.subject, method.name
        )],
        policies: Vec::new(),
        rules,
        right: None,
    }
}

/// One line for each who was asked about, then what limits the whole.
fn reasons(
    principal: &Principal,
    decided: &Decided,
    right: Right,
    project: Option<&ProjectName>,
    expired: bool,
) -> Vec<String> {
    let mut lines: Vec<String> = decided.answers.iter().map(line).collect();
    if !principal.in_scope(right, project) {
        let scopes = principal.scopes.iter().flatten();
        let scopes: Vec<String> = scopes.map(ToString::to_string).collect();
        let place = match project {
            Some(project) => format!("project `{project}`"),
            None => "the whole tenant".to_owned(),
        };
        let scopes = scopes.join(" ");
        lines.push(format!(
            "denied: the credential's scopes `{scopes}` do not cover {right} over {place}"
        ));
    }
    if let Some(View::Parts(parts)) = &decided.view {
        let types = parts.artifact_types.iter().map(ToString::to_string);
        let types: Vec<String> = types.collect();
        let authors: Vec<String> = parts.authors.iter().cloned().collect();
        lines.push(format!(
            "allowed for parts: artifact types [{}], authors [{}]",
            types.join(", "),
            authors.join(", ")
        ));
    }
    if expired {
        lines.push("denied: the credential has expired".into());
    }
    lines
}

fn line(answer: &Answer) -> String {
    let who = &answer.who;
    let by = answer.policies.join(", ");
    if !answer.errors.is_empty() {
        let errors = answer.errors.join("; ");
        return format!("{who}: denied, as it cannot be evaluated: {errors}");
    }
    match (answer.allowed, answer.policies.is_empty()) {
        (true, _) => format!("{who}: allowed by {by}"),
        (false, true) => format!("{who}: denied, as no role, grant or policy allows it"),
        (false, false) => format!("{who}: denied by {by}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_end() {
        let name = |text: &str| find_method(text).map(|(method, _)| method.name.as_str());
        let full = "commonplace.journal.v1.JournalService/Append";
        for text in [
            full,
            "/commonplace.journal.v1.JournalService/Append",
            "JournalService/Append",
        ] {
            assert_eq!(name(text).unwrap(), full, "{text}");
        }
        for text in ["", "/", "alService/Append", "append", "JournalService"] {
            assert!(
                matches!(name(text), Err(AccessError::UnknownMethod(_))),
                "{text}"
            );
        }
    }
}
