//! The index's messages between wire and domain. Each failure names its field.

use commonplace_proto::index as proto;
use commonplace_rpc::convert::{
    filter_from_proto, project_from_proto, reference_from_proto, timestamp_to_proto,
};
use commonplace_rpc::{View, view_from_proto};
use commonplace_types::{Invalid, RecordId};

use crate::analyzer::ANALYZER;
use crate::budget::TOKENIZER;
use crate::config::VectorStore;
use crate::error::IndexError;
use crate::passages::{Passage, PassageKey};
use crate::projects::Checked;
use crate::projects::Request;
use crate::qdrant::{Findings, key_of};
use crate::search::{Always, Answer, Query, Recorded};
use crate::status::ProjectStatus;

mod candidates;

/// Longest query in bytes.
const QUERY_BYTES: usize = 8_192;
/// Most of the best by a signal.
const SIGNAL_LIMIT: u32 = 1_000;
/// Most that are reported although they may not be used.
const INELIGIBLE_LIMIT: u32 = 100;
/// Most records or tags to be included in any case.
const ALWAYS_NAMES: u32 = 1_000;
/// Most candidates of an earlier search.
const MOST_RECORDED: usize = 1_500;
/// Most passages or points that a check names of each kind.
const MOST_NAMED: usize = 100;
/// Most passages fetched at once.
const MOST_KEYS: usize = 1_000;

/// `view`: what the caller may see.
pub(crate) fn request_from_proto(
    request: proto::SearchRequest,
    view: View,
) -> Result<Request, IndexError> {
    if request.query.len() > QUERY_BYTES {
        let found = request.query.len();
        let problem = format!("expected at most {QUERY_BYTES} bytes, found {found}");
        return Err(Invalid::new("query", problem).into());
    }
    let view = match view_from_proto(request.within)? {
        View::Whole => view,
        asked if view.covers(&asked) => asked,
        _ => return Err(IndexError::BeyondView),
    };
    let always = request.always_include.unwrap_or_default();
    Ok(Request {
        project: project_from_proto(&request.project)?,
        as_of: reference_from_proto(request.as_of).map_err(|error| error.under("as_of"))?,
        query: Query {
            text: request.query,
            lexical_limit: limit("lexical_limit", request.lexical_limit, SIGNAL_LIMIT)?,
            dense_limit: limit("dense_limit", request.dense_limit, SIGNAL_LIMIT)?,
            view,
            filter: filter_from_proto(request.filter)?,
            always: always_from_proto(always)?,
            ineligible_limit: limit(
                "ineligible_limit",
                request.ineligible_limit,
                INELIGIBLE_LIMIT,
            )?,
            dense_through: request.dense_through,
            without_dense: request.without_dense,
            recorded: recorded_from_proto(request.recorded)?,
            unnamed: request.as_columns,
        },
        wait_for_dense: request.wait_for_dense,
        refuse_building: request.refuse_building,
    })
}

fn limit(field: &str, found: u32, most: u32) -> Result<usize, Invalid> {
    if found <= most {
        return Ok(found as usize);
    }
    Err(Invalid::new(
        field,
        format!("expected 0 to {most}, found {found}"),
    ))
}

fn always_from_proto(always: proto::AlwaysInclude) -> Result<Always, Invalid> {
    let lists = [
        ("record_ids", always.record_ids.len()),
        ("tags", always.tags.len()),
    ];
    for (field, found) in lists {
        limit(
            &format!("always_include.{field}"),
            found as u32,
            ALWAYS_NAMES,
        )?;
    }
    let record = |(place, text): (usize, String)| {
        RecordId::new(text).map_err(|error| {
            Invalid::new(format!("always_include.record_ids[{place}]"), error.problem)
        })
    };
    let records = always.record_ids.into_iter().enumerate().map(record);
    Ok(Always {
        pinned: always.pinned,
        records: records.collect::<Result<_, _>>()?,
        tags: always.tags,
    })
}

