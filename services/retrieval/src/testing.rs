//! Values for this crate's tests and its example.

use commonplace_proto::index;
use commonplace_proto::retrieval::ContextPack;
use commonplace_rpc::View;
use commonplace_rpc::convert::Filter;
use commonplace_types::{EventId, ProjectName, Reference, Timestamp};

use crate::candidate::{Candidate, Eligibility, PassageKey};
use crate::error::RetrievalError;
use crate::plan::{DenseWish, Plan, Wish};
use crate::recipe::Recipe;
use crate::rules::{FusionMethod, PackingMethod, Policy, Rules, Weights};
use crate::store::Kept;
use crate::{convert, engine};

/// The rules of `general`.
pub fn rules() -> Rules {
    Rules {
        weights: Weights {
            lexical: 650_000,
            dense: 350_000,
            recency: 0,
            importance: 0,
            pin: 0,
        },
        fusion: FusionMethod::WeightedSum,
        rrf_k: 60,
        candidates: 100,
        recency_lambda: 0,
        artifact_types: Vec::new(),
        tags_any: Vec::new(),
        time_window_days: 0,
        min_importance: 0,
        always_pinned: false,
        always_records: Vec::new(),
        always_tags: Vec::new(),
        quotas: Vec::new(),
        packing: PackingMethod::Greedy,
        max_items: 40,
        max_per_event: 1,
        min_score: 0,
        budget_tokens: 4_000,
    }
}

/// A policy with these rules.
pub fn policy(rules: Rules) -> Policy {
    Policy {
        id: "general".into(),
        version: 1,
        hash: format!("sha256:{}", "0".repeat(64)),
        tasks: Vec::new(),
        rules,
    }
}

/// The id of a numbered event.
pub fn event(number: u32) -> EventId {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    EventId::from_bytes(bytes)
}

/// A numbered candidate without scores, unlike every other in content.
pub fn candidate(number: u32) -> Candidate {
    Candidate {
        key: PassageKey {
            event: event(number),
            passage: 0,
        },
        record: format!("record:{number}"),
        artifact_type: "diff".into(),
        event_time: clock(),
        importance: 500_000,
        pinned: false,
        tags: Vec::new(),
        lexical_score: 0.0,
        lexical_rank: 0,
        dense_score: None,
        dense_rank: 0,
        tokens: 100,
        content: *event(number).as_bytes(),
        eligibility: Eligibility::Eligible,
        always: false,
    }
}

/// The moment that tests happen at.
pub fn clock() -> Timestamp {
    Timestamp::from_micros(1_795_248_000_000_000).unwrap_or(Timestamp::MIN)
}

/// A request for `budget` tokens.
pub fn recipe(budget: u32) -> Recipe {
    Recipe {
        project: ProjectName::default_project(),
        task: "code_review".into(),
        query: "why does login fail".into(),
        budget_tokens: budget,
        fusion: None,
        filter: Filter::default(),
        clock: clock(),
        view: View::Whole,
    }
}

/// All that the service does between the answers of the index and its own: two conversions, fusion, ranking,
/// packing, bytes and hash. `passages`: as the index answers for the keys it is given.
pub fn answer(
    found: index::SearchResponse,
    passages: impl FnOnce(Vec<PassageKey>) -> index::GetPassagesResponse,
    recipe: Recipe,
    policy: &Policy,
) -> Result<ContextPack, RetrievalError> {
    let wish = Wish {
        project: &recipe.project,
        view: &recipe.view,
        as_of: &Reference::main(),
        query: &recipe.query,
        filter: &recipe.filter,
        clock: recipe.clock,
        at_least: 0,
        ineligible_limit: 0,
        named: false,
    };
    let plan = Plan::new(&wish, &policy.rules, DenseWish::Newest { wait: false })?;
    let found = convert::found(found, &plan)?;
    let draft = engine::fill(recipe, policy, found, &plan.post_filter_tags, "tokenizer")?;
    let keys: Vec<PassageKey> = draft.wanted.iter().map(|wanted| wanted.key).collect();
    let passages = convert::passages(passages(keys.clone()), &keys)?;
    Ok(convert::context_pack(
        &Kept::new(draft.finish(passages)),
        convert::PackView::Full,
    ))
}
