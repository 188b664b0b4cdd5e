//! Keys on disk.

use std::sync::Arc;

use commonplace_access::credential::key::KeyId;
use commonplace_storage::Transaction;
use commonplace_types::{AccessScope, Digest, Subject, TenantName, Timestamp};
use sea_orm::{QueryResult, Value};

use super::super::AccessError;
use super::super::keys::{Key, KeyUse};
use super::{
    Store, count, damaged, get, hold, micros, optional_micros, optional_time, time, whole,
};

const COLUMNS: &str =
    "tenant, id, kind, subject, roles, scopes, description, author, created_micros,
    expires_micros, revoked_micros, last_used_micros, hash, previous_hash, overlap_end_micros";

/// The key of an id, in whichever tenant.
pub(super) fn by_id_sql() -> String {
    format!("SELECT {COLUMNS} FROM api_key WHERE id = ?")
}

/// A page of a tenant's keys.
pub(super) fn page_sql() -> String {
    format!("SELECT {COLUMNS} FROM api_key WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
}

/// Notes a use, unless a later one is known.
pub(super) const USED: &str = "UPDATE api_key SET last_used_micros = ?
    WHERE tenant = ? AND id = ? AND (last_used_micros IS NULL OR last_used_micros < ?)";

impl Store {
    /// Keeps a new key. Where there are as many as allowed, the one that ended longest ago goes. False: the id
    /// is taken; nothing was kept. Error: [`AccessError::TooMany`].
    pub(crate) async fn add_key(
        &self,
        tenant: TenantName,
        key: Key,
        most: usize,
    ) -> Result<bool, AccessError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, key) = (tenant.clone(), key.clone());
                Box::pin(async move {
                    hold(transaction, &tenant).await?;
                    // Ids are unique over all tenants, whose keys are not seen from here.
                    let marks = ["?"; 15].join(", ");
                    let sql = format!(
                        "INSERT INTO api_key ({COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"
                    );
                    if transaction.execute(&sql, values(&tenant, &key)).await? == 0 {
                        return Ok(false);
                    }
                    make_room(transaction, &tenant, key.created, most).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Changes a key by what is kept of it. Error: [`AccessError::UnknownKey`], or that of the change.
    pub(crate) async fn change_key(
        &self,
        tenant: TenantName,
        id: KeyId,
        change: impl Fn(Key) -> Result<Key, AccessError> + Send + Sync + 'static,
    ) -> Result<Key, AccessError> {
        let change = Arc::new(change);
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, id, change) = (tenant.clone(), id.clone(), change.clone());
                Box::pin(async move {
                    let sql = format!("SELECT {COLUMNS} FROM api_key WHERE tenant = ? AND id = ?");
                    let place = || vec![tenant.as_str().into(), id.as_str().into()];
                    if transaction.query_one(&sql, place()).await?.is_none() {
                        return Err(AccessError::UnknownKey(id.to_string()));
                    }
                    hold(transaction, &tenant).await?;
                    let row = transaction.query_one(&sql, place()).await?;
                    let row = row.ok_or_else(|| AccessError::UnknownKey(id.to_string()))?;
                    let key = change(key(&row)?)?;
                    update(transaction, &tenant, &key).await?;
                    Ok(key)
                })
            })
            .await
    }

    /// The keys of a tenant whose ids come after one, by id.
    pub(crate) async fn keys(
        &self,
        tenant: &TenantName,
        after: &str,
        count: usize,
    ) -> Result<Vec<Key>, AccessError> {
        let values = vec![tenant.as_str().into(), after.into(), whole(count)];
        let statements = self.database.for_tenant(tenant);
        let rows = statements.query(&page_sql(), values).await?;
        rows.iter().map(key).collect()
    }

    /// The key of an id, and whose it is.
    pub(crate) async fn key_of_any_tenant(
        &self,
        id: &KeyId,
    ) -> Result<Option<(TenantName, Key)>, AccessError> {
        let values = vec![id.as_str().into()];
        let statements = self.database.for_all();
        let row = statements.query_one(&by_id_sql(), values).await?;
        row.map(|row| {
            let tenant: String = get(&row, 0)?;
            Ok((TenantName::new(tenant).map_err(damaged)?, key(&row)?))
        })
        .transpose()
    }

    /// Notes uses, in the order given.
    pub(crate) async fn record_key_uses(&self, uses: Vec<KeyUse>) -> Result<(), AccessError> {
        let uses = Arc::new(uses);
        self.database
            .for_all()
            .write(move |transaction| {
                let uses = uses.clone();
                Box::pin(async move {
                    for used in uses.iter() {
                        let values = vec![
                            micros(used.time),
                            used.tenant.as_str().into(),
                            used.id.as_str().into(),
                            micros(used.time),
                        ];
                        transaction.execute(USED, values).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// Ended keys are kept for whoever asks what they were, while there is room for them.
async fn make_room(
    transaction: &Transaction,
    tenant: &TenantName,
    now: Timestamp,
    most: usize,
) -> Result<(), AccessError> {
    let sql = "SELECT CAST(count(*) AS BIGINT) FROM api_key WHERE tenant = ?";
    if count(transaction, sql, tenant).await? <= most {
        return Ok(());
    }
    let sql = "DELETE FROM api_key WHERE tenant = ? AND id = (
        SELECT id FROM api_key WHERE tenant = ? AND (revoked_micros IS NOT NULL OR expires_micros <= ?)
        ORDER BY coalesce(revoked_micros, expires_micros), id LIMIT 1)";
    let values = vec![tenant.as_str().into(), tenant.as_str().into(), micros(now)];
    match transaction.execute(sql, values).await? {
        0 => Err(AccessError::TooMany { what: "keys", most }),
        _ => Ok(()),
    }
}

/// Writes what of a key may change; when it was used is written on its own.
async fn update(
    transaction: &Transaction,
    tenant: &TenantName,
    key: &Key,
) -> Result<(), AccessError> {
    let sql =
        "UPDATE api_key SET expires_micros = ?, revoked_micros = ?, hash = ?, previous_hash = ?,
        overlap_end_micros = ? WHERE tenant = ? AND id = ?";
    let (previous_hash, overlap_end) = previous(key);
    let values = vec![
        micros(key.expires),
        optional_micros(key.revoked),
        key.hash.as_bytes().to_vec().into(),
        previous_hash,
        overlap_end,
        tenant.as_str().into(),
        key.id.as_str().into(),
    ];
    transaction.execute(sql, values).await?;
    Ok(())
}

fn previous(key: &Key) -> (Value, Value) {
    let (hash, end) = key.previous.unzip();
    let hash = hash.map(|hash| hash.as_bytes().to_vec());
    (hash.into(), optional_micros(end))
}

/// In the order of [`COLUMNS`].
fn values(tenant: &TenantName, key: &Key) -> Vec<Value> {
    let scopes = key.scopes.as_ref().map(|scopes| {
        let texts: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        serde_json::json!(texts).to_string()
    });
    let (previous_hash, overlap_end) = previous(key);
    vec![
        tenant.as_str().into(),
        key.id.as_str().into(),
        key.kind.as_str().into(),
        key.subject.as_str().into(),
        serde_json::json!(key.roles).to_string().into(),
        scopes.into(),
        key.description.clone().into(),
        key.author.clone().into(),
        micros(key.created),
        micros(key.expires),
        optional_micros(key.revoked),
        optional_micros(key.last_used),
        key.hash.as_bytes().to_vec().into(),
        previous_hash,
        overlap_end,
    ]
}

fn key(row: &QueryResult) -> Result<Key, AccessError> {
    let text = |column| get::<String>(row, column);
    let scopes: Option<String> = get(row, 5)?;
    let scopes = scopes.map(|text| {
        let texts: Vec<String> = list(&text)?;
        let read = texts.iter().map(|scope| scope.parse::<AccessScope>());
        read.collect::<Result<_, _>>().map_err(damaged)
    });
    let previous: Option<Vec<u8>> = get(row, 13)?;
    let previous = previous.map(|hash| digest(&hash)).transpose()?;
    Ok(Key {
        id: KeyId::new(text(1)?).map_err(damaged)?,
        kind: text(2)?.parse().map_err(damaged)?,
        subject: Subject::new(text(3)?).map_err(damaged)?,
        roles: list::<String>(&text(4)?)?.into_iter().collect(),
        scopes: scopes.transpose()?,
        description: text(6)?,
        author: text(7)?,
        created: time(row, 8)?,
        expires: time(row, 9)?,
        revoked: optional_time(row, 10)?,
        last_used: optional_time(row, 11)?,
        hash: digest(&get::<Vec<u8>>(row, 12)?)?,
        previous: previous.zip(optional_time(row, 14)?),
    })
}

fn list<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, AccessError> {
    serde_json::from_str(text).map_err(|error| AccessError::Damaged(error.to_string()))
}

fn digest(bytes: &[u8]) -> Result<Digest, AccessError> {
    Digest::from_slice(bytes).map_err(damaged)
}
