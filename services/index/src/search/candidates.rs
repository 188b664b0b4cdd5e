//! What a search answers with: every row that some signal or rule picked, with all that is known of it.

use std::collections::BTreeMap;

use commonplace_types::{EventId, Importance, Timestamp};

use super::{Meaning, Query, Recorded, moment};
use crate::always;
use crate::lexical::LexicalScores;
use crate::ranking::{Place, Ranked};

/// Whether a passage may be used, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
    /// It may.
    Eligible,
    /// A visible event supersedes its event.
    Superseded,
    /// The filter does not take it.
    Filtered,
}

/// A passage with all its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The event.
    pub event: EventId,
    /// Which of its passages, from 0.
    pub passage: u32,
    /// What the event is about; empty when unnamed.
    pub record: String,
    /// What kind of thing it holds: which of [`super::Answer::artifact_types`].
    pub artifact_type: u32,
    /// When it happened.
    pub event_time: Timestamp,
    /// How much it matters.
    pub importance: Importance,
    /// Always a candidate if the policy says so.
    pub pinned: bool,
    /// Sorted; empty when unnamed.
    pub tags: Vec<String>,
    /// 0 when no term matches.
    pub lexical_score: f64,
    /// From 1; 0 when not among the best by words.
    pub lexical_rank: u32,
    /// Absent when the passage has no vector that counts.
    pub dense_score: Option<f64>,
    /// From 1; 0 when not among the best by meaning.
    pub dense_rank: u32,
    /// Of title and text, by the budget tokenizer.
    pub tokens: u32,
    /// Names title and text.
    pub content: [u8; 16],
    /// Whether it may be used.
    pub eligibility: Eligibility,
    /// Admitted by `always`.
    pub always: bool,
}

/// Why a row is a candidate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pick {
    lexical_rank: u32,
    dense_rank: u32,
    always: bool,
    ineligible: bool,
}

/// Every row that is a candidate, with the reasons.
pub(super) fn pick(
    place: &Place,
    query: &Query,
    by_words: &Ranked,
    by_meaning: &Ranked,
) -> BTreeMap<u32, Pick> {
    let mut picks: BTreeMap<u32, Pick> = BTreeMap::new();
    for (rank, scored) in (1..).zip(&by_words.eligible) {
        picks.entry(scored.row).or_default().lexical_rank = rank;
    }
    for (rank, scored) in (1..).zip(&by_meaning.eligible) {
        picks.entry(scored.row).or_default().dense_rank = rank;
    }
    for row in always::rows(place, &query.always) {
        picks.entry(row).or_default().always = true;
    }
    if let Some(recorded) = &query.recorded {
        pick_recorded(place, recorded, &mut picks);
        return picks;
    }
    let ranked = [&by_words.ineligible, &by_meaning.ineligible];
    let mut ineligible: Vec<(usize, u32)> = ranked
        .iter()
        .flat_map(|list| list.iter().enumerate())
        .map(|(rank, scored)| (rank, scored.row))
        .filter(|(_, row)| !picks.contains_key(row))
        .collect();
    ineligible.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| place.tie(a.1, b.1)));
    let mut taken = 0;
    for (_, row) in ineligible {
        if taken == query.ineligible_limit {
            break;
        }
        let fresh = picks.insert(
            row,
            Pick {
                ineligible: true,
                ..Pick::default()
            },
        );
        taken += usize::from(fresh.is_none());
    }
    picks
}

/// Adds what an earlier search reported although it may not be used.
fn pick_recorded(place: &Place, recorded: &Recorded, picks: &mut BTreeMap<u32, Pick>) {
    let rows = recorded
        .ineligible
        .iter()
        .filter_map(|key| place.row_of(*key));
    for row in rows {
        if place.view.visible.get(row) && !place.eligible.get(row) {
            picks.entry(row).or_insert(Pick {
                ineligible: true,
                ..Pick::default()
            });
        }
    }
}

/// What is known of those picked, ordered by event id, then passage, and the kinds of artifact that occur among
/// them, each once. `unnamed`: without records and tags.
pub(super) fn candidates(
    place: &Place,
    picks: BTreeMap<u32, Pick>,
    scores: &LexicalScores<'_>,
    meaning: Option<&Meaning<'_>>,
    unnamed: bool,
) -> std::io::Result<(Vec<Candidate>, Vec<String>)> {
    let key = |row: u32| {
        let (event, passage) = place.event_of(row);
        (place.snapshot.state.events.at(event).id, passage)
    };
    // Each key is looked up once: it lies far from its neighbours' in memory.
    let picks = picks.into_iter();
    let mut picks: Vec<_> = picks.map(|(row, pick)| (key(row), row, pick)).collect();
    picks.sort_unstable_by_key(|(key, _, _)| *key);
    let mut types = Types::default();
    let mut candidates = Vec::with_capacity(picks.len());
    for (_, row, pick) in picks {
        let dense_score = match meaning {
            Some(meaning) => meaning.score(place, row)?,
            None => None,
        };
        let scores = (scores.get(row), dense_score);
        candidates.push(candidate(place, row, pick, scores, &mut types, unnamed));
    }
    let state = &place.snapshot.state;
    let names = types
        .0
        .iter()
        .map(|&number| state.string(number).to_owned());
    Ok((candidates, names.collect()))
}

/// The numbers of the kinds of artifact that have occurred so far, in that order. They are few.
#[derive(Default)]
struct Types(Vec<u32>);

impl Types {
    fn place_of(&mut self, number: u32) -> u32 {
        let known = self.0.iter().position(|&known| known == number);
        let place = known.unwrap_or_else(|| {
            self.0.push(number);
            self.0.len() - 1
        });
        place as u32
    }
}

fn candidate(
    place: &Place,
    row: u32,
    pick: Pick,
    (lexical_score, dense_score): (f64, Option<f64>),
    types: &mut Types,
    unnamed: bool,
) -> Candidate {
    let state = &place.snapshot.state;
    let (number, passage) = place.event_of(row);
    let (facts, event) = (state.facts.at(number), state.events.at(number));
    let stored = state.rows.at(row as usize);
    let eligibility = match (pick.ineligible, place.view.live.get(row)) {
        (false, _) => Eligibility::Eligible,
        (true, true) => Eligibility::Filtered,
        (true, false) => Eligibility::Superseded,
    };
    let (record, tags) = if unnamed {
        (String::new(), Vec::new())
    } else {
        let tags = state.tags_of(event).map(|tag| state.string(tag).to_owned());
        (state.record_name(event), tags.collect())
    };
    Candidate {
        event: event.id,
        passage,
        record,
        artifact_type: types.place_of(facts.kind),
        event_time: moment(facts.time),
        importance: Importance::from_millionths(facts.importance).unwrap_or_default(),
        pinned: facts.pinned,
        tags,
        lexical_score,
        lexical_rank: pick.lexical_rank,
        dense_score,
        dense_rank: pick.dense_rank,
        tokens: stored.tokens,
        content: stored.content,
        eligibility,
        always: pick.always,
    }
}
