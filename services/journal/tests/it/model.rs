//! The journal against a model that keeps, for each branch, nothing but a list.

use std::collections::{BTreeMap, BTreeSet};

use commonplace_journal::{JournalError, Selection, TailItem};
use commonplace_testkit::Backend;
use commonplace_types::{CommitHash, Draft, EventId, LaneInterval, Reference};
use futures::StreamExt;
use proptest::prelude::*;

use crate::common::{self, *};

/// What an event of an append does, with small numbers so that events meet.
#[derive(Debug, Clone)]
enum Change {
    Assert {
        record: u8,
        content: u8,
    },
    Update {
        record: u8,
        content: u8,
    },
    Retract {
        record: u8,
        content: u8,
    },
    /// Replaces the nth of all events ever written, visible or not.
    Replace {
        nth: usize,
        content: u8,
    },
}

#[derive(Debug, Clone)]
enum Step {
    Append { branch: usize, changes: Vec<Change> },
    Branch { from: usize },
    Restart,
}

fn change() -> impl Strategy<Value = Change> {
    let pair = || (0..4_u8, 0..6_u8);
    prop_oneof![
        4 => pair().prop_map(|(record, content)| Change::Assert { record, content }),
        3 => pair().prop_map(|(record, content)| Change::Update { record, content }),
        1 => pair().prop_map(|(record, content)| Change::Retract { record, content }),
        1 => (0..64_usize, 0..6_u8).prop_map(|(nth, content)| Change::Replace { nth, content }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..8_usize, prop::collection::vec(change(), 1..5))
            .prop_map(|(branch, changes)| Step::Append { branch, changes }),
        3 => (0..8_usize).prop_map(|from| Step::Branch { from }),
        1 => Just(Step::Restart),
    ]
}

/// An event on a branch and what it supersedes there.
type Entry = (EventId, String, BTreeSet<EventId>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    all: BTreeSet<EventId>,
    live: BTreeSet<EventId>,
}

fn view(entries: &[Entry]) -> View {
    let dead: BTreeSet<EventId> = entries
        .iter()
        .flat_map(|(_, _, over)| over.clone())
        .collect();
    let all: BTreeSet<EventId> = entries.iter().map(|(id, _, _)| *id).collect();
    View {
        live: all.difference(&dead).copied().collect(),
        all,
    }
}

#[derive(Default)]
struct Model {
    branches: Vec<Vec<Entry>>,
    ever: Vec<EventId>,
    views: BTreeMap<CommitHash, View>,
}

impl Model {
    fn draft(&self, change: &Change) -> Draft {
        let about = |make: fn(&str, &str) -> Draft, record: &u8, content: &u8| {
            make(&format!("r{record}"), &content.to_string())
        };
        match change {
            Change::Assert { record, content } => about(common::about, record, content),
            Change::Update { record, content } => about(common::update, record, content),
            Change::Retract { record, content } => about(common::retract, record, content),
            Change::Replace { nth, content } => {
                let mut draft = common::draft(&content.to_string());
                if !self.ever.is_empty() {
                    draft.supersedes = vec![self.ever[nth % self.ever.len()]];
                }
                draft
            }
        }
    }

    /// The branch after an append, or none when it must be refused.
    fn appended(&self, branch: usize, drafts: &[Draft]) -> Option<Vec<Entry>> {
        let mut entries = self.branches[branch].clone();
        let settled = settled(&entries, drafts);
        for draft in drafts {
            let id = draft.event_id();
            let record = record_of(draft);
            if settled.contains(&record) {
                continue;
            }
            let seen = view(&entries);
            let heads = heads(&entries, &record);
            let id = match is_state(draft) {
                true if stands(draft, &heads) => continue,
                true => returned(id, &seen.all, &heads),
                false if seen.all.contains(&id) => continue,
                false => id,
            };
            let mut over: BTreeSet<EventId> = draft.supersedes.iter().copied().collect();
            if !over.is_subset(&seen.all) {
                return None;
            }
            if is_state(draft) {
                over.extend(heads);
            }
            entries.push((id, record, over));
        }
        Some(entries)
    }
}

/// In the model every change of the record's heads is a state: no draft has an id or a time of its own.
fn is_state(draft: &Draft) -> bool {
    draft.supersede_heads || draft.operation == commonplace_types::Operation::Retract
}

fn record_of(draft: &Draft) -> String {
    let own = || draft.event_id().to_string();
    draft
        .record_id
        .as_ref()
        .map_or_else(own, ToString::to_string)
}

/// The heads of a record, in order.
fn heads(entries: &[Entry], record: &str) -> Vec<EventId> {
    let live = view(entries).live;
    let of_record = entries.iter().filter(|(_, found, _)| found == record);
    let heads: BTreeSet<EventId> = of_record
        .map(|(id, _, _)| *id)
        .filter(|id| live.contains(id))
        .collect();
    heads.into_iter().collect()
}

/// The id that a state gets over some heads: its content's own until the branch sees that, then a new one.
fn returned(content: EventId, all: &BTreeSet<EventId>, heads: &[EventId]) -> EventId {
    let joined: Vec<u8> = heads.iter().flat_map(|id| *id.as_bytes()).collect();
    let mut id = content;
    while all.contains(&id) {
        id = EventId::derive(&[b"return", id.as_bytes(), &joined]);
        CONTENTS.lock().unwrap().insert(id, content);
    }
    id
}

/// The content behind each id of a state that returned.
static CONTENTS: std::sync::Mutex<BTreeMap<EventId, EventId>> =
    std::sync::Mutex::new(BTreeMap::new());

