use std::path::{Path, PathBuf};

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError};

/// Why storage could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk, or a limit put on the file, is full. Nothing of the transaction was kept.
    #[error("the disk is full: free some space, then try again")]
    Full(#[source] DbErr),
    /// Another connection held the database for too long.
    #[error("the database is busy: try again")]
    Busy(#[source] DbErr),
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
        /// The database or format file.
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
    /// Sorts by SQLite's primary result code (the low byte of the extended one).
    fn from(error: DbErr) -> Self {
        if let DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) = error {
            return Self::Busy(error);
        }
        match sqlite_code(&error) {
            Some(5 | 6) => Self::Busy(error),
            Some(13) => Self::Full(error),
            Some(11 | 26) => Self::Corrupt {
                file: PathBuf::from("database"),
                problem: error.to_string(),
            },
            _ => Self::Database(error),
        }
    }
}

fn sqlite_code(error: &DbErr) -> Option<u32> {
    let (DbErr::Conn(RuntimeErr::SqlxError(inner))
    | DbErr::Exec(RuntimeErr::SqlxError(inner))
    | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return None;
    };
    let SqlxError::Database(database) = inner.as_ref() else {
        return None;
    };
    let extended: u32 = database.code()?.parse().ok()?;
    Some(extended & 0xff)
}
