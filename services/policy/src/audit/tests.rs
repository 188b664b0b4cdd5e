//! The log on both backends: what is kept, how it is found again, and what somebody does to it behind its back.

use std::collections::BTreeSet;

use commonplace_access::audit::{Break, Checker};
use commonplace_rpc::audit::{Verdict, Who};
use commonplace_storage::{Dialect, Place};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::{ManualClock, PrincipalKind, ProjectName, Right, Subject, Timestamp};

use super::*;
use crate::schema::{FILE, MIGRATIONS};

each_backend!(threads = 4:
    records_are_kept_once_and_in_one_chain,
    processes_that_write_at_once_make_one_chain,
    records_are_found_again_page_by_page,
    whatever_is_done_to_a_record_is_noticed,
    the_first_break_is_told_whatever_is_damaged_behind_it,
    what_is_pruned_leaves_a_chain_that_can_be_checked,
    pages_use_their_index,
);

const DAY: Duration = Duration::from_secs(86_400);

struct House {
    database: Database,
    clock: Arc<ManualClock>,
    log: Log,
    _site: Site,
}

impl House {
    async fn new(backend: Backend) -> Self {
        Self::keeping(backend, None).await
    }

    async fn keeping(backend: Backend, keep: Option<Duration>) -> Self {
        let site = Site::alone(backend).await;
        let database = open(&site.place("policy")).await;
        let now = Timestamp::parse("2026-11-21T08:00:00Z").unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let log = Log {
            store: Store::new(database.clone()),
            clock: clock.clone(),
            keep,
            pruning: None,
        };
        Self {
            database,
            clock,
            log,
            _site: site,
        }
    }

    fn entry(&self, tenant: &str, number: u64) -> Entry {
        let time = self.clock.now();
        Entry {
            id: format!("{number:032x}"),
            tenant: name(tenant),
            time,
            last_time: time,
            count: 1,
            request_id: format!("request-{number}"),
            trace_id: String::new(),
            who: Some(Who {
                kind: PrincipalKind::Agent,
                subject: Subject::new(format!("agent-{}", number % 3)).unwrap(),
                credential: "key:a".into(),
                actors: Vec::new(),
            }),
            method: "commonplace.policy.v1.AccessService/CreateKey".into(),
            right: Some(Right::Admin),
            project: number
                .is_multiple_of(2)
                .then(|| ProjectName::new("shop").unwrap()),
            verdict: match number.is_multiple_of(5) {
                true => Verdict::Denied,
                false => Verdict::Allowed,
            },
            policies: vec!["role-admin".into()],
            rules: None,
            code: "OK".into(),
            reason: String::new(),
            peer: String::new(),
            service: "policy".into(),
        }
    }

    async fn fill(&self, tenant: &str, numbers: std::ops::Range<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for part in numbers.chunks(200) {
            let entries = part.iter().map(|number| self.entry(tenant, *number));
            self.log.keep(entries.collect()).await.unwrap();
        }
    }

    /// Walks the chain as an export does; gives how many records there are.
    async fn walk(&self, tenant: &str) -> Result<u64, String> {
        let tenant = name(tenant);
        let said = |error: AuditError| error.to_string();
        let ends = self.log.ends(&tenant).await.map_err(said)?;
        let broken = |error: Break| error.to_string();
        let mut checker = Checker::new(tenant.clone(), ends.start, None).map_err(broken)?;
        let mut after = ends.start.sequence;
        loop {
            let read = self.log.after(&tenant, after, ends.head.sequence).await;
            let read = read.map_err(said)?;
            let Some(last) = read.last() else { break };
            after = last.sequence;
            for record in &read {
                checker.take(record).map_err(broken)?;
            }
        }
        checker.end(&ends.head).map_err(broken)
    }

    async fn run(&self, sql: &str) {
        self.database.run_script(sql).await.unwrap();
    }
}

