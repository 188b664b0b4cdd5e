//! Several tenants on one server, made from a seed: what they wrote, whom they let in, and words that each of them
//! alone says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_access::IssuerOptions;
use commonplace_access::credential::token::{Act, Claims, key_set, mint};
use commonplace_proto::common::reference::Point;
use commonplace_proto::common::{EventDraft, PrincipalKind, Reference, Scopes};
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::grantee::Who;
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::{common, ingest, journal, policy, retrieval};
use commonplace_rpc::{Channel, context};
use commonplace_tests::dice::Dice;
use commonplace_types::{ManualClock, Right, TenantName, Timestamp};
use serde_json::json;

use super::model::{Caller, Grant, Grantee, Kind, Part, Policy, Rules, TYPES};
use crate::common::House;

/// Projects that every tenant has; each has one more of its own.
const PROJECTS: [&str; 2] = ["shared", "release"];
/// Words that everybody writes, so that one tenant's would count for another's.
pub const COMMON: [&str; 8] = [
    "retry", "timeout", "index", "branch", "total", "cent", "queue", "order",
];
/// Seconds since 1970; the clock of the servers stands here.
const NOW: i64 = 1_900_000_000;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "commonplace";

/// Who may see a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Whoever may read the project.
    By(String),
    /// Whoever may see events of a type in the project.
    BySeeing(String, &'static str),
    /// Whoever may see anything of the project.
    BySeeingSome(String),
    /// Everybody of the tenant.
    ByMembers,
    /// Administrators of the tenant.
    ByAdmins,
}

/// A word that stands in one place only.
#[derive(Debug, Clone)]
pub struct Canary {
    pub word: String,
    pub seen: Seen,
}

/// Names of what a tenant has, by kind; the order is that in which they were made.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    pub events: Vec<String>,
    pub records: Vec<String>,
    pub commits: Vec<String>,
    pub branches: Vec<String>,
    pub tags: Vec<String>,
    pub packs: Vec<String>,
    pub policies: Vec<String>,
    pub access_policies: Vec<String>,
    pub keys: Vec<String>,
    pub grants: Vec<String>,
    pub requests: Vec<String>,
    pub tokens: Vec<String>,
    pub cursors: Vec<String>,
}

/// One tenant.
pub struct Tenant {
    pub name: String,
    pub projects: Vec<String>,
    pub rules: Rules,
    pub canaries: Vec<Canary>,
    /// Of each project; keys, grants and policies are in each.
    pub ids: BTreeMap<String, Ids>,
    /// Keys and grants that nobody misses.
    pub spare: Ids,
    /// Each with its credential.
    pub callers: Vec<(Caller, String, Channel)>,
}

/// A server with its tenants.
pub struct World {
    pub house: House,
    pub tenants: Vec<Tenant>,
    issuer_key: String,
    _keys: tempfile::TempDir,
}

/// The seed of a tenant's own things: the same on every server.
fn own_dice(seed: u64, place: usize) -> Dice {
    Dice::new(seed ^ (place as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d))
}

