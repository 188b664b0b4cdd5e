//! What people do with the services, told once: reports in, branches, corrections, packs, proofs.
//!
//! [`write`] fills an empty journal, [`ask`] asks a filled one. Both give everything they learnt in a form that can
//! be compared, so that one form of the mesh can be held against another. Two journals that were written to at
//! different times differ in their commits' hashes (salts and times are in them) and in nothing that [`write`] gives;
//! over copies of one journal, all that [`ask`] gives is equal, the bytes of packs included; with candidates from a vector
//! store all but the bytes, which say where candidates come from.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use commonplace_ingest::{GIT_LOG_ARGUMENTS, samples};
use commonplace_node::Channels;
use commonplace_proto::Timestamp;
use commonplace_proto::common::{EventDraft, Reference, reference::Point};
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::index::{GetStatusRequest, RebuildRequest};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{
    CommitRequest, IngestEventsRequest, IngestReportRequest, IngestSummary, ReportHeader,
};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{
    CreateBranchRequest, CreateTagRequest, ListCommitsRequest, QueryEventsRequest,
    VerifyChainRequest,
};
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::policy::{ListPoliciesRequest, PutPolicyRequest};
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{
    ContextPack, GetPackRequest, PackView, RetrieveRequest, SearchRequest, VerifyPackRequest,
};
use commonplace_rpc::{Channel, Code, Failure, context, server};
use futures::future::BoxFuture;

/// The moment that ages are counted from: 2026-11-21T00:00:00Z.
const CLOCK: i64 = 1_795_219_200;
/// Longest that one telling may take.
const PATIENCE: Duration = Duration::from_secs(300);

const QUERIES: [&str; 4] = [
    "which test fails now and then, and why?",
    "packing exceeds the token budget",
    "survives_a_full_disk time limit",
    "who changed the parser?",
];

/// What came of filling a journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// One line for each report: events added, events known, what was refused and masked.
    pub reports: Vec<String>,
    /// The events of each branch and tag, superseded ones too: ids, titles and checksums, in order of id.
    pub events: BTreeMap<String, Vec<String>>,
    /// What is current on `main`.
    pub current: Vec<String>,
    /// The reasons of what was refused.
    pub refusals: Vec<String>,
}

/// What came of asking.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// Hashes of the commits of `main`, newest first, and what checking the chain said.
    pub commits: Vec<String>,
    /// Rankings with every score, by query and place.
    pub rankings: BTreeMap<String, Vec<String>>,
    /// Packs, by query, policy and place.
    pub packs: BTreeMap<String, Pack>,
    /// The digest of the index's rows, before and after it was built anew.
    pub digests: [String; 2],
}

/// A pack.
#[derive(Debug, PartialEq, Eq)]
pub struct Pack {
    /// Its id.
    pub id: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// What it tells: used tokens, each item with its citation, scores and text, each exclusion with its reason.
    pub told: Vec<String>,
}

impl From<ContextPack> for Pack {
    fn from(pack: ContextPack) -> Self {
        let used = format!("{} tokens", pack.used_tokens);
        let items = pack.items.iter().map(|item| format!("{item:?}"));
        let exclusions = pack.exclusions.iter().map(|left| format!("{left:?}"));
        let told = [used].into_iter().chain(items).chain(exclusions).collect();
        Self {
            told,
            id: pack.id,
            content: pack.content.to_vec(),
        }
    }
}

struct Clients {
    ingest: IngestServiceClient<Channel>,
    journal: JournalServiceClient<Channel>,
    index: IndexServiceClient<Channel>,
    policy: PolicyServiceClient<Channel>,
    retrieval: RetrievalServiceClient<Channel>,
}

impl Clients {
    fn new(channels: &Channels) -> Self {
        let most = server::MESSAGE_BYTES;
        Self {
            ingest: IngestServiceClient::new(channels.ingest.clone()),
            journal: JournalServiceClient::new(channels.journal.clone())
                .max_decoding_message_size(most),
            index: IndexServiceClient::new(channels.index.clone()),
            policy: PolicyServiceClient::new(channels.policy.clone()),
            retrieval: RetrievalServiceClient::new(channels.retrieval.clone())
                .max_decoding_message_size(most)
                .max_encoding_message_size(most),
        }
    }
}

/// Fills an empty journal: reports of four kinds, each twice; a branch; corrections; a tag.
pub fn write(channels: &Channels) -> BoxFuture<'_, Written> {
    Box::pin(async move {
        let mut clients = Clients::new(channels);
        context::with_deadline(PATIENCE, clients.write()).await
    })
}

