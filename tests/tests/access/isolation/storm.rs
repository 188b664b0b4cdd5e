//! Calls of everything by everybody, with names of everybody's things.

use std::collections::{BTreeMap, BTreeSet};

use commonplace_proto::journal::QueryEventsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::context;
use commonplace_rpc::methods::{Method, Over};
use commonplace_tests::dice::Dice;
use commonplace_types::{Right, TenantName};
use prost_reflect::MethodDescriptor;
use tonic::Code;

use super::calls::{Filling, Names, Target, as_http, encoded, http_rule, rpcs};
use super::model::Caller;
use super::wire::{grpc, http};
use super::world::{Tenant, World};
use super::{Words, dice, seed, setting, told, words};

/// Names of all tenants of a seed.
const ALL: [usize; 4] = [0, 1, 2, 3];

/// One attempt, for whoever reads of its failure.
struct Attempt<'a> {
    world: &'a World,
    /// Nobody: without a credential.
    caller: Option<(&'a Caller, &'a str)>,
    path: &'static str,
    method: &'static Method,
    project: String,
    sent: Words,
}

impl Attempt<'_> {
    fn what(&self) -> String {
        let who = self
            .caller
            .map_or("nobody".to_owned(), |(caller, _)| caller.name());
        let (path, project) = (self.path, &self.project);
        format!("seed {}: {who} calls {path} about {project}", seed())
    }

    fn expected(&self) -> bool {
        let Some((caller, _)) = self.caller else {
            return false;
        };
        let own = self
            .world
            .tenants
            .iter()
            .find(|tenant| tenant.name == caller.tenant);
        own.is_some_and(|own| caller.let_in(&own.rules, self.method, &self.project))
    }

    /// Whoever got past the door may still be refused, where the service asks for more.
    fn may_be_refused_behind(&self) -> bool {
        let Some((caller, _)) = self.caller else {
            return false;
        };
        let name = self.method.name.rsplit('/').next().unwrap_or_default();
        match name {
            // Of a credential with scopes, more than those.
            "CreateKey" | "RotateKey" | "CreateGrant" => caller.scopes.is_some(),
            // About others, for administrators only.
            "ExplainAccess" => true,
            // What a caller wants to search within may be more than it sees.
            "Search" if self.only_parts(caller) => true,
            _ => self
                .method
                .access
                .as_ref()
                .is_some_and(|access| access.over == Over::Service),
        }
    }

    /// Whether a caller sees some of the project, and not all of it.
    fn only_parts(&self, caller: &Caller) -> bool {
        let mut tenants = self.world.tenants.iter();
        let own = tenants.find(|tenant| tenant.name == caller.tenant);
        own.is_some_and(|own| {
            caller.sees_some(&own.rules, &self.project)
                && !caller.may(&own.rules, Right::Read, Some(&self.project))
        })
    }

    /// Checks who was let in, and that nobody is told what is not for them. `said`: words of others that somebody of
    /// the caller's tenant said before, and that may stand in what it wrote.
    fn check(&self, refused: bool, unknown: bool, answer: &[u8], said: &Words) {
        let what = self.what();
        assert_eq!(unknown, self.caller.is_none(), "{what}: {}", shown(answer));
        let wrongly = match self.expected() {
            true => refused && !self.may_be_refused_behind(),
            false => !refused && !unknown,
        };
        assert!(!wrongly, "{what}: refused {refused}: {}", shown(answer));
        let caller = self.caller.map(|(caller, _)| caller);
        let told = words(answer);
        for tenant in &self.world.tenants {
            let own = caller.is_some_and(|caller| caller.tenant == tenant.name);
            for word in tenant.hidden_from(caller) {
                let bytes = word.as_bytes();
                let echo = self.sent.contains(bytes) || !own && said.contains(bytes);
                let leaked = told.contains(bytes) && !echo;
                assert!(!leaked, "{what}: told `{word}`: {}", shown(answer));
            }
        }
    }
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer)
        .chars()
        .take(2_000)
        .collect()
}

/// Who calls: administrators more often than others, as more is open to them.
fn somebody<'a>(
    tenant: &'a Tenant,
    dice: &mut Dice,
) -> Option<&'a (Caller, String, commonplace_rpc::Channel)> {
    match dice.below(20) {
        0 => None,
        1..=6 => tenant.callers.first(),
        _ => Some(dice.pick(&tenant.callers)),
    }
}

/// How often each rpc was answered well, and refused.
type Counts = BTreeMap<&'static str, (usize, usize)>;

