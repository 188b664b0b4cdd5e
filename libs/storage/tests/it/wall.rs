//! The wall between tenants: what a statement without any condition sees and changes behind it.

use std::time::Duration;

use commonplace_storage::{
    Database, Guarded, Migration, Options, StorageError, Transaction, WallState,
};
use commonplace_testkit::{Backend, Server, Site, each_backend};
use commonplace_types::TenantName;

each_backend!(statements_are_for_somebody);

const FILE: &str = "x.sqlite";
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    oldest: 1,
    sqlite: &[
        "CREATE TABLE shelf (key INTEGER PRIMARY KEY, tenant TEXT NOT NULL)",
        "CREATE TABLE book (shelf INTEGER NOT NULL, title TEXT NOT NULL)",
    ],
    postgres: &[
        "CREATE TABLE shelf (key BIGINT PRIMARY KEY, tenant TEXT COLLATE \"C\" NOT NULL)",
        "CREATE TABLE book (shelf BIGINT NOT NULL, title TEXT NOT NULL)",
    ],
}];
const WALL: &[Guarded] = &[
    Guarded::by_tenant("shelf"),
    Guarded::by_key("book", "shelf", "shelf"),
];

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

async fn open(site: &Site) -> Result<Database, StorageError> {
    Database::open_walled(&site.place("library"), FILE, MIGRATIONS, WALL).await
}

async fn filled(site: &Site) -> Database {
    let database = open(site).await.unwrap();
    for sql in [
        "INSERT INTO shelf VALUES (1, 'a'), (2, 'b'), (3, 'b')",
        "INSERT INTO book VALUES (1, 'of a'), (2, 'of b'), (3, 'of b too')",
    ] {
        database.for_all().execute(sql, Vec::new()).await.unwrap();
    }
    database
}

/// How many rows of both tables a tenant's statements see, or all do.
async fn seen(database: &Database, name: Option<&str>) -> (usize, usize) {
    let statements = match name {
        Some(name) => database.for_tenant(&tenant(name)),
        None => database.for_all(),
    };
    let count = async |sql| statements.query(sql, Vec::new()).await.unwrap().len();
    (
        count("SELECT * FROM shelf").await,
        count("SELECT * FROM book").await,
    )
}

async fn statements_are_for_somebody(backend: Backend) {
    let mut site = Site::new(backend);
    site.options().max_connections = 1;
    let database = filled(&site).await;
    let walled = backend == Backend::Postgres;
    let of = |rows: (usize, usize)| if walled { rows } else { (3, 3) };
    // The same connection, one after the other, in single statements and in transactions.
    for _ in 0..3 {
        assert_eq!(seen(&database, Some("a")).await, of((1, 1)));
        assert_eq!(seen(&database, Some("b")).await, of((2, 2)));
        assert_eq!(seen(&database, Some("c")).await, of((0, 0)));
        assert_eq!(seen(&database, None).await, (3, 3));
        let read = database.for_tenant(&tenant("a"));
        let titles = read
            .read::<_, _, StorageError>(|transaction| Box::pin(titles(transaction)))
            .await
            .unwrap();
        assert_eq!(titles.len(), of((1, 1)).1);
    }
    let everything = "UPDATE book SET title = 'mine'";
    let changed = database.for_tenant(&tenant("b"));
    let changed = changed.execute(everything, Vec::new()).await.unwrap();
    assert_eq!(changed, of((2, 2)).1 as u64);
    if walled {
        let kept = "SELECT title FROM book WHERE shelf = 1";
        let row = database.for_all().query_one(kept, Vec::new()).await;
        let title: String = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        assert_eq!(title, "of a");
    }
}

async fn titles(transaction: &Transaction) -> Result<Vec<String>, StorageError> {
    let rows = transaction.query("SELECT title FROM book", Vec::new());
    let rows = rows.await?;
    let read = rows.iter().map(|row| row.try_get_by_index::<String>(0));
    read.map(|title| title.map_err(StorageError::from))
        .collect()
}

#[tokio::test]
async fn rows_of_others_are_refused() {
    let site = Site::new(Backend::Postgres);
    let database = filled(&site).await;
    let a = database.for_tenant(&tenant("a"));
    for sql in [
        "INSERT INTO shelf VALUES (9, 'b')",
        "INSERT INTO book VALUES (2, 'put on a shelf of b')",
        "UPDATE shelf SET tenant = 'b'",
        "UPDATE book SET shelf = 2",
    ] {
        let refused = a.execute(sql, Vec::new()).await.unwrap_err();
        let told = format!("{refused:?}");
        assert!(told.contains("row-level security"), "{sql}: {told}");
    }
    assert_eq!(a.execute("DELETE FROM book", Vec::new()).await.unwrap(), 1);
    assert_eq!(seen(&database, Some("b")).await, (2, 2));
}