/// Asks a journal that [`write`] filled: rankings, packs and their proofs, before and after the policy changed and
/// the index was built anew. `dense`: wait for the vectors, as there is a model.
pub fn ask(channels: &Channels, dense: bool) -> BoxFuture<'_, Asked> {
    Box::pin(async move {
        let mut clients = Clients::new(channels);
        context::with_deadline(PATIENCE, clients.ask(dense)).await
    })
}

impl Clients {
    async fn write(&mut self) -> Written {
        let mut reports = Vec::new();
        let history = git_history();
        for round in ["first", "again"] {
            let junit = samples::junit(7).into_iter().map(|file| ("junit", file));
            let jenkins = samples::jenkins(7)
                .into_iter()
                .map(|file| ("jenkins", file));
            let git = ("git", ("history".to_owned(), history.clone()));
            let lines = ("jsonl", ("events.jsonl".to_owned(), json_lines()));
            for (format, (name, text)) in junit.chain(jenkins).chain([git, lines]) {
                let summary = self.report(format, &name, &text).await;
                reports.push(format!("{round} {format} {name}: {}", told(summary)));
            }
        }
        let mut refusals = vec![self.refusal_of_a_bad_event().await];
        self.journal
            .create_tag(CreateTagRequest {
                tag: "before".into(),
                at: Some(branch("main")),
                ..Default::default()
            })
            .await
            .unwrap();
        self.branch_off().await;
        self.correct().await;
        refusals.push(self.refusal_of_a_lost_race().await);
        let mut events = BTreeMap::new();
        for (name, place) in places() {
            events.insert(name.to_owned(), self.events(place, true).await);
        }
        Written {
            reports,
            events,
            current: self.events(branch("main"), false).await,
            refusals,
        }
    }

    async fn report(&mut self, format: &str, name: &str, text: &str) -> IngestSummary {
        let part = |part| IngestReportRequest { part: Some(part) };
        let header = ReportHeader {
            format: format.into(),
            name: name.into(),
            ..Default::default()
        };
        let mut parts = vec![part(Part::Header(header))];
        let chunks = text.as_bytes().chunks(4_999);
        parts.extend(chunks.map(|chunk| part(Part::Chunk(chunk.to_vec().into()))));
        let answer = self
            .ingest
            .ingest_report(futures::stream::iter(parts))
            .await;
        answer.unwrap().into_inner().summary.unwrap()
    }

    async fn refusal_of_a_bad_event(&mut self) -> String {
        let mut bad = event("bug", "too much", "of it");
        bad.importance = Some(7.0);
        let request = IngestEventsRequest {
            events: vec![bad, event("bug", "taken", "although its neighbour is not")],
            ..Default::default()
        };
        let answer = self.ingest.ingest_events(request).await.unwrap();
        told(answer.into_inner().summary.unwrap())
    }

    async fn branch_off(&mut self) {
        let request = CreateBranchRequest {
            branch: "work/parser".into(),
            from: Some(branch("main")),
            ..Default::default()
        };
        self.journal.create_branch(request).await.unwrap();
        let request = IngestEventsRequest {
            branch: "work/parser".into(),
            events: (0..20)
                .map(|number| {
                    let title = format!("attempt {number} to mend the parser");
                    event(
                        "diff",
                        &title,
                        "the parser fails now and then on an empty line",
                    )
                })
                .collect(),
            ..Default::default()
        };
        self.ingest.ingest_events(request).await.unwrap();
    }

    /// Says something else about a record, then withdraws another.
    async fn correct(&mut self) {
        for (text, operation) in [("eight tokens", 0), ("nine tokens", 0)] {
            let mut draft = event("decision", "how large a margin is", text);
            draft.record_id = "margin".into();
            draft.supersede_heads = true;
            draft.operation = operation;
            self.commit(vec![draft]).await;
        }
        let mut wrong = event("spec", "what nobody wants", "withdrawn");
        wrong.record_id = "unwanted".into();
        self.commit(vec![wrong.clone()]).await;
        wrong.operation = commonplace_proto::common::Operation::Retract as i32;
        wrong.text.clear();
        self.commit(vec![wrong]).await;
    }

