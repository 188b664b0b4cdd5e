//! The rules of one tenant at one moment, with the decisions that were made by them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use cedar_policy::{
    Policy as CedarPolicy, PolicyId, PolicySet, Schema, SlotId, Template, ValidationMode, Validator,
};
use commonplace_rpc::{Action, Parts, View};
use commonplace_types::{
    ArtifactType, Digest, Principal, PrincipalKind, ProjectName, Right, Subject, TenantName,
};

use super::{Answer, Decided, Question, TYPES, Target, bounds, rules, schema, subject_uid, uid};

/// Decisions that are kept at most; then all are forgotten.
const KEPT: usize = 10_000;

/// How far a policy may look from what it is asked about: to what the resource is in, and that one's tenant.
const LEVEL: u32 = 1;

/// Types that a part of a project may consist of without a grant that names it.
const KNOWN_TYPES: [&str; 8] = [
    "bug", "decision", "diff", "flake", "policy", "runlog", "spec", "test",
];

/// A policy of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its id; statements after the first are `id/2` and so on.
    pub id: String,
    /// One or more statements.
    pub source: String,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// To whom.
    pub grantee: Grantee,
    /// Which right, with those that it includes.
    pub right: Right,
    /// Over what.
    pub resource: Resource,
}

/// To whom a right is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// To one user or agent.
    Subject(PrincipalKind, Subject),
    /// To everybody with a role.
    Role(String),
}

/// Over what a right is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Everything of the tenant.
    Tenant,
    /// A project.
    Project(ProjectName),
    /// Events of a type.
    ArtifactType(ProjectName, ArtifactType),
    /// Events of an author.
    Author(ProjectName, String),
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Which policy or grant.
    pub id: String,
    /// What is wrong.
    pub problem: String,
}

/// The shipped rules and a tenant's own, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    policies: PolicySet,
    /// The parts of projects that grants name.
    named: BTreeMap<ProjectName, Parts>,
    hash: Digest,
}

impl Rules {
    /// Puts them together. Error: every policy that does not parse or fit the schema, and every grant that
    /// cannot be linked.
    pub fn new(
        tenant: &TenantName,
        own: &[Policy],
        grants: &[Grant],
    ) -> Result<Self, Vec<Complaint>> {
        let mut policies = shipped_set().map_err(|complaint| vec![complaint])?;
        let mut complaints = Vec::new();
        let mut named: BTreeMap<ProjectName, Parts> = BTreeMap::new();
        for policy in own {
            add(&mut policies, policy, &mut complaints);
        }
        for grant in grants {
            let linked = link(&mut policies, tenant, grant);
            complaints.extend(linked.err());
            match &grant.resource {
                Resource::Tenant | Resource::Project(_) => {}
                Resource::ArtifactType(project, name) => {
                    let parts = named.entry(project.clone()).or_default();
                    parts.artifact_types.insert(name.clone());
                }
                Resource::Author(project, name) => {
                    let parts = named.entry(project.clone()).or_default();
                    parts.authors.insert(name.clone());
                }
            }
        }
        complaints.extend(misfits(&policies));
        if !complaints.is_empty() {
            complaints.sort_by(|a, b| (&a.id, &a.problem).cmp(&(&b.id, &b.problem)));
            return Err(complaints);
        }
        Ok(Self {
            policies,
            named,
            hash: hash(tenant, own, grants),
        })
    }

    pub(super) fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// What they are, as one hash.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The parts of a project that may have rules of their own.
    fn parts(&self, project: &ProjectName) -> Parts {
        let mut parts = self.named.get(project).cloned().unwrap_or_default();
        let known = KNOWN_TYPES.into_iter().map(ArtifactType::new);
        parts.artifact_types.extend(known.filter_map(Result::ok));
        parts
    }
}

/// Checks a tenant's own policies as they would be used. Error: every complaint.
pub fn check(own: &[Policy]) -> Result<(), Vec<Complaint>> {
    Rules::new(&TenantName::default_tenant(), own, &[]).map(drop)
}

fn complaint(id: &str, problem: impl ToString) -> Complaint {
    Complaint {
        id: id.to_owned(),
        problem: problem.to_string(),
    }
}

