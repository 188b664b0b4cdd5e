//! Searches over random histories against the plainest reading of what they should find.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use commonplace_types::{ArtifactType, Attribute, EventId, Importance};

use super::*;
use crate::bitmap::Bitmap;
use crate::lexical::{Lexical, Statistics};
use crate::testing::{Dice, History, WordVectors};
use crate::vectors::Embedder;
use crate::{analyzer, passage};

type Key = (EventId, u32);

fn open(folder: &Path) -> Engine {
    Engine::open(folder, Some(&WordVectors), 1, usize::MAX).unwrap()
}

fn embed_all(engine: &Engine) {
    loop {
        let (first, contents, texts) = engine.without_vector(7);
        if texts.is_empty() {
            return;
        }
        let codes = texts.iter().map(|text| WordVectors.embed(text));
        let made: Vec<_> = contents.into_iter().zip(codes).collect();
        engine.add_vectors(first, &made);
    }
}

fn ask(engine: &Engine, number: usize, query: &Query, tools: &Tools) -> Answer {
    let by_meaning = query.dense_limit > 0 && !query.without_dense;
    let vector = by_meaning.then(|| QueryVector::new(WordVectors.embed(&query.text)));
    search(
        engine,
        &engine.snapshot(),
        number as u32,
        query,
        vector,
        tools,
    )
    .unwrap()
}

fn random_query(dice: &mut Dice) -> Query {
    let mut query = Query {
        text: dice.words(5),
        lexical_limit: [0, 3, 20][dice.roll(3)],
        dense_limit: [0, 3, 20][dice.roll(3)],
        ineligible_limit: [0, 2, 100][dice.roll(3)],
        ..Query::default()
    };
    if dice.roll(2) == 0 {
        let filter = &mut query.filter;
        match dice.roll(9) {
            0 => filter.artifact_types = vec![ArtifactType::new("bug").unwrap()],
            1 => filter.tags_any = vec!["none".into(), "slow".into()],
            2 => filter.agents = vec!["ann".into()],
            3 => filter.sources = vec!["git".into(), "junit".into()],
            4 => filter.record_ids = vec![RecordId::new("record:1").unwrap()],
            5 => {
                filter.from_time = Some(Timestamp::from_micros(10_000_000).unwrap());
                filter.to_time = Some(Timestamp::from_micros(40_000_000).unwrap());
            }
            6 => filter.min_importance = Some(Importance::new(0.6).unwrap()),
            7 => filter.attributes = vec![Attribute::new("verdict", "failed")],
            _ => {
                filter.correlation_id = "run-1".into();
                filter.pinned_only = dice.roll(2) == 0;
            }
        }
    }
    if dice.roll(2) == 0 {
        query.view = random_parts(dice);
    }
    if dice.roll(3) == 0 {
        query.always.pinned = true;
        query.always.tags = vec!["slow".into()];
        query.always.records = vec![RecordId::new("record:2").unwrap()];
    }
    query
}

fn random_parts(dice: &mut Dice) -> View {
    let types = [&["bug"][..], &["bug", "decision"], &[], &["none"]][dice.roll(4)];
    let authors = [&["carla"][..], &[], &["dan", "nobody"]][dice.roll(3)];
    View::Parts(Arc::new(Parts {
        artifact_types: types
            .iter()
            .map(|name| ArtifactType::new(*name).unwrap())
            .collect(),
        authors: authors.iter().map(|name| (*name).to_owned()).collect(),
    }))
}

/// The plain reading of a commit: its passages, and what each signal makes of them.
struct Plain {
    passages: Vec<Plainly>,
    statistics: Statistics,
}

struct Plainly {
    key: Key,
    live: bool,
    takes: bool,
    always: bool,
    lexical: f64,
    dense: f64,
}