/// Calls that go away leave a connection for one tenant behind, or in the middle; the next one is for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_leave_nothing_of_theirs_behind() {
    let mut site = Site::new(Backend::Postgres);
    site.options().max_connections = 1;
    let database = filled(&site).await;
    for micros in 0..200 {
        let (other, own) = match micros % 2 {
            0 => ("a", ("b", (2, 2))),
            _ => ("b", ("a", (1, 1))),
        };
        let call = seen(&database, Some(other));
        let _ = tokio::time::timeout(Duration::from_micros(micros * 10), call).await;
        let write = database.for_tenant(&tenant(other));
        let write = write.execute("UPDATE book SET title = title", Vec::new());
        let _ = tokio::time::timeout(Duration::from_micros(micros * 10), write).await;
        assert_eq!(seen(&database, Some(own.0)).await, own.1, "{micros}");
        assert_eq!(
            database
                .for_all()
                .execute("UPDATE book SET title = title", Vec::new())
                .await
                .unwrap(),
            3
        );
    }
}

/// An owner of the tables who is no superuser, without a role besides.
#[tokio::test]
async fn the_owner_of_the_tables_is_bound_too() {
    let server = Server::shared();
    let number = server.number();
    let (owner, name) = (format!("owner{number}"), format!("owned{number}"));
    server
        .run("postgres", &format!("CREATE ROLE {owner} LOGIN"))
        .await;
    server
        .run("postgres", &format!("CREATE DATABASE {name} OWNER {owner}"))
        .await;
    let url = server
        .url(&name)
        .replace("commonplace@", &format!("{owner}@"));
    let site = Site::with(Options {
        url,
        ..Options::default()
    });
    let database = filled(&site).await;
    assert_eq!(seen(&database, Some("a")).await, (1, 1));
    assert_eq!(seen(&database, None).await, (3, 3));
    let state = Database::wall_state(&site.place("library"), WALL).await;
    assert_eq!(state.unwrap(), WallState::Up { role: owner });
}

#[tokio::test]
async fn how_the_wall_stands_is_told() {
    let mut site = Site::new(Backend::Postgres);
    site.options().row_security = false;
    let state = async |site: &Site| {
        Database::wall_state(&site.place("library"), WALL)
            .await
            .unwrap()
    };
    let database = filled(&site).await;
    assert_eq!(
        seen(&database, Some("a")).await,
        (3, 3),
        "no wall was asked for"
    );
    let tables = vec!["shelf".to_owned(), "book".to_owned()];
    assert_eq!(state(&site).await, WallState::Missing { tables });

    site.options().row_security = true;
    site.options().migrate = false;
    let refused = open(&site).await.unwrap_err().to_string();
    assert!(refused.contains("com migrate"), "{refused}");

    site.options().migrate = true;
    let walled = open(&site).await.unwrap();
    assert_eq!(seen(&walled, Some("a")).await, (1, 1));
    let role = Server::ROLE.to_owned();
    assert_eq!(state(&site).await, WallState::Up { role });

    // It stays, whoever comes without asking for it.
    site.options().row_security = false;
    let again = open(&site).await.unwrap();
    assert_eq!(seen(&again, Some("a")).await, (1, 1));

    site.options().role.clear();
    let role = "commonplace".to_owned();
    assert_eq!(state(&site).await, WallState::Passed { role });
    site.options().role = "nobody_made_it".into();
    let refused = open(&site).await.unwrap_err().to_string();
    assert!(refused.contains("no role `nobody_made_it`"), "{refused}");

    let folder = Site::new(Backend::Sqlite);
    assert_eq!(state(&folder).await, WallState::None);
}

/// What an older program let through is let through no more; what a newer one put up stays.
#[tokio::test]
async fn policies_of_other_programs_are_known() {
    let mut site = Site::alone(Backend::Postgres).await;
    let database = filled(&site).await;
    let shelf = format!("{}.shelf", site.schema("library"));
    let open_to_all = format!("CREATE POLICY commonplace_tenant_0 ON {shelf} USING (true)");
    site.change(&open_to_all).await;
    assert_eq!(seen(&database, Some("a")).await, (3, 3), "one lets through");
    let tables = vec!["shelf".to_owned()];
    let state = Database::wall_state(&site.place("library"), WALL).await;
    assert_eq!(state.unwrap(), WallState::Missing { tables });
    let again = open(&site).await.unwrap();
    assert_eq!(seen(&again, Some("a")).await, (1, 1));

    site.change(&format!(
        "ALTER POLICY commonplace_tenant_1 ON {shelf} RENAME TO commonplace_tenant_7"
    ))
    .await;
    site.options().migrate = false;
    let older = open(&site).await.unwrap();
    assert_eq!(seen(&older, Some("a")).await, (1, 1));

    // Besides those of the newest, only what is older goes.
    site.change(&open_to_all).await;
    site.options().migrate = true;
    let again = open(&site).await.unwrap();
    assert_eq!(seen(&again, Some("a")).await, (1, 1));
    site.change(&format!(
        "ALTER POLICY commonplace_tenant_7 ON {shelf} RENAME TO commonplace_tenant_1"
    ))
    .await;
}

/// Many processes put it up at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_build_one_wall() {
    let site = Site::new(Backend::Postgres);
    for opened in futures::future::join_all((0..8).map(|_| open(&site))).await {
        assert_eq!(seen(&opened.unwrap(), None).await, (0, 0));
    }
}
