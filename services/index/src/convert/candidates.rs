//! Candidates on the wire: one message each, with all that is known, or as columns, with what ranking needs.
//!
//! A search finds some hundreds of them, and as messages they are half a dozen strings each: to make, carry and read
//! those took a quarter of what a whole retrieval takes.

use commonplace_proto::index as proto;
use commonplace_rpc::convert::timestamp_to_proto;

use crate::search::{Candidate, Eligibility};

/// `types`: the kinds of artifact that candidates number.
pub(super) fn rows(candidates: Vec<Candidate>, types: &[String]) -> Vec<proto::Candidate> {
    let row = |candidate: Candidate| proto::Candidate {
        key: Some(proto::PassageKey {
            event_id: candidate.event.to_string(),
            passage: candidate.passage,
        }),
        record_id: candidate.record,
        artifact_type: types
            .get(candidate.artifact_type as usize)
            .cloned()
            .unwrap_or_default(),
        event_time: Some(timestamp_to_proto(candidate.event_time)),
        importance: candidate.importance.value(),
        pinned: candidate.pinned,
        tags: candidate.tags,
        lexical_score: candidate.lexical_score,
        lexical_rank: candidate.lexical_rank,
        dense_score: candidate.dense_score,
        dense_rank: candidate.dense_rank,
        tokens: candidate.tokens,
        content: hex::encode(candidate.content),
        eligibility: eligibility(candidate.eligibility).into(),
        always: candidate.always,
    };
    candidates.into_iter().map(row).collect()
}

/// `types`: the kinds of artifact that candidates number.
pub(super) fn columns(candidates: &[Candidate], types: Vec<String>) -> proto::CandidateColumns {
    fn column<T>(candidates: &[Candidate], of: impl Fn(&Candidate) -> T) -> Vec<T> {
        candidates.iter().map(of).collect()
    }
    fn bytes(candidates: &[Candidate], of: impl Fn(&Candidate) -> &[u8; 16]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(candidates.len() * 16);
        for candidate in candidates {
            bytes.extend_from_slice(of(candidate));
        }
        bytes
    }
    let all = candidates;
    proto::CandidateColumns {
        event_ids: bytes(all, |c| c.event.as_bytes()).into(),
        passages: column(all, |c| c.passage),
        artifact_types: types,
        types: column(all, |c| c.artifact_type),
        event_times: column(all, |c| c.event_time.as_micros()),
        importances: column(all, |c| c.importance.millionths()),
        pinned: column(all, |c| c.pinned),
        lexical_scores: column(all, |c| c.lexical_score),
        lexical_ranks: column(all, |c| c.lexical_rank),
        dense_scores: column(all, |c| c.dense_score.unwrap_or(f64::NAN)),
        dense_ranks: column(all, |c| c.dense_rank),
        tokens: column(all, |c| c.tokens),
        contents: bytes(all, |c| &c.content).into(),
        eligibilities: column(all, |c| eligibility(c.eligibility).into()),
        always: column(all, |c| c.always),
    }
}

fn eligibility(eligibility: Eligibility) -> proto::Eligibility {
    match eligibility {
        Eligibility::Eligible => proto::Eligibility::Eligible,
        Eligibility::Superseded => proto::Eligibility::Superseded,
        Eligibility::Filtered => proto::Eligibility::Filtered,
    }
}