fn recorded_from_proto(
    recorded: Option<proto::RecordedCandidates>,
) -> Result<Option<Recorded>, Invalid> {
    let Some(recorded) = recorded else {
        return Ok(None);
    };
    let found = recorded.dense.len() + recorded.ineligible.len();
    if found > MOST_RECORDED {
        let problem = format!("expected at most {MOST_RECORDED} keys, found {found}");
        return Err(Invalid::new("recorded", problem));
    }
    Ok(Some(Recorded {
        dense: passage_keys("recorded.dense", recorded.dense)?,
        ineligible: passage_keys("recorded.ineligible", recorded.ineligible)?,
    }))
}

/// `embedder`: its fingerprint, or why there is none.
pub(crate) fn answer_to_proto(
    answer: Answer,
    as_columns: bool,
    without_dense: bool,
    embedder: Result<&str, &str>,
) -> proto::SearchResponse {
    let dense = match answer.dense_problem {
        None => dense_state(answer.dense_through, without_dense, embedder),
        Some(reason) => proto::DenseState {
            reason,
            off: proto::DenseOff::StoreDown.into(),
            fingerprint: embedder.unwrap_or_default().to_owned(),
            ..Default::default()
        },
    };
    let (candidates, types) = (answer.candidates, answer.artifact_types);
    let (candidates, columns) = if as_columns {
        (Vec::new(), Some(candidates::columns(&candidates, types)))
    } else {
        (candidates::rows(candidates, &types), None)
    };
    let terms = answer.terms.into_iter();
    let terms = terms.map(|term| proto::TermStatistics {
        term: term.term,
        document_frequency: term.document_frequency,
    });
    proto::SearchResponse {
        commit: answer.commit.to_string(),
        commit_number: answer.number,
        statistics: Some(proto::Statistics {
            passages: answer.passages,
            total_length: answer.total_length,
            terms: terms.collect(),
            analyzer: ANALYZER.to_owned(),
        }),
        dense: Some(proto::DenseState {
            recorded: answer.recorded && dense.available,
            ..dense
        }),
        commit_time: Some(timestamp_to_proto(answer.time)),
        candidates,
        columns,
    }
}

fn dense_state(
    through: Option<u64>,
    without_dense: bool,
    embedder: Result<&str, &str>,
) -> proto::DenseState {
    use proto::DenseOff;
    let off = |fingerprint: &str, off: DenseOff, reason: &str| proto::DenseState {
        available: false,
        reason: reason.to_owned(),
        fingerprint: fingerprint.to_owned(),
        off: off.into(),
        ..Default::default()
    };
    match (embedder, through) {
        (_, _) if without_dense => off("", DenseOff::NotAsked, "left out as asked"),
        (Err(reason), _) => off("", DenseOff::NoModel, &with_next_step(reason)),
        (Ok(fingerprint), None) => {
            let reason = "the vectors are still being made";
            off(fingerprint, DenseOff::NotReady, reason)
        }
        (Ok(fingerprint), Some(through)) => proto::DenseState {
            available: true,
            reason: String::new(),
            fingerprint: fingerprint.to_owned(),
            through,
            off: DenseOff::Unspecified.into(),
            recorded: false,
        },
    }
}

fn with_next_step(reason: &str) -> String {
    if reason.contains("com model pull") {
        return reason.to_owned();
    }
    format!("{reason}; fetch the model with `com model pull`")
}

pub(crate) fn keys_from_proto(keys: Vec<proto::PassageKey>) -> Result<Vec<PassageKey>, Invalid> {
    if keys.len() > MOST_KEYS {
        let problem = format!("expected at most {MOST_KEYS} keys, found {}", keys.len());
        return Err(Invalid::new("keys", problem));
    }
    passage_keys("keys", keys)
}

fn passage_keys(field: &str, keys: Vec<proto::PassageKey>) -> Result<Vec<PassageKey>, Invalid> {
    let read = |(place, key): (usize, proto::PassageKey)| {
        let event = key.event_id.parse().map_err(|error: Invalid| {
            Invalid::new(format!("{field}[{place}].event_id"), error.problem)
        })?;
        Ok(PassageKey {
            event,
            passage: key.passage,
        })
    };
    keys.into_iter().enumerate().map(read).collect()
}

