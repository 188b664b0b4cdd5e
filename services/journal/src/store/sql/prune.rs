//! Forgets answered requests that are older than the options say, a few at a time.
//!
//! The table is swept in the order of its key, from where the last sweep ended, so that no index on time is
//! needed and each sweep costs the same however many requests there are. A sweep looks at twice as many
//! requests as came since the last, so it keeps up with any rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use commonplace_storage::{Statements, StorageError};
use commonplace_types::Timestamp;
use sea_orm::Value;

use super::rows::column;
use crate::JournalError;

/// A sweep is due when this many requests came.
pub(super) const DUE: usize = 256;

/// The requests behind a key, in order of their keys.
pub(super) const BEHIND: &str = "SELECT tenant, request_id FROM request
     WHERE (tenant, request_id) > (?, ?) ORDER BY tenant, request_id LIMIT ?";
/// Those up to another key that are old.
pub(super) const FORGET: &str = "DELETE FROM request
     WHERE (tenant, request_id) > (?, ?) AND (tenant, request_id) <= (?, ?) AND time < ?";
/// All that are old.
const FORGET_ALL: &str = "DELETE FROM request WHERE time < ?";

/// Where sweeping stands.
#[derive(Debug)]
pub(super) struct Sweep {
    kept: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    came: usize,
    after: Key,
}

/// Tenant and id of a request.
type Key = (String, Vec<u8>);

impl Sweep {
    /// `kept`: how long a request is remembered.
    pub(super) fn new(kept: Duration) -> Self {
        Self {
            kept,
            state: Mutex::default(),
        }
    }

    /// Forgets every old request, as the leader of an epoch.
    pub(super) async fn all(
        &self,
        statements: &Statements,
        epoch: i64,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let oldest = now.minus(self.kept).as_micros();
        forget(statements, epoch, FORGET_ALL, vec![oldest.into()]).await
    }

    /// Counts requests that came and sweeps when it is due. A failed sweep is tried again later.
    pub(super) async fn after(
        &self,
        came: usize,
        statements: &Statements,
        epoch: i64,
        now: Timestamp,
    ) {
        let state = {
            let mut state = self.lock();
            state.came += came;
            if state.came < DUE {
                return;
            }
            state.clone()
        };
        match self.sweep(state, statements, epoch, now).await {
            Ok(after) => *self.lock() = State { came: 0, after },
            Err(error) => tracing::warn!(%error, "old requests were not forgotten"),
        }
    }

    /// Gives the key where the next sweep begins.
    async fn sweep(
        &self,
        State { came, after }: State,
        statements: &Statements,
        epoch: i64,
        now: Timestamp,
    ) -> Result<Key, JournalError> {
        let wanted = 2 * came;
        let limit = Value::from(wanted as i64);
        let values = [key(&after), vec![limit]].concat();
        let rows = statements.query(BEHIND, values).await?;
        let Some(last) = rows.last() else {
            return Ok(Key::default());
        };
        let last: Key = (column(last, 0)?, column(last, 1)?);
        let oldest = Value::from(now.minus(self.kept).as_micros());
        let values = [key(&after), key(&last), vec![oldest]].concat();
        forget(statements, epoch, FORGET, values).await?;
        Ok(match rows.len() < wanted {
            true => Key::default(),
            false => last,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key((tenant, id): &Key) -> Vec<Value> {
    vec![tenant.as_str().into(), id.clone().into()]
}

async fn forget(
    statements: &Statements,
    epoch: i64,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<(), StorageError> {
    statements
        .write(move |transaction| {
            let values = values.clone();
            Box::pin(async move {
                transaction.guard(epoch).await?;
                transaction.execute(sql, values).await?;
                Ok(())
            })
        })
        .await
}