async fn open(place: &Place) -> Database {
    Database::open(place, FILE, MIGRATIONS).await.unwrap()
}

fn name(tenant: &str) -> TenantName {
    TenantName::new(tenant).unwrap()
}

async fn records_are_kept_once_and_in_one_chain(backend: Backend) {
    let house = House::new(backend).await;
    assert_eq!(house.walk("acme").await, Ok(0), "an empty log is whole");
    let three: Vec<Entry> = (0..3).map(|number| house.entry("acme", number)).collect();
    house.log.keep(three.clone()).await.unwrap();
    // Delivered again, with some that are new, and one of another tenant by the same id.
    let mut again = three.clone();
    again.push(house.entry("acme", 3));
    again.push(house.entry("rival", 0));
    house.log.keep(again).await.unwrap();
    house.log.keep(three).await.unwrap();
    assert_eq!(house.walk("acme").await, Ok(4));
    assert_eq!(house.walk("rival").await, Ok(1));
    let page = house
        .log
        .list(&name("acme"), &Filter::default(), 0, 10)
        .await
        .unwrap();
    let kept: Vec<Entry> = page
        .records
        .into_iter()
        .rev()
        .map(|record| record.entry)
        .collect();
    let expected: Vec<Entry> = (0..4).map(|number| house.entry("acme", number)).collect();
    assert_eq!(kept, expected);
    assert!(page.before.is_none());
}

