//! Schemas of this node's stores: how they stand, and bringing them up to date.

use commonplace_storage::{DataFolder, SchemaState, WallState};
use futures::future::LocalBoxFuture;

use crate::node::place;
use crate::{NodeError, NodeOptions, Role};

/// One service's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The service.
    pub service: &'static str,
    /// How it stands.
    pub state: SchemaState,
}

/// How each schema stands beside what this program knows; changes nothing but that missing folders are made.
pub fn schemas(options: &NodeOptions) -> LocalBoxFuture<'_, Result<Vec<Schema>, NodeError>> {
    Box::pin(all_schemas(options))
}

async fn all_schemas(options: &NodeOptions) -> Result<Vec<Schema>, NodeError> {
    let schema = |service, state| Schema { service, state };
    Ok(vec![
        schema(
            "journal",
            commonplace_journal::schema_state(&place(options, "journal")?).await?,
        ),
        schema(
            "policy",
            commonplace_policy::schema_state(&place(options, "policy")?).await?,
        ),
        schema(
            "retrieval",
            commonplace_retrieval::schema_state(&place(options, "retrieval")?).await?,
        ),
    ])
}

/// How the schema of one role stands. Only for roles that keep something.
pub(crate) async fn schema_of(options: &NodeOptions, role: Role) -> Result<SchemaState, NodeError> {
    let place = place(options, role.as_str())?;
    Ok(match role {
        Role::Journal => commonplace_journal::schema_state(&place).await?,
        Role::Policy => commonplace_policy::schema_state(&place).await?,
        Role::Retrieval => commonplace_retrieval::schema_state(&place).await?,
        Role::Gateway | Role::Ingest | Role::Index => SchemaState::default(),
    })
}

/// How the wall between tenants stands in the schema of one role. Only for roles that keep something.
pub(crate) async fn wall_of(options: &NodeOptions, role: Role) -> Result<WallState, NodeError> {
    let place = place(options, role.as_str())?;
    Ok(match role {
        Role::Journal => commonplace_journal::wall_state(&place).await?,
        Role::Policy => commonplace_policy::wall_state(&place).await?,
        Role::Retrieval => commonplace_retrieval::wall_state(&place).await?,
        Role::Gateway | Role::Ingest | Role::Index => WallState::None,
    })
}

/// Brings each schema up to date, one after the other. What was done stays done when a later one fails.
pub fn migrate(options: &NodeOptions) -> LocalBoxFuture<'_, Result<(), NodeError>> {
    Box::pin(migrate_all(options))
}

async fn migrate_all(options: &NodeOptions) -> Result<(), NodeError> {
    let mut options = options.clone();
    // Asked for by name, whatever services do when they start.
    options.database.migrate = true;
    // Nobody may use the files meanwhile; a server takes care by itself.
    let _folder = match options.database.url.is_empty() {
        true => Some(DataFolder::lock(&options.data_dir)?),
        false => None,
    };
    commonplace_journal::migrate(&place(&options, "journal")?).await?;
    commonplace_policy::migrate(&place(&options, "policy")?).await?;
    commonplace_retrieval::migrate(&place(&options, "retrieval")?).await?;
    Ok(())
}