fn read_plainly(history: &History, commit: usize, query: &Query) -> Plain {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    let vector = WordVectors.embed(&query.text);
    let (mut passages, mut lengths, mut live_rows) = (Vec::new(), Vec::new(), Bitmap::new());
    for (event, live) in history.found(commit) {
        let draft = &event.draft;
        if !query
            .view
            .shows(draft.artifact_type.as_str(), &draft.author)
        {
            // For whoever may not see it, it is as if it were not there.
            continue;
        }
        let split = passage::split(draft.artifact_type.as_str(), &draft.text);
        for (number, range) in split.into_iter().enumerate() {
            let row = passages.len() as u32;
            let text = &draft.text[range];
            let terms = analyzer::passage_terms(&draft.title, text);
            lexical.add(row, &terms).unwrap();
            lengths.push(terms.len() as u32);
            if live {
                live_rows.set(row);
            }
            passages.push(Plainly {
                key: (event.id, number as u32),
                live,
                takes: takes(&query.filter, &event),
                always: live && always_names(&query.always, &event),
                lexical: 0.0,
                dense: cosine(
                    &vector,
                    &WordVectors.embed(&format!("{}\n{text}", draft.title)),
                ),
            });
        }
    }
    let statistics = Statistics::of(&live_rows, &lengths);
    let rows = lexical::Rows {
        visible: &Bitmap::full(passages.len() as u32),
        live: &live_rows,
        lengths: &lengths,
        statistics,
    };
    let (snapshot, mut scratch) = (lexical.snapshot(), Scratch::default());
    let scores = snapshot
        .score(&analyzer::terms(&query.text), rows, &mut scratch)
        .unwrap();
    for (row, score) in scores.iter() {
        passages[row as usize].lexical = score;
    }
    Plain {
        passages,
        statistics,
    }
}

fn cosine(a: &[i8], b: &[i8]) -> f64 {
    let dot = |a: &[i8], b: &[i8]| -> i64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| i64::from(a) * i64::from(b))
            .sum()
    };
    let inverse = |v: &[i8]| match dot(v, v) {
        0 => 0.0,
        square => 1.0 / (square as f64).sqrt(),
    };
    dot(a, b) as f64 * inverse(a) * inverse(b)
}

fn takes(filter: &Filter, event: &commonplace_types::Event) -> bool {
    let draft = &event.draft;
    let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|v| v == value);
    (filter.artifact_types.is_empty() || filter.artifact_types.contains(&draft.artifact_type))
        && (filter.tags_any.is_empty() || filter.tags_any.iter().any(|t| draft.tags.contains(t)))
        && any(&filter.agents, &draft.agent)
        && any(&filter.sources, &draft.source)
        && (filter.record_ids.is_empty() || filter.record_ids.contains(&event.record_id))
        && filter
            .from_time
            .is_none_or(|from| event.event_time() >= from)
        && filter.to_time.is_none_or(|to| event.event_time() < to)
        && filter
            .min_importance
            .is_none_or(|least| draft.importance >= least)
        && (draft.pinned || !filter.pinned_only)
        && filter
            .attributes
            .iter()
            .all(|a| draft.attributes.contains(a))
        && (filter.correlation_id.is_empty() || filter.correlation_id == draft.correlation_id)
}

fn always_names(always: &Always, event: &commonplace_types::Event) -> bool {
    (always.pinned && event.draft.pinned)
        || always.records.contains(&event.record_id)
        || always.tags.iter().any(|tag| event.draft.tags.contains(tag))
}

/// The keys of the best, best first.
fn best(passages: &[&Plainly], score: fn(&Plainly) -> f64, limit: usize) -> Vec<Key> {
    let mut sorted = passages.to_vec();
    sorted.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.key.cmp(&b.key)));
    sorted
        .iter()
        .take(limit)
        .map(|passage| passage.key)
        .collect()
}