pub(crate) fn passage_to_proto(passage: Passage) -> proto::Passage {
    proto::Passage {
        key: Some(proto::PassageKey {
            event_id: passage.key.event.to_string(),
            passage: passage.key.passage,
        }),
        record_id: passage.record,
        artifact_type: passage.artifact_type,
        title: passage.title,
        text: passage.text,
        start: passage.start.into(),
        end: passage.end.into(),
        event_time: Some(timestamp_to_proto(passage.event_time)),
        source: passage.source,
        author: passage.author,
        checksum: passage.checksum,
        tokens: passage.tokens,
    }
}

/// What a check found. `repaired`: whether it was also put right.
pub(crate) fn checked_to_proto(
    project: String,
    checked: Checked,
    repaired: bool,
) -> proto::CheckResponse {
    match checked {
        // Vectors that do not belong to the rows' content are not even loaded.
        Checked::Local(snapshot) => proto::CheckResponse {
            project,
            store: VectorStore::Local.as_str().to_owned(),
            commits: snapshot.progress.dense,
            expected: snapshot.vectors.len() as u64,
            found: snapshot.vectors.len() as u64,
            ..Default::default()
        },
        Checked::Store(findings) => findings_to_proto(project, &findings, repaired),
    }
}

fn findings_to_proto(project: String, findings: &Findings, repaired: bool) -> proto::CheckResponse {
    let keys = |rows: &[u32]| {
        let key = |row: &u32| {
            let key = key_of(&findings.snapshot, *row);
            proto::PassageKey {
                event_id: key.event.to_string(),
                passage: key.passage,
            }
        };
        rows.iter().take(MOST_NAMED).map(key).collect()
    };
    let extra = findings.extra.iter().take(MOST_NAMED);
    proto::CheckResponse {
        project,
        store: VectorStore::Qdrant.as_str().to_owned(),
        commits: findings.commits,
        expected: findings.expected,
        found: findings.found,
        expected_digest: findings.expected_digest.clone(),
        found_digest: findings.found_digest.clone(),
        missing: keys(&findings.missing),
        different: keys(&findings.different),
        extra: extra.map(|id| id.text()).collect(),
        missing_count: findings.missing.len() as u64,
        different_count: findings.different.len() as u64,
        extra_count: findings.extra.len() as u64,
        first_commit: findings.first_commit(),
        repaired,
    }
}

/// Without what tells how much there is, for whoever may see parts of it.
pub(crate) fn without_sizes(status: ProjectStatus) -> ProjectStatus {
    ProjectStatus {
        passages: 0,
        vectors: 0,
        size_bytes: 0,
        digest: String::new(),
        ..status
    }
}

pub(crate) fn status_to_proto(status: ProjectStatus) -> proto::ProjectIndex {
    let store = match status.store {
        None => proto::VectorStore {
            kind: VectorStore::Local.as_str().to_owned(),
            commit: status.dense_commits.saturating_sub(1),
            commits: status.dense_commits,
            state: "serving".to_owned(),
            collection: String::new(),
        },
        Some(store) => proto::VectorStore {
            kind: VectorStore::Qdrant.as_str().to_owned(),
            commit: store.commits.saturating_sub(1),
            commits: store.commits,
            state: store.state,
            collection: store.collection,
        },
    };
    proto::ProjectIndex {
        project: status.project.to_string(),
        lexical_commit: status.lexical_commits.saturating_sub(1),
        dense_commit: status.dense_commits.saturating_sub(1),
        journal_commit: status.journal_commits.saturating_sub(1),
        passages: status.passages,
        vectors: status.vectors,
        size_bytes: status.size_bytes,
        digest: status.digest,
        state: status.state,
        vectors_in: Some(store),
    }
}

/// How all projects together are doing.
pub(crate) fn statuses_to_proto(
    statuses: Vec<ProjectStatus>,
    embedder: Result<&str, &str>,
) -> proto::GetStatusResponse {
    let through = statuses.iter().map(|status| status.dense_commits).min();
    let through = through.unwrap_or(0).saturating_sub(1);
    proto::GetStatusResponse {
        projects: statuses.into_iter().map(status_to_proto).collect(),
        tokenizer: TOKENIZER.to_owned(),
        analyzer: ANALYZER.to_owned(),
        dense: Some(dense_state(Some(through), false, embedder)),
    }
}
