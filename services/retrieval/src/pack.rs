//! The context pack: its bytes, its id, and the file a user keeps.
//!
//! A pack's bytes are canonical JSON (RFC 8785) holding whole numbers and texts only: scores in millionths, moments
//! as RFC 3339 texts. Its id is `blake3:` and the hash of these bytes, so the id stands for every byte. The
//! bytes hold what was asked, what was searched (commit, policy by hash, statistics, embedder, clock), every
//! candidate with its scores and what became of it, and the items with their texts and citations: enough to
//! make the same bytes again. The form is `commonplace.pack/1`; another form gets
//! another name, and so does any change of how packs are made that gives other bytes for the same question.

use std::fmt::Write as _;
use std::sync::Arc;

use commonplace_rpc::{Parts, View};
use commonplace_types::{CommitHash, Timestamp};

use crate::candidate::{Candidate, Dense, Found, Passage, PassageKey, Statistics};
use crate::json::{Object, Writer};
use crate::packing::{Outcome, Packed, Trace};
use crate::ranking::{Ranked, Scores};
use crate::recipe::Recipe;
use crate::rules::{PackingMethod, Policy};
use crate::texts::Wanted;

mod file;
mod read;

pub use file::{PackError, from_file, is_id, to_file};
pub use read::read;

/// Names this form of a pack's bytes.
pub const FORMAT: &str = "commonplace.pack/1";

/// Says that the dense candidates came from a vector store, so that a check scores them again but does not look for
/// others. Left out where they were the outcome of an exact scan, which a check repeats.
const RECORDED: &str = "recorded";

/// Everything in a pack but its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// What was asked.
    pub recipe: Recipe,
    /// The policy's id.
    pub policy: String,
    /// Its version.
    pub policy_version: u64,
    /// The hash of its rules.
    pub policy_hash: String,
    /// The commit searched.
    pub commit: CommitHash,
    /// Its number.
    pub commit_number: u64,
    /// What lexical scores were computed from.
    pub statistics: Statistics,
    /// Whether meanings were compared.
    pub dense: Dense,
    /// What counts tokens.
    pub tokenizer: String,
    /// Every candidate in its total order.
    pub candidates: Vec<Listed>,
    /// The texts, best first.
    pub items: Vec<Item>,
    /// Stands for the items' evidence: [`evidence`].
    pub evidence: String,
    /// Tokens of all items.
    pub used_tokens: u32,
    /// How the budget was filled.
    pub packing: PackingMethod,
    /// How many items each step took.
    pub trace: Trace,
}

/// A candidate as a pack lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which passage.
    pub key: PassageKey,
    /// Tokens of title and text.
    pub tokens: u32,
    /// Its place by words, 0 for none.
    pub lexical_rank: u32,
    /// Its place by meaning, 0 for none.
    pub dense_rank: u32,
    /// Its scores.
    pub scores: Scores,
    /// What became of it.
    pub outcome: Outcome,
}

/// A passage in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its place among the candidates, from 0.
    pub place: usize,
    /// Its text and where it comes from.
    pub passage: Arc<Passage>,
}

/// A candidate chosen for a pack whose text is still to be fetched.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The pack so far; `items` is empty.
    pub pack: Pack,
    /// Places of the chosen candidates, best first.
    pub chosen: Vec<usize>,
    /// The texts that are needed: of each chosen one, in that order.
    pub wanted: Vec<Wanted>,
}

impl Draft {
    /// Notes what was found, ranked and packed.
    pub fn new(
        recipe: Recipe,
        policy: &Policy,
        found: Found,
        ranked: Vec<Ranked>,
        packed: Packed,
        tokenizer: &str,
    ) -> Self {
        let chosen: Vec<usize> = (0..ranked.len())
            .filter(|place| packed.outcomes.get(*place) == Some(&Outcome::Included))
            .collect();
        let wanted = chosen
            .iter()
            .map(|place| Wanted::of(&ranked[*place].candidate))
            .collect();
        let listed = ranked
            .into_iter()
            .zip(packed.outcomes)
            .map(Listed::new)
            .collect();
        let pack = Pack {
            recipe,
            policy: policy.id.clone(),
            policy_version: policy.version,
            policy_hash: policy.hash.clone(),
            commit: found.commit,
            commit_number: found.commit_number,
            statistics: found.statistics,
            dense: found.dense,
            tokenizer: tokenizer.to_owned(),
            candidates: listed,
            items: Vec::new(),
            evidence: String::new(),
            used_tokens: packed.used,
            packing: policy.rules.packing,
            trace: packed.trace,
        };
        Self {
            pack,
            chosen,
            wanted,
        }
    }

