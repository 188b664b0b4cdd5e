//! The statements that every call waits for use the index they should.

use commonplace_storage::{Dialect, Place};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::ManualClock;

use super::*;
use crate::schema::{FILE, MIGRATIONS, WALL};

each_backend!(hot_statements_use_their_index);

async fn filled(place: &Place) -> Database {
    let database = Database::open_walled(place, FILE, MIGRATIONS, WALL);
    let database = database.await.unwrap();
    let numbers = match database.dialect() {
        Dialect::Sqlite => {
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n)"
        }
        Dialect::Postgres => "(SELECT i FROM generate_series(1, 20000) i)",
    };
    let blob = match database.dialect() {
        Dialect::Sqlite => "zeroblob(32)",
        Dialect::Postgres => "decode(repeat('ab', 32), 'hex')",
    };
    for fill in [
        format!(
            "INSERT INTO api_key SELECT 't' || (i % 50), 'k' || i, 'agent', 's', '[]', NULL, '', '', 1, 2, NULL,
             NULL, {blob}, NULL, NULL FROM {numbers} x"
        ),
        format!(
            "INSERT INTO access_grant SELECT 't' || (i % 50), 'gr_' || i, 'user', 's', 'read', NULL, NULL, NULL,
             '', 1 FROM {numbers} x"
        ),
        format!("INSERT INTO access_policy SELECT 't' || (i % 5000), 'p' || i, 'permit', 1 FROM {numbers} x"),
        format!("INSERT INTO access_revision SELECT 't' || i, 1 FROM {numbers} x"),
        "ANALYZE".to_owned(),
    ] {
        database.run_script(&fill).await.unwrap();
    }
    database
}

async fn plan(database: &Database, sql: &str, values: Vec<Value>) -> String {
    let (explain, column) = match database.dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
        Dialect::Postgres => ("EXPLAIN (COSTS OFF)", 0),
    };
    let rows = database
        .for_all()
        .query(&format!("{explain} {sql}"), values)
        .await
        .unwrap();
    let steps: Vec<String> = rows.iter().map(|row| get(row, column).unwrap()).collect();
    steps.join("\n")
}

async fn hot_statements_use_their_index(backend: Backend) {
    let site = Site::alone(backend).await;
    let database = filled(&site.place("policy")).await;
    let tenant = || Value::from("t7");
    let page = || vec![tenant(), "".into(), whole(101)];
    let used = vec![1_i64.into(), tenant(), "k7".into(), 1_i64.into()];
    for (sql, values, index) in [
        (
            rules::REVISION.to_owned(),
            vec![tenant()],
            "access_revision_pkey",
        ),
        (keys::by_id_sql(), vec!["k7".into()], "api_key_by_id"),
        (keys::page_sql(), page(), "api_key_pkey"),
        (keys::USED.to_owned(), used, "api_key_by_id"),
        (rules::page_sql(), page(), "access_grant_pkey"),
        (rules::grants_sql(), vec![tenant()], "access_grant_pkey"),
        (
            rules::POLICIES.to_owned(),
            vec![tenant()],
            "access_policy_pkey",
        ),
    ] {
        let plan = plan(&database, &sql, values).await;
        // SQLite keeps these tables in the order of their keys, and calls that the primary key.
        let expected = match database.dialect() {
            Dialect::Sqlite if index.ends_with("_pkey") => "USING PRIMARY KEY",
            _ => index,
        };
        assert!(
            plan.contains(expected),
            "{expected} is not used by {sql}:\n{plan}"
        );
        for walk in ["SCAN ", "Seq Scan", "TEMP B-TREE"] {
            assert!(!plan.contains(walk), "{walk} by {sql}:\n{plan}");
        }
    }
}

/// What a program of the release before left is brought up to date, and what it keeps stays.
#[tokio::test]
async fn a_database_of_the_release_before_is_expanded() {
    let site = Site::new(Backend::Sqlite);
    let place = site.place("policy");
    let database = Database::open(&place, FILE, &MIGRATIONS[..1])
        .await
        .unwrap();
    let sql = "INSERT INTO active_policy VALUES ('t', 'general', 1)";
    database.run_script(sql).await.unwrap();
    database.close().await.unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(Timestamp::MIN));
    let policies = crate::start(Default::default(), place.clone(), clock)
        .await
        .unwrap();
    policies.shutdown().await.unwrap();
    let state = Database::schema_state(&place, FILE, MIGRATIONS)
        .await
        .unwrap();
    assert_eq!(
        (state.found, state.oldest),
        (4, 1),
        "the release before works beside it"
    );
    let database = Database::open(&place, FILE, &MIGRATIONS[..1])
        .await
        .unwrap();
    let row = database
        .for_all()
        .query_one("SELECT version FROM active_policy", Vec::new())
        .await;
    assert_eq!(get::<i64>(&row.unwrap().unwrap(), 0).unwrap(), 1);
}
