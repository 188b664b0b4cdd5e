//! The index behind its contract, fed by a real journal.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use commonplace_index::{Codes, DIMENSION, Embedder, Index, Options};
use commonplace_journal::Journal;
use commonplace_proto::common::{EventDraft, EventFilter, Operation, Reference, reference::Point};
use commonplace_proto::index as proto;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{AppendRequest, CreateBranchRequest};
use commonplace_rpc::{Channel, Code, Failure, Layered, Limits, context};
use commonplace_telemetry::Metrics;
use commonplace_types::{ManualClock, Timestamp};
use tonic::service::Routes;

/// Makes vectors of letters, and can be held up.
#[derive(Default)]
struct Letters {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Letters {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.changed.notify_all();
    }
}

impl Embedder for Letters {
    fn fingerprint(&self) -> &str {
        "letters/1"
    }

    fn embed(&self, text: &str) -> Codes {
        let held = self.held.lock().unwrap();
        drop(self.changed.wait_while(held, |held| *held).unwrap());
        let mut codes = [0i8; DIMENSION];
        for byte in text.bytes() {
            let code = &mut codes[byte as usize];
            *code = code.saturating_add(3);
        }
        codes
    }
}

struct World {
    journal: Journal,
    index: Index,
    appends: JournalServiceClient<Channel>,
    client: IndexServiceClient<Channel>,
}

fn layered(routes: Routes) -> Channel {
    let metrics = Metrics::new();
    Channel::in_process(Layered::new(routes.prepare(), Limits::default(), metrics))
}

fn quick() -> Options {
    Options {
        poll_interval_ms: 50,
        commit_interval_ms: 50,
        retry_ms: (10, 100),
        longest_wait_ms: 20_000,
        ..Options::default()
    }
}

impl World {
    async fn start(folder: &Path) -> Self {
        Self::with(folder, quick(), Ok(Arc::new(Letters::default()))).await
    }

    async fn with(
        folder: &Path,
        options: Options,
        embedder: Result<Arc<dyn Embedder>, String>,
    ) -> Self {
        let start = Timestamp::parse("2026-11-21T08:00:00Z").unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let journal = folder.join("journal");
        let journal = commonplace_journal::start(Default::default(), &journal, clock.clone());
        let journal = journal.await.unwrap();
        let to_journal = layered(Routes::new(journal.service()));
        let index =
            commonplace_index::start_with(options, folder, to_journal.clone(), embedder, clock);
        let index = index.await.unwrap();
        let to_index = layered(Routes::new(index.service()));
        Self {
            journal,
            index,
            appends: JournalServiceClient::new(to_journal),
            client: IndexServiceClient::new(to_index),
        }
    }

    async fn stop(self) {
        self.index.shutdown().await;
        self.journal.shutdown().await.unwrap();
    }

    async fn append(&self, branch: &str, events: Vec<EventDraft>) -> String {
        let request = AppendRequest {
            branch: branch.into(),
            events,
            ..Default::default()
        };
        let answer = self.appends.clone().append(request).await.unwrap();
        answer.into_inner().commit.unwrap().hash
    }

    /// Searches, and once more for columns, which must say the same.
    async fn search(&self, request: proto::SearchRequest) -> proto::SearchResponse {
        let answer = self.try_search(request.clone()).await.unwrap();
        let dense = answer.dense.clone().unwrap();
        let again = proto::SearchRequest {
            as_of: at(Point::Commit(answer.commit.clone())),
            dense_through: dense.available.then_some(dense.through),
            without_dense: !dense.available,
            wait_for_dense: false,
            as_columns: true,
            ..request
        };
        let by_columns = self.try_search(again).await.unwrap();
        assert_eq!(by_columns.statistics, answer.statistics);
        assert!(by_columns.candidates.is_empty());
        let rows = rows(&by_columns.columns.unwrap());
        let unnamed = answer.candidates.iter().map(|row| proto::Candidate {
            record_id: String::new(),
            tags: Vec::new(),
            ..row.clone()
        });
        assert_eq!(rows, unnamed.collect::<Vec<_>>());
        answer
    }

    async fn try_search(
        &self,
        request: proto::SearchRequest,
    ) -> Result<proto::SearchResponse, Failure> {
        let answer = self.client.clone().search(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| Failure::from_status(&status))
    }

