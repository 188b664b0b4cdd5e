use std::sync::Arc;

use commonplace_rpc::{View, methods};
use commonplace_types::{Actor, ArtifactType, Right};
use proptest::prelude::*;

use super::*;

const APPEND: &str = "commonplace.journal.v1.JournalService/Append";
const QUERY: &str = "commonplace.journal.v1.JournalService/QueryEvents";
const PUT_POLICY: &str = "commonplace.policy.v1.PolicyService/PutPolicy";

fn action(method: &str, parts: bool) -> Action {
    let method = methods::method(&format!("/{method}"));
    Action {
        method: &method.name,
        right: method.access.as_ref().unwrap().right.unwrap(),
        parts,
    }
}

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

fn principal(kind: PrincipalKind, subject: &str, roles: &[&str]) -> Arc<Principal> {
    Arc::new(Principal {
        tenant: tenant("acme"),
        kind,
        subject: Subject::new(subject).unwrap(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Principal::developer()
    })
}

fn snapshot(own: &[(&str, &str)], grants: Vec<Grant>) -> Snapshot {
    let own: Vec<Policy> = own
        .iter()
        .map(|(id, source)| Policy {
            id: (*id).to_owned(),
            source: (*source).to_owned(),
        })
        .collect();
    Snapshot::new(1, Rules::new(&tenant("acme"), &own, &grants).unwrap())
}

fn grant(grantee: Grantee, right: Right, resource: Resource) -> Grant {
    Grant {
        id: format!("gr_{right}_{resource:?}_{grantee:?}")
            .to_lowercase()
            .replace([' ', '"'], ""),
        grantee,
        right,
        resource,
    }
}

fn agent(name: &str) -> Grantee {
    Grantee::Subject(PrincipalKind::Agent, Subject::new(name).unwrap())
}

#[test]
fn the_shipped_rules_fit_the_schema() {
    let rules = Rules::new(&tenant("acme"), &[], &[]).unwrap();
    let more = Rules::new(
        &tenant("acme"),
        &[],
        &[grant(agent("a"), Right::Read, Resource::Tenant)],
    );
    assert_ne!(rules.hash(), more.unwrap().hash());
    assert!(shipped().count() > 8);
}

#[test]
fn roles_mean_what_they_say() {
    let rules = snapshot(&[], Vec::new());
    let shop = project("shop");
    for (role, reads, writes, administers) in [
        ("reader", true, false, false),
        ("writer", true, true, false),
        ("admin", true, true, true),
        ("other", false, false, false),
    ] {
        let user = principal(PrincipalKind::User, "alice", &[role]);
        let allowed = |method, project| rules.view(&user, action(method, false), project).is_some();
        assert_eq!(allowed(QUERY, Some(&shop)), reads, "{role}");
        assert_eq!(allowed(APPEND, Some(&shop)), writes, "{role}");
        assert_eq!(allowed(PUT_POLICY, None), administers, "{role}");
    }
}

#[test]
fn a_grant_gives_its_right_over_its_resource_to_its_grantee_only() {
    let to = grant(
        agent("fixer"),
        Right::Write,
        Resource::Project(project("shop")),
    );
    let rules = snapshot(&[], vec![to]);
    let fixer = principal(PrincipalKind::Agent, "fixer", &[]);
    let namesake = principal(PrincipalKind::User, "fixer", &[]);
    let (shop, other) = (project("shop"), project("other"));
    let allowed = |who, method, project| rules.view(who, action(method, false), project).is_some();
    assert!(allowed(&fixer, APPEND, Some(&shop)));
    assert!(allowed(&fixer, QUERY, Some(&shop)));
    assert!(!allowed(&fixer, APPEND, Some(&other)));
    assert!(!allowed(&fixer, PUT_POLICY, None));
    assert!(!allowed(&namesake, APPEND, Some(&shop)));
}

/// A question always names one tenant; the rule holds for those who would put two in.
#[test]
fn no_rule_reaches_into_another_tenant() {
    let rules = snapshot(
        &[("everything", "permit (principal, action, resource);")],
        Vec::new(),
    );
    let in_tenant = |name: &str| {
        let user = Arc::new(Principal {
            tenant: tenant(name),
            ..Principal::developer()
        });
        let chain = Question::chain(&user, action(QUERY, false), &Target::Tenant);
        let question = chain.into_iter().next().unwrap();
        (
            question.entities().unwrap(),
            subject_uid(&user.tenant, user.kind, &user.subject),
        )
    };
    let (own, alice) = in_tenant("acme");
    let (others, _) = in_tenant("rival");
    let both = others
        .into_iter()
        .filter(|entity| entity.uid().type_name() == &TYPES.tenant);
    let entities = own.add_entities(both, None).unwrap();
    let allowed = |name: &str| {
        let context = Context::from_pairs([]).unwrap();
        let (what, resource) = (uid(&TYPES.action, "read"), uid(&TYPES.tenant, name));
        let request = Request::new(alice.clone(), what, resource, context, None).unwrap();
        let answer = Authorizer::new().is_authorized(&request, rules.rules().policies(), &entities);
        answer.decision() == Decision::Allow
    };
    assert!(allowed("acme"));
    assert!(!allowed("rival"));
}

#[test]
fn a_policy_of_the_tenant_may_forbid_what_a_role_allows() {
    let source = "forbid (principal, action in Action::\"write\", resource) when { context.credential == \"key\" };";
    let rules = snapshot(&[("no_keys", source)], Vec::new());
    let by = |credential: &str| {
        Arc::new(Principal {
            credential: credential.to_owned(),
            ..(*principal(PrincipalKind::User, "alice", &["admin"])).clone()
        })
    };
    let shop = project("shop");
    let allowed = |who| {
        rules
            .view(&who, action(APPEND, false), Some(&shop))
            .is_some()
    };
    assert!(allowed(by("token:1")));
    assert!(!allowed(by("key:abc")));
    let decided = rules.explain(&by("key:abc"), action(APPEND, false), Some(&shop));
    assert_eq!(decided.answers[0].policies, ["no_keys"]);
}

#[test]
fn whoever_acts_for_somebody_needs_to_be_allowed_as_well() {
    let shop = project("shop");
    let grants = vec![grant(
        agent("fixer"),
        Right::Read,
        Resource::Project(shop.clone()),
    )];
    let rules = snapshot(&[], grants);
    let through = |names: &[&str]| {
        let actor = |name: &&str| Actor {
            kind: PrincipalKind::Agent,
            subject: Subject::new(*name).unwrap(),
        };
        Arc::new(Principal {
            actors: names.iter().map(actor).collect(),
            ..(*principal(PrincipalKind::User, "alice", &["admin"])).clone()
        })
    };
    let allowed = |who: &Arc<Principal>, method| {
        rules
            .view(who, action(method, false), Some(&shop))
            .is_some()
    };
    assert!(allowed(&through(&[]), APPEND));
    assert!(allowed(&through(&["fixer"]), QUERY));
    assert!(!allowed(&through(&["fixer"]), APPEND));
    assert!(!allowed(&through(&["fixer", "stranger"]), QUERY));
    let decided = rules.explain(&through(&["stranger"]), action(QUERY, false), Some(&shop));
    assert!(decided.answers[0].allowed && !decided.answers[1].allowed);
    assert_eq!(decided.answers[1].who, "agent stranger");
}

#[test]
fn scopes_bound_what_roles_allow() {
    let rules = snapshot(&[], Vec::new());
    let bound = Arc::new(Principal {
        scopes: Some(["read:shop".parse().unwrap()].into()),
        ..(*principal(PrincipalKind::User, "alice", &["admin"])).clone()
    });
    let allowed = |method, name: &str| {
        rules
            .view(&bound, action(method, false), Some(&project(name)))
            .is_some()
    };
    assert!(allowed(QUERY, "shop"));
    assert!(!allowed(APPEND, "shop"));
    assert!(!allowed(QUERY, "other"));
}

#[test]
fn parts_are_those_that_everybody_in_the_chain_may_see() {
    let shop = project("shop");
    let bugs = ArtifactType::new("bug").unwrap();
    let incident = ArtifactType::new("incident").unwrap();
    let of_type = |name: &ArtifactType| Resource::ArtifactType(shop.clone(), name.clone());
    let rules = snapshot(
        &[],
        vec![
            grant(agent("reader"), Right::Read, of_type(&bugs)),
            grant(agent("reader"), Right::Read, of_type(&incident)),
            grant(
                agent("reader"),
                Right::Read,
                Resource::Author(shop.clone(), "bot".into()),
            ),
            grant(agent("other"), Right::Read, of_type(&bugs)),
        ],
    );
    let reader = principal(PrincipalKind::Agent, "reader", &[]);
    let Some(View::Parts(parts)) = rules.view(&reader, action(QUERY, true), Some(&shop)) else {
        panic!("parts of the project are seen");
    };
    assert_eq!(parts.artifact_types, [bugs.clone(), incident].into());
    assert_eq!(parts.authors, ["bot".to_owned()].into());
    // Who cannot do with parts gets nothing.
    assert_eq!(rules.view(&reader, action(QUERY, false), Some(&shop)), None);
    assert_eq!(
        rules.view(&reader, action(QUERY, true), Some(&project("other"))),
        None
    );
    let together = Arc::new(Principal {
        actors: vec![Actor {
            kind: PrincipalKind::Agent,
            subject: Subject::new("other").unwrap(),
        }],
        ..(*reader).clone()
    });
    let Some(View::Parts(parts)) = rules.view(&together, action(QUERY, true), Some(&shop)) else {
        panic!("parts of the project are seen");
    };
    assert_eq!(parts.artifact_types, [bugs].into());
    assert!(parts.authors.is_empty());
}

/// A policy may speak of the project alone; it is meant for all that is in it.
#[test]
fn who_may_not_have_a_project_has_no_part_of_it() {
    let shop = project("shop");
    let source = "forbid (principal, action in Action::\"read\", resource is Project) \
        when { resource.name == \"shop\" };";
    let error =
        "forbid (principal, action, resource is Project) when { 9223372036854775807 + 1 == 0 };";
    let reader = principal(PrincipalKind::User, "alice", &["reader"]);
    let asked = action(QUERY, true);
    for source in [source, error] {
        let rules = snapshot(&[("freeze", source)], Vec::new());
        assert_eq!(rules.view(&reader, asked, Some(&shop)), None, "{source}");
    }
    let rules = snapshot(&[("freeze", source)], Vec::new());
    let other = rules.view(&reader, asked, Some(&project("other")));
    assert_eq!(other, Some(View::Whole));
}

#[test]
fn what_cannot_be_evaluated_denies() {
    // Within the types, but beyond the numbers.
    let source = "forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };";
    let rules = snapshot(&[("overflow", source)], Vec::new());
    let admin = principal(PrincipalKind::User, "alice", &["admin"]);
    let shop = project("shop");
    let decided = rules.explain(&admin, action(QUERY, false), Some(&shop));
    assert_eq!(decided.view, None);
    assert!(!decided.answers[0].errors.is_empty());
}

#[test]
fn a_wrong_policy_is_refused_with_every_complaint() {
    for (source, expected) in [
        ("permit (principal, action", "unexpected"),
        ("", "at least one"),
        (
            "permit (principal == ?principal, action, resource);",
            "slots",
        ),
        (
            "permit (principal, action == Action::\"made up\", resource);",
            "made up",
        ),
        (
            "permit (principal, action, resource) when { resource.colour == \"red\" };",
            "colour",
        ),
        (
            "permit (principal, action, resource) when { context.right == 7 };",
            "type",
        ),
    ] {
        let own = Policy {
            id: "wrong".into(),
            source: source.into(),
        };
        let complaints = check(&[own]).unwrap_err();
        assert_eq!(complaints[0].id, "wrong");
        let text = format!("{complaints:?}");
        assert!(text.contains(expected), "{source}: {text}");
    }
    let two =
        "permit (principal, action, resource); permit (principal, action, resource) when { 1 };";
    let own = Policy {
        id: "two".into(),
        source: two.into(),
    };
    assert_eq!(check(&[own]).unwrap_err()[0].id, "two/2");
}

/// The deepest policies that are taken, each in another way, through everything that a policy goes through, with no
/// more stack than a thread of a server has.
#[test]
fn the_deepest_policy_takes_no_more_stack_than_there_is() {
    let when = |expression: String| {
        format!("permit (principal, action, resource) when {{ {expression} }};")
    };
    let sources = [
        when(format!("{}true{}", "(".repeat(31), ")".repeat(31))),
        when(format!("{}true{}", "!(".repeat(31), ")".repeat(31))),
        when(format!("{}true", "true && ".repeat(127))),
        when(format!("{}true", "false || ".repeat(127))),
        when(format!("{}1 == 1", "1 + ".repeat(125))),
        when(format!("resource{}.name == \"x\"", ".tenant".repeat(124))),
        when(format!("{}true", "if true then true else ".repeat(32))),
        format!(
            "permit (principal, action, resource) {};",
            "when { true } ".repeat(128)
        ),
        when(format!(
            "principal == {}principal{}",
            "if (".repeat(15),
            " == principal) then principal else principal".repeat(15)
        )),
    ];
    let through = move || {
        for source in sources {
            let own = [Policy {
                id: "deep".into(),
                source: source.clone(),
            }];
            let Ok(rules) = Rules::new(&tenant("acme"), &own, &[]) else {
                // Too deep for the schema's level, or of another type: refused, and nothing worse.
                continue;
            };
            let admin = principal(PrincipalKind::User, "alice", &["admin"]);
            let snapshot = Snapshot::new(1, rules);
            let shop = project("shop");
            let decided = snapshot.explain(&admin, action(QUERY, false), Some(&shop));
            assert!(decided.view.is_some(), "{source}");
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(through).unwrap().join().unwrap();
}

#[test]
fn a_policy_that_would_take_all_of_the_stack_is_refused() {
    for bomb in [
        format!("{}true{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("{}true", "true && ".repeat(8_000)),
        format!("{}1 == 1", "1+".repeat(30_000)),
        format!("resource{}", ".tenant".repeat(9_000)),
        format!("{}true", "if true then true else ".repeat(2_500)),
        format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)),
    ] {
        let own = Policy {
            id: "bomb".into(),
            source: format!("permit (principal, action, resource) when {{ {bomb} }};"),
        };
        let complaints = check(&[own]).unwrap_err();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].problem.contains("at most"), "{complaints:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// What is kept of a decision is what deciding anew gives, whatever was asked before.
    #[test]
    fn a_kept_decision_is_the_decision(asked in proptest::collection::vec((0_usize..4, 0_usize..3, 0_usize..3, any::<bool>()), 1..20)) {
        let shop = project("shop");
        let rules = snapshot(&[], vec![grant(agent("a"), Right::Write, Resource::Project(shop))]);
        let who = [
            principal(PrincipalKind::Agent, "a", &[]),
            principal(PrincipalKind::Agent, "b", &["reader"]),
            principal(PrincipalKind::User, "a", &[]),
            principal(PrincipalKind::User, "c", &["admin"]),
        ];
        let methods = [APPEND, QUERY, PUT_POLICY];
        let projects = [Some(project("shop")), Some(project("other")), None];
        for (person, method, place, parts) in asked {
            let (person, action) = (&who[person], action(methods[method], parts));
            let place = projects[place].as_ref();
            prop_assert_eq!(rules.view(person, action, place), rules.explain(person, action, place).view);
        }
    }
}
