//! The wall between tenants inside a PostgreSQL server: row-level security behind the program's own checks.
//!
//! Every statement runs for a tenant or for all of them ([`crate::Database::for_tenant`],
//! [`crate::Database::for_all`]), and says so to the server in a variable of its session before it runs. A
//! policy on each table with rows of tenants shows and takes only what is for that tenant; where the variable
//! says nothing, nothing. So a statement that forgets its condition gives no row of another tenant away.
//!
//! The policies are no steps of a schema. A step would say which programs are too old for it, on SQLite too,
//! which has no wall; and it would blind the programs of the release before that still run. They are put up
//! when a service starts, where the settings say so, on the tables that have none yet.
//!
//! Left out: what runs as a superuser or a role with BYPASSRLS, which no policy binds; and whoever may set the
//! variable by themselves, which is anybody who can send statements of their own.

use std::collections::BTreeMap;

use sea_orm::sea_query::Values;
use sea_orm::sqlx::postgres::{PgPool, PgRow};
use sea_orm::sqlx::{self, AssertSqlSafe};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbErr, QueryResult, RuntimeErr, SqlxError,
    Statement, TransactionTrait,
};
use sea_query_sqlx::SqlxValues;

use crate::StorageError;
use crate::options::Postgres;
use crate::postgres;

/// The variable that says for whom a session's statements run.
pub(crate) const VARIABLE: &str = "commonplace.tenant";
/// What it says for the service's own work over all tenants; no tenant has that name.
pub(crate) const ALL: &str = "*";
/// Says it for the statements of a transaction.
pub(crate) const SET_LOCAL: &str = "SELECT set_config('commonplace.tenant', ?, true)";
/// Says it for the statements that follow on a connection.
const SET: &str = "SELECT set_config('commonplace.tenant', $1, false)";
/// What the names of our policies begin with; their number follows.
const POLICIES: &str = "commonplace_tenant_";
/// The number of the policies as they are here. Another text needs the next number: a program takes the policies of
/// a newer one for good while both run, and puts its own in the place of older ones.
const NUMBER: u32 = 1;

/// A table that holds rows of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    table: &'static str,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Tenant,
    Key {
        column: &'static str,
        of: &'static str,
    },
}

impl Guarded {
    /// Its column `tenant` says whose a row is.
    pub const fn by_tenant(table: &'static str) -> Self {
        Self {
            table,
            by: By::Tenant,
        }
    }

    /// Its rows are for whoever sees the row of another guarded table, `of`, whose `key` is in `column`.
    pub const fn by_key(table: &'static str, column: &'static str, of: &'static str) -> Self {
        Self {
            table,
            by: By::Key { column, of },
        }
    }

    /// What must hold for a row.
    ///
    /// The variable stands in a query of its own, so that it is looked up once for a statement and not for each
    /// row. `IS NOT NULL` is there for the planner: it takes such a condition to hold nearly always, so it goes on
    /// reading in the order of an index up to a limit as it does without a policy.
    fn condition(&self) -> String {
        let told = format!("(SELECT current_setting('{VARIABLE}', true))");
        let table = self.table;
        match self.by {
            By::Tenant => {
                format!("nullif({told} IN (tenant, '{ALL}'), false) IS NOT NULL")
            }
            By::Key { column, of } => format!(
                "{told} = '{ALL}' OR (SELECT o.key FROM \"{of}\" o WHERE o.key = \"{table}\".{column}) IS NOT NULL"
            ),
        }
    }

    /// What brings a table from how it stands to how it should.
    fn statements(&self, standing: &Standing) -> Vec<String> {
        let (table, condition) = (self.table, self.condition());
        let older = standing.older();
        let mut statements: Vec<String> = older
            .map(|number| format!("DROP POLICY {POLICIES}{number} ON \"{table}\""))
            .collect();
        if !standing.has_policy() {
            statements.push(format!(
                "CREATE POLICY {POLICIES}{NUMBER} ON \"{table}\" USING ({condition}) WITH CHECK ({condition})"
            ));
        }
        if !standing.forced {
            statements.push(format!("ALTER TABLE \"{table}\" ENABLE ROW LEVEL SECURITY"));
            // For its owner too.
            statements.push(format!("ALTER TABLE \"{table}\" FORCE ROW LEVEL SECURITY"));
        }
        statements
    }
}

/// How the wall stands at a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Standing {
    /// Policies bind whoever uses it.
    forced: bool,
    /// The numbers of our policies.
    policies: Vec<u32>,
}

impl Standing {
    /// A policy of ours as it is here, or of a newer program.
    fn has_policy(&self) -> bool {
        self.policies.iter().any(|number| *number >= NUMBER)
    }