/// Gives the rpcs that were called by their HTTP paths too.
async fn storm(world: &World, counts: &mut Counts) -> BTreeSet<&'static str> {
    let mut dice = dice(1);
    let nobody = world.house.channel(None);
    let mut said: BTreeMap<&str, Words> = BTreeMap::new();
    let mut by_http = BTreeSet::new();
    for _ in 0..setting("COM_ISOLATION_ROUNDS", 20) {
        for (path, method, descriptor) in rpcs() {
            let tenant = dice.pick(&world.tenants);
            let somebody = somebody(tenant, &mut dice);
            let own = dice.one_in(2);
            let about = if own {
                tenant
            } else {
                dice.pick(&world.tenants)
            };
            let project = match dice.one_in(8) {
                true => Names::Project.nowhere(&mut dice),
                false => dice.pick(&about.projects).clone(),
            };
            let target = Target {
                tenant: about,
                project: project.clone(),
                own: somebody.is_some_and(|(caller, ..)| caller.tenant == about.name),
                wild: true,
                instead: None,
            };
            let fork = Dice::new(dice.roll());
            let mut filling = Filling::new(path, target, &world.tenants, fork);
            let messages = filling.messages(&descriptor);
            let sent = encoded(&messages);
            let attempt = Attempt {
                world,
                caller: somebody.map(|(caller, bearer, _)| (caller, bearer.as_str())),
                path,
                method,
                project,
                sent: words(&sent.concat()),
            };
            let whose = attempt
                .caller
                .map_or("", |(caller, _)| caller.tenant.as_str());
            let said = said.entry(whose).or_default();
            said.extend(&attempt.sent);
            let over_http = http_rule(&descriptor).filter(|_| dice.one_in(2));
            let count = counts.entry(path).or_default();
            let refused = match over_http {
                None => {
                    let channel = somebody.map_or(&nobody, |(.., channel)| channel);
                    let endless = method.server_streaming;
                    let answer = grpc(channel, path, sent, endless).await;
                    let refused = answer.code == Code::PermissionDenied;
                    let unknown = answer.code == Code::Unauthenticated;
                    attempt.check(refused, unknown, &answer.bytes, said);
                    count.0 += usize::from(answer.code == Code::Ok);
                    refused
                }
                Some((verb, http_path, has_body)) => {
                    by_http.insert(path);
                    let (path, body) = as_http(&http_path, has_body, &messages[0]);
                    let bearer = attempt.caller.map(|(_, bearer)| bearer);
                    let address = world.house.server.address();
                    let (status, bytes) = http(address, verb, &path, bearer, &body).await;
                    attempt.check(status == 403, status == 401, &bytes, said);
                    count.0 += usize::from(status == 200);
                    status == 403
                }
            };
            count.1 += usize::from(refused);
        }
    }
    by_http
}

/// Paths that are no rpc's.
async fn other_paths(world: &World) {
    let tenant = &world.tenants[0];
    let address = world.house.server.address();
    for (caller, bearer, _) in &tenant.callers {
        for about in &world.tenants {
            for project in &about.projects {
                let path = format!("/ingest/jsonl?project={project}");
                let line = "{\"artifact_type\":\"note\",\"title\":\"over http\"}\n";
                let (status, bytes) = http(address, "POST", &path, Some(bearer), line).await;
                let expected = caller.may(&tenant.rules, Right::Write, Some(project));
                assert_eq!(
                    status == 200,
                    expected,
                    "{}: {}",
                    caller.name(),
                    shown(&bytes)
                );
            }
        }
        for (path, expected) in [("/metrics", 403), ("/nothing", 404), ("/health", 200)] {
            let (status, bytes) = http(address, "GET", path, Some(bearer), "").await;
            assert_eq!(status, expected, "{path}: {}", shown(&bytes));
            let told = words(&bytes);
            for other in &world.tenants[1..] {
                let mut hidden = other.hidden_from(Some(caller));
                assert!(hidden.all(|word| !told.contains(word.as_bytes())), "{path}");
            }
        }
    }
}

