//! Hot statements use the index they should, with and without statistics; a full disk is survived.

use std::sync::Arc;

use commonplace_rpc::convert::Filter;
use commonplace_storage::{Database, StorageError};
use commonplace_types::{
    ArtifactType, BranchName, Draft, EventId, LaneInterval, ManualClock, ProjectName, RecordId,
    TenantName, Timestamp, Visible,
};
use sea_orm::Value;

use super::read::{EDGES, RUN_EDGES, by_id_sql, run_sql, select_sql};
use super::rows::seen;
use super::{FILE, MIGRATIONS, WALL, facts, load, prune};
use crate::append::Append;
use crate::query::Selection;
use crate::store::{Write, Written};
use crate::{JournalError, Options, SystemEntropy};

async fn plan(database: &Database, sql: &str, values: Vec<Value>) -> String {
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let rows = database.for_all().query(&explain, values).await.unwrap();
    let steps: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(3).unwrap())
        .collect();
    steps.join("\n")
}

/// Checks that a statement's plan names each index and walks no table.
async fn check(database: &Database, sql: &str, values: Vec<Value>, indexes: &[&str]) {
    let plan = plan(database, sql, values).await;
    for index in indexes {
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
    }
    for step in plan.lines() {
        let walks = step.starts_with("SCAN ") && !step.starts_with("SCAN j");
        assert!(!walks, "walks a table:\n{plan}");
    }
    assert!(
        !sql.contains("event_by_time") || !plan.contains("TEMP B-TREE"),
        "sorts:\n{plan}"
    );
}

fn visible() -> Visible {
    let at = |lane, position| LaneInterval { lane, position };
    Visible::new(vec![at(1, 1_000_000), at(2, 50)])
}

async fn check_all(database: &Database) {
    let list = || Value::from("[]");
    let one = || Value::from(1);
    let two = || vec![list(), one()];
    check(
        database,
        facts::KNOWN,
        two(),
        &["event_by_id (project=? AND event_id=?)"],
    )
    .await;
    check(
        database,
        facts::OF_RECORDS,
        two(),
        &["event_by_record (project=? AND record_id=?)"],
    )
    .await;
    check(
        database,
        facts::PLACEMENTS,
        vec![list()],
        &["placement_of_event (seq=?)"],
    )
    .await;
    check(
        database,
        facts::SUPERSEDED,
        vec![list()],
        &["supersedes_of_target (target=?)"],
    )
    .await;
    check(
        database,
        facts::REQUESTS,
        two(),
        &["PRIMARY KEY (tenant=? AND request_id=?)"],
    )
    .await;
    check(
        database,
        facts::BODIES,
        vec![list()],
        &["e USING INTEGER PRIMARY KEY"],
    )
    .await;
    let key = || vec![Value::from("t"), Value::from(vec![1_u8])];
    check(
        database,
        prune::BEHIND,
        [key(), vec![one()]].concat(),
        &["PRIMARY KEY ((tenant,request_id)>(?,?))"],
    )
    .await;
    check(
        database,
        prune::FORGET,
        [key(), key(), vec![one()]].concat(),
        &["PRIMARY KEY ((tenant,request_id)>(?,?) AND (tenant,request_id)<(?,?))"],
    )
    .await;
    let run = || vec![one(), one(), one(), one()];
    let positions = "PRIMARY KEY (project=? AND lane=? AND position>? AND position<?)";
    check(
        database,
        &run_sql(),
        run(),
        &[positions, "e USING INTEGER PRIMARY KEY"],
    )
    .await;
    check(
        database,
        RUN_EDGES,
        run(),
        &[positions, "t USING INTEGER PRIMARY KEY"],
    )
    .await;
    let edge = "PRIMARY KEY (project=? AND lane=? AND position=?)";
    check(database, EDGES, two(), &[edge]).await;
    let (condition, places) = seen("p", &visible());
    let values = [two(), places].concat();
    let by_id = [
        "event_by_id (project=? AND event_id=?)",
        "placement_of_event (seq=?",
    ];
    check(database, &by_id_sql(&condition), values, &by_id).await;
    check_selects(database).await;
    let named = load::NAMED_COMMITS.replace(":columns", "number");
    let plan = plan(database, &named, vec![one()]).await;
    assert!(
        plan.contains("PRIMARY KEY (project=? AND number=?)"),
        "{plan}"
    );
}

