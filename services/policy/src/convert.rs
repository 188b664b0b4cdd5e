//! Policies as messages, and the page token.

use commonplace_proto::policy as proto;
use commonplace_rpc::convert::timestamp_to_proto;
use commonplace_types::{Invalid, PolicyId};

use crate::catalog::Found;
use crate::rules::{FusionMethod, PackingMethod, Rules};

const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// Reads a page's size; 0 means the default. Error: negative.
pub(crate) fn page_size(size: i32) -> Result<usize, Invalid> {
    match usize::try_from(size) {
        Ok(0) => Ok(PAGE),
        Ok(size) => Ok(size.min(LARGEST_PAGE)),
        Err(_) => Err(Invalid::new(
            "page_size",
            format!("expected 0 to {LARGEST_PAGE}, found {size}"),
        )),
    }
}

/// A token that goes on after `id`.
pub(crate) fn token_after(id: &PolicyId) -> String {
    hex::encode(format!("policies/1/{id}"))
}

/// Reads a token. Error: it is not one of [`token_after`].
pub(crate) fn token(text: &str) -> Result<Option<PolicyId>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Invalid::new("page_token", "expected a token of an earlier answer");
    let bytes = hex::decode(text).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let id = text.strip_prefix("policies/1/").ok_or_else(wrong)?;
    PolicyId::new(id).map(Some).map_err(|_| wrong())
}

/// Writes a version of a policy.
pub(crate) fn policy(found: &Found) -> proto::Policy {
    let version = &found.version;
    proto::Policy {
        id: version.id.to_string(),
        version: version.number,
        active: found.active,
        builtin: version.builtin,
        hash: version.hash.clone(),
        create_time: version.created.map(timestamp_to_proto),
        source: version.source.clone(),
        rules: Some(rules(&version.rules)),
    }
}

fn rules(rules: &Rules) -> proto::Rules {
    let weights = &rules.weights;
    let filters = &rules.filters;
    let always = &rules.always_include;
    let packing = &rules.packing;
    let quotas = rules.quotas.iter().map(|quota| proto::Quota {
        artifact_type: quota.artifact_type.to_string(),
        max_items: quota.max_items,
    });
    proto::Rules {
        description: rules.description.clone(),
        weights: Some(proto::Weights {
            lexical: weights.lexical.as_f64(),
            dense: weights.dense.as_f64(),
            recency: weights.recency.as_f64(),
            importance: weights.importance.as_f64(),
            pin: weights.pin.as_f64(),
        }),
        fusion: fusion(rules.fusion).into(),
        rrf_k: rules.rrf_k,
        candidates: rules.candidates,
        recency_lambda: rules.recency_lambda.as_f64(),
        filters: Some(proto::Filters {
            artifact_types: filters
                .artifact_types
                .iter()
                .map(ToString::to_string)
                .collect(),
            tags_any: filters.tags_any.clone(),
            time_window_days: filters.time_window_days,
            min_importance: filters.min_importance.as_f64(),
        }),
        always_include: Some(proto::Always {
            pinned: always.pinned,
            record_ids: always.record_ids.clone(),
            tags: always.tags.clone(),
        }),
        quotas: quotas.collect(),
        packing: Some(proto::Packing {
            method: packing_method(packing.method).into(),
            max_items: packing.max_items,
            max_per_event: packing.max_per_event,
            min_score: packing.min_score.as_f64(),
            budget_tokens: packing.budget_tokens,
        }),
        tasks: rules.tasks.clone(),
    }
}

fn fusion(method: FusionMethod) -> proto::FusionMethod {
    match method {
        FusionMethod::WeightedSum => proto::FusionMethod::WeightedSum,
        FusionMethod::ReciprocalRank => proto::FusionMethod::ReciprocalRank,
        FusionMethod::MaxScore => proto::FusionMethod::MaxScore,
    }
}

fn packing_method(method: PackingMethod) -> proto::PackingMethod {
    match method {
        PackingMethod::Greedy => proto::PackingMethod::Greedy,
        PackingMethod::Knapsack => proto::PackingMethod::Knapsack,
    }
}