/// Every rpc is answered well to somebody who may call it; else the storm would show little.
async fn everything_is_reached(world: &World, counts: &mut Counts) {
    let mut dice = dice(2);
    for (path, method, descriptor) in rpcs() {
        let (about, (caller, _, channel)) = (&world.tenants[1], &world.tenants[1].callers[0]);
        for project in about.projects.iter().cycle().take(12) {
            let target = Target {
                tenant: about,
                project: project.clone(),
                own: true,
                wild: false,
                instead: None,
            };
            let fork = Dice::new(dice.roll());
            let mut filling = Filling::new(path, target, &world.tenants, fork);
            let sent = encoded(&filling.messages(&descriptor));
            let answer = grpc(channel, path, sent, method.server_streaming).await;
            let count = counts.entry(path).or_default();
            count.0 += usize::from(answer.code == Code::Ok);
            count.1 += usize::from(answer.code == Code::PermissionDenied);
        }
        let open = caller.let_in(&about.rules, method, "shared");
        let (answered, refused) = counts[path];
        assert_eq!(
            answered > 0,
            open,
            "{path}: {answered} answered, {refused} refused"
        );
    }
}

/// What was written went nowhere but into the tenant's own projects, and all of it is still there.
async fn nothing_went_astray(world: &World) {
    for tenant in &world.tenants {
        let mut journal = JournalServiceClient::new(world.house.operator.journal.clone());
        let request = QueryEventsRequest {
            project: "shared".into(),
            page_size: 1_000,
            include_superseded: true,
            ..QueryEventsRequest::default()
        };
        let call = async { journal.query_events(request).await.unwrap().into_inner() };
        let of = TenantName::new(&*tenant.name).unwrap();
        let answer = context::for_tenant(of, call).await;
        let texts = answer
            .events
            .iter()
            .flat_map(|event| [&*event.title, &*event.text]);
        let texts: Vec<&str> = texts.collect();
        let there = words(texts.join("\n").as_bytes());
        let of = |tenant: &Tenant| {
            let all = tenant.canaries.iter();
            all.filter(|canary| there.contains(canary.word.as_bytes()))
                .count()
        };
        for other in &world.tenants {
            let found = of(other);
            assert_eq!(found > 3, other.name == tenant.name, "{found}: {texts:?}");
            assert!(found == 0 || other.name == tenant.name, "{texts:?}");
        }
    }
    // Everybody's credential is as good as before.
    for tenant in &world.tenants {
        for (caller, bearer, _) in &tenant.callers {
            let address = world.house.server.address();
            let (status, bytes) = http(address, "GET", "/info", Some(bearer), "").await;
            assert_eq!(status, 200, "{}: {}", caller.name(), shown(&bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_what_is_not_for_them() {
    let world = World::build(seed(), &ALL).await;
    let mut counts = Counts::new();
    let by_http = storm(&world, &mut counts).await;
    let with_path = rpcs()
        .into_iter()
        .filter(|(.., method)| http_rule(method).is_some());
    let with_path: BTreeSet<&str> = with_path.map(|(path, ..)| path).collect();
    assert_eq!(by_http, with_path, "every HTTP path is called");
    let calls: usize = counts
        .values()
        .map(|(answered, refused)| answered + refused)
        .sum();
    println!("{calls} calls answered or refused: {counts:?}");
    // Every door that asks for more than to belong to the tenant was closed to somebody.
    for (path, method, _) in rpcs() {
        let access = method.access.as_ref().unwrap();
        let for_members = access.right == Some(Right::Member) || access.over == Over::Service;
        assert!(for_members || counts[path].1 > 0, "{path}: {counts:?}");
    }
    everything_is_reached(&world, &mut counts).await;
    other_paths(&world).await;
    nothing_went_astray(&world).await;
    world.house.close().await;
}

/// A call that names a thing of another tenant, and the same call that names one that is nowhere.
pub struct Pair {
    pub kind: Names,
    pub path: &'static str,
    pub descriptor: MethodDescriptor,
    pub elsewhere: (String, Vec<bytes::Bytes>),
    pub nowhere: (String, Vec<bytes::Bytes>),
}

impl Pair {
    pub fn reads(&self) -> bool {
        commonplace_rpc::methods::method(self.path).reads_only
    }
}

/// Such pairs for every rpc and every kind of name that its request has.
pub fn pairs(about: &Tenant, other: &Tenant, dice: &mut Dice) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (place, (path, _, descriptor)) in rpcs().into_iter().enumerate() {
        for kind in Names::ALL {
            let all: Vec<&String> = match kind {
                Names::Project => vec![&other.projects[2]],
                _ => other.ids.values().flat_map(|ids| kind.of(ids)).collect(),
            };
            let there = all[place % all.len()].clone();
            let nowhere = kind.nowhere(dice);
            let fork = Dice::new(dice.roll());
            let fill = |name: &String| {
                let target = Target {
                    tenant: about,
                    project: "shared".into(),
                    own: true,
                    wild: false,
                    instead: Some((kind, name.clone())),
                };
                let mut filling = Filling::new(path, target, &[], fork.clone());
                let sent = encoded(&filling.messages(&descriptor));
                (filling.named.contains(&kind), sent)
            };
            let ((named, elsewhere), (_, not)) = (fill(&there), fill(&nowhere));
            if named {
                pairs.push(Pair {
                    kind,
                    path,
                    descriptor: descriptor.clone(),
                    elsewhere: (there, elsewhere),
                    nowhere: (nowhere, not),
                });
            }
        }
    }
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_elsewhere_is_told_of_as_what_is_nowhere() {
    let world = World::build(seed(), &[0, 1]).await;
    let (other, own) = (&world.tenants[0], &world.tenants[1]);
    let mut dice = dice(3);
    let (mut kinds, mut rpcs, mut compared) = (BTreeSet::new(), BTreeSet::new(), 0);
    // Names that somebody took over: whatever is called so is no longer elsewhere alone.
    let mut taken = BTreeSet::new();
    for reads in [true, false] {
        for (caller, _, channel) in &own.callers {
            let pairs = pairs(own, other, &mut dice).into_iter();
            for pair in pairs.filter(|pair| pair.reads() == reads) {
                // A token that was sealed for another list is one of this journal's, but no more.
                let sealed = matches!(pair.kind, Names::Token | Names::Cursor);
                if sealed || taken.contains(&pair.elsewhere.0) {
                    continue;
                }
                let ask = async |(name, sent): &(String, Vec<bytes::Bytes>)| {
                    let endless = pair.path.ends_with("/Tail");
                    let answer = grpc(channel, pair.path, sent.clone(), endless).await;
                    let chance = [(name.clone(), "<name>".to_owned())];
                    (answer.code, told(&pair.descriptor, &answer, &chance))
                };
                let (elsewhere, nowhere) = match dice.one_in(2) {
                    true => {
                        let first = ask(&pair.elsewhere).await;
                        (first, ask(&pair.nowhere).await)
                    }
                    false => {
                        let first = ask(&pair.nowhere).await;
                        (ask(&pair.elsewhere).await, first)
                    }
                };
                let who = caller.name();
                let (kind, path) = (pair.kind, pair.path);
                let what = format!("seed {}: {who} calls {path} with {kind:?}", seed());
                assert_eq!(elsewhere.0, nowhere.0, "{what}: {elsewhere:?} {nowhere:?}");
                // What was written by the first is there when the second comes.
                if reads || elsewhere.0 != Code::Ok {
                    assert_eq!(elsewhere.1, nowhere.1, "{what}");
                } else {
                    taken.insert(pair.elsewhere.0.clone());
                }
                kinds.insert(kind);
                rpcs.insert(path);
                compared += 1;
            }
        }
    }
    println!(
        "{compared} pairs, {} rpcs, {} kinds of names",
        rpcs.len(),
        kinds.len()
    );
    assert!(
        kinds.len() == Names::ALL.len() - 2 && rpcs.len() > 25,
        "{kinds:?} {rpcs:?}"
    );
    world.house.close().await;
}

/// Tokens and cursors of another tenant are as good as those of another project of one's own: not at all.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_tenant_are_no_good() {
    let world = World::build(seed(), &[0, 1]).await;
    let (other, own) = (&world.tenants[0], &world.tenants[1]);
    let (_, _, channel) = &own.callers[0];
    let mut tried = 0;
    for (path, method, descriptor) in rpcs() {
        for kind in [Names::Token, Names::Cursor] {
            let of = |tenant: &Tenant, project: &str| kind.of(&tenant.ids[project]).to_vec();
            let pairs = of(other, "shared").into_iter().zip(of(own, "release"));
            for (theirs, mine) in pairs {
                let ask = async |token: &String| {
                    let target = Target {
                        tenant: own,
                        project: "shared".into(),
                        own: true,
                        wild: false,
                        instead: Some((kind, token.clone())),
                    };
                    let mut filling = Filling::new(path, target, &[], dice(4));
                    let sent = encoded(&filling.messages(&descriptor));
                    let named = filling.named.contains(&kind);
                    let answer = grpc(channel, path, sent, method.server_streaming).await;
                    (named, answer.code, told(&descriptor, &answer, &[]))
                };
                let (theirs, mine) = (ask(&theirs).await, ask(&mine).await);
                if theirs.0 {
                    assert_eq!(theirs, mine, "{path}");
                    assert_ne!(theirs.1, Code::Ok, "{path}: {}", theirs.2);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried >= 8, "{tried}");
    world.house.close().await;
}