async fn check_selects(database: &Database) {
    let select = async |filter: Filter, after, indexes: &[&str]| {
        let selection = Selection {
            filter,
            ..Selection::default()
        };
        let (sql, values) = select_sql(database.dialect(), 1, &visible(), &selection, after, 50);
        let always = [
            "placement_of_event (seq=?",
            "supersedes_of_target (target=?",
        ];
        check(
            database,
            &sql,
            values,
            &[indexes, always.as_slice()].concat(),
        )
        .await;
    };
    select(Filter::default(), None, &["event_by_time (project=?)"]).await;
    let place = (Timestamp::MIN, EventId::derive(&[b"x"]));
    select(
        Filter::default(),
        Some(place),
        &["event_by_time (project=? AND "],
    )
    .await;
    let recent = Filter {
        from_time: Some(Timestamp::MIN),
        ..Filter::default()
    };
    select(
        recent,
        None,
        &["event_by_time (project=? AND event_time>?)"],
    )
    .await;
    let records = Filter {
        record_ids: vec![RecordId::new("r").unwrap()],
        ..Filter::default()
    };
    select(
        records,
        None,
        &["event_by_record (project=? AND record_id=?)"],
    )
    .await;
}

#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().into();
    let database = Database::open(&place, FILE, MIGRATIONS).await.unwrap();
    check_all(&database).await;
    // One long lane and many short ones: the shape that misled the planner before.
    let fill = [
        "INSERT INTO project VALUES (1, 't', 'p')",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO lane SELECT 1, i, 0, 0, X'' FROM n",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
         INSERT INTO event SELECT i, 1, CAST(printf('%016d', i) AS BLOB), 'r' || (i % 9000), i, i, 'spec', '',
             '', '', 500000, 0, X'', X'', X'', '', X'' FROM n",
        "INSERT INTO placement SELECT 1, 1, seq, seq FROM event",
        "INSERT INTO placement SELECT 1, 2 + seq % 299, seq, seq FROM event WHERE seq < 5000",
        "INSERT INTO supersedes SELECT 1, 1, seq, seq - 1 FROM event WHERE seq > 9000",
        "ANALYZE",
    ];
    for sql in fill {
        database.run_script(sql).await.unwrap();
    }
    database.close().await.unwrap();
    let database = Database::open(&place, FILE, MIGRATIONS).await.unwrap();
    check_all(&database).await;
}

/// A store with an opened project.
async fn store(folder: &std::path::Path) -> super::SqlStore {
    let clock = Arc::new(ManualClock::new(Timestamp::MIN));
    let entropy = Arc::new(SystemEntropy::from_key([1; 32]));
    let options = Options::default();
    let store = super::SqlStore::open(&folder.into(), &options, clock, entropy).await;
    let store = store.unwrap();
    store.take_over(0).await.unwrap();
    store
}

fn append(title: &str, text: &str) -> Write {
    let kind = ArtifactType::new("spec").unwrap();
    let append = Append {
        tenant: TenantName::default_tenant(),
        project: ProjectName::default_project(),
        branch: BranchName::main(),
        request_id: None,
        expected_head: None,
        author: String::new(),
        message: String::new(),
        traceparent: String::new(),
        origin: Default::default(),
        validate_only: false,
        events: vec![Draft::new(kind, title, text)],
    };
    Write::Append(append.prepare().unwrap())
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let first = store.apply(vec![append("first", "x")]).await.remove(0);
    let Ok(Written::Appended(first)) = first else {
        panic!("{first:?}");
    };
    let limit = |pages: u32| format!("PRAGMA max_page_count = {pages}");
    store.database.run_script(&limit(1)).await.unwrap();
    let long = "x".repeat(200_000);
    let group = vec![
        append("long", &long),
        append("with it", &long),
        append("first", "x"),
    ];
    let answers = store.apply(group).await;
    for answer in answers {
        let Err(JournalError::Storage(cause)) = answer else {
            panic!("{answer:?}");
        };
        assert!(matches!(*cause, StorageError::Full(_)), "{cause:?}");
    }
    let project = store
        .projects()
        .unwrap()
        .get(
            &TenantName::default_tenant(),
            &ProjectName::default_project(),
        )
        .unwrap();
    assert_eq!(project.read().last.hash, first.commit.hash);
    store.database.run_script(&limit(1_000_000)).await.unwrap();
    let again = store.apply(vec![append("long", &long)]).await.remove(0);
    let Ok(Written::Appended(again)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(
        (again.commit.number, again.commit.parents[0]),
        (2, first.commit.hash)
    );
}

mod plans;