fn stands(draft: &Draft, heads: &[EventId]) -> bool {
    let [head] = heads else { return false };
    let content = CONTENTS.lock().unwrap().get(head).copied();
    content.unwrap_or(*head) == draft.event_id()
}

/// The records that a list of states leaves as they are, through nothing new.
fn settled(entries: &[Entry], drafts: &[Draft]) -> BTreeSet<String> {
    let all = view(entries).all;
    let mut records: BTreeMap<String, Vec<&Draft>> = BTreeMap::new();
    for draft in drafts {
        records.entry(record_of(draft)).or_default().push(draft);
    }
    let is_settled = |(record, drafts): &(String, Vec<&Draft>)| {
        drafts.len() > 1
            && drafts
                .iter()
                .all(|draft| is_state(draft) && all.contains(&draft.event_id()))
            && drafts
                .last()
                .is_some_and(|last| stands(last, &heads(entries, record)))
    };
    records
        .into_iter()
        .filter(is_settled)
        .map(|(record, _)| record)
        .collect()
}

fn name(branch: usize) -> String {
    match branch {
        0 => "main".into(),
        number => format!("b{number}"),
    }
}

async fn seen(fixture: &Fixture, at: &Reference) -> View {
    let ids = async |include_superseded| -> BTreeSet<EventId> {
        let selection = Selection {
            include_superseded,
            ..Selection::default()
        };
        let page = fixture.page(at, &selection, 1_000, "").await.unwrap();
        page.items.iter().map(|event| event.id).collect()
    };
    View {
        all: ids(true).await,
        live: ids(false).await,
    }
}

/// What an index would make of the tail: where each event is born and dies.
async fn check_tail(fixture: &Fixture, model: &Model) {
    let head = fixture.journal.projects(&tenant(), 0, "").unwrap().items[0].commit_count - 1;
    let mut tail = fixture
        .journal
        .tail(&tenant(), &project(), "")
        .await
        .unwrap();
    let mut born: BTreeMap<EventId, Vec<LaneInterval>> = BTreeMap::new();
    let mut died: BTreeMap<EventId, Vec<LaneInterval>> = BTreeMap::new();
    loop {
        let TailItem::Frame(frame) = tail.next().await.unwrap().unwrap().item else {
            continue;
        };
        for (offset, event) in frame.events.iter().enumerate() {
            let at = LaneInterval {
                lane: frame.commit.lane,
                position: frame.commit.first_position + offset as u32,
            };
            born.entry(event.id).or_default().push(at);
            for target in &event.draft.supersedes {
                died.entry(*target).or_default().push(at);
            }
        }
        let sees = |places: Option<&Vec<LaneInterval>>| {
            places.is_some_and(|p| p.iter().any(|at| frame.visible.sees(at.lane, at.position)))
        };
        let all: BTreeSet<EventId> = born
            .iter()
            .filter(|(_, places)| sees(Some(places)))
            .map(|(id, _)| *id)
            .collect();
        let live = all
            .iter()
            .filter(|id| !sees(died.get(id)))
            .copied()
            .collect();
        if let Some(expected) = model.views.get(&frame.commit.hash) {
            assert_eq!(
                &View { all, live },
                expected,
                "tail at commit {}",
                frame.commit.number
            );
        }
        if frame.commit.number == head {
            return;
        }
    }
}

async fn run(backend: Backend, steps: Vec<Step>) {
    let mut fixture = Fixture::new(backend).await;
    let mut model = Model {
        branches: vec![Vec::new()],
        ..Model::default()
    };
    // The first append opens the project.
    let opening = vec![draft("opening")];
    model.branches[0] = model.appended(0, &opening).unwrap();
    let commit = fixture.append("main", opening).await.commit.hash;
    model.views.insert(commit, view(&model.branches[0]));
    for step in steps {
        match step {
            Step::Append { branch, changes } => {
                let branch = branch % model.branches.len();
                let drafts: Vec<Draft> = changes.iter().map(|change| model.draft(change)).collect();
                let before = model.branches[branch].len();
                let expected = model.appended(branch, &drafts);
                let ids: Vec<EventId> = drafts.iter().map(Draft::event_id).collect();
                let answer = fixture.try_append(&name(branch), drafts).await;
                let Some(entries) = expected else {
                    assert!(
                        matches!(
                            answer,
                            Err(JournalError::Invalid(_) | JournalError::Events { .. })
                        ),
                        "{answer:?}"
                    );
                    continue;
                };
                let appended = answer.unwrap();
                let written = appended
                    .events
                    .iter()
                    .filter(|event| !event.duplicate)
                    .count();
                assert_eq!(written, entries.len() - before);
                model.branches[branch] = entries;
                model.ever.extend(ids);
                let expected = view(&model.branches[branch]);
                assert_eq!(seen(&fixture, &on(&name(branch))).await, expected);
                model.views.insert(appended.commit.hash, expected);
            }
            Step::Branch { from } => {
                let from = from % model.branches.len();
                let made = name(model.branches.len());
                fixture.branch(&made, &name(from)).await;
                model.branches.push(model.branches[from].clone());
            }
            Step::Restart => fixture = fixture.restarted().await,
        }
        fixture.tick();
    }
    for (hash, expected) in &model.views {
        assert_eq!(
            &seen(&fixture, &Reference::Commit(*hash)).await,
            expected,
            "as of {hash}"
        );
    }
    check_tail(&fixture, &model).await;
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!(report.first_break, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Backend::Sqlite, steps));
    }

    #[test]
    fn so_it_does_on_postgres(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Backend::Postgres, steps));
    }
}
