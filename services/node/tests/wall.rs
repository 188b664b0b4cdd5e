//! Every table of every store: which rows a statement without any condition sees and changes behind the wall
//! between tenants. The tables are read from the server, so a new one without a policy is found here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use commonplace_node::{NodeOptions, migrate};
use commonplace_testkit::Server;
use sea_orm::sqlx::postgres::{PgConnection, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, Row};

/// Tables without rows of tenants, which everybody sees.
const SHARED: [&str; 6] = [
    "journal.leadership",
    "journal.schema_migration",
    "journal.setting",
    "policy.change",
    "policy.schema_migration",
    "retrieval.schema_migration",
];

/// A table with rows of tenants.
struct Table {
    name: String,
    /// Name and type.
    columns: Vec<(String, String)>,
}

impl Table {
    /// The column that says whose a row is.
    fn owner(&self) -> &str {
        let has = |wanted: &str| self.columns.iter().any(|(name, _)| name == wanted);
        ["tenant", "project"]
            .into_iter()
            .find(|column| has(column))
            .unwrap_or_else(|| {
                panic!(
                    "{}: give it a policy, or a place in SHARED if it holds no rows of tenants",
                    self.name
                )
            })
    }

    /// What the owner's column says for a tenant: its name, or the number of its project.
    fn says(&self, tenant: u8) -> String {
        match self.owner() {
            "tenant" => format!("'{}'", name(tenant)),
            _ => tenant.to_string(),
        }
    }

    /// A row of a tenant, unlike any of another number.
    fn insert(&self, tenant: u8, number: u8) -> String {
        let value = |(column, kind): &(String, String)| match kind.as_str() {
            _ if column == self.owner() => self.says(tenant),
            "text" => format!("'x{number}'"),
            "bigint" | "integer" => number.to_string(),
            "bytea" => format!("'\\x0{number}'"),
            "boolean" => "false".to_owned(),
            "timestamp with time zone" => "now()".to_owned(),
            other => panic!("{}: a column of type {other}", self.name),
        };
        let values: Vec<String> = self.columns.iter().map(value).collect();
        format!("INSERT INTO {} VALUES ({})", self.name, values.join(", "))
    }
}

fn name(tenant: u8) -> char {
    char::from(b'a' + tenant - 1)
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, String> {
    let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
    done.map(|done| done.rows_affected())
        .map_err(|error| error.to_string())
}

async fn rows(connection: &mut PgConnection, sql: &str) -> Vec<PgRow> {
    let found = connection.fetch_all(AssertSqlSafe(sql.to_owned())).await;
    found.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn count(connection: &mut PgConnection, table: &Table) -> usize {
    rows(connection, &format!("SELECT FROM {}", table.name))
        .await
        .len()
}

/// The tables of all stores that are not shared.
async fn tables(connection: &mut PgConnection) -> Vec<Table> {
    let sql = "SELECT format('%I.%I', table_schema, table_name), column_name::text, data_type::text
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema IN ('journal', 'policy', 'retrieval') AND table_type = 'BASE TABLE'
        ORDER BY 1, ordinal_position";
    let mut tables: Vec<Table> = Vec::new();
    for row in rows(connection, sql).await {
        let (name, column) = (row.get::<String, _>(0), (row.get(1), row.get(2)));
        match tables.last_mut().filter(|last| last.name == name) {
            Some(last) => last.columns.push(column),
            None => tables.push(Table {
                name,
                columns: vec![column],
            }),
        }
    }
    for shared in SHARED {
        assert!(tables.iter().any(|table| table.name == shared), "{shared}");
    }
    tables.retain(|table| !SHARED.contains(&table.name.as_str()));
    tables
}

/// Stores with one row of tenant `a` and one of `b` in each table, and a session of the services' role there.
async fn filled() -> (PgConnection, Vec<Table>) {
    let server = Server::shared();
    let database = server.database(None).await;
    let mut options = NodeOptions::default();
    options.database.url = server.url(&database);
    options.database.role = Server::ROLE.into();
    migrate(&options).await.unwrap();
    let mut connection = server.connect(&database).await;
    // One row is put in, or taken out, without those that refer to it.
    let alone = "SET session_replication_role = replica";
    run(&mut connection, alone).await.unwrap();
    let tables = tables(&mut connection).await;
    assert!(tables.len() >= 16, "{}", tables.len());
    for table in &tables {
        for tenant in [1, 2] {
            let insert = table.insert(tenant, tenant);
            run(&mut connection, &insert).await.unwrap();
        }
    }
    let become_it = format!("SET ROLE {}", Server::ROLE);
    run(&mut connection, &become_it).await.unwrap();
    (connection, tables)
}

async fn speak_for(connection: &mut PgConnection, whose: &str) {
    let sql = format!("SET commonplace.tenant = '{whose}'");
    run(connection, &sql).await.unwrap();
}

#[tokio::test]
async fn every_table_shows_what_is_for_the_tenant_and_nothing_else() {
    let (mut connection, tables) = filled().await;
    for table in &tables {
        let seen = count(&mut connection, table).await;
        assert_eq!(seen, 0, "{}: nobody was named", table.name);
    }
    for (whose, expected) in [("a", 1), ("b", 1), ("c", 0), ("*", 2), ("", 0)] {
        speak_for(&mut connection, whose).await;
        for table in &tables {
            let seen = count(&mut connection, table).await;
            assert_eq!(seen, expected, "{} for `{whose}`", table.name);
        }
    }
    speak_for(&mut connection, "a").await;
    for table in &tables {
        let owner = table.owner();
        let own = format!(
            "SELECT FROM {} WHERE {owner} <> {}",
            table.name,
            table.says(1)
        );
        assert_eq!(rows(&mut connection, &own).await.len(), 0, "{}", table.name);
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn no_table_takes_or_loses_a_row_of_another_tenant() {
    let (mut connection, tables) = filled().await;
    speak_for(&mut connection, "a").await;
    for table in &tables {
        let (name, owner) = (&table.name, table.owner());
        let change = format!("UPDATE {name} SET {owner} = {owner}");
        assert_eq!(run(&mut connection, &change).await, Ok(1), "{name}");
        let give_away = format!("UPDATE {name} SET {owner} = {}", table.says(2));
        for refused in [table.insert(2, 3), give_away] {
            let told = run(&mut connection, &refused).await.unwrap_err();
            assert!(told.contains("row-level security"), "{refused}: {told}");
        }
        run(&mut connection, "BEGIN").await.unwrap();
        let empty = format!("DELETE FROM {name}");
        assert_eq!(run(&mut connection, &empty).await, Ok(1), "{name}");
        assert_eq!(run(&mut connection, &table.insert(1, 3)).await, Ok(1));
        run(&mut connection, "ROLLBACK").await.unwrap();
    }
    speak_for(&mut connection, "b").await;
    for table in &tables {
        assert_eq!(count(&mut connection, table).await, 1, "{}", table.name);
    }
    connection.close().await.unwrap();
}