async fn processes_that_write_at_once_make_one_chain(backend: Backend) {
    let house = Arc::new(House::new(backend).await);
    let writers: Vec<_> = (0..6_u64)
        .map(|writer| {
            let house = house.clone();
            tokio::spawn(async move {
                for batch in 0..10_u64 {
                    let first = writer * 1_000 + batch * 10;
                    let tenants = ["acme", "rival"];
                    let entries = (0..10_u64)
                        .map(|place| house.entry(tenants[(place % 2) as usize], first + place));
                    house.log.keep(entries.collect()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(house.walk("acme").await, Ok(300));
    assert_eq!(house.walk("rival").await, Ok(300));
}

async fn records_are_found_again_page_by_page(backend: Backend) {
    let house = House::new(backend).await;
    house.fill("acme", 0..1_200).await;
    house.clock.advance(DAY);
    house.fill("acme", 1_200..1_300).await;
    house.fill("rival", 0..5).await;
    let found = async |filter: Filter| {
        let (mut before, mut found) = (0, Vec::new());
        loop {
            let page = house
                .log
                .list(&name("acme"), &filter, before, 70)
                .await
                .unwrap();
            assert!(page.records.len() <= 70);
            found.extend(page.records.iter().map(|record| record.sequence));
            match page.before {
                Some(next) => before = next,
                None => return found,
            }
        }
    };
    let all = found(Filter::default()).await;
    assert_eq!(all, (1..=1_300).rev().collect::<Vec<u64>>());
    let filter = |change: fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    };
    let denied = found(filter(|filter| filter.verdict = Some(Verdict::Denied))).await;
    assert_eq!(denied.len(), 260);
    let mine = found(filter(|filter| filter.subject = Some("agent-1".into()))).await;
    assert_eq!(mine.len(), 433);
    let project = found(filter(|filter| filter.project = Some("shop".into()))).await;
    assert_eq!(project.len(), 650);
    let day = house.clock.now();
    let late = found(Filter {
        since: Some(day),
        ..Filter::default()
    })
    .await;
    let early = found(Filter {
        until: Some(day),
        ..Filter::default()
    })
    .await;
    assert_eq!((late.len(), early.len()), (100, 1_200));
    let only = found(filter(|filter| filter.sequence = Some(7))).await;
    assert_eq!(only, [7]);
    let request = found(filter(|filter| {
        filter.request_id = Some("request-41".into())
    }))
    .await;
    assert_eq!(request, [42]);
    for (method, count) in [
        ("AccessService/CreateKey", 1_300),
        ("commonplace.policy.v1.AccessService/CreateKey", 1_300),
        ("CreateKey", 1_300),
        ("Key", 0),
        ("AccessService", 0),
    ] {
        let called = found(Filter {
            method: Some(method.into()),
            ..Filter::default()
        })
        .await;
        assert_eq!(called.len(), count, "{method}");
    }
    let none = house
        .log
        .list(&name("nobody"), &Filter::default(), 0, 10)
        .await
        .unwrap();
    assert!(none.records.is_empty());
}

async fn whatever_is_done_to_a_record_is_noticed(backend: Backend) {
    let house = House::new(backend).await;
    house.fill("acme", 0..40).await;
    house.fill("rival", 0..40).await;
    let flipped = match house.database.dialect() {
        Dialect::Sqlite => {
            "UPDATE audit_record SET body = CAST(substr(body, 1, 150) || CASE hex(substr(body, 151, 1))
             WHEN '61' THEN x'62' ELSE x'61' END || substr(body, 152) AS BLOB) WHERE"
        }
        Dialect::Postgres => {
            "UPDATE audit_record SET body = set_byte(body, 150, get_byte(body, 150) # 1) WHERE"
        }
    };
    let blank = match house.database.dialect() {
        Dialect::Sqlite => "zeroblob(32)",
        Dialect::Postgres => "decode(repeat('00', 32), 'hex')",
    };
    let copy = "INSERT INTO audit_record SELECT tenant, 41, id || 'x', time_micros, previous_hash, hash, body
        FROM audit_record";
    for (what, change) in [
        ("a byte of a body", format!("{flipped} tenant = 'acme' AND sequence = 20")),
        ("a hash", format!("UPDATE audit_record SET hash = {blank} WHERE tenant = 'acme' AND sequence = 20")),
        ("a hash before", format!("UPDATE audit_record SET previous_hash = {blank} WHERE tenant = 'acme' AND sequence = 20")),
        ("a time beside", "UPDATE audit_record SET time_micros = 1 WHERE tenant = 'acme' AND sequence = 20".into()),
        ("an id beside", "UPDATE audit_record SET id = 'x' WHERE tenant = 'acme' AND sequence = 20".into()),
        ("one is gone", "DELETE FROM audit_record WHERE tenant = 'acme' AND sequence = 20".into()),
        ("the first is gone", "DELETE FROM audit_record WHERE tenant = 'acme' AND sequence = 1".into()),
        ("the last is gone", "DELETE FROM audit_record WHERE tenant = 'acme' AND sequence = 40".into()),
        ("all are gone", "DELETE FROM audit_record WHERE tenant = 'acme'".into()),
        ("one is another's number", "UPDATE audit_record SET sequence = 99 WHERE tenant = 'acme' AND sequence = 20".into()),
        ("one is put in", format!("{copy} WHERE tenant = 'acme' AND sequence = 20; UPDATE audit_chain SET sequence = 41 WHERE tenant = 'acme'")),
        ("one is of another tenant", "DELETE FROM audit_record WHERE tenant = 'acme' AND sequence = 20;
          INSERT INTO audit_record SELECT 'acme', 20, id, time_micros, previous_hash, hash, body FROM audit_record
          WHERE tenant = 'rival' AND sequence = 20".into()),
        ("the head", format!("UPDATE audit_chain SET hash = {blank} WHERE tenant = 'acme'")),
        ("the head goes back", "UPDATE audit_chain SET sequence = 39 WHERE tenant = 'acme'".into()),
        ("the start", "UPDATE audit_chain SET start_sequence = 3 WHERE tenant = 'acme'".into()),
    ] {
        house.run("CREATE TABLE record_before AS SELECT * FROM audit_record").await;
        house.run("CREATE TABLE chain_before AS SELECT * FROM audit_chain").await;
        for statement in change.split(';') {
            house.run(statement).await;
        }
        let walked = house.walk("acme").await;
        assert!(walked.is_err(), "{what}: {walked:?}");
        assert_eq!(house.walk("rival").await, Ok(40), "{what}");
        for table in ["record", "chain"] {
            house.run(&format!("DELETE FROM audit_{table}")).await;
            house.run(&format!("INSERT INTO audit_{table} SELECT * FROM {table}_before")).await;
            house.run(&format!("DROP TABLE {table}_before")).await;
        }
        assert_eq!(house.walk("acme").await, Ok(40), "{what} is as it was");
    }
}

async fn the_first_break_is_told_whatever_is_damaged_behind_it(backend: Backend) {
    let house = House::new(backend).await;
    house.fill("acme", 0..40).await;
    let blank = match house.database.dialect() {
        Dialect::Sqlite => "zeroblob(32)",
        Dialect::Postgres => "decode(repeat('00', 32), 'hex')",
    };
    let damage = format!("UPDATE audit_record SET body = {blank} WHERE sequence = 20");
    house.run(&damage).await;
    let walked = house.walk("acme").await.unwrap_err();
    assert!(walked.contains("record 20 is damaged"), "{walked}");
    let change = format!("UPDATE audit_record SET hash = {blank} WHERE sequence = 7");
    house.run(&change).await;
    let walked = house.walk("acme").await.unwrap_err();
    assert!(walked.contains("record 7 was changed"), "{walked}");
}

async fn what_is_pruned_leaves_a_chain_that_can_be_checked(backend: Backend) {
    let house = House::keeping(backend, Some(30 * DAY)).await;
    house.fill("acme", 0..1_500).await;
    house.clock.advance(20 * DAY);
    house.fill("acme", 1_500..1_510).await;
    assert_eq!(house.log.prune().await.unwrap(), 0);
    let before = house.log.ends(&name("acme")).await.unwrap();
    house.clock.advance(11 * DAY);
    assert_eq!(house.log.prune().await.unwrap(), 1_500);
    assert_eq!(house.walk("acme").await, Ok(10));
    let after = house.log.ends(&name("acme")).await.unwrap();
    assert_eq!((after.start.sequence, after.head), (1_500, before.head));
    // All of them go, and the next one still follows.
    house.clock.advance(90 * DAY);
    assert_eq!(house.log.prune().await.unwrap(), 10);
    house.fill("acme", 2_000..2_001).await;
    assert_eq!(house.walk("acme").await, Ok(1));
    let page = house
        .log
        .list(&name("acme"), &Filter::default(), 0, 10)
        .await
        .unwrap();
    let numbers: BTreeSet<u64> = page.records.iter().map(|record| record.sequence).collect();
    assert_eq!((numbers, page.before), ([1_511].into(), None));
}

async fn pages_use_their_index(backend: Backend) {
    let house = House::new(backend).await;
    house.fill("acme", 0..1_000).await;
    house.run("ANALYZE").await;
    let values = || vec!["acme".into(), 100_i64.into(), 200_i64.into()];
    let young = vec!["acme".into(), 100_i64.into(), 110_i64.into(), 1_i64.into()];
    for (sql, values) in [(store::BETWEEN, values()), (store::YOUNG, young)] {
        let (explain, column) = match house.database.dialect() {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
            Dialect::Postgres => ("EXPLAIN (COSTS OFF)", 0),
        };
        let rows = house
            .database
            .query(&format!("{explain} {sql}"), values)
            .await
            .unwrap();
        let steps = rows
            .iter()
            .map(|row| row.try_get_by_index::<String>(column).unwrap());
        let plan = steps.collect::<Vec<_>>().join("\n");
        for walk in ["SCAN audit_record", "Seq Scan", "TEMP B-TREE"] {
            assert!(!plan.contains(walk), "{walk} by {sql}:\n{plan}");
        }
    }
}
