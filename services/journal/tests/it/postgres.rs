//! What only a server can do to a journal: restart, crash, end sessions, run out of connections; and what
//! several journals on one database do to each other.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use commonplace_journal::{Journal, JournalError, Options, Selection, TailItem, start};
use commonplace_rpc::{Code, Reason};
use commonplace_storage::StorageError;
use commonplace_testkit::{Backend, Server, Site};
use commonplace_types::{ManualClock, SystemClock};
use futures::StreamExt;

use crate::common::*;

const URL: &str = "COMMONPLACE_STALL_URL";
const PREFIX: &str = "COMMONPLACE_STALL_PREFIX";

async fn journal(site: &Site) -> Journal {
    open(site, Arc::new(ManualClock::new(start_time())))
        .await
        .unwrap()
}

async fn until_ready(journal: &Journal) {
    journal.ready().wait_for(|ready| *ready).await.unwrap();
}

/// Whether a caller is told to try again.
fn is_transient(error: &JournalError) -> bool {
    let failure = error.failure();
    failure.code == Code::Unavailable && failure.retry_after.is_some()
}

/// Appends until it is answered with success, as a client that retries does.
async fn append_surely(journal: &Journal, title: &str, id: u64) {
    let mut request = append_to("main", vec![draft(title)]);
    let mut request_id = [0; 16];
    request_id[..8].copy_from_slice(&id.to_le_bytes());
    request.request_id = Some(request_id);
    loop {
        match journal.append(request.clone()).await {
            Ok(_) => return,
            Err(error) => assert!(is_transient(&error), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads until it is answered with success, as a client that retries does: a journal whose sessions were ended
/// may notice only after it was asked.
async fn surely<T>(read: impl AsyncFn() -> Result<T, JournalError>) -> T {
    loop {
        match read().await {
            Ok(read) => return read,
            Err(error) => assert!(is_transient(&error), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often each title is in the journal, by its tail.
async fn titles(journal: &Journal) -> BTreeMap<String, usize> {
    surely(async || titles_by_one_tail(journal).await).await
}

async fn titles_by_one_tail(journal: &Journal) -> Result<BTreeMap<String, usize>, JournalError> {
    let head = journal.projects(&tenant(), 0, "")?.items[0].commit_count - 1;
    let mut tail = journal.tail(&tenant(), &project(), "").await?;
    let mut titles = BTreeMap::new();
    while let Some(item) = tail.next().await {
        let TailItem::Frame(frame) = item?.item else {
            continue;
        };
        for event in frame.events {
            *titles.entry(event.draft.title).or_default() += 1;
        }
        if frame.commit.number == head {
            return Ok(titles);
        }
    }
    panic!("the tail ended before commit {head}, and without a failure");
}

async fn check_whole(journal: &Journal) {
    let report = surely(async || journal.verify(&tenant(), &project()).await).await;
    assert_eq!(report.first_break, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_refuses_and_takes_over() {
    let site = Site::new(Backend::Postgres);
    let first = journal(&site).await;
    assert!(*first.ready().borrow());
    first
        .append(append_to("main", vec![draft("one")]))
        .await
        .unwrap();
    let mut followed = first.tail(&tenant(), &project(), "").await.unwrap();

    let second = journal(&site).await;
    assert!(!*second.ready().borrow());
    let refused = second.append(append_to("main", vec![draft("two")])).await;
    assert!(matches!(refused, Err(JournalError::Standby)), "{refused:?}");
    assert!(is_transient(&refused.unwrap_err()));
    let refused = second.resolve(&tenant(), &project(), &on("main")).await;
    assert!(matches!(refused, Err(JournalError::Standby)));
    let refused = second.projects(&tenant(), 0, "");
    assert!(matches!(refused, Err(JournalError::Standby)));
    first
        .append(append_to("main", vec![draft("three")]))
        .await
        .unwrap();

    first.shutdown().await.unwrap();
    until_ready(&second).await;
    while let Some(item) = followed.next().await {
        if let Err(error) = item {
            assert!(is_transient(&error), "{error}");
        }
    }
    second
        .append(append_to("main", vec![draft("two")]))
        .await
        .unwrap();
    let found: Vec<String> = titles(&second).await.into_keys().collect();
    assert_eq!(found, ["one", "three", "two"]);
    check_whole(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lost_its_session_goes_on_by_itself() {
    let server = Server::shared();
    let site = Site::alone(Backend::Postgres).await;
    let journal = journal(&site).await;
    append_surely(&journal, "before", 1).await;
    for round in 0..5 {
        let ended = site
            .change(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name LIKE 'commonplace %' AND datname = current_database()",
            )
            .await;
        assert!(
            ended > 0,
            "no session of ours was found on {}",
            server.port()
        );
        append_surely(&journal, &format!("after {round}"), 2 + round).await;
    }
    until_ready(&journal).await;
    let found = titles(&journal).await;
    assert_eq!(found.len(), 6);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
    check_whole(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarting_server_loses_nothing_that_was_acknowledged() {
    let server = Server::start(&[]);
    let site = Site::on(&server, "postgres");
    let journal = journal(&site).await;
    append_surely(&journal, "first", 0).await;
    let running = Arc::new(AtomicBool::new(true));
    let clients: Vec<_> = (1..=8_u64)
        .map(|client| {
            let (journal, running) = (journal.clone(), running.clone());
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while running.load(Ordering::Relaxed) {
                    let title = format!("{client}-{acknowledged}");
                    append_surely(&journal, &title, client << 32 | acknowledged).await;
                    acknowledged += 1;
                }
                (client, acknowledged)
            })
        })
        .collect();
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        match round % 2 {
            0 => server.crash(),
            _ => server.stop(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start_again();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.store(false, Ordering::Relaxed);
    let mut expected = BTreeMap::from([("first".to_owned(), 1)]);
    for client in clients {
        let (client, acknowledged) = client.await.unwrap();
        expected.extend((0..acknowledged).map(|number| (format!("{client}-{number}"), 1)));
    }
    until_ready(&journal).await;
    let found = titles(&journal).await;
    println!(
        "{} acknowledged through 4 restarts, none lost",
        expected.len()
    );
    assert_eq!(found, expected, "lost, or written twice");
    check_whole(&journal).await;
    journal.shutdown().await.unwrap();
}

/// Not a test by itself: the process that is stalled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below in a process of its own"]
async fn stalled() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let database = commonplace_storage::Options {
        url,
        schema_prefix: std::env::var(PREFIX).unwrap(),
        leader_lease_ms: 500,
        ..Default::default()
    };
    let place = database.place("journal", "unused".as_ref()).unwrap();
    let journal = start(Options::default(), place, Arc::new(SystemClock))
        .await
        .unwrap();
    for number in 0.. {
        let events = vec![draft(&format!("old {number}"))];
        match journal.append(append_to("main", events)).await {
            Ok(_) => println!("acknowledged old {number}"),
            Err(error) => {
                assert!(is_transient(&error), "{error:?}");
                println!("refused {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn stalled_process(site: &mut Site) -> Child {
    let database = site.options();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::stalled", "--ignored", "--nocapture"])
        .env(URL, &database.url)
        .env(PREFIX, &database.schema_prefix)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_leader_is_replaced_and_cannot_write() {
    let mut site = Site::new(Backend::Postgres);
    site.options().leader_lease_ms = 500;
    let mut old = stalled_process(&mut site);
    let mut lines = BufReader::new(old.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut next = |acknowledged: &mut Vec<String>| loop {
        let line = lines.next().expect("the old leader runs").unwrap();
        if let Some((_, title)) = line.split_once("acknowledged ") {
            acknowledged.push(title.to_owned());
            return true;
        }
        if line.contains("refused ") {
            return false;
        }
    };
    while acknowledged.len() < 20 {
        next(&mut acknowledged);
    }
    let new = journal(&site).await;
    assert!(!*new.ready().borrow());
    signal(&old, "-STOP");
    until_ready(&new).await;
    append_surely(&new, "new", 1).await;
    signal(&old, "-CONT");
    // What it had acknowledged before it was stalled, then nothing but refusals.
    while next(&mut acknowledged) {}
    for _ in 0..20 {
        assert!(!next(&mut acknowledged), "the old leader wrote");
    }
    append_surely(&new, "newer", 2).await;
    old.kill().unwrap();
    old.wait().unwrap();
    let found = titles(&new).await;
    for title in &acknowledged {
        assert_eq!(found.get(title), Some(&1), "{title} was acknowledged");
    }
    check_whole(&new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_at_once() {
    let mut site = Site::new(Backend::Postgres);
    let mut old = stalled_process(&mut site);
    let mut lines = BufReader::new(old.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("acknowledged ") {}
    let new = journal(&site).await;
    assert!(!*new.ready().borrow());
    let began = std::time::Instant::now();
    old.kill().unwrap();
    until_ready(&new).await;
    println!("taken over after {:?}", began.elapsed());
    old.wait().unwrap();
    append_surely(&new, "new", 1).await;
    check_whole(&new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_connections_is_told_and_passes() {
    let mut site = Site::alone(Backend::Postgres).await;
    site.options().max_connections = 1;
    site.options().acquire_timeout_ms = 100;
    let journal = journal(&site).await;
    let id = journal
        .append(append_to("main", vec![draft("a")]))
        .await
        .unwrap()
        .events[0]
        .id;
    let read = async || {
        journal
            .events(&tenant(), &project(), &on("main"), &[id])
            .await
    };
    let sql =
        "BEGIN; LOCK TABLE journal.event IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1); COMMIT";
    let (_, answers) = tokio::join!(site.change(sql), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        futures::future::join_all((0..8).map(|_| read())).await
    });
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(refused.len() >= 7, "{} of 8 were refused", refused.len());
    for error in &refused {
        let JournalError::Storage(cause) = error else {
            panic!("{error:?}");
        };
        assert!(matches!(**cause, StorageError::Busy(_)), "{cause:?}");
        assert!(is_transient(error));
    }
    read().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_cancelled_anywhere_poison_no_connection() {
    let site = Site::alone(Backend::Postgres).await;
    let journal = journal(&site).await;
    let events = (0..50).map(|n| draft(&n.to_string())).collect();
    let id = journal
        .append(append_to("main", events))
        .await
        .unwrap()
        .events[0]
        .id;
    for round in 0..600_u64 {
        let limit = Duration::from_micros(round * 7 % 2_000);
        let selection = Selection::default();
        let call = async {
            match round % 6 {
                0 => drop(
                    journal
                        .append(append_to("main", vec![draft(&format!("c{round}"))]))
                        .await,
                ),
                1 => drop(journal.try_branch_named(round).await),
                2 => drop(
                    journal
                        .events(&tenant(), &project(), &on("main"), &[id])
                        .await,
                ),
                3 => drop(
                    journal
                        .query(&tenant(), &project(), &on("main"), &selection, 50, "")
                        .await,
                ),
                4 => drop(
                    journal
                        .commits(&tenant(), &project(), &on("main"), 50, "")
                        .await,
                ),
                _ => {
                    let mut tail = journal.tail(&tenant(), &project(), "").await.unwrap();
                    while let Some(Ok(_)) = tail.next().await {}
                }
            }
        };
        let _ = tokio::time::timeout(limit, call).await;
    }
    // What was cancelled still ends; then every session is at rest, outside of a transaction.
    check_whole(&journal).await;
    let stuck = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'commonplace %' AND state <> 'idle'";
    let mut left = 0;
    for _ in 0..100 {
        left = site.change(stuck).await;
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 0, "sessions are stuck");
    let read = async || {
        journal
            .events(&tenant(), &project(), &on("main"), &[id])
            .await
    };
    for answer in futures::future::join_all((0..32).map(|_| read())).await {
        answer.unwrap();
    }
    append_surely(&journal, "after", 9_999).await;
}

/// Makes a branch of that number.
trait Branches {
    async fn try_branch_named(&self, number: u64) -> Result<(), JournalError>;
}

impl Branches for Journal {
    async fn try_branch_named(&self, number: u64) -> Result<(), JournalError> {
        let name = commonplace_journal::RefName::Branch(branch(&format!("b{number}")));
        self.create_ref(create(name, on("main"))).await.map(drop)
    }
}

/// Not a check: prints what the wall between tenants costs, round by round in turn with a journal without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by name"]
async fn what_the_wall_costs() {
    const ROUNDS: usize = 6;
    const CALLS: u32 = 100;
    let mut open = Site::new(Backend::Postgres);
    open.options().row_security = false;
    open.options().role.clear();
    let sites = [("without", open), ("with", Site::new(Backend::Postgres))];
    let mut journals = Vec::new();
    for (name, site) in sites {
        let fixture = Fixture::at(site).await;
        for group in 0..40 {
            let events = (0..100).map(|number| draft(&format!("{group} {number}")));
            fixture.append("main", events.collect()).await;
        }
        journals.push((name, fixture));
    }
    let at = on("main");
    for round in 0..ROUNDS {
        for (name, fixture) in &journals {
            let began = std::time::Instant::now();
            for call in 0..CALLS {
                let title = format!("{name} {round} {call}");
                fixture.append("main", vec![draft(&title)]).await;
            }
            let append = began.elapsed() / CALLS;
            let began = std::time::Instant::now();
            let mut ids = Vec::new();
            for _ in 0..CALLS {
                let page = fixture.page(&at, &Selection::default(), 50, "").await;
                ids = page.unwrap().items.iter().map(|event| event.id).collect();
            }
            let query = began.elapsed() / CALLS;
            let began = std::time::Instant::now();
            for _ in 0..CALLS {
                let (tenant, project) = (tenant(), project());
                let found = fixture.journal.events(&tenant, &project, &at, &ids);
                assert_eq!(found.await.unwrap().len(), 50);
            }
            let get = began.elapsed() / CALLS;
            println!(
                "{round} {name:>7}: append {append:?}, query of 50 {query:?}, get of 50 {get:?}"
            );
        }
    }
    let mut connection = Server::shared().connect("postgres").await;
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        sea_orm::sqlx::query("SELECT set_config('commonplace.tenant', $1, false)")
            .bind("default")
            .execute(&mut connection)
            .await
            .unwrap();
    }
    println!("to tell the server: {:?}", began.elapsed() / 1_000);
}
