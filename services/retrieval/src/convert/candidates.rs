//! What the index found, from either form in which it answers.

use std::sync::Arc;

use commonplace_proto::index as proto;
use commonplace_rpc::convert::timestamp_from_proto;
use commonplace_types::{EventId, Invalid, Timestamp};

use super::index::key;
use crate::candidate::{Candidate, Eligibility, ONE, PassageKey};

/// Reads columns, where there are some, or rows. Error: the field that is not as it should be.
pub(super) fn candidates(
    rows: Vec<proto::Candidate>,
    columns: Option<proto::CandidateColumns>,
) -> Result<Vec<Candidate>, Invalid> {
    match columns {
        Some(columns) => from_columns(columns),
        None => rows.into_iter().map(from_row).collect(),
    }
}

fn from_row(raw: proto::Candidate) -> Result<Candidate, Invalid> {
    let time = raw.event_time.unwrap_or_default();
    let mut content = [0; 16];
    hex::decode_to_slice(&raw.content, &mut content)
        .map_err(|_| Invalid::new("candidates.content", "expected 32 hex digits"))?;
    Ok(Candidate {
        key: key(raw.key)?,
        record: raw.record_id,
        artifact_type: raw.artifact_type.into(),
        event_time: timestamp_from_proto(&time, "candidates.event_time")?,
        importance: (raw.importance.clamp(0.0, 1.0) * f64::from(ONE)).round() as u32,
        pinned: raw.pinned,
        tags: raw.tags,
        lexical_score: raw.lexical_score,
        lexical_rank: raw.lexical_rank,
        dense_score: raw.dense_score,
        dense_rank: raw.dense_rank,
        tokens: raw.tokens,
        content,
        eligibility: eligibility(raw.eligibility),
        always: raw.always,
    })
}

fn eligibility(raw: i32) -> Eligibility {
    match proto::Eligibility::try_from(raw) {
        Ok(proto::Eligibility::Superseded) => Eligibility::Superseded,
        Ok(proto::Eligibility::Filtered) => Eligibility::Filtered,
        _ => Eligibility::Eligible,
    }
}

fn from_columns(raw: proto::CandidateColumns) -> Result<Vec<Candidate>, Invalid> {
    let (ids, []) = raw.event_ids.as_chunks::<16>() else {
        return Err(wrong("event_ids", "expected 16 bytes for each candidate"));
    };
    let (contents, []) = raw.contents.as_chunks::<16>() else {
        return Err(wrong("contents", "expected 16 bytes for each candidate"));
    };
    let lengths = [
        ("passages", raw.passages.len()),
        ("types", raw.types.len()),
        ("event_times", raw.event_times.len()),
        ("importances", raw.importances.len()),
        ("pinned", raw.pinned.len()),
        ("lexical_scores", raw.lexical_scores.len()),
        ("lexical_ranks", raw.lexical_ranks.len()),
        ("dense_scores", raw.dense_scores.len()),
        ("dense_ranks", raw.dense_ranks.len()),
        ("tokens", raw.tokens.len()),
        ("contents", contents.len()),
        ("eligibilities", raw.eligibilities.len()),
        ("always", raw.always.len()),
    ];
    let expected = ids.len();
    if let Some((column, found)) = lengths.into_iter().find(|(_, found)| *found != expected) {
        let problem = format!("expected {expected} entries, as of event_ids, found {found}");
        return Err(wrong(column, problem));
    }
    let types: Vec<Arc<str>> = raw.artifact_types.into_iter().map(Arc::from).collect();
    let candidate = |at: usize| {
        let artifact_type = types.get(raw.types[at] as usize).cloned();
        let dense_score = raw.dense_scores[at];
        Ok(Candidate {
            key: PassageKey {
                event: EventId::from_bytes(ids[at]),
                passage: raw.passages[at],
            },
            record: String::new(),
            artifact_type: artifact_type
                .ok_or_else(|| wrong("types", "expected places in artifact_types"))?,
            event_time: Timestamp::from_micros(raw.event_times[at])
                .map_err(|error| wrong("event_times", error.problem))?,
            importance: raw.importances[at].min(ONE),
            pinned: raw.pinned[at],
            tags: Vec::new(),
            lexical_score: raw.lexical_scores[at],
            lexical_rank: raw.lexical_ranks[at],
            dense_score: (!dense_score.is_nan()).then_some(dense_score),
            dense_rank: raw.dense_ranks[at],
            tokens: raw.tokens[at],
            content: contents[at],
            eligibility: eligibility(raw.eligibilities[at]),
            always: raw.always[at],
        })
    };
    (0..expected).map(candidate).collect()
}

fn wrong(column: &str, problem: impl Into<String>) -> Invalid {
    Invalid::new(format!("columns.{column}"), problem)
}

#[cfg(test)]
mod tests;