fn shipped_set() -> Result<PolicySet, Complaint> {
    let mut set = PolicySet::new();
    for (id, source) in rules::policies() {
        let policy = CedarPolicy::parse(Some(PolicyId::new(id)), source)
            .map_err(|error| complaint(id, error))?;
        set.add(policy).map_err(|error| complaint(id, error))?;
    }
    for (id, source) in rules::templates() {
        let template = Template::parse(Some(PolicyId::new(id)), source)
            .map_err(|error| complaint(id, error))?;
        set.add_template(template)
            .map_err(|error| complaint(id, error))?;
    }
    Ok(set)
}

/// Adds each statement under an id of its own.
fn add(set: &mut PolicySet, policy: &Policy, complaints: &mut Vec<Complaint>) {
    if let Err(problem) = bounds::check(&policy.source) {
        complaints.push(complaint(&policy.id, problem));
        return;
    }
    let parsed: PolicySet = match policy.source.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            let errors: &cedar_policy::ParseErrors = &error;
            complaints.extend(errors.iter().map(|error| complaint(&policy.id, error)));
            return;
        }
    };
    if parsed.num_of_templates() > 0 {
        let problem = "expected statements without slots; grants are for those";
        complaints.push(complaint(&policy.id, problem));
        return;
    }
    if parsed.is_empty() {
        complaints.push(complaint(&policy.id, "expected at least one statement"));
    }
    // The parser numbers statements `policy0`, `policy1`, in the order of the text.
    let mut statements: Vec<(usize, CedarPolicy)> = parsed
        .policies()
        .filter_map(|statement| {
            let number = statement.id().to_string();
            Some((
                number.strip_prefix("policy")?.parse().ok()?,
                statement.clone(),
            ))
        })
        .collect();
    statements.sort_by_key(|(number, _)| *number);
    for (number, statement) in statements {
        let id = match number {
            0 => policy.id.clone(),
            _ => format!("{}/{}", policy.id, number + 1),
        };
        let added = set.add(statement.new_id(PolicyId::new(&id)));
        complaints.extend(added.err().map(|error| complaint(&id, error)));
    }
}

fn link(set: &mut PolicySet, tenant: &TenantName, grant: &Grant) -> Result<(), Complaint> {
    let template = rules::template(grant.right)
        .ok_or_else(|| complaint(&grant.id, "expected the right read, write or admin"))?;
    let principal = match &grant.grantee {
        Grantee::Subject(kind, subject) => subject_uid(tenant, *kind, subject),
        Grantee::Role(role) => uid(&TYPES.role, role),
    };
    let target = match &grant.resource {
        Resource::Tenant => Target::Tenant,
        Resource::Project(project) => Target::Project(project),
        Resource::ArtifactType(project, name) => Target::ArtifactType(project, name.as_str()),
        Resource::Author(project, name) => Target::Author(project, name),
    };
    let slots = HashMap::from([
        (SlotId::principal(), principal),
        (SlotId::resource(), target.uid(tenant)),
    ]);
    set.link(PolicyId::new(template), PolicyId::new(&grant.id), slots)
        .map_err(|error| complaint(&grant.id, error))
}

/// What does not fit the schema, strictly and within the level.
fn misfits(set: &PolicySet) -> Vec<Complaint> {
    static VALIDATOR: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
        let (schema, _) =
            Schema::from_cedarschema_str(schema::schema()).map_err(|error| format!("{error:?}"))?;
        Ok(Validator::new(schema))
    });
    let validator = match &*VALIDATOR {
        Ok(validator) => validator,
        Err(problem) => return vec![complaint("schema", problem)],
    };
    let result = validator.validate_with_level(set, ValidationMode::Strict, LEVEL);
    let errors = result.validation_errors();
    errors
        .map(|error| complaint(error.policy_id().as_ref(), error))
        .collect()
}

fn hash(tenant: &TenantName, own: &[Policy], grants: &[Grant]) -> Digest {
    let mut own: Vec<_> = own
        .iter()
        .map(|policy| (&policy.id, &policy.source))
        .collect();
    own.sort();
    let mut grants: Vec<_> = grants.iter().map(|grant| format!("{grant:?}")).collect();
    grants.sort();
    let shipped: Vec<_> = rules::policies().chain(rules::templates()).collect();
    let text = serde_json::json!([tenant.as_str(), shipped, own, grants]).to_string();
    Digest::of(&[text.as_bytes()])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    principal: Arc<Principal>,
    action: Action,
    project: Option<ProjectName>,
}

