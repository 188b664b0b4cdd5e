//! Remembers which pack answered a request, so that a repeated one at the same commit is answered at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_types::TenantName;

use crate::recipe::Recipe;
use crate::rules::Policy;
use crate::store::Kept;

/// Names a request: tenant, recipe (clock and budget included) and policy, the commit left aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey([u8; 32]);

impl RequestKey {
    /// Equal for equal requests. `Debug` of filter and view stands for them: the key never leaves the process.
    pub fn new(tenant: &TenantName, recipe: &Recipe, policy: &Policy) -> Self {
        let parts = [
            tenant.as_str().to_owned(),
            recipe.project.to_string(),
            recipe.task.clone(),
            recipe.query.clone(),
            format!(
                "{:?}",
                (
                    recipe.budget_tokens,
                    recipe.fusion,
                    recipe.clock,
                    policy.version
                )
            ),
            format!("{:?}", recipe.filter),
            format!("{:?}", recipe.view),
            policy.id.clone(),
            policy.hash.clone(),
        ];
        Self(digest(&parts))
    }
}

/// Names a row of texts, however they are cut: BLAKE3 over each with its length before it.
pub(crate) fn digest(parts: &[impl AsRef<str>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        let part = part.as_ref();
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The last packs by request.
pub struct Reuse {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packs: BTreeMap<RequestKey, Arc<Kept>>,
    /// Oldest first.
    order: VecDeque<RequestKey>,
}

impl Reuse {
    /// Remembers at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            state: Mutex::default(),
        }
    }

    /// The pack that answered this request last, at whatever commit.
    pub fn last(&self, key: &RequestKey) -> Option<Arc<Kept>> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .packs
            .get(key)
            .cloned()
    }

    /// Remembers that a pack answered this request.
    pub fn remember(&self, key: RequestKey, kept: &Arc<Kept>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.packs.insert(key, kept.clone()).is_none() {
            state.order.push_back(key);
        }
        while state.order.len() > self.most {
            if let Some(oldest) = state.order.pop_front() {
                state.packs.remove(&oldest);
            }
        }
    }
}
