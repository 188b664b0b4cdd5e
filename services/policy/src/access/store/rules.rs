//! Grants and policies on disk.

use commonplace_access::decide::{Grant, Grantee, Policy, Resource};
use commonplace_storage::Transaction;
use commonplace_types::{ArtifactType, ProjectName, Subject, TenantName};
use sea_orm::{QueryResult, Value};

use super::super::AccessError;
use super::super::rules::{KeptGrant, KeptPolicy, TenantRules, grantee_words, resource_words};
use super::{FIRST_REVISION, Store, count, damaged, get, hold, micros, raise, time, whole};

const COLUMNS: &str =
    "tenant, id, grantee_kind, grantee, access_right, project, artifact_type, event_author,
    author, created_micros";

/// The revision of a tenant.
pub(super) const REVISION: &str = "SELECT revision FROM access_revision WHERE tenant = ?";

/// A page of a tenant's grants.
pub(super) fn page_sql() -> String {
    format!("SELECT {COLUMNS} FROM access_grant WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
}

/// All grants of a tenant.
pub(super) fn grants_sql() -> String {
    format!("SELECT {COLUMNS} FROM access_grant WHERE tenant = ? ORDER BY id")
}

/// All policies of a tenant.
pub(super) const POLICIES: &str =
    "SELECT id, source, updated_micros FROM access_policy WHERE tenant = ? ORDER BY id";

impl Store {
    /// The revision of a tenant's rules.
    pub(crate) async fn revision(&self, tenant: &TenantName) -> Result<u64, AccessError> {
        let values = vec![tenant.as_str().into()];
        let statements = self.database.for_tenant(tenant);
        let row = statements.query_one(REVISION, values).await?;
        revision(row.as_ref())
    }

    /// All rules of a tenant, as of one moment.
    pub(crate) async fn rules(&self, tenant: TenantName) -> Result<TenantRules, AccessError> {
        self.database
            .for_tenant(&tenant)
            .read(move |transaction| {
                let tenant = tenant.clone();
                Box::pin(async move {
                    let of_tenant = || vec![tenant.as_str().into()];
                    let row = transaction.query_one(REVISION, of_tenant()).await?;
                    let policies = transaction.query(POLICIES, of_tenant()).await?;
                    let grants = transaction.query(&grants_sql(), of_tenant()).await?;
                    Ok(TenantRules {
                        revision: revision(row.as_ref())?,
                        policies: policies.iter().map(policy).collect::<Result<_, _>>()?,
                        grants: grants.iter().map(grant).collect::<Result<_, _>>()?,
                    })
                })
            })
            .await
    }

    /// Keeps a grant, and gives the one that is kept: an earlier one of its id, if there is one.
    /// Error: [`AccessError::TooMany`].
    pub(crate) async fn add_grant(
        &self,
        tenant: TenantName,
        kept: KeptGrant,
        most: usize,
    ) -> Result<KeptGrant, AccessError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, kept) = (tenant.clone(), kept.clone());
                Box::pin(async move {
                    hold(transaction, &tenant).await?;
                    if let Some(there) = find_grant(transaction, &tenant, &kept.grant.id).await? {
                        return Ok(there);
                    }
                    let sql = "SELECT CAST(count(*) AS BIGINT) FROM access_grant WHERE tenant = ?";
                    if count(transaction, sql, &tenant).await? >= most {
                        let what = "grants";
                        return Err(AccessError::TooMany { what, most });
                    }
                    raise(transaction, &tenant).await?;
                    let marks = ["?"; 10].join(", ");
                    let sql = format!("INSERT INTO access_grant ({COLUMNS}) VALUES ({marks})");
                    transaction
                        .execute(&sql, grant_values(&tenant, &kept))
                        .await?;
                    Ok(kept)
                })
            })
            .await
    }

    /// Removes a grant. False: there is none.
    pub(crate) async fn delete_grant(
        &self,
        tenant: TenantName,
        id: String,
    ) -> Result<bool, AccessError> {
        let sql = "DELETE FROM access_grant WHERE tenant = ? AND id = ?";
        self.delete(sql, tenant, id).await
    }

    /// The grants of a tenant whose ids come after one, by id.
    pub(crate) async fn grants(
        &self,
        tenant: &TenantName,
        after: &str,
        count: usize,
    ) -> Result<Vec<KeptGrant>, AccessError> {
        let values = vec![tenant.as_str().into(), after.into(), whole(count)];
        let statements = self.database.for_tenant(tenant);
        let rows = statements.query(&page_sql(), values).await?;
        rows.iter().map(grant).collect()
    }

    /// The policies of a tenant, by id.
    pub(crate) async fn policies(
        &self,
        tenant: &TenantName,
    ) -> Result<Vec<KeptPolicy>, AccessError> {
        let values = vec![tenant.as_str().into()];
        let statements = self.database.for_tenant(tenant);
        let rows = statements.query(POLICIES, values).await?;
        rows.iter().map(policy).collect()
    }

    /// Keeps a policy in place of the one of its id. False: the tenant's rules are no longer those of the
    /// revision that it was checked against; nothing was kept.
    pub(crate) async fn put_policy(
        &self,
        tenant: TenantName,
        put: KeptPolicy,
        checked: u64,
    ) -> Result<bool, AccessError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, put) = (tenant.clone(), put.clone());
                Box::pin(async move {
                    hold(transaction, &tenant).await?;
                    let values = vec![tenant.as_str().into()];
                    let row = transaction.query_one(REVISION, values).await?;
                    if revision(row.as_ref())? != checked {
                        return Ok(false);
                    }
                    raise(transaction, &tenant).await?;
                    let sql = "INSERT INTO access_policy (tenant, id, source, updated_micros)
                        VALUES (?, ?, ?, ?) ON CONFLICT (tenant, id) DO UPDATE SET
                        source = excluded.source, updated_micros = excluded.updated_micros";
                    let values = vec![
                        tenant.as_str().into(),
                        put.policy.id.into(),
                        put.policy.source.into(),
                        micros(put.updated),
                    ];
                    transaction.execute(sql, values).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Removes a policy. False: there is none.
    pub(crate) async fn delete_policy(
        &self,
        tenant: TenantName,
        id: String,
    ) -> Result<bool, AccessError> {
        let sql = "DELETE FROM access_policy WHERE tenant = ? AND id = ?";
        self.delete(sql, tenant, id).await
    }

    async fn delete(
        &self,
        sql: &'static str,
        tenant: TenantName,
        id: String,
    ) -> Result<bool, AccessError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, id) = (tenant.clone(), id.clone());
                Box::pin(async move {
                    hold(transaction, &tenant).await?;
                    let values = vec![tenant.as_str().into(), id.into()];
                    let deleted = transaction.execute(sql, values).await? > 0;
                    if deleted {
                        raise(transaction, &tenant).await?;
                    }
                    Ok(deleted)
                })
            })
            .await
    }
}