/// The rules of a tenant as of a revision, with what was decided by them.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every change; 0: the shipped rules alone.
    pub revision: u64,
    rules: Rules,
    decided: RwLock<HashMap<Asked, Answered>>,
}

/// What was decided, and the ids of the policies and grants that did.
type Answered = (Option<View>, Arc<[String]>);

impl Snapshot {
    /// Nothing is decided yet.
    pub fn new(revision: u64, rules: Rules) -> Self {
        Self {
            revision,
            rules,
            decided: RwLock::new(HashMap::new()),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What a principal may do the action to; nothing: denied.
    pub fn view(
        &self,
        principal: &Arc<Principal>,
        action: Action,
        project: Option<&ProjectName>,
    ) -> Option<View> {
        self.decided(principal, action, project).0
    }

    /// The same, with the ids of the policies and grants that decided, sorted.
    pub fn decided(
        &self,
        principal: &Arc<Principal>,
        action: Action,
        project: Option<&ProjectName>,
    ) -> (Option<View>, Arc<[String]>) {
        let asked = Asked {
            principal: principal.clone(),
            action,
            project: project.cloned(),
        };
        let decided = self.decided.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(answered) = decided.get(&asked) {
            return answered.clone();
        }
        drop(decided);
        let Decided { view, answers } = self.explain(principal, action, project);
        let policies: BTreeSet<String> = answers
            .into_iter()
            .flat_map(|answer| answer.policies)
            .collect();
        let answered = (view, policies.into_iter().collect());
        let mut decided = self.decided.write().unwrap_or_else(PoisonError::into_inner);
        if decided.len() >= KEPT {
            decided.clear();
        }
        decided.insert(asked, answered.clone());
        answered
    }

    /// The same, with the reasons, and made anew.
    pub fn explain(
        &self,
        principal: &Principal,
        action: Action,
        project: Option<&ProjectName>,
    ) -> Decided {
        let target = project.map_or(Target::Tenant, Target::Project);
        let answers = self.ask(principal, action, &target);
        let view = match (all(&answers), project) {
            _ if !principal.in_scope(action.right, project) => None,
            (true, _) => Some(View::Whole),
            (false, Some(project)) if action.parts && !forbidden(&answers) => {
                self.parts(principal, action, project)
            }
            (false, _) => None,
        };
        Decided { view, answers }
    }

    fn ask(&self, principal: &Principal, action: Action, target: &Target<'_>) -> Vec<Answer> {
        let chain = Question::chain(principal, action, target);
        chain
            .iter()
            .map(|question| question.ask(&self.rules))
            .collect()
    }

    /// The parts of a project that everybody in the chain is allowed; nothing if there are none.
    fn parts(&self, principal: &Principal, action: Action, project: &ProjectName) -> Option<View> {
        let candidates = self.rules.parts(project);
        let allowed = |target: Target<'_>| all(&self.ask(principal, action, &target));
        let artifact_types: BTreeSet<ArtifactType> = candidates
            .artifact_types
            .into_iter()
            .filter(|name| allowed(Target::ArtifactType(project, name.as_str())))
            .collect();
        let authors: BTreeSet<String> = candidates
            .authors
            .into_iter()
            .filter(|name| allowed(Target::Author(project, name)))
            .collect();
        if artifact_types.is_empty() && authors.is_empty() {
            return None;
        }
        let parts = Parts {
            artifact_types,
            authors,
        };
        Some(View::Parts(Arc::new(parts)))
    }
}

/// Whether a policy denies, and not only none allows. Who may not have a project has no part of it either.
fn forbidden(answers: &[Answer]) -> bool {
    let forbids = |answer: &Answer| !answer.policies.is_empty() || !answer.errors.is_empty();
    answers
        .iter()
        .any(|answer| !answer.allowed && forbids(answer))
}

fn all(answers: &[Answer]) -> bool {
    answers.iter().all(|answer| answer.allowed)
}
