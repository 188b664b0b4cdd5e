use std::path::{Path, PathBuf};

use commonplace_storage::{Options, Place};

use crate::Server;

/// What a store can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file.
    Sqlite,
    /// Schemas on the shared server of this process, used by a role that the wall between tenants binds.
    Postgres,
}

/// A place of a test's own, empty at first, gone with it: a folder, and on a server a set of schemas.
pub struct Site {
    folder: tempfile::TempDir,
    options: Options,
    /// The database that is its own.
    database: Option<String>,
}

impl Site {
    /// On a backend.
    pub fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::with(Options::default()),
            Backend::Postgres => Self::on(Server::shared(), "postgres"),
        }
    }

    /// On a backend, sharing nothing with other tests, so that it can be copied.
    pub async fn alone(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::new(backend),
            Backend::Postgres => Self::named(&Server::shared().database(None).await),
        }
    }

    fn named(database: &str) -> Self {
        Self {
            database: Some(database.to_owned()),
            ..Self::with(Options {
                url: Server::shared().url(database),
                role: Server::ROLE.into(),
                ..Options::default()
            })
        }
    }

    /// A copy of a site that is [`Site::alone`] and that nobody uses now. `file`: the SQLite file to copy.
    pub async fn copy(&self, service: &str, file: &str) -> Self {
        match &self.database {
            Some(database) => {
                Self::named(&Server::shared().database(Some(database.as_str())).await)
            }
            None => {
                let copy = Self::new(Backend::Sqlite);
                copy.place(service);
                std::fs::copy(self.file(service, file), copy.file(service, file)).unwrap();
                copy
            }
        }
    }

    /// Runs a statement in a site's database as a stranger would; gives how many rows it changed.
    /// Only for a site that is [`Site::alone`].
    pub async fn change(&self, sql: &str) -> u64 {
        let database = self.database.as_deref().expect("the site is alone");
        Server::shared().run(database, sql).await
    }

    /// In a database of a server.
    pub fn on(server: &Server, database: &str) -> Self {
        Self::with(Options {
            url: server.url(database),
            role: Server::ROLE.into(),
            schema_prefix: format!("t{}_", server.number()),
            ..Options::default()
        })
    }

    /// With given settings.
    pub fn with(options: Options) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            options,
            database: None,
        }
    }

    /// The settings of its database, to be changed.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Where a service keeps its data.
    pub fn place(&self, service: &str) -> Place {
        let folder = self.folder.path().join(service);
        std::fs::create_dir_all(&folder).unwrap();
        self.options.place(service, &folder).unwrap()
    }

    /// The schema of a service.
    pub fn schema(&self, service: &str) -> String {
        format!("{}{service}", self.options.schema_prefix)
    }

    /// A folder for anything else.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a SQLite file of a service lies.
    pub fn file(&self, service: &str, name: &str) -> PathBuf {
        self.folder.path().join(service).join(name)
    }
}