    /// What an older program let through is let through no more.
    fn older(&self) -> impl Iterator<Item = u32> {
        let older = self.policies.iter().copied();
        older.filter(|number| *number < NUMBER)
    }

    fn is_up(&self) -> bool {
        self.forced && self.has_policy() && self.older().next().is_none()
    }
}

/// How the wall stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WallState {
    /// A SQLite file has none: one process holds it.
    None,
    /// It binds the role that statements run as.
    Up {
        /// The role.
        role: String,
    },
    /// Tables are without it.
    Missing {
        /// Which ones.
        tables: Vec<String>,
    },
    /// It does not bind the role that statements run as: a superuser, or one with BYPASSRLS.
    Passed {
        /// The role.
        role: String,
    },
}

/// The role that statements run as.
struct Role {
    name: String,
    passes: bool,
}

/// Puts up what is missing of the wall, and lets the role of the settings use the tables; warns where the wall
/// does not bind.
pub(crate) async fn prepare(
    place: &Postgres,
    connection: &DatabaseConnection,
    tables: &[Guarded],
) -> Result<(), StorageError> {
    let role = role(place, connection).await?;
    let missing = needed(place, connection, tables).await?;
    if let Some(first) = missing.iter().flatten().next()
        && !place.options.migrate
    {
        let problem = format!(
            "the wall between tenants is not as `database.role` and `database.row_security` say: run `com migrate` \
             (first: {first})"
        );
        return Err(postgres::unfit(place, problem));
    }
    if !missing.is_empty() {
        build(place, connection, tables).await?;
    }
    if role.passes && place.options.row_security && !tables.is_empty() {
        tracing::warn!(
            schema = place.schema,
            role = role.name,
            "no policy of the database binds this role, so only the program's own checks keep tenants apart: set \
             `database.role`"
        );
    }
    Ok(())
}

/// How the wall stands, without changing it.
pub(crate) async fn state(place: &Postgres, tables: &[Guarded]) -> Result<WallState, StorageError> {
    let connection = postgres::single(place, &postgres::connect_options(place)?).await?;
    let found = look(place, &connection, tables).await;
    connection.close().await?;
    found
}

async fn look(
    place: &Postgres,
    connection: &DatabaseConnection,
    tables: &[Guarded],
) -> Result<WallState, StorageError> {
    let role = role(place, connection).await?;
    let missing = unguarded(connection, tables).await?;
    Ok(match role {
        _ if !missing.is_empty() => WallState::Missing {
            tables: missing
                .iter()
                .map(|(one, _)| one.table.to_owned())
                .collect(),
        },
        Role { name, passes: true } => WallState::Passed { role: name },
        Role { name, .. } => WallState::Up { role: name },
    })
}

/// Several processes may start at once: whoever comes second finds nothing left to do. Each table is locked by
/// itself, so that nobody who uses several waits for us in a circle.
async fn build(
    place: &Postgres,
    connection: &DatabaseConnection,
    tables: &[Guarded],
) -> Result<(), StorageError> {
    let lock = postgres::lock_key("migrate", &place.schema);
    loop {
        let transaction = connection.begin().await?;
        transaction
            .execute_unprepared(&format!("SELECT pg_advisory_xact_lock({lock})"))
            .await?;
        let missing = needed(place, &transaction, tables).await?;
        for statement in missing.first().into_iter().flatten() {
            transaction.execute_unprepared(statement).await?;
        }
        transaction.commit().await?;
        if missing.len() <= 1 {
            tracing::info!(schema = place.schema, "wall between tenants put up");
            return Ok(());
        }
    }
}

/// The statements that bring the wall and the role's rights to what the settings say: those of a table together,
/// then those about the role.
async fn needed(
    place: &Postgres,
    connection: &impl ConnectionTrait,
    tables: &[Guarded],
) -> Result<Vec<Vec<String>>, StorageError> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    if place.options.row_security {
        for table in unguarded(connection, tables).await? {
            groups.push(table.0.statements(&table.1));
        }
    }
    let role = &place.options.role;
    if role.is_empty() {
        return Ok(groups);
    }
    let mut statements = Vec::new();
    let schema = &place.schema;
    let shut = format!("SELECT '' WHERE NOT has_schema_privilege('{role}', '{schema}', 'USAGE')");
    if !texts(connection, &shut).await?.is_empty() {
        statements.push(format!("GRANT USAGE ON SCHEMA {schema} TO \"{role}\""));
    }
    let shut = format!(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = '{schema}' AND c.relkind = 'r' AND {} ORDER BY c.relname",
        shut_to(role)
    );
    for table in texts(connection, &shut).await? {
        let rights = rights(&table);
        statements.push(format!(
            "GRANT {rights} ON {schema}.\"{table}\" TO \"{role}\""
        ));
    }
    if !statements.is_empty() {
        groups.push(statements);
    }
    Ok(groups)
}

