//! Reads a pack back from its bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use commonplace_rpc::convert::Filter;
use commonplace_rpc::{Parts, View};
use commonplace_types::{
    ArtifactType, Attribute, CommitHash, EventId, Importance, ProjectName, RecordId, Timestamp,
};
use serde::Deserialize;
use serde::de::Error as _;

use super::{FORMAT, Item, Listed, Pack};
use crate::candidate::{Dense, Off, Passage, PassageKey, Statistics};
use crate::packing::{Outcome, Reason, Trace};
use crate::ranking::Scores;
use crate::recipe::Recipe;
use crate::rules::{FusionMethod, PackingMethod};

/// Reads a pack's bytes. Error: what is not as a pack of this form is, with its line and column.
///
/// Whether what is computed from the rest (efficiency, evidence) is right is not checked: making the bytes
/// anew shows it.
pub fn read(bytes: &[u8]) -> Result<Pack, serde_json::Error> {
    let raw: RawPack = serde_json::from_slice(bytes)?;
    if raw.format != FORMAT {
        return Err(serde_json::Error::custom(format!(
            "`format`: expected `{FORMAT}`, found `{}`",
            raw.format.escape_debug()
        )));
    }
    raw.finish()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPack {
    analyzer: String,
    budget: RawBudget,
    candidates: Vec<RawListed>,
    clock: Moment,
    commit: RawCommit,
    dense: RawDense,
    evidence: String,
    format: String,
    items: Vec<RawItem>,
    packing: RawPacking,
    policy: RawPolicy,
    project: ProjectName,
    request: RawRequest,
    statistics: RawStatistics,
    tokenizer: String,
    within: Option<RawParts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParts {
    artifact_types: BTreeSet<ArtifactType>,
    authors: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    #[serde(rename = "efficiency")]
    _efficiency: u64,
    tokens: u32,
    used: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListed {
    #[serde(default)]
    dense: u32,
    #[serde(default)]
    dense_rank: u32,
    detail: Option<String>,
    event: EventId,
    #[serde(default)]
    importance: u32,
    #[serde(default)]
    lexical: u32,
    #[serde(default)]
    lexical_rank: u32,
    outcome: String,
    passage: u32,
    #[serde(default)]
    pin: u32,
    #[serde(default)]
    recency: u32,
    tokens: u32,
    total: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommit {
    hash: CommitHash,
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDense {
    candidates: Option<String>,
    embedder: Option<String>,
    through: Option<u64>,
    off: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    author: String,
    checksum: String,
    end: u64,
    event: EventId,
    event_time: Moment,
    passage: u32,
    record: String,
    source: String,
    start: u64,
    text: String,
    title: String,
    tokens: u32,
    #[serde(rename = "type")]
    artifact_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPacking {
    always: u32,
    chosen: u32,
    filled: u32,
    method: String,
    pool: u32,
    step: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    hash: String,
    id: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    filter: RawFilter,
    fusion: Option<String>,
    query: String,
    task: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct RawFilter {
    agents: Vec<String>,
    artifact_types: Vec<ArtifactType>,
    attributes: Vec<RawAttribute>,
    correlation_id: String,
    from_time: Option<Moment>,
    min_importance: Option<u32>,
    pinned_only: bool,
    record_ids: Vec<RecordId>,
    sources: Vec<String>,
    tags_any: Vec<String>,
    to_time: Option<Moment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttribute {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatistics {
    passages: u64,
    terms: Vec<RawTerm>,
    total_length: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTerm {
    df: u64,
    term: String,
}

/// A moment written as RFC 3339.
#[derive(Clone, Copy)]
struct Moment(Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl RawPack {
    fn finish(self) -> Result<Pack, serde_json::Error> {
        let candidates: Vec<Listed> = self
            .candidates
            .into_iter()
            .map(RawListed::finish)
            .collect::<Result<_, _>>()?;
        let included =
            (0..candidates.len()).filter(|p| candidates[*p].outcome == Outcome::Included);
        let places: Vec<usize> = included.collect();
        if places.len() != self.items.len() {
            let problem = format!(
                "`items`: expected {} as the candidates say, found {}",
                places.len(),
                self.items.len()
            );
            return Err(serde_json::Error::custom(problem));
        }
        let items = places
            .into_iter()
            .zip(self.items)
            .map(|(place, raw)| raw.finish(place))
            .collect();
        let packing = match self.packing.method.as_str() {
            "greedy" => PackingMethod::Greedy,
            "knapsack" => PackingMethod::Knapsack,
            _ => return Err(unknown("packing.method", &self.packing.method)),
        };
        let fusion = match &self.request.fusion {
            Some(word) => {
                Some(FusionMethod::parse(word).ok_or_else(|| unknown("request.fusion", word))?)
            }
            None => None,
        };
        Ok(Pack {
            recipe: Recipe {
                project: self.project,
                task: self.request.task,
                query: self.request.query,
                budget_tokens: self.budget.tokens,
                fusion,
                filter: self.request.filter.finish()?,
                clock: self.clock.0,
                view: self.within.map_or(View::Whole, RawParts::finish),
            },
            policy: self.policy.id,
            policy_version: self.policy.version,
            policy_hash: self.policy.hash,
            commit: self.commit.hash,
            commit_number: self.commit.number,
            statistics: Statistics {
                passages: self.statistics.passages,
                total_length: self.statistics.total_length,
                terms: self
                    .statistics
                    .terms
                    .into_iter()
                    .map(|raw| (raw.term, raw.df))
                    .collect(),
                analyzer: self.analyzer,
            },
            dense: self.dense.finish()?,
            tokenizer: self.tokenizer,
            candidates,
            items,
            evidence: self.evidence,
            used_tokens: self.budget.used,
            packing,
            trace: Trace {
                always: self.packing.always,
                pool: self.packing.pool,
                chosen: self.packing.chosen,
                filled: self.packing.filled,
                step: self.packing.step,
            },
        })
    }
}

impl RawParts {
    fn finish(self) -> View {
        View::Parts(Arc::new(Parts {
            artifact_types: self.artifact_types,
            authors: self.authors,
        }))
    }
}

impl RawListed {
    fn finish(self) -> Result<Listed, serde_json::Error> {
        let outcome = match (self.outcome.as_str(), self.detail) {
            ("included", None) => Outcome::Included,
            (word, Some(detail)) => Outcome::Excluded {
                reason: Reason::parse(word).ok_or_else(|| unknown("candidates.outcome", word))?,
                detail,
            },
            (word, None) => return Err(unknown("candidates.outcome", word)),
        };
        Ok(Listed {
            key: PassageKey {
                event: self.event,
                passage: self.passage,
            },
            tokens: self.tokens,
            lexical_rank: self.lexical_rank,
            dense_rank: self.dense_rank,
            scores: Scores {
                total: self.total,
                lexical: self.lexical,
                dense: self.dense,
                recency: self.recency,
                importance: self.importance,
                pin: self.pin,
            },
            outcome,
        })
    }
}

impl RawDense {
    fn finish(self) -> Result<Dense, serde_json::Error> {
        let recorded = match self.candidates.as_deref() {
            None => false,
            Some(super::RECORDED) => true,
            Some(other) => return Err(unknown("dense.candidates", other)),
        };
        match (self.embedder, self.through, self.off) {
            (Some(embedder), Some(through), None) => Ok(Dense::On {
                embedder,
                through,
                recorded,
            }),
            (None, None, Some(word)) if !recorded => {
                let reason = Off::parse(&word).ok_or_else(|| unknown("dense.off", &word))?;
                Ok(Dense::Off { reason })
            }
            _ => Err(serde_json::Error::custom(
                "`dense`: expected `embedder` and `through`, or `off` alone",
            )),
        }
    }
}

impl RawItem {
    fn finish(self, place: usize) -> Item {
        let passage = Passage {
            key: PassageKey {
                event: self.event,
                passage: self.passage,
            },
            record: self.record,
            artifact_type: self.artifact_type,
            title: self.title,
            text: self.text,
            start: self.start,
            end: self.end,
            event_time: self.event_time.0,
            source: self.source,
            author: self.author,
            checksum: self.checksum,
            tokens: self.tokens,
        };
        Item {
            place,
            passage: Arc::new(passage),
        }
    }
}

impl RawFilter {
    fn finish(self) -> Result<Filter, serde_json::Error> {
        let least = self
            .min_importance
            .map(|least| Importance::new(f64::from(least) / 1e6));
        let filter = Filter {
            artifact_types: self.artifact_types,
            tags_any: self.tags_any,
            agents: self.agents,
            sources: self.sources,
            record_ids: self.record_ids,
            from_time: self.from_time.map(|moment| moment.0),
            to_time: self.to_time.map(|moment| moment.0),
            min_importance: least.transpose().map_err(serde_json::Error::custom)?,
            pinned_only: self.pinned_only,
            attributes: self
                .attributes
                .into_iter()
                .map(|raw| Attribute::new(raw.key, raw.value))
                .collect(),
            correlation_id: self.correlation_id,
        };
        // Requests are put into this form when they come in; no pack was ever made from another.
        filter.checked_form().map_err(|error| {
            serde_json::Error::custom(format!(
                "`request.filter.{}`: {}",
                error.field, error.problem
            ))
        })?;
        Ok(filter)
    }
}

fn unknown(key: &str, word: &str) -> serde_json::Error {
    serde_json::Error::custom(format!("`{key}`: `{}` is not known", word.escape_debug()))
}
