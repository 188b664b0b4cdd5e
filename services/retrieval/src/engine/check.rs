//! Checks a pack by making it anew.

use bytes::Bytes;
use commonplace_rpc::Code;
use commonplace_types::{Invalid, Reference};

use super::{Engine, shown};
use crate::candidate::{Dense, Off};
use crate::client::Choice;
use crate::error::RetrievalError;
use crate::pack::{self, Pack};
use crate::plan::{DenseWish, Recorded};
use crate::recipe;
use crate::rules::Policy;
use crate::store::Kept;
use crate::verify::{self, Difference, Verdict};

impl Engine {
    /// Checks a pack: makes it anew from what it says it was made from, and compares. `id`: the one it is
    /// claimed to have, or empty; `content`: its bytes, or empty for the kept pack of that id.
    ///
    /// What is wrong with the pack is a difference, not an error. What it was made from and is not here is
    /// `missing`, unless the pack is wrong in itself: then it is wrong everywhere.
    pub async fn verify(&self, id: &str, content: Bytes) -> Result<Verdict, RetrievalError> {
        let content = match (id, content.is_empty()) {
            ("", true) => {
                return Err(Invalid::new("id", "expected an id or a pack, found neither").into());
            }
            (id, true) => self.get_shown(id).await?.content.clone(),
            (_, false) => content,
        };
        let mut differences = Vec::new();
        let found_id = pack::id(&content);
        if !id.is_empty() && id != found_id {
            differences.push(Difference::new(
                "id",
                id,
                format!("{found_id}, the hash of its bytes"),
            ));
        }
        let mut verdict = Verdict {
            id: String::new(),
            differences,
            commit: String::new(),
            commits_since: 0,
            missing: None,
        };
        match pack::read(&content) {
            Ok(given) => self.check(&given, &content, &mut verdict).await?,
            Err(error) => verdict
                .differences
                .push(verify::unreadable(&content, &error.to_string())),
        }
        Ok(verdict)
    }

    async fn check(
        &self,
        given: &Pack,
        content: &[u8],
        verdict: &mut Verdict,
    ) -> Result<(), RetrievalError> {
        if !shown(given).await? {
            return Err(RetrievalError::BeyondView);
        }
        verdict.commit = given.commit.to_string();
        let anew = match self.remake(given).await {
            Ok(anew) => anew,
            Err(Unmade::Differs(difference)) => {
                verdict.differences.push(difference);
                return Ok(());
            }
            Err(Unmade::Missing(difference, what)) => {
                verdict.missing = verdict.differences.is_empty().then_some(what);
                verdict.differences.push(difference);
                return Ok(());
            }
            Err(Unmade::Failed(error)) => return Err(error),
        };
        verdict.id = anew.id;
        verdict
            .differences
            .extend(verify::compare(content, &anew.content));
        verdict.differences.truncate(verify::LISTED);
        let progress = self.client.progress(&given.recipe.project).await?;
        verdict.commits_since = progress.newest_commit.saturating_sub(given.commit_number);
        Ok(())
    }

    /// Makes a pack anew at its commit, by its version of its policy, with the vectors it saw.
    async fn remake(&self, given: &Pack) -> Result<Kept, Unmade> {
        let recipe = &given.recipe;
        recipe::check_query(&recipe.query)
            .map_err(|invalid| Unmade::field("request.query", &recipe.query, invalid))?;
        recipe::check_task(&recipe.task)
            .map_err(|invalid| Unmade::field("request.task", &recipe.task, invalid))?;
        if recipe.budget_tokens == 0 || recipe.budget_tokens > recipe::BUDGET_TOKENS {
            let given = recipe.budget_tokens.to_string();
            return Err(Unmade::differs("budget.tokens", &given, "1 to 1000000"));
        }
        let policy = self.policy_of(given).await?;
        let as_of = Reference::Commit(given.commit);
        let dense = DenseWish::Recorded {
            dense: given.dense.clone(),
            candidates: Recorded::of(&given.candidates),
        };
        let draft = self.draft(recipe.clone(), &policy, &as_of, dense).await;
        let draft = draft.map_err(|error| Unmade::making(given, error))?;
        if let Some(missing) = other_embedder(&given.dense, &draft.pack.dense) {
            return Err(missing);
        }
        let kept = self.finish(draft, true).await;
        kept.map_err(|error| Unmade::making(given, error))
    }