    /// The pack. `passages`: in the order of [`Draft::wanted`].
    pub fn finish(mut self, passages: Vec<Arc<Passage>>) -> Pack {
        let items = self.chosen.into_iter().zip(passages);
        self.pack.items = items
            .map(|(place, passage)| Item { place, passage })
            .collect();
        self.pack.evidence = evidence(&self.pack.items);
        self.pack
    }
}

impl Listed {
    fn new((ranked, outcome): (Ranked, Outcome)) -> Self {
        let Ranked { candidate, scores } = ranked;
        let Candidate {
            key,
            tokens,
            lexical_rank,
            dense_rank,
            ..
        } = candidate;
        Self {
            key,
            tokens,
            lexical_rank,
            dense_rank,
            scores,
            outcome,
        }
    }
}

impl Pack {
    /// used / budget in millionths, rounded down.
    pub fn efficiency(&self) -> u64 {
        u64::from(self.used_tokens) * 1_000_000 / u64::from(self.recipe.budget_tokens.max(1))
    }

    /// The pack's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_with(&candidates_bytes(&self.candidates))
    }

    /// The same, with what [`candidates_bytes`] gave.
    pub(crate) fn to_bytes_with(&self, candidates: &[u8]) -> Vec<u8> {
        let texts: usize = self
            .items
            .iter()
            .map(|item| item.passage.text.len() + 600)
            .sum();
        let mut writer = Writer::with_capacity(2_048 + texts * 9 / 8 + candidates.len());
        writer.object(|pack| self.write(pack, candidates));
        writer.into_bytes()
    }

    fn write(&self, pack: &mut Object<'_>, candidates: &[u8]) {
        let recipe = &self.recipe;
        pack.text("analyzer", &self.statistics.analyzer);
        pack.object("budget", |budget| {
            budget.number("efficiency", self.efficiency());
            budget.number("tokens", recipe.budget_tokens);
            budget.number("used", self.used_tokens);
        });
        pack.key("candidates").written(candidates);
        pack.text("clock", &moment(recipe.clock));
        pack.object("commit", |commit| {
            commit.key("hash").hex("", self.commit.as_bytes());
            commit.number("number", self.commit_number);
        });
        pack.object("dense", |dense| write_dense(dense, &self.dense));
        pack.text("evidence", &self.evidence);
        pack.text("format", FORMAT);
        pack.key("items").list(&self.items, |writer, item| {
            writer.object(|object| write_passage(object, &item.passage));
        });
        pack.object("packing", |packing| {
            packing.number("always", self.trace.always);
            packing.number("chosen", self.trace.chosen);
            packing.number("filled", self.trace.filled);
            packing.text("method", self.packing.as_str());
            packing.number("pool", self.trace.pool);
            packing.number("step", self.trace.step);
        });
        pack.object("policy", |policy| {
            policy.text("hash", &self.policy_hash);
            policy.text("id", &self.policy);
            policy.number("version", self.policy_version);
        });
        pack.text("project", recipe.project.as_str());
        pack.object("request", |request| write_request(request, recipe));
        pack.object("statistics", |statistics| {
            write_statistics(statistics, &self.statistics)
        });
        pack.text("tokenizer", &self.tokenizer);
        if let View::Parts(parts) = &recipe.view {
            pack.object("within", |within| write_parts(within, parts));
        }
    }
}

/// The list of candidates as it stands in a pack's bytes: most of a pack, and there before the texts are.
pub(crate) fn candidates_bytes(candidates: &[Listed]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(2 + candidates.len() * 280);
    writer.list(candidates, |writer, listed| {
        writer.object(|object| write_listed(object, listed));
    });
    writer.into_bytes()
}

/// BLAKE3 over the items: of each, in order, a line `EVENT#PASSAGE START-END CHECKSUM` ended by a line feed.
/// Stands for the evidence, whatever the scores.
pub fn evidence(items: &[Item]) -> String {
    let mut lines = String::with_capacity(items.len() * 140);
    for item in items {
        let Passage {
            key,
            start,
            end,
            checksum,
            ..
        } = &*item.passage;
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            "{}#{} {start}-{end} {checksum}",
            key.event, key.passage
        );
    }
    format!("blake3:{}", blake3::hash(lines.as_bytes()).to_hex())
}

