//! One process of several leads; the others stand by.
//!
//! A leader holds an advisory lock on a session of its own. The server frees the lock as soon as the session
//! ends, however the process ended, and ends the session itself when it hears nothing for the lease. Each
//! new leader raises the *epoch*, a row that every guarded transaction reads under a shared lock
//! ([`Transaction::guard`]): raising it waits for transactions of the leader before, and makes all later
//! ones of it fail. So of two processes that both believe to lead, only the newer one can write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::database::{Backend, Transaction};
use crate::options::Postgres;
use crate::sql::Dialect;
use crate::{Database, StorageError, postgres};

/// The table that a leader's schema needs, as a statement of its migrations.
pub const LEADERSHIP_TABLE: &str = "CREATE TABLE leadership (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL
)";

/// How often a standby tries the lock.
const TRY: Duration = Duration::from_millis(100);
/// How often it tries before it says that it stands by.
const GRACE: u32 = 5;
/// Between attempts to reach a server that is away.
const AWAY: Duration = Duration::from_millis(200);

/// Whether this process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// It has not found out yet.
    Unknown,
    /// Another process leads, or the server is away.
    Standby,
    /// It leads.
    Leading {
        /// Grows with each leader.
        epoch: i64,
    },
}

/// This process's part in who leads; ends with [`Leadership::resign`] or when it is dropped.
#[derive(Debug)]
pub struct Leadership {
    term: watch::Receiver<Term>,
    lease: Lease,
    look: Arc<Notify>,
    stop: watch::Sender<bool>,
    keeper: Option<JoinHandle<()>>,
}

/// Until when the server is known to keep the leader's session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lease {
    began: Instant,
    length: Duration,
    /// Microseconds since `began` up to which it lasts.
    until: Arc<AtomicU64>,
}

impl Lease {
    fn new(length: Duration) -> Self {
        Self {
            began: Instant::now(),
            length,
            until: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Whether it lasts. A process that was stalled, or cut off, finds here that its place is gone, before
    /// it has heard of it.
    pub fn lasts(&self) -> bool {
        let now = self.began.elapsed().as_micros() as u64;
        now < self.until.load(Ordering::Relaxed)
    }

    /// Counts from before the server was asked, so it never lasts longer here than there.
    fn renew(&self, asked: Instant) {
        let until = asked + self.length - self.began;
        self.until
            .store(until.as_micros() as u64, Ordering::Relaxed);
    }

    fn end(&self) {
        self.until.store(0, Ordering::Relaxed);
    }
}

impl Leadership {
    /// Starts to contend for the lead of a database's schema, on behalf of `holder` (for people).
    /// None on SQLite, where the data folder's lock says who writes.
    pub fn start(database: &Database, holder: &str) -> Option<Self> {
        let Backend::Postgres(place) = database.backend() else {
            return None;
        };
        let (publish, term) = watch::channel(Term::Unknown);
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            place: place.clone(),
            holder: holder.to_owned(),
            term: publish,
            lease: Lease::new(place.lease()),
            look: Arc::default(),
            stopped,
        };
        Some(Self {
            term,
            lease: keeper.lease.clone(),
            look: keeper.look.clone(),
            stop,
            keeper: Some(tokio::spawn(keeper.run())),
        })
    }

    /// Follows the terms.
    pub fn term(&self) -> watch::Receiver<Term> {
        self.term.clone()
    }

    /// Until when the present term is known to last.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Looks now whether the session still stands: for whoever met a broken connection.
    pub fn look(&self) -> Arc<Notify> {
        self.look.clone()
    }

    /// Gives the lead away and returns when the lock is free.
    pub async fn resign(mut self) {
        self.stop.send_replace(true);
        if let Some(keeper) = self.keeper.take()
            && keeper.await.is_err()
        {
            tracing::error!("the keeper of the lead ended by itself");
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Keeper {
    place: Postgres,
    holder: String,
    term: watch::Sender<Term>,
    lease: Lease,
    look: Arc<Notify>,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            let ended = self.session().await;
            self.step_down();
            if let Err(error) = ended {
                let schema = &self.place.schema;
                tracing::warn!(error = %crate::chain(&error), schema, "no session to lead by");
                tokio::time::sleep(AWAY).await;
            }
        }
    }

    fn step_down(&self) {
        self.lease.end();
        self.term.send_replace(Term::Standby);
    }

    /// One session: stands by until it holds the lock, then leads until the session ends.
    async fn session(&mut self) -> Result<(), StorageError> {
        let mut session = postgres::session(&self.place).await?;
        let lock = postgres::lock_key("lead", &self.place.schema);
        let take = format!("SELECT pg_try_advisory_lock({lock})");
        let give = format!("SELECT pg_advisory_unlock({lock})");
        let mut tries = 0;
        while !one::<bool>(&mut session, &take).await? {
            tries += 1;
            // A leader that has just ended may still be in the server's books.
            if tries == GRACE {
                self.term.send_replace(Term::Standby);
            }
            if self.wait(TRY).await {
                return Ok(());
            }
        }
        let asked = Instant::now();
        let epoch = self.raise(&mut session).await?;
        self.lease.renew(asked);
        self.term.send_replace(Term::Leading { epoch });
        tracing::info!(epoch, schema = self.place.schema, "leading");
        let every = self.place.lease() / 10;
        loop {
            if self.wait(every).await {
                self.step_down();
                // The server frees it by itself too, a moment after the session has ended.
                let free = one::<bool>(&mut session, &give);
                tokio::time::timeout(AWAY, free).await.ok();
                return Ok(());
            }
            let asked = Instant::now();
            let alive = tokio::time::timeout(self.place.lease() / 2, session.ping()).await;
            match alive {
                Ok(alive) => alive?,
                Err(_) => return Err(sea_orm::SqlxError::PoolTimedOut.into()),
            }
            self.lease.renew(asked);
        }
    }

    /// Waits a while, or until it is asked to look, or to stop. Says whether to stop.
    async fn wait(&self, length: Duration) -> bool {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(length) => {}
            () = self.look.notified() => {}
        }
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// Waits for transactions of the leader before, as long as they may take.
    async fn raise(&self, session: &mut PgConnection) -> Result<i64, StorageError> {
        let holder = self.holder.replace('\'', "''");
        let sql = format!(
            "INSERT INTO leadership (id, epoch, holder, since) VALUES (1, 1, '{holder}', now())
             ON CONFLICT (id) DO UPDATE
             SET epoch = leadership.epoch + 1, holder = excluded.holder, since = excluded.since
             RETURNING epoch"
        );
        one(session, &sql).await
    }
}

async fn one<T>(session: &mut PgConnection, sql: &str) -> Result<T, StorageError>
where
    T: for<'r> sea_orm::sqlx::Decode<'r, sea_orm::sqlx::Postgres>
        + sea_orm::sqlx::Type<sea_orm::sqlx::Postgres>,
{
    let row = session.fetch_one(AssertSqlSafe(sql.to_owned())).await?;
    Ok(row.try_get(0)?)
}

impl Transaction {
    /// Makes sure that the leader of this epoch still leads, and that no other takes over before this
    /// transaction ends. On SQLite there is nothing to make sure of.
    /// Error: [`StorageError::Fenced`].
    pub async fn guard(&self, own: i64) -> Result<(), StorageError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let sql = "SELECT epoch FROM leadership WHERE id = 1 FOR SHARE";
        let row = self.query_one(sql, Vec::new()).await?;
        let found: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
        if found == own {
            return Ok(());
        }
        Err(StorageError::Fenced { own, found })
    }
}
