//! PostgreSQL's plans behind the wall between tenants, with rows enough and statistics fresh, so that its choice is one.

use commonplace_testkit::{Backend, Site};

use super::*;

/// The plan of a statement with these values, a step a line.
async fn plan(database: &Database, sql: &str, values: Vec<Value>) -> String {
    let explain = format!("EXPLAIN (COSTS OFF) {sql}");
    let rows = database.for_all().query(&explain, values).await.unwrap();
    let steps: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect();
    steps.join("\n")
}

/// Checks that a statement's plan names each index, walks no table and sorts nothing that is stored.
async fn check(database: &Database, sql: &str, values: Vec<Value>, indexes: &[&str]) {
    let plan = plan(database, sql, values).await;
    for index in indexes {
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
    }
    for walk in ["Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"] {
        assert!(!plan.contains(walk), "{walk}:\n{plan}");
    }
}

async fn filled() -> Database {
    let site = Site::alone(Backend::Postgres).await;
    let place = site.place("journal");
    let database = Database::open_walled(&place, FILE, MIGRATIONS, WALL);
    let database = database.await.unwrap();
    // One long lane and many short ones, as for SQLite.
    let fill = [
        "INSERT INTO project VALUES (1, 't', 'p')",
        // As many others as make a look at a project's row one by its key.
        "INSERT INTO project SELECT i, 't' || i % 500, 'p' || i FROM generate_series(2, 5000) i",
        "INSERT INTO lane SELECT 1, i, 0, 0, '' FROM generate_series(1, 300) i",
        "INSERT INTO event SELECT i, 1, to_char(i, 'FM0000000000000000')::bytea, 'r' || (i % 9000), i, i,
             'spec', '', '', '', 500000, 0, '', '', '', '', decode(repeat('ab', 300), 'hex')
         FROM generate_series(1, 60000) i",
        "INSERT INTO placement SELECT 1, 1, seq, seq FROM event",
        "INSERT INTO placement SELECT 1, 2 + seq % 299, seq, seq FROM event WHERE seq < 5000",
        "INSERT INTO supersedes SELECT 1, 1, seq, seq - 1 FROM event WHERE seq > 1",
        "INSERT INTO \"commit\" SELECT 1, i, decode(md5(i::text) || md5(i::text), 'hex'), 'main', 1, i * 3,
             i * 3 + 2, '', '', i, '', '', 600 FROM generate_series(0, 20000) i",
        "INSERT INTO ref VALUES (1, 1, 'main', 20000, 0, 1, '')",
        "INSERT INTO request SELECT 't', decode(md5(i::text), 'hex'), 1, '', i, i, '', ''
         FROM generate_series(1, 150000) i",
        "ANALYZE",
    ];
    for sql in fill {
        database.run_script(sql).await.unwrap();
    }
    database
}

fn ids(count: u64) -> Vec<Vec<u8>> {
    (1..=count)
        .map(|number| format!("{:016}", number * 7).into_bytes())
        .collect()
}

#[tokio::test]
async fn hot_statements_use_their_indexes_on_postgres() {
    let database = filled().await;
    let dialect = database.dialect();
    let one = || Value::from(1_i64);
    let ids = ids(100);
    let bytes = || dialect.list_of_bytes(ids.iter().map(Vec::as_slice));
    let numbers = || dialect.list_of_numbers((1..=100).map(|number| number * 11));
    check(
        &database,
        facts::KNOWN,
        vec![bytes(), one()],
        &["event_by_id"],
    )
    .await;
    let records = dialect.list_of_texts(["r1", "r2", "r3"]);
    check(
        &database,
        facts::OF_RECORDS,
        vec![records, one()],
        &["event_by_record"],
    )
    .await;
    check(
        &database,
        facts::PLACEMENTS,
        vec![numbers()],
        &["placement_of_event"],
    )
    .await;
    check(
        &database,
        facts::SUPERSEDED,
        vec![numbers()],
        &["supersedes_of_target"],
    )
    .await;
    let requests = vec![bytes(), "t".into()];
    check(&database, facts::REQUESTS, requests, &["request_pkey"]).await;
    check(&database, facts::BODIES, vec![numbers()], &["event_pkey"]).await;
    let key = |byte: u8| vec![Value::from("t"), Value::from(vec![byte])];
    let behind = [key(7), vec![Value::from(512_i64)]].concat();
    check(&database, prune::BEHIND, behind, &["request_pkey"]).await;
    let run = || vec![one(), one(), Value::from(500_i64), Value::from(700_i64)];
    let lane = ["placement_pkey", "event_pkey"];
    check(&database, &run_sql(), run(), &lane).await;
    check(
        &database,
        RUN_EDGES,
        run(),
        &["supersedes_pkey", "event_pkey"],
    )
    .await;
    let places = dialect.list_of_numbers((1..=50).map(|number| 1 << 32 | (9_000 + number)));
    check(
        &database,
        EDGES,
        vec![places, one()],
        &["supersedes_pkey", "event_pkey"],
    )
    .await;
    let (condition, places) = seen("p", &visible());
    let values = [vec![bytes(), one()], places].concat();
    let by_id = ["event_by_id", "placement_of_event"];
    check(&database, &by_id_sql(&condition), values, &by_id).await;
    let named = load::NAMED_COMMITS.replace(":columns", "number");
    let shown = plan(&database, &named, vec![one()]).await;
    assert!(shown.contains("commit_pkey"), "{shown}");
}

#[tokio::test]
async fn selections_read_in_order_and_stop_on_postgres() {
    let database = filled().await;
    let select = async |filter: Filter, after, indexes: &[&str]| {
        let selection = Selection {
            filter,
            ..Selection::default()
        };
        let (sql, values) = select_sql(database.dialect(), 1, &visible(), &selection, after, 50);
        let always = ["placement_of_event", "supersedes_of_target"];
        let indexes = [indexes, always.as_slice()].concat();
        check(&database, &sql, values, &indexes).await;
    };
    let time = |micros| Timestamp::from_micros(micros).unwrap();
    select(Filter::default(), None, &["Backward using event_by_time"]).await;
    let place = (time(30_000), EventId::derive(&[b"x"]));
    select(
        Filter::default(),
        Some(place),
        &["Backward using event_by_time"],
    )
    .await;
    let recent = Filter {
        from_time: Some(time(100)),
        ..Filter::default()
    };
    select(recent, None, &["Backward using event_by_time"]).await;
    let records = Filter {
        record_ids: vec![RecordId::new("r77").unwrap()],
        ..Filter::default()
    };
    select(records, None, &["event_by_record"]).await;
}
