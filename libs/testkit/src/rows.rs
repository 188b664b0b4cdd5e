//! A store that moves from its SQLite file to a server, row by row.
//!
//! Both have the same tables and columns ([`commonplace_storage::Migration`] has them side by side), so what a
//! service wrote to a file can be read on a server as it was written: salts, times and hashes included.

use std::path::Path;

use sea_orm::sqlx::postgres::{PgArguments, PgConnection};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Executor, Postgres, Row, TypeInfo, ValueRef,
};

use crate::Server;

impl Server {
    /// Copies every row of a service's SQLite file into the tables of a schema, which are there and empty.
    /// Nobody uses either meanwhile. Gives how many rows were copied.
    pub async fn fill(&self, database: &str, schema: &str, file: &Path) -> u64 {
        let mut from = SqliteConnectOptions::new()
            .filename(file)
            .connect()
            .await
            .expect("the file can be opened");
        let mut to = self.connect(database).await;
        run(&mut to, "BEGIN").await;
        let mut rows = 0;
        for table in tables(&mut from).await {
            rows += copy(&mut from, &mut to, schema, &table).await;
        }
        run(&mut to, "COMMIT").await;
        from.close().await.ok();
        to.close().await.ok();
        rows
    }
}

/// The tables of a service in the order in which they were made: what others refer to comes first.
async fn tables(from: &mut SqliteConnection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
        AND name <> 'schema_migration' ORDER BY rowid";
    let rows = from.fetch_all(sql).await.expect("the file has a schema");
    let name = |row: &SqliteRow| row.get::<String, _>(0);
    rows.iter().map(name).collect()
}

async fn copy(
    from: &mut SqliteConnection,
    to: &mut PgConnection,
    schema: &str,
    table: &str,
) -> u64 {
    let select = AssertSqlSafe(format!("SELECT * FROM \"{table}\""));
    let rows = from.fetch_all(select).await.expect("it can be read");
    for row in &rows {
        let names = row.columns().iter().map(Column::name);
        let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
        let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
        let insert = format!(
            "INSERT INTO \"{schema}\".\"{table}\" ({}) VALUES ({})",
            names.join(", "),
            places.join(", ")
        );
        let mut query = sea_orm::sqlx::query(AssertSqlSafe(insert));
        for place in 0..names.len() {
            query = bind(query, row, place);
        }
        let done = query.execute(&mut *to).await;
        done.unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    rows.len() as u64
}

/// Our tables hold whole numbers, texts and bytes, and never NULL.
fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    row: &SqliteRow,
    place: usize,
) -> Query<'q, Postgres, PgArguments> {
    let value = row.try_get_raw(place).expect("the row has the column");
    match value.type_info().name() {
        "INTEGER" => query.bind(row.get::<i64, _>(place)),
        "TEXT" => query.bind(row.get::<String, _>(place)),
        "BLOB" => query.bind(row.get::<Vec<u8>, _>(place)),
        other => panic!("a value of type {other}"),
    }
}

async fn run(to: &mut PgConnection, sql: &'static str) {
    to.execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}
