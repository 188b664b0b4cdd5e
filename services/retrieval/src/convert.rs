//! Messages and what they mean here. A failure names its field.

use std::collections::BTreeMap;

use commonplace_proto::policy as policy_proto;
use commonplace_proto::retrieval as proto;
use commonplace_rpc::convert::{
    filter_from_proto, project_from_proto, reference_from_proto, timestamp_from_proto,
    timestamp_to_proto,
};
use commonplace_rpc::view_to_proto;
use commonplace_types::{Invalid, Timestamp};

use crate::candidate::{Dense, Passage};
use crate::engine::{PolicyWish, Ranking, Request, SearchRequest};
use crate::pack::{Listed, Pack};
use crate::packing::{Outcome, Reason};
use crate::ranking::Scores;
use crate::rules::{FusionMethod, PackingMethod, Policy, Rules, Weights};
use crate::store::Kept;
use crate::verify::{Conclusion, Verdict};

mod candidates;
mod index;

pub(crate) use index::{found, index_search, passage_request, passages};

/// How much of a pack an answer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackView {
    /// What a prompt needs.
    Basic,
    /// Also its bytes and what was left out.
    Full,
}

/// Reads a request for a pack.
pub(crate) fn request(request: proto::RetrieveRequest) -> Result<Request, Invalid> {
    Ok(Request {
        project: project_from_proto(&request.project)?,
        as_of: reference_from_proto(request.as_of).map_err(|error| error.under("as_of"))?,
        task: request.task,
        query: request.query,
        budget_tokens: request.budget_tokens,
        policy: PolicyWish {
            id: request.policy,
            version: request.policy_version,
        },
        fusion: fusion(request.fusion)?,
        filter: filter_from_proto(request.filter)?,
        clock: clock(request.clock)?,
        wait_for_dense: request.wait_for_dense,
    })
}

/// Reads a request for a ranking.
pub(crate) fn search(request: proto::SearchRequest) -> Result<SearchRequest, Invalid> {
    Ok(SearchRequest {
        project: project_from_proto(&request.project)?,
        as_of: reference_from_proto(request.as_of).map_err(|error| error.under("as_of"))?,
        query: request.query,
        policy: PolicyWish {
            id: request.policy,
            version: 0,
        },
        fusion: fusion(request.fusion)?,
        filter: filter_from_proto(request.filter)?,
        limit: request.limit,
        clock: clock(request.clock)?,
        wait_for_dense: request.wait_for_dense,
        keys_only: request.keys_only,
    })
}

