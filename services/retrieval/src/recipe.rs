//! What a pack was asked for: with the commit and the policy, all that is needed to make it again.

use commonplace_rpc::View;
use commonplace_rpc::convert::Filter;
use commonplace_types::{Invalid, ProjectName, Timestamp};

use crate::rules::FusionMethod;

/// Longest query, in bytes.
pub const QUERY_BYTES: usize = 8_192;
/// Largest budget, in tokens.
pub const BUDGET_TOKENS: u32 = 1_000_000;
const TASK_BYTES: usize = 128;

/// A checked request for a pack, budget and clock filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Whose memory.
    pub project: ProjectName,
    /// The kind of work; may be empty.
    pub task: String,
    /// 1 to 8,192 bytes.
    pub query: String,
    /// 1 to 1,000,000.
    pub budget_tokens: u32,
    /// In place of the policy's.
    pub fusion: Option<FusionMethod>,
    /// Narrows the policy's.
    pub filter: Filter,
    /// Ages are counted from here.
    pub clock: Timestamp,
    /// What of the project its maker may see.
    pub view: View,
}

/// Checks a query. Error: empty or too long.
pub fn check_query(query: &str) -> Result<(), Invalid> {
    if query.trim().is_empty() || query.len() > QUERY_BYTES {
        let problem = format!(
            "expected a text of 1 to {QUERY_BYTES} bytes, found {}",
            query.len()
        );
        return Err(Invalid::new("query", problem));
    }
    Ok(())
}

/// Checks a task's name. Error: too long, or with control characters.
pub fn check_task(task: &str) -> Result<(), Invalid> {
    if task.len() > TASK_BYTES || task.chars().any(char::is_control) {
        let problem = format!("expected at most {TASK_BYTES} bytes without control characters");
        return Err(Invalid::new("task", problem));
    }
    Ok(())
}

/// The budget to use: the one asked for, or the policy's when that is 0. Error: too large.
pub fn budget(asked: u32, policy: u32) -> Result<u32, Invalid> {
    match asked {
        0 => Ok(policy),
        1..=BUDGET_TOKENS => Ok(asked),
        _ => {
            let problem =
                format!("expected 1 to {BUDGET_TOKENS}, or 0 for the policy's, found {asked}");
            Err(Invalid::new("budget_tokens", problem))
        }
    }
}
