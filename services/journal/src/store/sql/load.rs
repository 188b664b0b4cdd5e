//! Reads what is kept in memory: projects with their lanes, refs and heads.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonplace_storage::Statements;
use commonplace_types::{BranchName, ProjectName, TagName, TenantName};

use super::rows::{self, column, small};
use crate::JournalError;
use crate::commit::Commit;
use crate::entropy::Entropy;
use crate::lane::{self, Lane};
use crate::state::{Branch, Project, State};

const KEY: &str = "token_key";

/// The key of page tokens and cursors; made at the first opening.
pub(super) async fn key(
    statements: &Statements,
    entropy: &dyn Entropy,
) -> Result<[u8; 32], JournalError> {
    if let Some(key) = stored_key(statements).await? {
        return Ok(key);
    }
    let mut key = [0; 32];
    entropy.fill(&mut key);
    let digest = rows::setting_digest(KEY, &key).as_bytes().to_vec();
    let values = vec![KEY.into(), key.to_vec().into(), digest.into()];
    // Another process may come first; then its key counts.
    let insert =
        "INSERT INTO setting (name, value, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    statements.execute(insert, values).await?;
    let stored = stored_key(statements).await?;
    stored.ok_or_else(|| JournalError::damaged("the token key was not kept"))
}

async fn stored_key(statements: &Statements) -> Result<Option<[u8; 32]>, JournalError> {
    let find = "SELECT value FROM setting WHERE name = ?";
    let Some(row) = statements.query_one(find, vec![KEY.into()]).await? else {
        return Ok(None);
    };
    let value: Vec<u8> = column(&row, 0)?;
    let key = value
        .try_into()
        .map_err(|_| JournalError::damaged("the token key has another length"))?;
    Ok(Some(key))
}

/// One more than the newest event's row.
pub(super) async fn next_seq(statements: &Statements) -> Result<i64, JournalError> {
    match statements
        .query_one("SELECT coalesce(max(seq), 0) + 1 FROM event", Vec::new())
        .await?
    {
        Some(row) => column(&row, 0),
        None => Ok(1),
    }
}

/// Every project as it is stored.
pub(super) async fn projects(statements: &Statements) -> Result<Vec<Project>, JournalError> {
    let sql = "SELECT key, tenant, name FROM project ORDER BY key";
    let mut projects = Vec::new();
    for row in statements.query(sql, Vec::new()).await? {
        let (key, tenant, name) = (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
        projects.push(project(statements, key, tenant, name).await?);
    }
    Ok(projects)
}

async fn project(
    statements: &Statements,
    key: i64,
    tenant: String,
    name: String,
) -> Result<Project, JournalError> {
    let wrong = |error: commonplace_types::Invalid| JournalError::damaged(error.to_string());
    let (tenant, name) = (
        TenantName::new(tenant).map_err(wrong)?,
        ProjectName::new(name).map_err(wrong)?,
    );
    let commits = named_commits(statements, key).await?;
    let (Some(opened), Some(last)) = (commits.get(&0), commits.values().next_back()) else {
        return Err(JournalError::damaged(format!(
            "project `{name}` has no commits"
        )));
    };
    let mut state = State::new(opened.clone(), last.clone());
    state.event_count = event_count(statements, key).await?;
    state.bytes = bytes(statements, key).await?;
    state.lanes = lanes(statements, key).await?;
    refs(statements, key, &commits, &mut state).await?;
    for commit in commits.values() {
        state.remember(commit);
    }
    Ok(Project::new(key, tenant, name, state))
}

/// The first and the last commit, and all that refs name.
pub(super) const NAMED_COMMITS: &str = "WITH named (number) AS (
         SELECT 0
         UNION SELECT number FROM ref WHERE project = ?1
         UNION SELECT max(number) FROM \"commit\" WHERE project = ?1)
     SELECT :columns FROM named {CROSS|} JOIN \"commit\" c USING (number) WHERE c.project = ?1
     ORDER BY number";

async fn named_commits(
    statements: &Statements,
    key: i64,
) -> Result<BTreeMap<u64, Arc<Commit>>, JournalError> {
    let sql = NAMED_COMMITS.replace(":columns", rows::COMMIT_COLUMNS);
    let mut commits = BTreeMap::new();
    for row in statements.query(&sql, vec![key.into()]).await? {
        let commit = rows::commit(&row)?;
        commits.insert(commit.number, Arc::new(commit));
    }
    Ok(commits)
}

async fn event_count(statements: &Statements, key: i64) -> Result<u64, JournalError> {
    let sql = "SELECT count(*) FROM event {INDEXED BY event_by_id|} WHERE project = ?";
    match statements.query_one(sql, vec![key.into()]).await? {
        Some(row) => Ok(column::<i64>(&row, 0)? as u64),
        None => Ok(0),
    }
}

async fn bytes(statements: &Statements, key: i64) -> Result<u64, JournalError> {
    let sql = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM \"commit\" WHERE project = ?";
    match statements.query_one(sql, vec![key.into()]).await? {
        Some(row) => Ok(column::<i64>(&row, 0)? as u64),
        None => Ok(0),
    }
}

pub(super) async fn lanes(statements: &Statements, key: i64) -> Result<Vec<Lane>, JournalError> {
    let sql = "SELECT lane, parent, fork_position, base FROM lane WHERE project = ? ORDER BY lane";
    let mut lanes = Vec::new();
    for row in statements.query(sql, vec![key.into()]).await? {
        let lane = Lane {
            number: small(&row, 0)?,
            parent: small(&row, 1)?,
            fork_position: small(&row, 2)?,
            base: lane::decode(&column::<Vec<u8>>(&row, 3)?)?,
        };
        if lane.number as usize != lanes.len() + 1 {
            return Err(JournalError::damaged(format!(
                "lane {} is missing",
                lanes.len() + 1
            )));
        }
        lanes.push(lane);
    }
    Ok(lanes)
}

async fn refs(
    statements: &Statements,
    key: i64,
    commits: &BTreeMap<u64, Arc<Commit>>,
    state: &mut State,
) -> Result<(), JournalError> {
    let sql = "SELECT kind, name, number, origin, lane FROM ref WHERE project = ?";
    for row in statements.query(sql, vec![key.into()]).await? {
        let name: String = column(&row, 1)?;
        let wrong = |problem: String| JournalError::damaged(format!("ref `{name}`: {problem}"));
        let number = column::<i64>(&row, 2)? as u64;
        let head = commits.get(&number).cloned();
        let head = head.ok_or_else(|| wrong(format!("commit {number} is missing")))?;
        match column::<i64>(&row, 0)? {
            1 => {
                let lane = small(&row, 4)?;
                let branch = Branch {
                    head,
                    lane: (lane > 0).then_some(lane),
                    origin: column::<i64>(&row, 3)? as u64,
                };
                let name = BranchName::new(name.clone()).map_err(|e| wrong(e.to_string()))?;
                state.branches.insert(name, branch);
            }
            2 => {
                let name = TagName::new(name.clone()).map_err(|e| wrong(e.to_string()))?;
                state.tags.insert(name, head);
            }
            kind => return Err(wrong(format!("kind {kind} is not known"))),
        }
    }
    Ok(())
}
