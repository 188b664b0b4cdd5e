use std::path::{Path, PathBuf};

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError};

/// Why storage could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk, or a limit put on the file, is full. Nothing of the transaction was kept.
    #[error("the disk is full: free some space, then try again")]
    Full(#[source] DbErr),
    /// Another connection held the database for too long, or none came free in time.
    #[error("the database is busy: try again")]
    Busy(#[source] DbErr),
    /// The server is away, restarting, or the connection to it broke. Whether a commit that was under way
    /// was kept is not known.
    #[error("the database cannot be reached: try again")]
    Unavailable(#[source] DbErr),
    /// Two transactions were in each other's way, and repeating did not help.
    #[error("the transaction collided with others: try again")]
    Conflict(#[source] DbErr),
    /// Another process leads now; nothing of the transaction was kept.
    #[error("another process has taken over (epoch {found}, this one had {own})")]
    Fenced {
        /// The epoch this process led in.
        own: i64,
        /// The present one.
        found: i64,
    },
    /// A setting of the database is wrong.
    #[error("`database.{setting}`: {problem}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What was expected.
        problem: String,
    },
    /// The server cannot hold what is kept here.
    #[error("{place} cannot be used: {problem}")]
    Unfit {
        /// The database.
        place: String,
        /// What is wrong, and the next step.
        problem: String,
    },
    /// The schema is older than this program and may not be changed by it.
    #[error(
        "{place} lacks migrations up to {known}, it has {found}: run `com migrate`, or set database.migrate = true"
    )]
    Pending {
        /// The database.
        place: String,
        /// The newest it has.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The file is damaged. It was left as it is.
    #[error("`{}` is damaged ({problem}): put a backup in its place, or move it away to start anew", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// What the check found.
        problem: String,
    },
    /// The file was written by a newer version of this program.
    #[error("`{}` has version {found}, this program knows up to {known}: use a newer program or another data folder", path.display())]
    Newer {
        /// The database or format file, or the schema.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// A version file holds something that is not a version.
    #[error("`{}` should hold a version number, found `{found}`: put back what was there, or use another data folder", path.display())]
    Format {
        /// The version file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// Another process uses the folder.
    #[error("`{}` is in use by {holder}: stop it, or use another data folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Which process, as far as it is known.
        holder: String,
    },
    /// The SQLite library may lose committed writes.
    #[error(
        "sqlite {found} may lose committed writes: build with {} or newer",
        crate::MINIMUM_SQLITE
    )]
    OldLibrary {
        /// The version found.
        found: String,
    },
    /// A file or folder could not be read or written.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A transaction's task ended before it answered.
    #[error("the transaction was broken off")]
    Aborted,
    /// Anything else the database reports.
    #[error("the database failed")]
    Database(#[source] DbErr),
}

impl StorageError {
    /// Sets the file of a [`StorageError::Corrupt`] that came from a statement, which does not know it.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Corrupt { problem, .. } => Self::Corrupt {
                file: path.into(),
                problem,
            },
            other => other,
        }
    }

    pub(crate) fn setting(setting: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Setting { setting, problem }
    }

    pub(crate) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> StorageError {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => Self::Full(DbErr::Custom(source.to_string())),
            _ => Self::File {
                action,
                path,
                source,
            },
        }
    }
}

impl From<DbErr> for StorageError {
    /// Sorts by SQLite's primary result code (the low byte of the extended one), or by SQLSTATE.
    fn from(error: DbErr) -> Self {
        if let DbErr::ConnectionAcquire(cause) = &error {
            return match cause {
                ConnAcquireErr::Timeout => Self::Busy(error),
                ConnAcquireErr::ConnectionClosed => Self::Unavailable(error),
            };
        }
        let (DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause))) = &error
        else {
            return Self::Database(error);
        };
        let cause = cause.clone();
        match cause.as_ref() {
            SqlxError::PoolTimedOut => Self::Busy(error),
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::PoolClosed => Self::Unavailable(error),
            SqlxError::Database(database) => match database.code().as_deref() {
                Some(code) if code.len() == 5 && !is_sqlite(database.as_ref()) => {
                    from_sqlstate(code, error)
                }
                Some(code) => from_sqlite(code, error),
                None => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

impl From<SqlxError> for StorageError {
    fn from(error: SqlxError) -> Self {
        DbErr::Conn(RuntimeErr::SqlxError(error.into())).into()
    }
}

fn is_sqlite(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<sea_orm::sqlx::sqlite::SqliteError>()
        .is_some()
}

fn from_sqlite(code: &str, error: DbErr) -> StorageError {
    match code.parse::<u32>().map(|extended| extended & 0xff) {
        Ok(5 | 6) => StorageError::Busy(error),
        Ok(13) => StorageError::Full(error),
        Ok(11 | 26) => corrupt(error),
        _ => StorageError::Database(error),
    }
}

/// Source: PostgreSQL's list of error codes.
fn from_sqlstate(code: &str, error: DbErr) -> StorageError {
    match code {
        "53100" => StorageError::Full(error),
        // A lock, or the statement's time; a cancelled statement.
        "55P03" | "57014" => StorageError::Busy(error),
        "40001" | "40P01" => StorageError::Conflict(error),
        // Too many connections; shut down, crashed, starting; timeouts that end a session; a standby server.
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" => {
            StorageError::Unavailable(error)
        }
        code if code.starts_with("08") => StorageError::Unavailable(error),
        "XX001" | "XX002" => corrupt(error),
        _ => StorageError::Database(error),
    }
}

fn corrupt(error: DbErr) -> StorageError {
    StorageError::Corrupt {
        file: PathBuf::from("database"),
        problem: error.to_string(),
    }
}
