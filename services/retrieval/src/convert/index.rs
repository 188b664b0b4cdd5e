//! Questions to the index and its answers.

use std::sync::Arc;

use commonplace_proto::index as proto;
use commonplace_rpc::convert::{filter_to_proto, reference_to_proto, timestamp_from_proto};
use commonplace_rpc::view_to_proto;
use commonplace_types::{Invalid, ProjectName};

use super::candidates::candidates;
use crate::candidate::{Dense, Found, Off, Passage, PassageKey, Statistics};
use crate::plan::{DenseWish, Plan};

/// Writes a plan.
pub(crate) fn index_search(plan: &Plan) -> proto::SearchRequest {
    let (dense_through, without_dense, wait_for_dense) = match &plan.dense {
        DenseWish::Newest { wait } => (None, false, *wait),
        // The vectors that were compared then must be there again now.
        DenseWish::Recorded {
            dense: Dense::On { through, .. },
            ..
        } => (Some(*through), false, true),
        DenseWish::Recorded {
            dense: Dense::Off { .. },
            ..
        } => (None, true, false),
    };
    proto::SearchRequest {
        project: plan.project.to_string(),
        as_of: Some(reference_to_proto(&plan.as_of)),
        query: plan.query.clone(),
        lexical_limit: plan.lexical_limit,
        dense_limit: plan.dense_limit,
        filter: Some(filter_to_proto(&plan.filter)),
        always_include: Some(proto::AlwaysInclude {
            pinned: plan.always_pinned,
            record_ids: plan.always_records.clone(),
            tags: plan.always_tags.clone(),
        }),
        ineligible_limit: plan.ineligible_limit,
        dense_through,
        without_dense,
        wait_for_dense,
        recorded: recorded(&plan.dense),
        refuse_building: false,
        within: view_to_proto(&plan.view),
        as_columns: !plan.named,
    }
}

/// The candidates to score again, where they cannot be found again.
fn recorded(wish: &DenseWish) -> Option<proto::RecordedCandidates> {
    let DenseWish::Recorded {
        dense: Dense::On { recorded: true, .. },
        candidates,
    } = wish
    else {
        return None;
    };
    Some(proto::RecordedCandidates {
        dense: candidates.dense.iter().map(key_to_proto).collect(),
        ineligible: candidates.unranked.iter().map(key_to_proto).collect(),
    })
}

/// Reads the answer to a plan.
pub(crate) fn found(answer: proto::SearchResponse, plan: &Plan) -> Result<Found, Invalid> {
    let statistics = answer.statistics.unwrap_or_default();
    let candidates = candidates(answer.candidates, answer.columns)?;
    Ok(Found {
        commit: answer
            .commit
            .parse()
            .map_err(|error: Invalid| error.under("commit"))?,
        commit_number: answer.commit_number,
        statistics: Statistics {
            passages: statistics.passages,
            total_length: statistics.total_length,
            terms: statistics
                .terms
                .into_iter()
                .map(|term| (term.term, term.document_frequency))
                .collect(),
            analyzer: statistics.analyzer,
        },
        dense: dense(answer.dense.unwrap_or_default(), plan),
        candidates,
    })
}

fn dense(state: proto::DenseState, plan: &Plan) -> Dense {
    if plan.dense_weightless {
        return Dense::Off {
            reason: Off::NoWeight,
        };
    }
    match &plan.dense {
        // It has weight: whoever records otherwise is shown so.
        DenseWish::Recorded {
            dense: Dense::Off { reason },
            ..
        } if *reason != Off::NoWeight => {
            return Dense::Off { reason: *reason };
        }
        _ => {}
    }
    if state.available {
        return Dense::On {
            embedder: state.fingerprint,
            through: state.through,
            recorded: state.recorded,
        };
    }
    Dense::Off {
        reason: match state.off() {
            proto::DenseOff::NoModel => Off::NoModel,
            proto::DenseOff::StoreDown => Off::StoreDown,
            _ => Off::NotReady,
        },
    }
}

pub(super) fn key(raw: Option<proto::PassageKey>) -> Result<PassageKey, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("key", "expected a passage, found none"))?;
    let event = raw
        .event_id
        .parse()
        .map_err(|error: Invalid| error.under("key"))?;
    Ok(PassageKey {
        event,
        passage: raw.passage,
    })
}

/// Writes which passages are wanted.
pub(crate) fn passage_request(
    project: &ProjectName,
    keys: &[PassageKey],
) -> proto::GetPassagesRequest {
    proto::GetPassagesRequest {
        project: project.to_string(),
        keys: keys.iter().map(key_to_proto).collect(),
        refuse_building: false,
    }
}

fn key_to_proto(key: &PassageKey) -> proto::PassageKey {
    proto::PassageKey {
        event_id: key.event.to_string(),
        passage: key.passage,
    }
}

/// Reads passages. Error: not those that were asked for.
pub(crate) fn passages(
    answer: proto::GetPassagesResponse,
    keys: &[PassageKey],
) -> Result<Vec<Arc<Passage>>, Invalid> {
    let passages = answer
        .passages
        .into_iter()
        .map(|raw| passage(raw).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    if passages.iter().map(|passage| &passage.key).eq(keys) {
        return Ok(passages);
    }
    Err(Invalid::new(
        "passages",
        "expected those asked for, in their order",
    ))
}

fn passage(raw: proto::Passage) -> Result<Passage, Invalid> {
    let time = raw.event_time.unwrap_or_default();
    Ok(Passage {
        key: key(raw.key)?,
        record: raw.record_id,
        artifact_type: raw.artifact_type,
        title: raw.title,
        text: raw.text,
        start: raw.start,
        end: raw.end,
        event_time: timestamp_from_proto(&time, "passages.event_time")?,
        source: raw.source,
        author: raw.author,
        checksum: raw.checksum,
        tokens: raw.tokens,
    })
}