fn revision(row: Option<&QueryResult>) -> Result<u64, AccessError> {
    let revision: i64 = row
        .map(|row| get(row, 0))
        .transpose()?
        .unwrap_or(FIRST_REVISION);
    u64::try_from(revision).map_err(|_| AccessError::Damaged(format!("revision {revision}")))
}

async fn find_grant(
    transaction: &Transaction,
    tenant: &TenantName,
    id: &str,
) -> Result<Option<KeptGrant>, AccessError> {
    let sql = format!("SELECT {COLUMNS} FROM access_grant WHERE tenant = ? AND id = ?");
    let values = vec![tenant.as_str().into(), id.into()];
    let row = transaction.query_one(&sql, values).await?;
    row.as_ref().map(grant).transpose()
}

/// In the order of [`COLUMNS`].
fn grant_values(tenant: &TenantName, kept: &KeptGrant) -> Vec<Value> {
    let (kind, name) = grantee_words(&kept.grant.grantee);
    let (project, artifact_type, event_author) = resource_words(&kept.grant.resource);
    let optional = |text: Option<&str>| text.map(str::to_owned).into();
    vec![
        tenant.as_str().into(),
        kept.grant.id.as_str().into(),
        kind.into(),
        name.into(),
        kept.grant.right.as_str().into(),
        optional(project),
        optional(artifact_type),
        optional(event_author),
        kept.author.clone().into(),
        micros(kept.created),
    ]
}

fn grant(row: &QueryResult) -> Result<KeptGrant, AccessError> {
    let text = |column| get::<String>(row, column);
    let (kind, name) = (text(2)?, text(3)?);
    let grantee = match kind.as_str() {
        "role" => Grantee::Role(name),
        kind => Grantee::Subject(
            kind.parse().map_err(damaged)?,
            Subject::new(name).map_err(damaged)?,
        ),
    };
    Ok(KeptGrant {
        grant: Grant {
            id: text(1)?,
            grantee,
            right: text(4)?.parse().map_err(damaged)?,
            resource: resource(get(row, 5)?, get(row, 6)?, get(row, 7)?)?,
        },
        author: text(8)?,
        created: time(row, 9)?,
    })
}

fn resource(
    project: Option<String>,
    artifact_type: Option<String>,
    event_author: Option<String>,
) -> Result<Resource, AccessError> {
    let Some(project) = project else {
        return Ok(Resource::Tenant);
    };
    let project = ProjectName::new(project).map_err(damaged)?;
    Ok(match (artifact_type, event_author) {
        (Some(name), _) => {
            Resource::ArtifactType(project, ArtifactType::new(name).map_err(damaged)?)
        }
        (None, Some(name)) => Resource::Author(project, name),
        (None, None) => Resource::Project(project),
    })
}

fn policy(row: &QueryResult) -> Result<KeptPolicy, AccessError> {
    Ok(KeptPolicy {
        policy: Policy {
            id: get(row, 0)?,
            source: get(row, 1)?,
        },
        updated: time(row, 2)?,
    })
}