    async fn status(&self) -> proto::ProjectIndex {
        let answer = self
            .client
            .clone()
            .get_status(proto::GetStatusRequest::default())
            .await;
        answer.unwrap().into_inner().projects.remove(0)
    }
}

/// What columns say, as the contract has it.
fn rows(columns: &proto::CandidateColumns) -> Vec<proto::Candidate> {
    let (ids, contents) = (columns.event_ids.chunks(16), columns.contents.chunks(16));
    let bytes = ids.zip(contents).enumerate();
    let row = |(at, (id, content)): (usize, (&[u8], &[u8]))| proto::Candidate {
        key: Some(proto::PassageKey {
            event_id: format!("ev_{}", hex::encode(id)),
            passage: columns.passages[at],
        }),
        record_id: String::new(),
        artifact_type: columns.artifact_types[columns.types[at] as usize].clone(),
        event_time: Some(prost_types::Timestamp {
            seconds: columns.event_times[at] / 1_000_000,
            nanos: (columns.event_times[at] % 1_000_000) as i32 * 1_000,
        }),
        importance: f64::from(columns.importances[at]) / 1e6,
        pinned: columns.pinned[at],
        tags: Vec::new(),
        lexical_score: columns.lexical_scores[at],
        lexical_rank: columns.lexical_ranks[at],
        dense_score: Some(columns.dense_scores[at]).filter(|score| !score.is_nan()),
        dense_rank: columns.dense_ranks[at],
        tokens: columns.tokens[at],
        content: hex::encode(content),
        eligibility: columns.eligibilities[at],
        always: columns.always[at],
    };
    bytes.map(row).collect()
}

fn draft(kind: &str, title: &str, text: &str) -> EventDraft {
    EventDraft {
        artifact_type: kind.into(),
        title: title.into(),
        text: text.into(),
        ..Default::default()
    }
}

fn at(point: Point) -> Option<Reference> {
    Some(Reference { point: Some(point) })
}

fn words(query: &str) -> proto::SearchRequest {
    proto::SearchRequest {
        query: query.into(),
        lexical_limit: 10,
        ..Default::default()
    }
}

fn both(query: &str) -> proto::SearchRequest {
    proto::SearchRequest {
        dense_limit: 10,
        wait_for_dense: true,
        ..words(query)
    }
}

fn records(answer: &proto::SearchResponse) -> Vec<&str> {
    let mut ranked: Vec<_> = answer
        .candidates
        .iter()
        .filter(|c| c.lexical_rank > 0)
        .collect();
    ranked.sort_by_key(|candidate| candidate.lexical_rank);
    ranked
        .iter()
        .map(|candidate| candidate.record_id.as_str())
        .collect()
}

fn about(record: &str, mut draft: EventDraft) -> EventDraft {
    draft.record_id = record.into();
    draft
}