    async fn commit(&mut self, events: Vec<EventDraft>) {
        let request = CommitRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            events,
            ..Default::default()
        };
        let first = self
            .ingest
            .commit(request.clone())
            .await
            .unwrap()
            .into_inner();
        let again = self.ingest.commit(request).await.unwrap().into_inner();
        assert_eq!(first.commit, again.commit, "a repeat gets the first answer");
    }

    async fn refusal_of_a_lost_race(&mut self) -> String {
        let request = CommitRequest {
            expected_head: "0".repeat(64),
            events: vec![event("bug", "late", "too late")],
            ..Default::default()
        };
        let refused = self.ingest.commit(request).await.unwrap_err();
        let failure = Failure::from_status(&refused);
        assert_eq!(failure.code, Code::Aborted, "{failure:?}");
        failure.reason.to_string()
    }

    async fn events(&mut self, place: Reference, include_superseded: bool) -> Vec<String> {
        let request = QueryEventsRequest {
            as_of: Some(place),
            include_superseded,
            page_size: 1_000,
            ..Default::default()
        };
        let answer = self
            .journal
            .query_events(request)
            .await
            .unwrap()
            .into_inner();
        assert!(answer.next_page_token.is_empty(), "one page holds them");
        let events = answer.events.into_iter();
        let line = |event: commonplace_proto::common::Event| {
            format!("{} {} {}", event.id, event.checksum, event.title)
        };
        let mut lines: Vec<String> = events.map(line).collect();
        lines.sort();
        lines
    }

    async fn ask(&mut self, dense: bool) -> Asked {
        let mut rankings = BTreeMap::new();
        for query in QUERIES {
            for (name, place) in places() {
                let ranking = self.search(query, place, dense).await;
                rankings.insert(format!("{query} @ {name}"), ranking);
            }
        }
        let mut packs = BTreeMap::new();
        for policy in self.policies().await {
            for (name, place) in places() {
                let pack = self.pack(QUERIES[0], &policy, place, dense).await;
                packs.insert(format!("{policy} @ {name}"), pack.into());
            }
        }
        self.prove(&packs).await;
        let before = self.digest().await;
        self.change_policy().await;
        let changed = self
            .pack(QUERIES[0], "general", branch("main"), dense)
            .await;
        assert!(packs.values().all(|pack: &Pack| pack.id != changed.id));
        packs.insert("general, changed @ main".into(), changed.into());
        self.index.rebuild(RebuildRequest::default()).await.unwrap();
        if dense {
            self.search(QUERIES[0], branch("main"), true).await;
        }
        let after = self.digest().await;
        self.prove(&packs).await;
        Asked {
            commits: self.commits().await,
            rankings,
            packs,
            digests: [before, after],
        }
    }

    async fn search(&mut self, query: &str, place: Reference, dense: bool) -> Vec<String> {
        let request = SearchRequest {
            as_of: Some(place),
            query: query.into(),
            limit: 50,
            clock: Some(clock()),
            wait_for_dense: dense,
            ..Default::default()
        };
        let answer = self.retrieval.search(request).await.unwrap().into_inner();
        assert!(!answer.items.is_empty(), "{query}");
        let manifest = answer.manifest.unwrap();
        assert_eq!(manifest.embedder.is_empty(), !dense, "{manifest:?}");
        let line = |item: &commonplace_proto::retrieval::Item| {
            let citation = item.citation.as_ref().unwrap();
            format!(
                "{} {} {}..{} {:?}",
                item.rank, item.event_id, citation.start, citation.end, item.scores
            )
        };
        answer.items.iter().map(line).collect()
    }

    async fn policies(&mut self) -> Vec<String> {
        let request = ListPoliciesRequest::default();
        let answer = self.policy.list_policies(request).await.unwrap();
        let policies = answer.into_inner().policies;
        assert!(policies.len() > 4);
        policies.into_iter().map(|policy| policy.id).collect()
    }

    async fn pack(
        &mut self,
        query: &str,
        policy: &str,
        as_of: Reference,
        dense: bool,
    ) -> ContextPack {
        let request = RetrieveRequest {
            as_of: Some(as_of),
            query: query.into(),
            policy: policy.into(),
            budget_tokens: 1_500,
            clock: Some(clock()),
            wait_for_dense: dense,
            durable: true,
            view: PackView::Full.into(),
            ..Default::default()
        };
        let pack = self.retrieval.retrieve(request).await.unwrap();
        let pack = pack.into_inner().pack.unwrap();
        assert!(pack.used_tokens <= 1_500);
        pack
    }

    /// Every pack is kept, is made again to the same bytes, and is not with one byte changed.
    async fn prove(&mut self, packs: &BTreeMap<String, Pack>) {
        for (name, Pack { id, content, .. }) in packs {
            let kept = self
                .retrieval
                .get_pack(GetPackRequest { id: id.clone() })
                .await;
            let kept = kept.unwrap().into_inner().pack.unwrap();
            assert!(kept.content == *content, "{name} is kept as it was given");
            let mut request = VerifyPackRequest {
                id: id.clone(),
                content: content.clone().into(),
            };
            let answer = self.retrieval.verify_pack(request.clone()).await.unwrap();
            let answer = answer.into_inner();
            assert!(answer.verified, "{name}: {:?}", answer.differences);
            let mut forged = content.clone();
            let middle = forged.len() / 2;
            forged[middle] ^= 1;
            request.content = forged.into();
            let answer = self.retrieval.verify_pack(request).await.unwrap();
            assert!(!answer.into_inner().verified, "{name}, forged");
        }
    }

    async fn change_policy(&mut self) {
        let request = PutPolicyRequest {
            id: "general".into(),
            source: "description: the newest first\nweights:\n  lexical: 0.2\n  recency: 5\nrecency_lambda: 0.5\n".into(),
            activate: true,
            ..Default::default()
        };
        let policy = self.policy.put_policy(request).await.unwrap();
        let policy = policy.into_inner().policy.unwrap();
        assert_eq!((policy.version, policy.active), (2, true));
    }

    async fn digest(&mut self) -> String {
        let request = GetStatusRequest {
            project: "default".into(),
        };
        let answer = self.index.get_status(request).await.unwrap().into_inner();
        let project = answer.projects.into_iter().next().unwrap();
        assert_eq!(project.lexical_commit, project.journal_commit);
        project.digest
    }

    async fn commits(&mut self) -> Vec<String> {
        let request = ListCommitsRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let answer = self
            .journal
            .list_commits(request)
            .await
            .unwrap()
            .into_inner();
        let mut lines: Vec<String> = answer
            .commits
            .into_iter()
            .map(|commit| commit.hash)
            .collect();
        let chain = self
            .journal
            .verify_chain(VerifyChainRequest::default())
            .await;
        let chain = chain.unwrap().into_inner();
        assert!(chain.intact, "{}", chain.first_break);
        lines.push(format!(
            "{} commits, {} events",
            chain.commits_checked, chain.events_checked
        ));
        lines
    }
}

