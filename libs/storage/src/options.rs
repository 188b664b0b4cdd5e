use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::StorageError;

/// Settings of the database that every service with a store uses.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `postgres://user@host:port/database`, with `sslmode`, `sslrootcert`, `sslcert` and `sslkey` as
    /// libpq has them. It must lead to the primary: what guards a write is read where the write goes.
    /// Empty: each service keeps a SQLite file in the data folder. A password in it is not shown by
    /// `com config dump`.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// File that holds the password, so that the URL need not; read when connections are opened. Empty: none.
    pub password_file: PathBuf,
    /// Role that services' statements run as on the server, which the login must be a member of: one that owns
    /// no table and is neither superuser nor BYPASSRLS, so that the wall between tenants binds it. It is given
    /// what it needs on each service's schema. At most 63 of a-z, 0-9 and `_`. Empty: the login itself.
    pub role: String,
    /// Whether a starting service puts up the wall between tenants in its schema: row-level security on every
    /// table with rows of tenants. Once up it stays. Programs of a release without this setting see nothing
    /// behind it: set it to false for as long as one of them runs.
    pub row_security: bool,
    /// Comes before each service's schema name, so that several installations can share a database:
    /// `staging_` gives `staging_journal`. At most 32 of a-z, 0-9 and `_`.
    pub schema_prefix: String,
    /// Connections of each service for reading, 1 to 1,000. It opens two more for writing, and a service
    /// that has one leader one more for that.
    pub max_connections: u32,
    /// Milliseconds that a call waits for a connection, 1 to 60,000.
    pub acquire_timeout_ms: u64,
    /// Milliseconds that the server lets a statement run, 100 to 600,000. A second after that a server that
    /// has not answered is taken to be cut off, and connected to anew.
    pub statement_timeout_ms: u64,
    /// Milliseconds that a starting service waits for the server to answer, 0 to 600,000.
    pub start_timeout_ms: u64,
    /// Milliseconds after which a leader that gives no sign of life loses its place, 500 to 60,000. One
    /// that dies loses it at once.
    pub leader_lease_ms: u64,
    /// Whether a starting service brings its schema up to date. When false, it refuses to start while
    /// `com migrate --check` lists something.
    pub migrate: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: PathBuf::new(),
            role: String::new(),
            row_security: true,
            schema_prefix: String::new(),
            max_connections: 8,
            acquire_timeout_ms: 2_000,
            statement_timeout_ms: 10_000,
            start_timeout_ms: 30_000,
            leader_lease_ms: 3_000,
            migrate: true,
        }
    }
}

impl fmt::Debug for Options {
    /// Without the password that the URL may hold.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("url", &self.shown_url())
            .field("schema_prefix", &self.schema_prefix)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Where a service keeps its data: a SQLite file in `folder`, or the schema of its name on the server.
    /// Error: a setting is out of its bounds; it is named.
    pub fn place(&self, service: &str, folder: &Path) -> Result<Place, StorageError> {
        if self.url.is_empty() {
            return Ok(Place::Folder(folder.into()));
        }
        self.check()?;
        Ok(Place::Postgres(Postgres {
            schema: format!("{}{service}", self.schema_prefix),
            options: self.clone(),
        }))
    }

    fn check(&self) -> Result<(), StorageError> {
        if !self.url.starts_with("postgres://") && !self.url.starts_with("postgresql://") {
            return Err(StorageError::setting(
                "url",
                "expected `postgres://…`, or nothing for SQLite files",
            ));
        }
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if self.schema_prefix.len() > 32 || !self.schema_prefix.bytes().all(word) {
            return Err(StorageError::setting(
                "schema_prefix",
                "expected at most 32 of a-z, 0-9 and `_`",
            ));
        }
        if self.role.len() > 63 || !self.role.bytes().all(word) {
            return Err(StorageError::setting(
                "role",
                "expected at most 63 of a-z, 0-9 and `_`",
            ));
        }
        within("max_connections", self.max_connections.into(), 1, 1_000)?;
        within("acquire_timeout_ms", self.acquire_timeout_ms, 1, 60_000)?;
        within(
            "statement_timeout_ms",
            self.statement_timeout_ms,
            100,
            600_000,
        )?;
        within("start_timeout_ms", self.start_timeout_ms, 0, 600_000)?;
        within("leader_lease_ms", self.leader_lease_ms, 500, 60_000)
    }

    /// The URL without the password that it may hold, before the host or as a parameter.
    fn shown_url(&self) -> String {
        shown(&self.url)
    }
}

fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let is_shown = |one: &&str| !one.to_ascii_lowercase().starts_with("password=");
    let parameters: Vec<&str> = parameters.split('&').filter(is_shown).collect();
    let rest = match parameters.join("&") {
        none if none.is_empty() => place.to_owned(),
        parameters => format!("{place}?{parameters}"),
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

/// Settings are printed; secrets are not.
fn without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(url))
}

fn within(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), StorageError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(StorageError::setting(
        field,
        format!("expected {least} to {most}, found {found}"),
    ))
}

/// Where one service keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// SQLite files in this folder.
    Folder(PathBuf),
    /// A schema of its own on a PostgreSQL server.
    Postgres(Postgres),
}

/// One service's schema on a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// How to reach the server.
    pub(crate) options: Options,
    /// The schema: a-z, 0-9 and `_`.
    pub(crate) schema: String,
}

impl Postgres {
    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.options.acquire_timeout_ms)
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.options.start_timeout_ms)
    }

    /// After this a silent leader is no longer one.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.options.leader_lease_ms)
    }
}

impl Place {
    /// Whose data it is: the name of the folder or of the schema.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Folder(folder) => folder
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or(""),
            Self::Postgres(postgres) => &postgres.schema,
        }
    }

    /// For messages: the file or the schema.
    pub(crate) fn shown(&self, file: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(file).display().to_string(),
            Self::Postgres(postgres) => format!(
                "schema {} of {}",
                postgres.schema,
                postgres.options.shown_url()
            ),
        }
    }
}

impl From<&Path> for Place {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.into())
    }
}

impl From<&PathBuf> for Place {
    fn from(folder: &PathBuf) -> Self {
        Self::Folder(folder.clone())
    }
}

impl From<PathBuf> for Place {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            url: url.into(),
            ..Options::default()
        }
    }

    #[test]
    fn no_url_means_files() {
        let place = options("").place("journal", Path::new("/x")).unwrap();
        assert_eq!(place, Place::Folder("/x".into()));
    }

    #[test]
    fn each_service_has_a_schema() {
        let mut settings = options("postgres://a@b/c");
        settings.schema_prefix = "one_".into();
        let place = settings.place("journal", Path::new("/x")).unwrap();
        assert!(place.shown("").contains("schema one_journal"), "{place:?}");
    }

    #[test]
    fn wrong_settings_are_named() {
        let wrong = |change: fn(&mut Options), field: &str| {
            let mut settings = options("postgres://a@b/c");
            change(&mut settings);
            let error = settings.place("x", Path::new("/x")).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        };
        wrong(|o| o.url = "mysql://x".into(), "database.url");
        wrong(|o| o.schema_prefix = "a-b".into(), "database.schema_prefix");
        wrong(|o| o.role = "a\"; DROP".into(), "database.role");
        wrong(|o| o.role = "a".repeat(64), "database.role");
        wrong(|o| o.max_connections = 0, "database.max_connections");
        wrong(|o| o.acquire_timeout_ms = 0, "database.acquire_timeout_ms");
        wrong(
            |o| o.statement_timeout_ms = 1,
            "database.statement_timeout_ms",
        );
        wrong(
            |o| o.start_timeout_ms = 1 << 40,
            "database.start_timeout_ms",
        );
        wrong(|o| o.leader_lease_ms = 1, "database.leader_lease_ms");
    }

    #[test]
    fn passwords_are_not_shown() {
        let settings = options("postgres://ann:s3:cr@t@db/x");
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3") && !shown.contains("cr@"), "{shown}");
        assert!(shown.contains("postgres://ann@db/x"), "{shown}");
    }

    #[test]
    fn a_url_is_printed_without_its_password_wherever_it_stands() {
        let check = |url: &str, expected: &str| {
            let printed = serde_json::to_value(options(url)).unwrap();
            assert_eq!(printed["url"], expected);
        };
        check("", "");
        check("postgres://db/x", "postgres://db/x");
        check("postgres://ann@db/x", "postgres://ann@db/x");
        check("postgres://ann:s3cret@db/x", "postgres://ann@db/x");
        check(
            "postgres://ann:s3?cr@t@db:5432/x",
            "postgres://ann@db:5432/x",
        );
        check(
            "postgres://ann@db/x?password=s3cret&sslmode=require",
            "postgres://ann@db/x?sslmode=require",
        );
        check("postgres://db/x?Password=s3@cret", "postgres://db/x");
        check(
            "postgres://ann:s3cret@db/x?sslmode=verify-full",
            "postgres://ann@db/x?sslmode=verify-full",
        );
    }
}