fn check(answer: &Answer, plain: &Plain, query: &Query) {
    assert_eq!(answer.passages, plain.statistics.rows);
    assert_eq!(answer.total_length, plain.statistics.total_length);
    let (usable, other): (Vec<_>, Vec<_>) = plain
        .passages
        .iter()
        .partition(|passage| passage.live && passage.takes);
    let with_words: Vec<&Plainly> = usable.iter().copied().filter(|p| p.lexical > 0.0).collect();
    let by_words = best(&with_words, |p| p.lexical, query.lexical_limit);
    let by_meaning = best(&usable, |p| p.dense, query.dense_limit);
    let plainly: BTreeMap<Key, &Plainly> = plain.passages.iter().map(|p| (p.key, p)).collect();
    let keys: Vec<Key> = answer
        .candidates
        .iter()
        .map(|c| (c.event, c.passage))
        .collect();
    assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len());
    let ranked = |rank: fn(&Candidate) -> u32| {
        let mut found: Vec<_> = answer.candidates.iter().filter(|c| rank(c) > 0).collect();
        found.sort_by_key(|candidate| rank(candidate));
        found
            .iter()
            .map(|c| (c.event, c.passage))
            .collect::<Vec<Key>>()
    };
    assert_eq!(ranked(|c| c.lexical_rank), by_words);
    assert_eq!(ranked(|c| c.dense_rank), by_meaning);
    for candidate in &answer.candidates {
        let plain = plainly[&(candidate.event, candidate.passage)];
        assert_eq!(candidate.lexical_score, plain.lexical);
        let dense = (query.dense_limit > 0).then_some(plain.dense);
        assert_eq!(candidate.dense_score, dense);
        assert_eq!(candidate.always, plain.always);
        let expected = match (plain.live, plain.takes) {
            (false, _) => Eligibility::Superseded,
            (true, false) if !plain.always => Eligibility::Filtered,
            _ => Eligibility::Eligible,
        };
        assert_eq!(candidate.eligibility, expected);
    }
    let named = plain
        .passages
        .iter()
        .filter(|passage| passage.always)
        .count();
    let found = answer
        .candidates
        .iter()
        .filter(|candidate| candidate.always)
        .count();
    assert_eq!(found, named.min(MOST_ALWAYS));
    check_ineligible(answer, &other, query);
}

/// Of those that may not be used, the best of each signal come first.
fn check_ineligible(answer: &Answer, other: &[&Plainly], query: &Query) {
    let reported: BTreeSet<Key> = answer
        .candidates
        .iter()
        .filter(|candidate| candidate.eligibility != Eligibility::Eligible)
        .map(|candidate| (candidate.event, candidate.passage))
        .collect();
    assert!(reported.len() <= query.ineligible_limit);
    let open: Vec<&Plainly> = other
        .iter()
        .copied()
        .filter(|passage| !passage.always)
        .collect();
    let with_words: Vec<&Plainly> = open.iter().copied().filter(|p| p.lexical > 0.0).collect();
    let mut expected = BTreeSet::new();
    if query.lexical_limit > 0 {
        expected.extend(best(&with_words, |p| p.lexical, query.ineligible_limit));
    }
    if query.dense_limit > 0 {
        expected.extend(best(&open, |p| p.dense, query.ineligible_limit));
    }
    if expected.len() <= query.ineligible_limit && query.always == Always::default() {
        assert_eq!(reported, expected);
    } else {
        assert!(reported.is_subset(&expected) || query.always != Always::default());
    }
}

#[test]
fn random_histories_are_searched_as_they_read() {
    let tools = Tools::new(true);
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let history = History::random(&mut dice, 40);
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(folder.path());
        let mut taken = 0;
        while taken < history.frames.len() {
            let next = (taken + 1 + dice.roll(5)).min(history.frames.len());
            engine.apply(&history.frames[taken..next]).unwrap();
            taken = next;
            match dice.roll(6) {
                0 => engine.flush().unwrap(),
                1 => {
                    // A restart without a flush takes the feed up again from the last index commit.
                    drop(engine);
                    engine = open(folder.path());
                    taken = engine.snapshot().progress.commits as usize;
                    continue;
                }
                _ => {}
            }
            embed_all(&engine);
            for commit in [taken - 1, dice.roll(taken)] {
                let query = random_query(&mut dice);
                let answer = ask(&engine, commit, &query, &tools);
                assert_eq!(answer.commit, history.frames[commit].hash);
                check(&answer, &read_plainly(&history, commit, &query), &query);
            }
        }
    }
}