fn some_events(count: usize) -> Vec<EventDraft> {
    let text = |number| {
        format!(
            "the retry of step {number} ran into a timeout, parser {}",
            number % 7
        )
    };
    let make = |number| {
        about(
            &format!("record:{number}"),
            draft("runlog", "run", &text(number)),
        )
    };
    (0..count).map(make).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_found_at_once_and_cited() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    for round in 0..20 {
        let word = format!("zircon{}x", char::from(b'a' + round));
        let title = format!("Login fails in {word}");
        let text = "  The session cookie expired.\n";
        let commit = world.append("", vec![draft("bug", &title, text)]).await;
        let answer = world.search(both(&word)).await;
        assert_eq!(answer.commit, commit);
        assert_eq!(
            answer
                .candidates
                .iter()
                .filter(|c| c.lexical_rank > 0)
                .count(),
            1
        );
        let best = answer
            .candidates
            .iter()
            .find(|c| c.lexical_rank == 1)
            .unwrap();
        assert!(best.dense_score.is_some() && best.tokens > 5);
        let request = proto::GetPassagesRequest {
            keys: vec![best.key.clone().unwrap()],
            ..Default::default()
        };
        let passages = world
            .client
            .clone()
            .get_passages(request)
            .await
            .unwrap()
            .into_inner();
        let passage = &passages.passages[0];
        assert_eq!(
            (&passage.title, passage.text.as_str()),
            (&title, text.trim())
        );
        assert_eq!(
            &text[passage.start as usize..passage.end as usize],
            passage.text
        );
        assert!(passage.checksum.starts_with("sha256:"));
        assert_eq!(passage.tokens, best.tokens);
    }
    let status = world.status().await;
    assert_eq!((status.passages, status.vectors), (20, 20));
    assert_eq!(status.lexical_commit, status.journal_commit);
    assert_eq!(status.state, "following");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_supersessions_and_the_past_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let first = about("bug:1", draft("bug", "Cache", "stale cache entry"));
    let before = world.append("", vec![first]).await;
    let request = CreateBranchRequest {
        branch: "side".into(),
        ..Default::default()
    };
    world.appends.clone().create_branch(request).await.unwrap();
    let mut newer = about("bug:1", draft("bug", "Cache", "stale cache entry, fixed"));
    newer.supersede_heads = true;
    world.append("", vec![newer]).await;
    world
        .append(
            "side",
            vec![about("bug:2", draft("bug", "Cache", "cache on the side"))],
        )
        .await;

    let main = world.search(words("cache")).await;
    assert_eq!(records(&main), ["bug:1"]);
    assert_eq!(main.statistics.unwrap().passages, 1);
    let side = words("cache");
    let side = proto::SearchRequest {
        as_of: at(Point::Branch("side".into())),
        ..side
    };
    let mut found = records(&world.search(side).await).join(" ");
    found = found
        .split(' ')
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(found, "bug:1bug:2");
    let past = proto::SearchRequest {
        as_of: at(Point::Commit(before.clone())),
        ..words("fixed")
    };
    assert_eq!(records(&world.search(past).await), [""; 0]);

    let shown = proto::SearchRequest {
        ineligible_limit: 5,
        ..words("stale")
    };
    let answer = world.search(shown).await;
    let superseded = proto::Eligibility::Superseded as i32;
    assert_eq!(
        answer
            .candidates
            .iter()
            .filter(|c| c.eligibility == superseded)
            .count(),
        1
    );

    let retract = EventDraft {
        operation: Operation::Retract.into(),
        ..about("bug:1", draft("bug", "", ""))
    };
    world.append("", vec![retract]).await;
    assert!(world.search(words("cache")).await.candidates.is_empty());
    let again = proto::SearchRequest {
        as_of: at(Point::Commit(before)),
        ..words("cache")
    };
    assert_eq!(records(&world.search(again).await), ["bug:1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_survive_restarts_damage_and_rebuilds() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let commit = world.append("", some_events(300)).await;
    let request = proto::SearchRequest {
        as_of: at(Point::Commit(commit)),
        ineligible_limit: 10,
        filter: Some(EventFilter {
            record_ids: (0..200).map(|n| format!("record:{n}")).collect(),
            ..Default::default()
        }),
        ..both("timeout of step 17, parser 3")
    };
    let expected = world.search(request.clone()).await;
    assert!(expected.candidates.len() > 20);
    let digest = world.status().await.digest;
    world.append("", some_events(301).split_off(300)).await;
    world.stop().await;

    let index = folder.path().join("index/default/default");
    let damages: [&dyn Fn(); 5] = [
        &|| {},
        &|| std::fs::remove_dir_all(&index).unwrap(),
        &|| std::fs::write(index.join("rows.log"), b"damaged").unwrap(),
        &|| std::fs::write(index.join("texts"), vec![0; 1 << 20]).unwrap(),
        &|| std::fs::remove_dir_all(index.join("lexical")).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        let world = World::start(folder.path()).await;
        assert_eq!(
            world.search(request.clone()).await,
            expected,
            "damage {number}"
        );
        let keys = expected
            .candidates
            .iter()
            .filter_map(|c| c.key.clone())
            .collect();
        let request = proto::GetPassagesRequest {
            keys,
            ..Default::default()
        };
        let passages = world
            .client
            .clone()
            .get_passages(request)
            .await
            .unwrap()
            .into_inner();
        assert!(
            passages
                .passages
                .iter()
                .all(|p| p.text.contains("ran into a timeout"))
        );
        world.stop().await;
    }

    let world = World::start(folder.path()).await;
    assert_eq!(world.search(request.clone()).await, expected);
    let late = world.status().await.digest;
    let mut client = world.client.clone();
    let rebuilding =
        tokio::spawn(async move { client.rebuild(proto::RebuildRequest::default()).await });
    for _ in 0..20 {
        assert_eq!(world.search(request.clone()).await, expected);
    }
    let rebuilt = rebuilding
        .await
        .unwrap()
        .unwrap()
        .into_inner()
        .project
        .unwrap();
    assert_eq!(rebuilt.digest, late);
    assert_ne!(rebuilt.digest, digest);
    assert_eq!(rebuilt.passages, 301);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_another_history_is_followed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    world.append("", some_events(20)).await;
    world.search(both("timeout")).await;
    world.stop().await;
    std::fs::remove_dir_all(folder.path().join("journal")).unwrap();
    let world = World::start(folder.path()).await;
    let commit = world
        .append(
            "",
            vec![about("new", draft("bug", "Other", "another timeout"))],
        )
        .await;
    let answer = world.search(both("timeout")).await;
    assert_eq!(records(&answer), ["new"]);
    assert_eq!(answer.commit, commit);
    assert_eq!(world.status().await.passages, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_every_answer_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(folder.path(), quick(), Err("there is no model".into())).await;
    world.append("", some_events(5)).await;
    let answer = world.search(both("timeout")).await;
    assert_eq!(records(&answer).len(), 5);
    let dense = answer.dense.unwrap();
    assert!(!dense.available);
    assert!(dense.reason.contains("com model pull"), "{}", dense.reason);
    assert!(
        answer
            .candidates
            .iter()
            .all(|c| c.dense_score.is_none() && c.dense_rank == 0)
    );
    world.stop().await;

    // With a model from now on, the vectors of what is there already are made.
    let world = World::start(folder.path()).await;
    let answer = world.search(both("timeout")).await;
    let dense = answer.dense.unwrap();
    assert!(dense.available);
    assert_eq!(dense.through, answer.commit_number);
    assert!(answer.candidates.iter().all(|c| c.dense_rank > 0));
    let without = proto::SearchRequest {
        without_dense: true,
        ..both("timeout")
    };
    let dense = world.search(without).await.dense.unwrap();
    assert!(!dense.available && !dense.reason.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_take_long_hold_up_only_who_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let letters = Arc::new(Letters::default());
    let world = World::with(folder.path(), quick(), Ok(letters.clone())).await;
    world.append("", some_events(3)).await;
    let first = world.search(both("timeout")).await;
    letters.hold(true);
    world.append("", some_events(6).split_off(3)).await;
    let now = proto::SearchRequest {
        wait_for_dense: false,
        ..both("timeout")
    };
    let answer = world.search(now.clone()).await;
    assert_eq!(records(&answer).len(), 6);
    let dense = answer.dense.clone().unwrap();
    assert!(dense.through < answer.commit_number && dense.available);
    assert_eq!(
        answer
            .candidates
            .iter()
            .filter(|c| c.dense_score.is_some())
            .count(),
        3
    );
    let waiting = world.try_search(both("timeout"));
    let failure = context::with_deadline(Duration::from_millis(200), waiting)
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::DeadlineExceeded, "INDEX_BEHIND")
    );
    letters.hold(false);
    let later = world.search(both("timeout")).await;
    assert_eq!(later.dense.unwrap().through, later.commit_number);
    // What was answered then can be asked for again.
    let again = proto::SearchRequest {
        as_of: at(Point::Commit(answer.commit.clone())),
        dense_through: Some(dense.through),
        ..now
    };
    assert_eq!(world.search(again).await, answer);
    let old = proto::SearchRequest {
        as_of: at(Point::Commit(first.commit.clone())),
        ..both("timeout")
    };
    assert_eq!(world.search(old).await, first);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    world.append("", some_events(1)).await;
    let wrong = |change: fn(&mut proto::SearchRequest)| {
        let mut request = words("timeout");
        change(&mut request);
        let world = &world;
        async move { world.try_search(request).await.unwrap_err() }
    };
    for (failure, field) in [
        (wrong(|r| r.lexical_limit = 1_001).await, "lexical_limit"),
        (wrong(|r| r.dense_limit = 9_999).await, "dense_limit"),
        (
            wrong(|r| r.ineligible_limit = 101).await,
            "ineligible_limit",
        ),
        (wrong(|r| r.query = "x".repeat(8_193)).await, "query"),
        (wrong(|r| r.project = "No Project".into()).await, "project"),
        (
            wrong(|r| {
                r.filter = Some(EventFilter {
                    min_importance: 7.0,
                    ..Default::default()
                });
            })
            .await,
            "filter.min_importance",
        ),
        (
            wrong(|r| r.as_of = at(Point::Commit("zz".into()))).await,
            "as_of.commit",
        ),
    ] {
        assert_eq!(failure.code, Code::InvalidArgument, "{field}");
        assert_eq!(failure.fields[0].field, field);
    }
    let missing = wrong(|r| r.project = "nowhere".into()).await;
    assert_eq!(missing.code, Code::NotFound, "{missing:?}");
    let missing = wrong(|r| r.as_of = at(Point::Branch("nowhere".into()))).await;
    assert_eq!(missing.code, Code::NotFound, "{missing:?}");
    let request = proto::GetPassagesRequest {
        keys: vec![proto::PassageKey {
            event_id: format!("ev_{}", "0".repeat(32)),
            passage: 0,
        }],
        ..Default::default()
    };
    let status = world
        .client
        .clone()
        .get_passages(request)
        .await
        .unwrap_err();
    let failure = Failure::from_status(&status);
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::NotFound, "PASSAGE_NOT_FOUND")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_searches_than_can_wait_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let letters = Arc::new(Letters::default());
    let options = Options {
        searches: 1,
        queued_searches: 1,
        ..quick()
    };
    let world = Arc::new(World::with(folder.path(), options, Ok(letters.clone())).await);
    world.append("", some_events(1)).await;
    world.search(both("timeout")).await;
    letters.hold(true);
    let refused = Arc::new(AtomicU64::new(0));
    let asked: Vec<_> = (0..6)
        .map(|number| {
            let (world, refused) = (Arc::clone(&world), Arc::clone(&refused));
            tokio::spawn(async move {
                let answer = world.try_search(both(&format!("query {number}"))).await;
                if let Err(failure) = answer {
                    assert_eq!(failure.code, Code::ResourceExhausted);
                    assert_eq!(failure.reason, "SEARCHES_BUSY");
                    assert!(failure.retry_after.is_some());
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    while refused.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    letters.hold(false);
    for task in asked {
        task.await.unwrap();
    }
    assert_eq!(refused.load(Ordering::SeqCst), 4);
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_projects_than_may_be_open_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        open_projects: 2,
        ..quick()
    };
    let world = World::with(folder.path(), options, Ok(Arc::new(Letters::default()))).await;
    let name = |number: usize| format!("project-{number}");
    let append = async |number: usize, text: &str| {
        let request = AppendRequest {
            project: name(number),
            events: vec![EventDraft {
                artifact_type: "note".into(),
                title: text.into(),
                text: format!("turns {text} of {number}"),
                ..Default::default()
            }],
            ..Default::default()
        };
        world.appends.clone().append(request).await.unwrap();
    };
    let found = async |number: usize, text: &str| {
        let request = proto::SearchRequest {
            project: name(number),
            query: text.into(),
            lexical_limit: 5,
            ..Default::default()
        };
        world.search(request).await.candidates.len()
    };
    for number in 0..6 {
        append(number, "first").await;
    }
    for number in 0..6 {
        assert_eq!(found(number, "first").await, 1, "{number}");
    }
    // At rest or not, what is new is found, by many at once.
    let both = (0..6).map(|number| {
        let (append, found) = (&append, &found);
        async move {
            append(number, "second").await;
            (found(number, "second").await, found(number, "first").await)
        }
    });
    for (number, answer) in futures::future::join_all(both)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer, (1, 1), "{number}");
    }
    let status = world
        .client
        .clone()
        .get_status(proto::GetStatusRequest::default())
        .await;
    let projects = status.unwrap().into_inner().projects;
    let resting: Vec<_> = projects
        .iter()
        .filter(|one| one.state == "resting")
        .collect();
    assert!(projects.len() == 6 && resting.len() >= 4, "{projects:?}");
    assert!(
        resting
            .iter()
            .all(|one| one.passages == 2 && !one.digest.is_empty()),
        "{resting:?}"
    );
    // A rebuild wakes, and asks for its turn like everybody.
    let asleep = resting[0].project.clone();
    let rebuilt = world
        .client
        .clone()
        .rebuild(proto::RebuildRequest { project: asleep })
        .await;
    assert_eq!(rebuilt.unwrap().into_inner().project.unwrap().passages, 2);
    world.stop().await;
}