impl World {
    /// `places`: which of the tenants of a seed live here.
    pub async fn build(seed: u64, places: &[usize]) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let issuer_key = pair.serialize_pem();
        let jwks_file = keys.path().join("keys.json");
        std::fs::write(&jwks_file, key_set("k1", &issuer_key).unwrap()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(NOW, 0).unwrap()));
        let house = House::with(clock, |options| {
            options.access.issuers = vec![IssuerOptions {
                issuer: ISSUER.into(),
                audience: AUDIENCE.into(),
                jwks_file,
                roles_claim: "roles".into(),
                ..IssuerOptions::default()
            }];
        })
        .await;
        let mut world = Self {
            house,
            tenants: Vec::new(),
            issuer_key,
            _keys: keys,
        };
        for place in places {
            let tenant = world.tenant(&mut own_dice(seed, *place)).await;
            world.tenants.push(tenant);
        }
        world.until_indexed().await;
        // What was granted holds from now on.
        tokio::time::sleep(Duration::from_millis(2 * crate::common::REFRESH_MS)).await;
        world
    }

    async fn tenant(&self, dice: &mut Dice) -> Tenant {
        let name = format!("t{}", dice.word());
        let own = format!("p{}", dice.word());
        let projects: Vec<String> = PROJECTS
            .iter()
            .map(|name| (*name).to_owned())
            .chain([own])
            .collect();
        let mut tenant = Tenant {
            name: name.clone(),
            projects,
            rules: Rules::default(),
            canaries: Vec::new(),
            ids: BTreeMap::new(),
            spare: Ids::default(),
            callers: Vec::new(),
        };
        // A project's name is for those who may see anything of it.
        tenant.canaries.push(Canary {
            word: tenant.projects[2][1..].to_owned(),
            seen: Seen::BySeeingSome(tenant.projects[2].clone()),
        });
        let of = TenantName::new(name).unwrap();
        let making = Making {
            house: &self.house,
            tenant: &mut tenant,
            dice,
        };
        context::for_tenant(of, making.all()).await;
        self.callers(&mut tenant).await;
        tenant
    }

    async fn callers(&self, tenant: &mut Tenant) {
        let name = tenant.name.clone();
        let caller = |kind, subject: &str, roles: &[&str]| Caller {
            tenant: name.clone(),
            kind,
            subject: format!("{subject}-{name}"),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            scopes: None,
            actors: Vec::new(),
        };
        let scoped = |scopes: &[(Right, Option<&str>)], mut caller: Caller| {
            let scopes = scopes
                .iter()
                .map(|(right, only)| (*right, only.map(str::to_owned)));
            caller.scopes = Some(scopes.collect());
            caller
        };
        let through = |actors: &[&str], mut caller: Caller| {
            caller.actors = actors
                .iter()
                .map(|actor| format!("{actor}-{name}"))
                .collect();
            caller
        };
        let by_key = [
            caller(Kind::User, "admin", &["admin"]),
            caller(Kind::Agent, "writer", &["writer"]),
            caller(Kind::Agent, "reader", &["reader"]),
            caller(Kind::Agent, "plain", &[]),
            caller(Kind::Agent, "parted", &[]),
            caller(Kind::User, "crewed", &["crew", "manager"]),
            scoped(
                &[(Right::Read, Some("shared"))],
                caller(Kind::User, "narrow", &["admin"]),
            ),
            scoped(
                &[(Right::Write, Some("release")), (Right::Read, None)],
                caller(Kind::Agent, "wide", &["writer"]),
            ),
        ];
        for caller in by_key {
            let (id, secret) = self.key(&caller).await;
            for ids in tenant.ids.values_mut() {
                ids.keys.push(id.clone());
            }
            let channel = self.house.channel(Some(&secret));
            tenant.callers.push((caller, secret, channel));
        }
        let by_token = [
            caller(Kind::User, "ann", &[]),
            through(&["fixer"], caller(Kind::User, "bob", &["writer"])),
            through(&["fixer", "planner"], caller(Kind::User, "bob", &["admin"])),
            scoped(
                &[(Right::Admin, None)],
                through(&["fixer"], caller(Kind::User, "ann", &["reader"])),
            ),
        ];
        for caller in by_token {
            let token = self.token(&caller);
            let channel = self.house.channel(Some(&token));
            tenant.callers.push((caller, token, channel));
        }
    }

    async fn key(&self, caller: &Caller) -> (String, String) {
        let kind = match caller.kind {
            Kind::User => PrincipalKind::User,
            Kind::Agent => PrincipalKind::Agent,
        };
        let request = policy::CreateKeyRequest {
            kind: kind.into(),
            subject: caller.subject.clone(),
            roles: caller.roles.clone(),
            scopes: caller.scopes.as_ref().map(|scopes| Scopes {
                scopes: scopes.iter().map(written).collect(),
            }),
            ..policy::CreateKeyRequest::default()
        };
        let mut access = AccessServiceClient::new(self.house.operator.policy.clone());
        let call = async { access.create_key(request).await.unwrap().into_inner() };
        let made = context::for_tenant(TenantName::new(&*caller.tenant).unwrap(), call).await;
        (made.key.unwrap().id, made.secret)
    }

    fn token(&self, caller: &Caller) -> String {
        let mut act = None;
        for actor in caller.actors.iter().rev() {
            act = Some(Box::new(Act {
                sub: actor.clone(),
                kind: None,
                act,
            }));
        }
        let scope = caller.scopes.as_ref().map(|scopes| {
            let scopes: Vec<String> = scopes.iter().map(written).collect();
            scopes.join(" ")
        });
        let mut rest = serde_json::Map::new();
        rest.insert("roles".into(), json!(caller.roles));
        let claims = Claims {
            iss: ISSUER.into(),
            aud: json!(AUDIENCE),
            sub: caller.subject.clone(),
            #[allow(clippy::cast_precision_loss)]
            exp: (NOW + 3_600) as f64,
            tenant: Some(caller.tenant.clone()),
            kind: (caller.kind == Kind::Agent).then(|| "agent".into()),
            scope,
            act,
            rest,
            ..Claims::default()
        };
        mint(&claims, "k1", &self.issuer_key).unwrap()
    }

    /// Waits until every commit of every tenant is indexed.
    async fn until_indexed(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        for tenant in &self.tenants {
            let mut index = IndexServiceClient::new(self.house.operator.index.clone());
            loop {
                let request = GetStatusRequest::default();
                let call = async { index.get_status(request).await.unwrap().into_inner() };
                let of = TenantName::new(&*tenant.name).unwrap();
                let status = context::for_tenant(of, call).await;
                let level = status.projects.iter().all(|project| {
                    project.state == "following" && project.lexical_commit == project.journal_commit
                });
                if status.projects.len() == tenant.projects.len() && level {
                    break;
                }
                assert!(Instant::now() < until, "{status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn written((right, only): &(Right, Option<String>)) -> String {
    match only {
        Some(project) => format!("{right}:{project}"),
        None => right.to_string(),
    }
}

/// A tenant being made, as whoever holds the data folder.
struct Making<'a> {
    house: &'a House,
    tenant: &'a mut Tenant,
    dice: &'a mut Dice,
}

impl Making<'_> {
    async fn all(mut self) {
        for project in self.tenant.projects.clone() {
            let ids = self.project(&project).await;
            self.tenant.ids.insert(project, ids);
        }
        let mut shared = Ids::default();
        self.policies(&mut shared).await;
        self.grants(&mut shared).await;
        self.spare().await;
        for ids in self.tenant.ids.values_mut() {
            ids.policies.clone_from(&shared.policies);
            ids.access_policies.clone_from(&shared.access_policies);
            ids.grants.clone_from(&shared.grants);
        }
    }

    fn canary(&mut self, seen: Seen) -> String {
        let word = self.dice.word();
        self.tenant.canaries.push(Canary {
            word: word.clone(),
            seen,
        });
        word
    }

    fn draft(&mut self, project: &str) -> EventDraft {
        let kind = *self.dice.pick(&TYPES);
        let mut canary = || self.canary(Seen::BySeeing(project.to_owned(), kind));
        let (record, title, text, tag) = (canary(), canary(), canary(), canary());
        let (author, value, target) = (canary(), canary(), canary());
        let common: Vec<&str> = (0..6).map(|_| *self.dice.pick(&COMMON)).collect();
        EventDraft {
            record_id: format!("record:{record}"),
            artifact_type: kind.into(),
            title: format!("{title} {}", common[0]),
            text: format!("the {} of {text}", common.join(" ")),
            tags: vec![tag],
            author,
            attributes: vec![common::Attribute {
                key: "fact".into(),
                value,
            }],
            links: vec![common::Link {
                relation: "file".into(),
                target,
            }],
            ..EventDraft::default()
        }
    }

    async fn commit(&mut self, project: &str, branch: &str, ids: &mut Ids) {
        let count = 1 + self.dice.below(3);
        let events: Vec<EventDraft> = (0..count).map(|_| self.draft(project)).collect();
        ids.records
            .extend(events.iter().map(|event| event.record_id.clone()));
        let request_id = self.uuid();
        ids.requests.push(request_id.clone());
        let request = ingest::CommitRequest {
            request_id,
            project: project.into(),
            branch: branch.into(),
            author: self.canary(Seen::By(project.to_owned())),
            message: self.canary(Seen::By(project.to_owned())),
            events,
            ..ingest::CommitRequest::default()
        };
        let mut client = IngestServiceClient::new(self.house.operator.ingest.clone());
        let made = client.commit(request).await.unwrap().into_inner();
        ids.commits.push(made.commit.unwrap().hash);
        ids.events
            .extend(made.events.into_iter().map(|event| event.id));
    }

    fn uuid(&mut self) -> String {
        let hex = self.dice.hex(32);
        format!(
            "{}-{}-4{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..]
        )
    }

    async fn project(&mut self, project: &str) -> Ids {
        let mut ids = Ids::default();
        for _ in 0..2 {
            self.commit(project, "", &mut ids).await;
        }
        let branch = format!("line/{}", self.canary(Seen::By(project.to_owned())));
        let tag = format!("tag-{}", self.canary(Seen::By(project.to_owned())));
        let mut journal = JournalServiceClient::new(self.house.operator.journal.clone());
        let request = journal::CreateBranchRequest {
            project: project.into(),
            branch: branch.clone(),
            ..journal::CreateBranchRequest::default()
        };
        journal.create_branch(request).await.unwrap();
        let request = journal::CreateTagRequest {
            project: project.into(),
            tag: tag.clone(),
            ..journal::CreateTagRequest::default()
        };
        journal.create_tag(request).await.unwrap();
        self.commit(project, &branch, &mut ids).await;
        ids.branches.push(branch.clone());
        ids.tags.push(tag);
        let request = journal::QueryEventsRequest {
            project: project.into(),
            page_size: 1,
            ..journal::QueryEventsRequest::default()
        };
        let page = journal.query_events(request).await.unwrap().into_inner();
        let request = journal::ListCommitsRequest {
            project: project.into(),
            page_size: 1,
            ..journal::ListCommitsRequest::default()
        };
        let log = journal.list_commits(request).await.unwrap().into_inner();
        ids.tokens = vec![page.next_page_token, log.next_page_token];
        let request = journal::TailRequest {
            project: project.into(),
            cursor: String::new(),
        };
        let mut tail = journal.tail(request).await.unwrap().into_inner();
        ids.cursors
            .push(tail.message().await.unwrap().unwrap().cursor);
        for branch in ["main", branch.as_str()] {
            let request = retrieval::RetrieveRequest {
                project: project.into(),
                as_of: Some(Reference {
                    point: Some(Point::Branch(branch.into())),
                }),
                query: COMMON.join(" "),
                ..retrieval::RetrieveRequest::default()
            };
            let channel = self.house.operator.retrieval.clone();
            let made = RetrievalServiceClient::new(channel).retrieve(request).await;
            ids.packs.push(made.unwrap().into_inner().pack.unwrap().id);
        }
        ids
    }

    /// Policies for retrieval, and a tenant's own about who may do what.
    async fn policies(&mut self, ids: &mut Ids) {
        let id = format!("own_{}", self.dice.word());
        let request = policy::PutPolicyRequest {
            id: id.clone(),
            source: format!(
                "description: {}\nweights: {{lexical: 1, dense: 0}}",
                self.canary(Seen::ByMembers)
            ),
            activate: true,
            ..policy::PutPolicyRequest::default()
        };
        let channel = self.house.operator.policy.clone();
        let mut client = PolicyServiceClient::new(channel.clone());
        client.put_policy(request).await.unwrap();
        ids.policies.push(id);
        let rate = policy::RateLimit {
            per: policy::LimitPer::Principal.into(),
            unit: policy::LimitUnit::Requests.into(),
            name: self.canary(Seen::ByMembers),
            per_second: 1_000_000,
            ..policy::RateLimit::default()
        };
        let limits = policy::Limits {
            rates: vec![rate],
            ..policy::Limits::default()
        };
        let request = policy::PutLimitsRequest {
            limits: Some(limits),
            ..policy::PutLimitsRequest::default()
        };
        let mut client = LimitsServiceClient::new(channel.clone());
        client.put_limits(request).await.unwrap();
        let (tenant, own) = (&self.tenant.name, self.tenant.projects[2].clone());
        let agent = format!("plain-{tenant}");
        let forbid = "forbid (principal, action in Action::\"write\", resource is Project) \
             when { resource.name == \"release\" } unless { principal in Role::\"manager\" };";
        let permit = format!(
            "permit (principal == Agent::\"{tenant}/{agent}\", action in Action::\"read\", \
             resource == Project::\"{tenant}/{own}\");"
        );
        self.tenant.rules.policies = vec![
            Policy::Forbid {
                right: Right::Write,
                project: "release".into(),
                unless: "manager".into(),
            },
            Policy::Permit {
                right: Right::Read,
                project: own,
                agent,
            },
        ];
        let mut access = AccessServiceClient::new(channel);
        for source in [forbid.to_owned(), permit] {
            let id = format!("rule_{}", self.dice.word());
            let canary = self.canary(Seen::ByAdmins);
            let request = policy::PutAccessPolicyRequest {
                id: id.clone(),
                source: format!("// {canary}\n{source}"),
                ..policy::PutAccessPolicyRequest::default()
            };
            access.put_access_policy(request).await.unwrap();
            ids.access_policies.push(id);
        }
    }

    async fn grant(&self, grant: &Grant) -> String {
        let right = match grant.right {
            Right::Member | Right::Read => common::Right::Read,
            Right::Write => common::Right::Write,
            Right::Admin => common::Right::Admin,
        };
        let request = policy::CreateGrantRequest {
            grantee: Some(grantee(&grant.to)),
            right: right.into(),
            resource: grant.project.clone().map(|project| policy::GrantResource {
                project,
                ..policy::GrantResource::default()
            }),
        };
        let mut access = AccessServiceClient::new(self.house.operator.policy.clone());
        let made = access.create_grant(request).await.unwrap().into_inner();
        made.grant.unwrap().id
    }

    async fn grants(&mut self, ids: &mut Ids) {
        let name = |who: &str| format!("{who}-{}", self.tenant.name);
        let parted = Grantee::One(Kind::Agent, name("parted"));
        let grantees = [
            Grantee::One(Kind::Agent, name("plain")),
            Grantee::One(Kind::Agent, name("fixer")),
            Grantee::One(Kind::Agent, name("planner")),
            Grantee::One(Kind::User, name("ann")),
            Grantee::Role("crew".into()),
        ];
        let mut grants = vec![Grant {
            to: grantees[1].clone(),
            right: Right::Write,
            project: Some("shared".into()),
        }];
        for _ in 0..5 {
            let project = self.dice.pick(&self.tenant.projects).clone();
            grants.push(Grant {
                to: self.dice.pick(&grantees).clone(),
                right: *self.dice.pick(&[Right::Read, Right::Write, Right::Admin]),
                project: (!self.dice.one_in(5)).then_some(project),
            });
        }
        for grant in &grants {
            ids.grants.push(self.grant(grant).await);
        }
        self.tenant.rules.grants = grants;
        let mut parts = vec![Part {
            to: parted.clone(),
            project: "release".into(),
            artifact_type: "bug".into(),
        }];
        for _ in 0..6 {
            let to = match self.dice.one_in(3) {
                true => parted.clone(),
                false => self.dice.pick(&grantees).clone(),
            };
            parts.push(Part {
                to,
                project: self.dice.pick(&self.tenant.projects).clone(),
                artifact_type: (*self.dice.pick(&TYPES)).into(),
            });
        }
        for part in &parts {
            ids.grants.push(self.grant_part(part).await);
        }
        self.tenant.rules.parts = parts;
    }

    async fn grant_part(&mut self, part: &Part) -> String {
        // Over a part, more than to see it gives no more.
        let rights = [
            common::Right::Read,
            common::Right::Write,
            common::Right::Admin,
        ];
        let request = policy::CreateGrantRequest {
            grantee: Some(grantee(&part.to)),
            right: (*self.dice.pick(&rights)).into(),
            resource: Some(policy::GrantResource {
                project: part.project.clone(),
                artifact_type: part.artifact_type.clone(),
                author: String::new(),
            }),
        };
        let mut access = AccessServiceClient::new(self.house.operator.policy.clone());
        let made = access.create_grant(request).await.unwrap().into_inner();
        made.grant.unwrap().id
    }

    /// What may be revoked and deleted.
    async fn spare(&mut self) {
        let mut access = AccessServiceClient::new(self.house.operator.policy.clone());
        for _ in 0..12 {
            let key = policy::CreateKeyRequest {
                description: self.canary(Seen::ByAdmins),
                subject: self.canary(Seen::ByAdmins),
                ..policy::CreateKeyRequest::default()
            };
            let made = access.create_key(key).await.unwrap().into_inner();
            self.tenant.spare.keys.push(made.key.unwrap().id);
            let spare = Grant {
                to: Grantee::One(Kind::Agent, self.canary(Seen::ByAdmins)),
                right: Right::Read,
                project: None,
            };
            let id = self.grant(&spare).await;
            self.tenant.spare.grants.push(id);
        }
        for number in 0..4 {
            let request = policy::PutAccessPolicyRequest {
                id: format!("spare_{number}"),
                source: "forbid (principal == User::\"x/nobody\", action, resource);".into(),
                ..policy::PutAccessPolicyRequest::default()
            };
            access.put_access_policy(request).await.unwrap();
        }
    }
}

fn grantee(to: &Grantee) -> policy::Grantee {
    let who = match to {
        Grantee::One(Kind::User, name) => Who::User(name.clone()),
        Grantee::One(Kind::Agent, name) => Who::Agent(name.clone()),
        Grantee::Role(role) => Who::Role(role.clone()),
    };
    policy::Grantee { who: Some(who) }
}

impl Tenant {
    /// Words of this tenant that a caller may not see.
    pub fn hidden_from(&self, caller: Option<&Caller>) -> impl Iterator<Item = &str> {
        let own = caller.filter(|caller| caller.tenant == self.name);
        let hidden = move |canary: &&Canary| match (own, &canary.seen) {
            (None, _) => true,
            (Some(_), Seen::ByMembers) => false,
            (Some(caller), Seen::By(project)) => {
                !caller.may(&self.rules, Right::Read, Some(project))
            }
            (Some(caller), Seen::BySeeing(project, kind)) => {
                !caller.sees(&self.rules, project, kind)
            }
            (Some(caller), Seen::BySeeingSome(project)) => !caller.sees_some(&self.rules, project),
            (Some(caller), Seen::ByAdmins) => !caller.may(&self.rules, Right::Admin, None),
        };
        let words = self.canaries.iter().filter(hidden);
        // Without the letter that it begins with.
        let name = own.is_none().then(|| &self.name[1..]);
        words.map(|canary| canary.word.as_str()).chain(name)
    }
}