/// What the role may do with a table. Which steps of the schema were done is nobody's to change but who does them.
fn rights(table: &str) -> &'static str {
    match table {
        "schema_migration" => "SELECT",
        _ => "SELECT, INSERT, UPDATE, DELETE",
    }
}

/// The condition that a table `c` is not the role's to use as [`rights`] says.
fn shut_to(role: &str) -> String {
    let held = |right: &str| format!("has_table_privilege('{role}', c.oid, '{right}')");
    let changes = ["INSERT", "UPDATE", "DELETE"].map(held).join(" AND ");
    format!(
        "NOT ({} AND (c.relname = 'schema_migration' OR {changes}))",
        held("SELECT")
    )
}

/// The tables at which the wall is not up, and how they stand.
async fn unguarded(
    connection: &impl ConnectionTrait,
    tables: &[Guarded],
) -> Result<Vec<(Guarded, Standing)>, StorageError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity, p.polname::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname ~ '^{POLICIES}[0-9]{{1,9}}$'
         WHERE n.nspname = current_schema() AND c.relkind = 'r' ORDER BY c.relname, p.polname"
    );
    let rows = connection
        .query_all_raw(statement(connection, &sql))
        .await?;
    let mut found: BTreeMap<String, Standing> = BTreeMap::new();
    for row in &rows {
        let standing = found.entry(row.try_get_by_index(0)?).or_default();
        standing.forced = row.try_get_by_index(1)?;
        let policy: Option<String> = row.try_get_by_index(2)?;
        let number = policy.and_then(|name| name.strip_prefix(POLICIES)?.parse::<u32>().ok());
        standing.policies.extend(number);
    }
    let standing = |one: &Guarded| found.get(one.table).cloned().unwrap_or_default();
    let missing = tables.iter().map(|one| (*one, standing(one)));
    Ok(missing.filter(|(_, standing)| !standing.is_up()).collect())
}

/// The role of the settings, or the login itself. Error: it is not there, or the login may not become it.
async fn role(place: &Postgres, connection: &impl ConnectionTrait) -> Result<Role, StorageError> {
    let wanted = match place.options.role.as_str() {
        "" => "current_user".to_owned(),
        role => format!("'{role}'"),
    };
    let sql = format!(
        "SELECT rolname::text, rolsuper OR rolbypassrls, pg_has_role(current_user, oid, 'MEMBER'), current_user::text
         FROM pg_roles WHERE rolname = {wanted}"
    );
    let row = connection
        .query_one_raw(statement(connection, &sql))
        .await?;
    let Some(row) = row else {
        let role = &place.options.role;
        let problem = format!(
            "it has no role `{role}`: CREATE ROLE {role} NOLOGIN, and grant it to the login"
        );
        return Err(postgres::unfit(place, problem));
    };
    let name: String = row.try_get_by_index(0)?;
    if !row.try_get_by_index::<bool>(2)? {
        let login: String = row.try_get_by_index(3)?;
        let problem = format!(
            "its login may not become the role of `database.role`: GRANT {name} TO \"{login}\""
        );
        return Err(postgres::unfit(place, problem));
    }
    Ok(Role {
        name,
        passes: row.try_get_by_index(1)?,
    })
}

async fn texts(connection: &impl ConnectionTrait, sql: &str) -> Result<Vec<String>, StorageError> {
    let rows = connection.query_all_raw(statement(connection, sql)).await?;
    let text = |row: &QueryResult| Ok(row.try_get_by_index(0)?);
    rows.iter().map(text).collect()
}

fn statement(connection: &impl ConnectionTrait, sql: &str) -> Statement {
    Statement::from_string(connection.get_database_backend(), sql)
}

/// The rows of one statement for a tenant or for all: both on one connection, so that what it was told before
/// does not count.
pub(crate) async fn query(
    pool: &PgPool,
    whose: &str,
    statement: Statement,
) -> Result<Vec<QueryResult>, DbErr> {
    let mut connection = pool.acquire().await.map_err(not_acquired)?;
    let told = sqlx::query(SET).bind(whose).execute(&mut *connection);
    told.await.map_err(failed)?;
    let values = statement.values.unwrap_or(Values(Vec::new()));
    let rows = sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    Ok(rows.into_iter().map(|row: PgRow| row.into()).collect())
}

fn not_acquired(error: SqlxError) -> DbErr {
    match error {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

fn failed(error: SqlxError) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}