/// The id of a pack with these bytes: `blake3:` and 64 hex digits.
pub fn id(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

fn write_parts(within: &mut Object<'_>, parts: &Parts) {
    within
        .key("artifact_types")
        .list(&parts.artifact_types, |writer, kind| {
            writer.text(kind.as_str())
        });
    within
        .key("authors")
        .list(&parts.authors, |writer, name| writer.text(name));
}

fn moment(time: Timestamp) -> String {
    time.to_string()
}

/// Scores and ranks of 0 are left out.
fn write_listed(object: &mut Object<'_>, listed: &Listed) {
    let unless_zero = |object: &mut Object<'_>, key, number: u32| {
        if number > 0 {
            object.number(key, number);
        }
    };
    let scores = &listed.scores;
    unless_zero(object, "dense", scores.dense);
    unless_zero(object, "dense_rank", listed.dense_rank);
    if let Outcome::Excluded { detail, .. } = &listed.outcome {
        object.text("detail", detail);
    }
    object.key("event").hex("ev_", listed.key.event.as_bytes());
    unless_zero(object, "importance", scores.importance);
    unless_zero(object, "lexical", scores.lexical);
    unless_zero(object, "lexical_rank", listed.lexical_rank);
    object.text("outcome", outcome_word(&listed.outcome));
    object.number("passage", listed.key.passage);
    unless_zero(object, "pin", scores.pin);
    unless_zero(object, "recency", scores.recency);
    object.number("tokens", listed.tokens);
    object.number("total", scores.total);
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Included => "included",
        Outcome::Excluded { reason, .. } => reason.as_str(),
    }
}

fn write_dense(object: &mut Object<'_>, dense: &Dense) {
    match dense {
        Dense::On {
            embedder,
            through,
            recorded,
        } => {
            if *recorded {
                object.text("candidates", RECORDED);
            }
            object.text("embedder", embedder);
            object.number("through", *through);
        }
        Dense::Off { reason } => object.text("off", reason.as_str()),
    }
}

fn write_passage(object: &mut Object<'_>, passage: &Passage) {
    object.text("author", &passage.author);
    object.text("checksum", &passage.checksum);
    object.number("end", passage.end);
    object.key("event").hex("ev_", passage.key.event.as_bytes());
    object.text("event_time", &moment(passage.event_time));
    object.number("passage", passage.key.passage);
    object.text("record", &passage.record);
    object.text("source", &passage.source);
    object.number("start", passage.start);
    object.text("text", &passage.text);
    object.text("title", &passage.title);
    object.number("tokens", passage.tokens);
    object.text("type", &passage.artifact_type);
}

fn write_request(object: &mut Object<'_>, recipe: &Recipe) {
    object.object("filter", |filter| write_filter(filter, recipe));
    if let Some(fusion) = recipe.fusion {
        object.text("fusion", fusion.as_str());
    }
    object.text("query", &recipe.query);
    object.text("task", &recipe.task);
}

/// Conditions that are not set are left out.
fn write_filter(object: &mut Object<'_>, recipe: &Recipe) {
    let filter = &recipe.filter;
    let texts = |object: &mut Object<'_>, key, texts: &[String]| {
        if !texts.is_empty() {
            object.texts(key, texts);
        }
    };
    texts(object, "agents", &filter.agents);
    let types: Vec<String> = filter
        .artifact_types
        .iter()
        .map(ToString::to_string)
        .collect();
    texts(object, "artifact_types", &types);
    if !filter.attributes.is_empty() {
        object
            .key("attributes")
            .list(&filter.attributes, |writer, attribute| {
                writer.object(|object| {
                    object.text("key", &attribute.key);
                    object.text("value", &attribute.value);
                });
            });
    }
    if !filter.correlation_id.is_empty() {
        object.text("correlation_id", &filter.correlation_id);
    }
    if let Some(time) = filter.from_time {
        object.text("from_time", &moment(time));
    }
    if let Some(least) = filter.min_importance {
        object.number("min_importance", least.millionths());
    }
    if filter.pinned_only {
        object.key("pinned_only").flag(true);
    }
    let records: Vec<String> = filter.record_ids.iter().map(ToString::to_string).collect();
    texts(object, "record_ids", &records);
    texts(object, "sources", &filter.sources);
    texts(object, "tags_any", &filter.tags_any);
    if let Some(time) = filter.to_time {
        object.text("to_time", &moment(time));
    }
}

fn write_statistics(object: &mut Object<'_>, statistics: &Statistics) {
    object.number("passages", statistics.passages);
    object
        .key("terms")
        .list(&statistics.terms, |writer, (term, frequency)| {
            writer.object(|object| {
                object.number("df", *frequency);
                object.text("term", term);
            });
        });
    object.number("total_length", statistics.total_length);
}

#[cfg(test)]
mod tests;