/// Where is read, with names.
fn places() -> [(&'static str, Reference); 3] {
    [
        ("main", branch("main")),
        ("branch", branch("work/parser")),
        (
            "tag",
            Reference {
                point: Some(Point::Tag("before".into())),
            },
        ),
    ]
}

fn branch(name: &str) -> Reference {
    Reference {
        point: Some(Point::Branch(name.to_owned())),
    }
}

fn clock() -> Timestamp {
    Timestamp {
        seconds: CLOCK,
        nanos: 0,
    }
}

fn event(artifact_type: &str, title: &str, text: &str) -> EventDraft {
    EventDraft {
        artifact_type: artifact_type.into(),
        title: title.into(),
        text: text.into(),
        // Else it would be the moment of the call, and differ.
        event_time: Some(Timestamp {
            seconds: CLOCK - 86_400,
            nanos: 0,
        }),
        ..Default::default()
    }
}

fn told(summary: IngestSummary) -> String {
    let IngestSummary {
        added,
        duplicates,
        refusals,
        redactions,
        types,
        commit: _,
    } = summary;
    format!("{added} new, {duplicates} known, {refusals:?}, {redactions:?}, {types:?}")
}

/// Events as tools write them, one with a secret in it.
fn json_lines() -> String {
    let line = |number: usize| {
        let kind = ["bug", "spec", "decision", "runlog"][number % 4];
        let secret = match number {
            7 => " with AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            _ => "",
        };
        let line = serde_json::json!({
            "artifact_type": kind,
            "title": format!("note {number} on the parser"),
            "text": format!("the parser of line {number} hangs now and then{secret}"),
            "event_time": format!("2026-11-{:02}T08:{:02}:00Z", 10 + number % 10, number % 60),
            "tags": [format!("area-{}", number % 3)],
            "importance": (number % 10) as f64 / 10.0,
            "pinned": number == 11,
        });
        format!("{line}\n")
    };
    (0..60).map(line).collect()
}

/// The history of a small repository, the same each time.
fn git_history() -> String {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str], day: u32| {
        let date = format!("2026-11-{day:02}T10:00:00Z");
        let output = Command::new("git")
            .arg("-C")
            .arg(folder.path())
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"])
            .args(["-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .output()
            .expect("git can be run");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{complaint}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet", "--initial-branch=main"], 1);
    for day in 1..=9 {
        change(folder.path(), day);
        git(&["add", "."], day);
        let message = format!("Change {day}: mend the parser once more");
        git(&["commit", "--quiet", "-m", &message], day);
    }
    git(GIT_LOG_ARGUMENTS, 9)
}

fn change(folder: &Path, day: u32) {
    let lines = (0..day * 3).map(|line| format!("fn parse_{line}() -> u32 {{ {} }}\n", line * day));
    std::fs::write(folder.join("parser.rs"), lines.collect::<String>()).unwrap();
}