fn clock(time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Invalid> {
    time.map(|time| timestamp_from_proto(&time, "clock"))
        .transpose()
}

fn fusion(number: i32) -> Result<Option<FusionMethod>, Invalid> {
    use policy_proto::FusionMethod as Proto;
    match Proto::try_from(number) {
        Ok(Proto::Unspecified) => Ok(None),
        Ok(Proto::WeightedSum) => Ok(Some(FusionMethod::WeightedSum)),
        Ok(Proto::ReciprocalRank) => Ok(Some(FusionMethod::ReciprocalRank)),
        Ok(Proto::MaxScore) => Ok(Some(FusionMethod::MaxScore)),
        Err(_) => Err(Invalid::new(
            "fusion",
            format!("expected a known method, found {number}"),
        )),
    }
}

/// Reads a policy of the policy service.
pub(crate) fn policy(answer: policy_proto::GetPolicyResponse) -> Result<Policy, Invalid> {
    let missing = |field: &str| Invalid::new(field, "expected a value, found none");
    let policy = answer.policy.ok_or_else(|| missing("policy"))?;
    let rules = policy.rules.ok_or_else(|| missing("policy.rules"))?;
    Ok(Policy {
        id: policy.id,
        version: policy.version,
        hash: policy.hash,
        tasks: rules.tasks.clone(),
        rules: read_rules(rules).map_err(|error| error.under("policy.rules"))?,
    })
}

fn read_rules(rules: policy_proto::Rules) -> Result<Rules, Invalid> {
    let weights = rules.weights.unwrap_or_default();
    let filters = rules.filters.unwrap_or_default();
    let always = rules.always_include.unwrap_or_default();
    let packing = rules.packing.unwrap_or_default();
    Ok(Rules {
        weights: Weights {
            lexical: millionths("weights.lexical", weights.lexical)?,
            dense: millionths("weights.dense", weights.dense)?,
            recency: millionths("weights.recency", weights.recency)?,
            importance: millionths("weights.importance", weights.importance)?,
            pin: millionths("weights.pin", weights.pin)?,
        },
        fusion: fusion(rules.fusion)?.unwrap_or(FusionMethod::WeightedSum),
        rrf_k: rules.rrf_k.max(1),
        candidates: rules.candidates,
        recency_lambda: millionths("recency_lambda", rules.recency_lambda)?,
        artifact_types: filters.artifact_types,
        tags_any: filters.tags_any,
        time_window_days: filters.time_window_days,
        min_importance: millionths("filters.min_importance", filters.min_importance)?,
        always_pinned: always.pinned,
        always_records: always.record_ids,
        always_tags: always.tags,
        quotas: rules
            .quotas
            .into_iter()
            .map(|q| (q.artifact_type, q.max_items))
            .collect(),
        packing: match policy_proto::PackingMethod::try_from(packing.method) {
            Ok(policy_proto::PackingMethod::Knapsack) => PackingMethod::Knapsack,
            _ => PackingMethod::Greedy,
        },
        max_items: packing.max_items,
        max_per_event: packing.max_per_event,
        min_score: millionths("packing.min_score", packing.min_score)?,
        budget_tokens: packing.budget_tokens,
    })
}

fn millionths(field: &str, value: f64) -> Result<u32, Invalid> {
    if (0.0..=10.0).contains(&value) {
        return Ok((value * 1e6).round() as u32);
    }
    Err(Invalid::new(
        field,
        format!("expected 0 to 10, found {value}"),
    ))
}

/// How much of a pack is asked for; `by_default` when the caller does not say.
pub(crate) fn pack_view(number: i32, by_default: PackView) -> Result<PackView, Invalid> {
    match proto::PackView::try_from(number) {
        Ok(proto::PackView::Unspecified) => Ok(by_default),
        Ok(proto::PackView::Basic) => Ok(PackView::Basic),
        Ok(proto::PackView::Full) => Ok(PackView::Full),
        Err(_) => Err(Invalid::new(
            "view",
            format!("expected a known view, found {number}"),
        )),
    }
}

/// Writes as much of a pack as is asked for.
pub(crate) fn context_pack(kept: &Kept, view: PackView) -> proto::ContextPack {
    let pack = &kept.pack;
    let (content, exclusions) = match view {
        PackView::Basic => Default::default(),
        PackView::Full => (
            kept.content.clone(),
            pack.candidates.iter().filter_map(exclusion).collect(),
        ),
    };
    proto::ContextPack {
        id: kept.id.clone(),
        content,
        project: pack.recipe.project.to_string(),
        commit: pack.commit.to_string(),
        task: pack.recipe.task.clone(),
        query: pack.recipe.query.clone(),
        policy: pack.policy.clone(),
        policy_version: pack.policy_version,
        budget_tokens: pack.recipe.budget_tokens,
        used_tokens: pack.used_tokens,
        efficiency: f64::from(pack.used_tokens) / f64::from(pack.recipe.budget_tokens.max(1)),
        items: items(pack),
        exclusions,
        manifest: Some(manifest(pack)),
        exclusion_counts: exclusion_counts(pack),
    }
}

fn items(pack: &Pack) -> Vec<proto::Item> {
    let item = |(rank, item): (u32, &crate::pack::Item)| {
        let scores = pack.candidates.get(item.place).map(|listed| listed.scores);
        write_item(rank, &item.passage, scores.unwrap_or_default())
    };
    (1..).zip(&pack.items).map(item).collect()
}

fn write_item(rank: u32, passage: &Passage, scores: Scores) -> proto::Item {
    let event_id = passage.key.event.to_string();
    proto::Item {
        rank,
        event_id: event_id.clone(),
        record_id: passage.record.clone(),
        artifact_type: passage.artifact_type.clone(),
        title: passage.title.clone(),
        text: passage.text.clone(),
        tokens: passage.tokens,
        citation: Some(proto::Citation {
            event_id,
            passage: passage.key.passage,
            start: passage.start,
            end: passage.end,
            checksum: passage.checksum.clone(),
            event_time: Some(timestamp_to_proto(passage.event_time)),
            source: passage.source.clone(),
            author: passage.author.clone(),
        }),
        scores: Some(write_scores(scores)),
    }
}

fn write_scores(scores: Scores) -> proto::Scores {
    proto::Scores {
        total: scores.total.into(),
        lexical: scores.lexical.into(),
        dense: scores.dense.into(),
        recency: scores.recency.into(),
        importance: scores.importance.into(),
        pin: scores.pin.into(),
    }
}

fn exclusion_reason(reason: &Reason) -> proto::ExclusionReason {
    match reason {
        Reason::Budget => proto::ExclusionReason::Budget,
        Reason::Policy => proto::ExclusionReason::Policy,
        Reason::Superseded => proto::ExclusionReason::Superseded,
        Reason::Duplicate => proto::ExclusionReason::Duplicate,
        Reason::Rank => proto::ExclusionReason::Rank,
    }
}

fn exclusion_counts(pack: &Pack) -> Vec<proto::ExclusionCount> {
    let mut counts = BTreeMap::new();
    for listed in &pack.candidates {
        if let Outcome::Excluded { reason, .. } = &listed.outcome {
            *counts.entry(exclusion_reason(reason).into()).or_insert(0) += 1;
        }
    }
    counts
        .into_iter()
        .map(|(reason, count)| proto::ExclusionCount { reason, count })
        .collect()
}

fn exclusion(listed: &Listed) -> Option<proto::Exclusion> {
    let Outcome::Excluded { reason, detail } = &listed.outcome else {
        return None;
    };
    Some(proto::Exclusion {
        event_id: listed.key.event.to_string(),
        passage: listed.key.passage,
        tokens: listed.tokens,
        scores: Some(write_scores(listed.scores)),
        reason: exclusion_reason(reason).into(),
        detail: detail.clone(),
    })
}

fn manifest(pack: &Pack) -> proto::Manifest {
    let (embedder, dense_off_reason, dense_through) = dense_parts(&pack.dense);
    proto::Manifest {
        commit: pack.commit.to_string(),
        commit_number: pack.commit_number,
        policy_hash: pack.policy_hash.clone(),
        tokenizer: pack.tokenizer.clone(),
        analyzer: pack.statistics.analyzer.clone(),
        embedder,
        dense_off_reason,
        dense_through,
        clock: Some(timestamp_to_proto(pack.recipe.clock)),
        passages: pack.statistics.passages,
        total_length: pack.statistics.total_length,
        evidence_root: pack.evidence.clone(),
        within: view_to_proto(&pack.recipe.view),
    }
}

fn dense_parts(dense: &Dense) -> (String, String, u64) {
    match dense {
        Dense::On {
            embedder, through, ..
        } => (embedder.clone(), String::new(), *through),
        Dense::Off { reason } => (String::new(), reason.told().to_owned(), 0),
    }
}

/// Writes a ranking.
pub(crate) fn ranking(ranking: Ranking) -> proto::SearchResponse {
    let (embedder, dense_off_reason, dense_through) = dense_parts(&ranking.dense);
    let items = (1..).zip(&ranking.items);
    proto::SearchResponse {
        commit: ranking.commit.to_string(),
        items: items
            .map(|(rank, (passage, scores))| write_item(rank, passage, *scores))
            .collect(),
        manifest: Some(proto::Manifest {
            commit: ranking.commit.to_string(),
            commit_number: ranking.commit_number,
            policy_hash: ranking.policy_hash,
            tokenizer: ranking.tokenizer,
            analyzer: ranking.statistics.analyzer,
            embedder,
            dense_off_reason,
            dense_through,
            clock: Some(timestamp_to_proto(ranking.clock)),
            passages: ranking.statistics.passages,
            total_length: ranking.statistics.total_length,
            evidence_root: String::new(),
            within: view_to_proto(&ranking.view),
        }),
    }
}

/// Writes what a check of a pack found.
pub(crate) fn verdict(verdict: Verdict) -> proto::VerifyPackResponse {
    let difference = |difference: crate::verify::Difference| proto::Difference {
        path: difference.path,
        given: difference.given,
        expected: difference.expected,
    };
    let conclusion = match verdict.conclusion() {
        Conclusion::Verified => proto::Verdict::Verified,
        Conclusion::Differs => proto::Verdict::Differs,
        Conclusion::Unverifiable => proto::Verdict::Unverifiable,
    };
    proto::VerifyPackResponse {
        verified: conclusion == proto::Verdict::Verified,
        verdict: conclusion.into(),
        unverifiable_reason: verdict.missing.unwrap_or_default(),
        id: verdict.id,
        differences: verdict.differences.into_iter().map(difference).collect(),
        commit: verdict.commit,
        commits_since: verdict.commits_since,
    }
}
