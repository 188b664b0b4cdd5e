//! What only a server does: go away, run out of connections, tell two leaders apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonplace_storage::{
    Database, LEADERSHIP_TABLE, Leadership, Migration, Place, StorageError, Term,
};
use commonplace_testkit::{Backend, Server, Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    oldest: 1,
    sqlite: &[],
    postgres: &[
        LEADERSHIP_TABLE,
        "CREATE TABLE note (id BIGINT PRIMARY KEY, count BIGINT NOT NULL)",
        "INSERT INTO note VALUES (1, 0), (2, 0)",
    ],
}];

async fn open(site: &Site) -> Database {
    Database::open(&site.place("notes"), "", MIGRATIONS)
        .await
        .unwrap()
}

async fn epoch(leadership: &Leadership) -> i64 {
    let mut term = leadership.term();
    let term = *term
        .wait_for(|term| matches!(term, Term::Leading { .. }))
        .await
        .unwrap();
    match term {
        Term::Leading { epoch } => epoch,
        other => panic!("{other:?}"),
    }
}

async fn guarded(database: &Database, own: i64) -> Result<(), StorageError> {
    database
        .for_all()
        .write(move |transaction| Box::pin(async move { transaction.guard(own).await }))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_migrate_at_once() {
    let site = Site::new(Backend::Postgres);
    let opened = futures::future::join_all((0..8).map(|_| open(&site))).await;
    for database in opened {
        let row = database
            .for_all()
            .query_one("SELECT count(*) FROM note", Vec::new())
            .await;
        let count: i64 = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        assert_eq!(count, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_leaders_only_the_newer_can_write() {
    let site = Site::new(Backend::Postgres);
    let (one, two) = (open(&site).await, open(&site).await);
    let first = Leadership::start(&one, "first").unwrap();
    let old = epoch(&first).await;
    guarded(&one, old).await.unwrap();
    let second = Leadership::start(&two, "second").unwrap();
    second
        .term()
        .wait_for(|term| *term == Term::Standby)
        .await
        .unwrap();

    // A transaction of the old leader that is under way holds its successor off.
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (one, entered, leave) = (one.clone(), entered.clone(), leave.clone());
        tokio::spawn(async move {
            one.for_all()
                .write::<_, _, StorageError>(move |transaction| {
                    let (entered, leave) = (entered.clone(), leave.clone());
                    Box::pin(async move {
                        transaction.guard(old).await?;
                        entered.notify_one();
                        leave.notified().await;
                        let sql = "UPDATE note SET count = count + 1 WHERE id = 1";
                        transaction.execute(sql, Vec::new()).await
                    })
                })
                .await
        })
    };
    entered.notified().await;
    let resigned = tokio::spawn(first.resign());
    resigned.await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(*second.term().borrow(), Term::Standby);
    leave.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), 1);

    let new = epoch(&second).await;
    assert!(new > old);
    let fenced = guarded(&one, old).await;
    assert!(
        matches!(fenced, Err(StorageError::Fenced { own, found }) if (own, found) == (old, new)),
        "{fenced:?}"
    );
    guarded(&two, new).await.unwrap();
    second.resign().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_collide_are_run_again() {
    let site = Site::new(Backend::Postgres);
    let database = open(&site).await;
    // Each takes one row, then the other's: a deadlock, which the server breaks.
    let cross = |from: i64, to: i64| {
        let database = database.clone();
        tokio::spawn(async move {
            database
                .for_all()
                .write::<_, _, StorageError>(move |transaction| {
                    Box::pin(async move {
                        for id in [from, to] {
                            let sql = "UPDATE note SET count = count + 1 WHERE id = ?";
                            transaction.execute(sql, vec![id.into()]).await?;
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                        Ok(())
                    })
                })
                .await
        })
    };
    let (one, two) = (cross(1, 2), cross(2, 1));
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    let statements = database.for_all();
    let row = statements.query_one("SELECT CAST(sum(count) AS BIGINT) FROM note", Vec::new());
    let sum: i64 = row.await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(sum, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again() {
    let server = Server::start(&[]);
    let mut site = Site::on(&server, "postgres");
    site.options().acquire_timeout_ms = 300;
    let database = open(&site).await;
    let read = async || {
        database
            .for_all()
            .query("SELECT count FROM note", Vec::new())
            .await
    };
    let write = async || {
        let sql = "UPDATE note SET count = count + 1 WHERE id = 1";
        database.for_all().execute(sql, Vec::new()).await
    };
    futures::future::join_all((0..8).map(|_| read())).await;
    for crash in [true, false] {
        match crash {
            true => server.crash(),
            false => server.stop(),
        }
        for answer in [read().await.map(drop), write().await.map(drop)] {
            assert!(
                matches!(
                    answer,
                    Err(StorageError::Unavailable(_) | StorageError::Busy(_))
                ),
                "{answer:?}"
            );
        }
        server.start_again();
        // At once, whatever broken connections the pools still hold.
        read().await.unwrap();
        write().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_told() {
    let mut site = Site::new(Backend::Postgres);
    site.options().start_timeout_ms = 0;
    site.options().acquire_timeout_ms = 200;
    let open = async |place: Place| Database::open(&place, "", MIGRATIONS).await.unwrap_err();
    site.options().url = Server::shared().url("nowhere");
    let error = open(site.place("notes")).await;
    assert!(error.to_string().contains("nowhere"), "{error}");
    site.options().url = "postgres://127.0.0.1:1/x".into();
    let error = open(site.place("notes")).await;
    assert!(
        matches!(error, StorageError::Unavailable(_) | StorageError::Busy(_)),
        "{error}"
    );
    let server = Server::shared();
    let latin = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'";
    server.run("postgres", latin).await;
    site.options().url = server.url("latin");
    let error = open(site.place("notes")).await;
    assert!(error.to_string().contains("UTF8"), "{error}");
}

/// Passes bytes on to a server; connections made so far can be silenced, as by a network that drops.
struct Wire {
    port: u16,
    /// Connections with a lower number are silent.
    silent_below: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            silent_below: Arc::default(),
            made: Arc::default(),
        };
        let (silent_below, made) = (wire.silent_below.clone(), wire.made.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let number = made.fetch_add(1, Ordering::Relaxed);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let silent = silent_below.clone();
                tokio::spawn(pass(from_client, to_server, number, silent.clone()));
                tokio::spawn(pass(from_server, to_client, number, silent));
            }
        });
        wire
    }

    fn silence(&self) {
        let made = self.made.load(Ordering::Relaxed);
        self.silent_below.store(made, Ordering::Relaxed);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    silent_below: Arc<AtomicU64>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if number < silent_below.load(Ordering::Relaxed) {
            // Neither passed on nor refused, and never closed.
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_is_noticed_and_gone_around() {
    let wire = Wire::to(Server::shared().port()).await;
    let mut site = Site::new(Backend::Postgres);
    site.options().url = format!("postgres://commonplace@127.0.0.1:{}/postgres", wire.port);
    site.options().statement_timeout_ms = 100;
    site.options().max_connections = 2;
    let database = open(&site).await;
    let read = async || {
        database
            .for_all()
            .query("SELECT count FROM note", Vec::new())
            .await
    };
    let write = async || {
        let sql = "UPDATE note SET count = count + 1 WHERE id = 1";
        database.for_all().execute(sql, Vec::new()).await
    };
    let (one, two) = tokio::join!(read(), read());
    one.unwrap();
    two.unwrap();
    write().await.unwrap();
    // A pool tries a connection before it takes it back; one that is not back yet would be passed by.
    tokio::time::sleep(Duration::from_millis(300)).await;
    wire.silence();
    let (reading, writing) = tokio::join!(read(), write());
    assert!(
        matches!(reading, Err(StorageError::Unavailable(_))),
        "{reading:?}"
    );
    assert!(
        matches!(writing, Err(StorageError::Unavailable(_))),
        "{writing:?}"
    );
    // At once: what was silent is left behind.
    read().await.unwrap();
    write().await.unwrap();
}