    async fn policy_of(&self, given: &Pack) -> Result<Policy, Unmade> {
        let shown = format!("{} version {}", given.policy, given.policy_version);
        if given.policy.is_empty() || given.policy_version == 0 {
            return Err(Unmade::differs(
                "policy",
                &shown,
                "a policy and its version from 1",
            ));
        }
        let choice = Choice::Named(&given.policy, given.policy_version);
        let policy = match self.client.policy(choice).await {
            Ok(policy) => policy,
            Err(RetrievalError::Upstream(failure)) if failure.code == Code::NotFound => {
                let difference = Difference::new("policy", &shown, &failure.message);
                let what = format!("policy {shown} is not here");
                return Err(Unmade::Missing(difference, what));
            }
            Err(RetrievalError::Upstream(failure)) if failure.code == Code::InvalidArgument => {
                return Err(Unmade::differs("policy", &shown, &failure.message));
            }
            Err(error) => return Err(Unmade::Failed(error)),
        };
        if policy.hash != given.policy_hash {
            return Err(Unmade::differs(
                "policy.hash",
                &given.policy_hash,
                &policy.hash,
            ));
        }
        Ok(policy)
    }
}

/// Why a pack could not be made anew.
enum Unmade {
    /// The reason lies in the pack.
    Differs(Difference),
    /// What it was made from is not here: where the pack names it, and what it is.
    Missing(Difference, String),
    /// The check itself failed.
    Failed(RetrievalError),
}

impl Unmade {
    fn differs(path: &str, given: &str, expected: &str) -> Self {
        Self::Differs(Difference::new(path, given, expected))
    }

    fn field(path: &str, given: &str, invalid: Invalid) -> Self {
        Self::differs(path, given, &invalid.problem)
    }

    /// Sorts an error of making `given` anew: what cannot be is a difference, what is not here is missing.
    fn making(given: &Pack, error: RetrievalError) -> Self {
        match error {
            RetrievalError::Upstream(failure)
                if matches!(failure.code, Code::NotFound | Code::InvalidArgument) =>
            {
                let path = match failure.reason.as_str() {
                    "PROJECT_NOT_FOUND" => "project",
                    "PASSAGE_NOT_FOUND" => "items",
                    _ if failure.code == Code::NotFound => "commit.hash",
                    _ => "request",
                };
                let (shown, what) = match path {
                    "project" => (given.recipe.project.to_string(), "project"),
                    "commit.hash" => (given.commit.to_string(), "commit"),
                    _ => return Self::differs(path, "as recorded", &failure.message),
                };
                let missing = format!("{what} `{shown}` is not in this journal");
                Self::Missing(Difference::new(path, &shown, &failure.message), missing)
            }
            RetrievalError::BudgetTooSmall { smallest, .. } => {
                let shown = given.recipe.budget_tokens.to_string();
                Self::differs("budget.tokens", &shown, &format!("at least {smallest}"))
            }
            RetrievalError::Invalid(invalid) => Self::differs(
                &format!("request.{}", invalid.field),
                "as recorded",
                &invalid.problem,
            ),
            other => Self::Failed(other),
        }
    }
}

/// Vectors of another embedder, or none, cannot make the pack anew.
fn other_embedder(given: &Dense, anew: &Dense) -> Option<Unmade> {
    let Dense::On { embedder, .. } = given else {
        return None;
    };
    let here = match anew {
        Dense::On { embedder: here, .. } if here == embedder => return None,
        Dense::On { embedder: here, .. } => here.clone(),
        Dense::Off {
            reason: Off::NoWeight,
        } => {
            let none = format!("none: {}", Off::NoWeight.told());
            return Some(Unmade::differs("dense.embedder", embedder, &none));
        }
        Dense::Off { reason } => format!("none: {}", reason.told()),
    };
    let missing = format!("it compared meanings with `{embedder}`, and here is {here}");
    let difference = Difference::new("dense.embedder", embedder, here);
    Some(Unmade::Missing(difference, missing))
}
