//! Finds the best passages at a commit by each signal, exactly and in one total order.
//!
//! Equal questions at equal commits get equal answers, whatever was appended since, however the index came
//! to its state, and however the work was shared: scores do not depend on the layout, equal scores are
//! ordered by event id and passage, and vectors count by whole commits.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_rpc::convert::Filter;
use commonplace_rpc::{Parts, View};
use commonplace_types::{CommitHash, RecordId, Timestamp};

use crate::analyzer;
use crate::best::Scored;
use crate::engine::{Engine, Snapshot};
use crate::helper::Helper;
use crate::lexical::{self, LexicalError, LexicalScores, Scratch, TermStatistics};
use crate::parts;
use crate::passages::PassageKey;
use crate::qdrant::{Outside, OutsideScan, Unranked};
use crate::ranking::{Place, Ranked, Ranking};
use crate::vectors::{QueryVector, RUN};

mod candidates;

pub use candidates::{Candidate, Eligibility};

/// Most passages that `always_include` adds.
pub const MOST_ALWAYS: usize = 100;

/// The smallest score above 0: a row without any of the words is not found by words.
const LEAST_BY_WORDS: f64 = f64::from_bits(1);

/// Fewer vectors than this are scanned by one thread.
const WORTH_SHARING: usize = 32_768;

/// Vectors that a thread takes at once: whole runs, and whole words of the sets of rows.
const BLOCK: usize = 8 * RUN;

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// The words.
    pub text: String,
    /// How many of the best by words; 0 leaves the signal out.
    pub lexical_limit: usize,
    /// How many of the best by meaning; 0 leaves the signal out.
    pub dense_limit: usize,
    /// What may be seen at all.
    pub view: View,
    /// Which events are eligible.
    pub filter: Filter,
    /// What is a candidate in any case.
    pub always: Always,
    /// How many of the best that are not eligible to report.
    pub ineligible_limit: usize,
    /// Count only vectors of commits up to this number.
    pub dense_through: Option<u64>,
    /// Leave the dense signal out.
    pub without_dense: bool,
    /// The candidates of an earlier search, in place of the best by meaning.
    pub recorded: Option<Recorded>,
    /// Leave records and tags out: who ranks needs neither, and each is a string to make.
    pub unnamed: bool,
}

/// The candidates of an earlier search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// Those that were among the best by meaning.
    pub dense: Vec<PassageKey>,
    /// Those that no signal ranked.
    pub ineligible: Vec<PassageKey>,
}

/// What is a candidate in any case, even if the filter does not take it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Always {
    /// Pinned events.
    pub pinned: bool,
    /// Events about these records.
    pub records: Vec<RecordId>,
    /// Events with any of these tags.
    pub tags: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The commit that was searched.
    pub commit: CommitHash,
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub time: Timestamp,
    /// Live passages at the commit.
    pub passages: u64,
    /// Sum of their lengths in terms.
    pub total_length: u64,
    /// In the order in which they were scored.
    pub terms: Vec<TermStatistics>,
    /// Vectors of commits up to this number count; none when no commit has all its vectors yet.
    pub dense_through: Option<u64>,
    /// Why nothing was compared by meaning although vectors are there.
    pub dense_problem: Option<String>,
    /// The candidates by meaning came from a vector store, or were given.
    pub recorded: bool,
    /// The kinds of artifact that occur, each once.
    pub artifact_types: Vec<String>,
    /// Ordered by event id, then passage.
    pub candidates: Vec<Candidate>,
}

/// What searches share: memory to work in and a thread that takes half of a long scan.
#[derive(Default)]
pub(crate) struct Tools {
    scratches: Mutex<Vec<Scratch>>,
    helper: Option<Helper>,
}

impl Tools {
    /// `helps`: whether long scans are shared with a second thread.
    pub(crate) fn new(helps: bool) -> Self {
        Self {
            scratches: Mutex::default(),
            helper: helps.then(Helper::start).flatten(),
        }
    }

    fn with_scratch<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let scratches = || {
            self.scratches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let taken = scratches().pop();
        let mut scratch = taken.unwrap_or_default();
        let result = work(&mut scratch);
        scratches().push(scratch);
        result
    }
}

/// Searches a commit that the snapshot holds. `vector`: that of the query, absent when meaning is not asked
/// for or cannot be had.
pub(crate) fn search(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    number: u32,
    query: &Query,
    vector: Option<QueryVector>,
    tools: &Tools,
) -> Result<Answer, LexicalError> {
    let lengths = engine
        .views()
        .lengths(&snapshot.state, snapshot.state.rows.len() as u32);
    let place = place_of(engine, snapshot, number, query, &lengths).map_err(unreadable)?;
    let place = Arc::new(place);
    let through = through(&place, query);
    let dense = vector.zip(through).map(|(vector, through)| Dense {
        rows: snapshot.state.commits.at(through as usize).rows as usize,
        vector,
    });
    let by_meaning = dense.as_ref().map(|dense| {
        let span = tracing::info_span!("search dense", commonplace.vectors = dense.rows);
        let scan = span.in_scope(|| dense.begin(&place, query, tools, engine.outside()));
        (span, scan)
    });
    let terms = analyzer::terms(&query.text);
    tools.with_scratch(|scratch| {
        let rows = lexical::Rows {
            visible: &place.view.visible,
            live: &place.view.live,
            lengths: &lengths,
            statistics: lexical::Statistics {
                rows: place.view.passages,
                total_length: place.view.total_length,
            },
        };
        let words = tracing::info_span!("search lexical").entered();
        let scores = snapshot.words.score(&terms, rows, scratch)?;
        let by_words = best_by_words(&place, query, &scores);
        drop(words);
        let scanned = by_meaning
            .map(|(span, scan)| span.in_scope(|| scan.and_then(Scan::finish)))
            .transpose();
        let (by_meaning, dense, problem) = match scanned {
            Ok(ranked) => (ranked.unwrap_or_default(), dense, None),
            Err(Unranked::Store(reason)) => (Ranked::default(), None, Some(reason)),
            Err(Unranked::Disk(error)) => return Err(unreadable(error)),
        };
        let picks = candidates::pick(&place, query, &by_words, &by_meaning);
        let meaning = dense.as_ref().map(|dense| Meaning::new(dense, &by_meaning));
        let meaning = meaning.as_ref();
        let found = candidates::candidates(&place, picks, &scores, meaning, query.unnamed);
        let mut answer = answer(&place, &scores, through, found.map_err(unreadable)?);
        answer.dense_problem = problem;
        answer.recorded = engine.outside().is_some() || query.recorded.is_some();
        Ok(answer)
    })
}

/// Vectors that cannot be read are like words that cannot: the folder is built again.
fn unreadable(error: std::io::Error) -> LexicalError {
    LexicalError::Corrupt {
        problem: format!("vectors cannot be read: {error}"),
    }
}

fn place_of(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    number: u32,
    query: &Query,
    lengths: &[u32],
) -> std::io::Result<Place> {
    let state = &snapshot.state;
    let view = engine.views().at(state, number);
    let eligible = engine.views().taken(state, &view, &query.filter);
    let whole = Place {
        snapshot: Arc::clone(snapshot),
        view,
        eligible,
    };
    match &query.view {
        View::Whole => Ok(whole),
        View::Parts(parts) => place_within(engine, whole, parts, lengths),
    }
}

/// What is left of a place for whoever may see parts of the project.
fn place_within(
    engine: &Engine,
    whole: Place,
    parts: &Arc<Parts>,
    lengths: &[u32],
) -> std::io::Result<Place> {
    let rows = engine.parts().rows(&whole.snapshot, parts)?;
    let mut eligible = (*whole.eligible).clone();
    eligible.and(&rows);
    Ok(Place {
        view: Arc::new(parts::within(&whole.view, &rows, lengths)),
        eligible: Arc::new(eligible),
        snapshot: whole.snapshot,
    })
}

fn best_by_words(place: &Place, query: &Query, scores: &LexicalScores<'_>) -> Ranked {
    if query.lexical_limit == 0 {
        return Ranked::default();
    }
    let limits = (query.lexical_limit, query.ineligible_limit);
    let mut ranking = Ranking::new(place, limits.0, limits.1, LEAST_BY_WORDS);
    match scores.in_order() {
        Some(scores) => ranking.offer_run(0, scores),
        None => scores
            .iter()
            .for_each(|(row, score)| ranking.offer(row, score)),
    }
    ranking.finish()
}

/// The last commit whose vectors count: one that has them all, that the searched commit can see, and that is
/// not beyond what the query wants. None: no commit has them all.
fn through(place: &Place, query: &Query) -> Option<u64> {
    let last = place.snapshot.progress.dense.checked_sub(1)?;
    let wanted = query.dense_through.unwrap_or(u64::MAX);
    Some(last.min(place.view.number.into()).min(wanted))
}

/// The dense side of one search.
struct Dense {
    vector: QueryVector,
    /// Rows below this number count.
    rows: usize,
}

impl Dense {
    /// Starts the scan: a long one is shared with the helper, if that is free, and a vector store proposes
    /// the best of what it holds.
    fn begin(
        &self,
        place: &Arc<Place>,
        query: &Query,
        tools: &Tools,
        outside: Option<&Arc<Outside>>,
    ) -> Result<Scan, Unranked> {
        if let Some(recorded) = &query.recorded {
            return Ok(Scan::Done(self.recorded(place, query, recorded)?));
        }
        let limits = (query.dense_limit, query.ineligible_limit);
        // The store knows no authors, and would propose what may not be seen: parts are scanned.
        let outside = outside.filter(|_| query.view == View::Whole);
        let from = outside.map_or(0, |_| Outside::part(&place.snapshot, self.rows));
        let asked = outside.filter(|_| from > 0);
        let asked = asked
            .map(|outside| outside.ask(place, &self.vector, &query.filter, limits, from))
            .transpose()?;
        let own = ScanShare {
            place: Arc::clone(place),
            vector: self.vector.clone(),
            limits,
            from,
            rows: self.rows,
            next: Arc::new(AtomicUsize::new(from)),
        };
        let long = self.rows - from >= WORTH_SHARING;
        let helper = tools.helper.as_ref().filter(|_| long);
        let other = helper.and_then(|helper| {
            let share = own.clone();
            helper.try_run(move || share.run())
        });
        Ok(Scan::Running {
            own: Box::new(own),
            other,
            asked: asked.map(Box::new),
        })
    }

    /// Ranks the candidates of an earlier search. What could not have been one is left out.
    fn recorded(
        &self,
        place: &Place,
        query: &Query,
        recorded: &Recorded,
    ) -> Result<Ranked, Unranked> {
        let rows = recorded.dense.iter().filter_map(|key| place.row_of(*key));
        let rows: BTreeSet<u32> = rows.collect();
        let mut ranking = Ranking::new(place, query.dense_limit, 0, f64::NEG_INFINITY);
        for row in rows {
            if let Some(score) = self.score(place, row)? {
                ranking.offer(row, score);
            }
        }
        Ok(ranking.finish())
    }

    fn score(&self, place: &Place, row: u32) -> std::io::Result<Option<f64>> {
        if row as usize >= self.rows {
            return Ok(None);
        }
        place.snapshot.vectors.score(row, &self.vector)
    }
}

/// Scores by meaning: those that ranking has found, and the others, whose vectors lie anywhere in memory.
struct Meaning<'a> {
    dense: &'a Dense,
    /// By row.
    ranked: Vec<Scored>,
}

impl<'a> Meaning<'a> {
    fn new(dense: &'a Dense, found: &Ranked) -> Self {
        let mut ranked = [&found.eligible[..], &found.ineligible[..]].concat();
        ranked.sort_unstable_by_key(|scored| scored.row);
        Self { dense, ranked }
    }

    fn score(&self, place: &Place, row: u32) -> std::io::Result<Option<f64>> {
        match self.ranked.binary_search_by_key(&row, |scored| scored.row) {
            Ok(found) => Ok(Some(self.ranked[found].score)),
            Err(_) => self.dense.score(place, row),
        }
    }
}

/// A scan under way, or what came of it.
enum Scan {
    Done(Ranked),
    Running {
        own: Box<ScanShare>,
        other: Option<Receiver<std::io::Result<Ranked>>>,
        asked: Option<Box<OutsideScan>>,
    },
}

impl Scan {
    fn finish(self) -> Result<Ranked, Unranked> {
        let (own, other, asked) = match self {
            Self::Done(ranked) => return Ok(ranked),
            Self::Running { own, other, asked } => (own, other, asked),
        };
        let mut ranked = own.run()?;
        if let Some(other) = other {
            ranked = match other.recv() {
                Ok(other) => other?.joined(ranked, &own.place, own.limits),
                // The helper broke off with some of the rows: this thread goes over all of them.
                Err(_) => own.again().run()?,
            };
        }
        match asked {
            None => Ok(ranked),
            Some(asked) => asked.finish(&own.place, &own.vector, &ranked),
        }
    }
}

/// What one thread does of a scan: block after block, as long as there is one that nobody has taken. So
/// threads that start late or are slow hold up nobody; the outcome is the same however blocks fall.
#[derive(Clone)]
struct ScanShare {
    place: Arc<Place>,
    vector: QueryVector,
    limits: (usize, usize),
    /// Rows from this number on, a multiple of 64, are compared,
    from: usize,
    /// and those below this one.
    rows: usize,
    /// Where the next block starts.
    next: Arc<AtomicUsize>,
}

impl ScanShare {
    fn run(&self) -> std::io::Result<Ranked> {
        let (eligible, ineligible) = self.limits;
        let mut ranking = Ranking::new(&self.place, eligible, ineligible, f64::NEG_INFINITY);
        let vectors = &self.place.snapshot.vectors;
        loop {
            let from = self.next.fetch_add(BLOCK, Relaxed);
            if from >= self.rows {
                return Ok(ranking.finish());
            }
            let block = from..self.rows.min(from + BLOCK);
            if from < vectors.held_from() {
                let shelved = from..block.end.min(vectors.held_from());
                vectors.scan_shelf(&self.vector, shelved, |row, score| {
                    ranking.offer(row, score)
                })?;
            }
            vectors.scan(&self.vector, block, |run| {
                ranking.offer_bounded(run.first, run.highest, |from, wanted, scores| {
                    run.scores(from, wanted, scores);
                });
            });
        }
    }

    /// All of it once more.
    fn again(&self) -> Self {
        Self {
            next: Arc::new(AtomicUsize::new(self.from)),
            ..self.clone()
        }
    }
}

fn answer(
    place: &Place,
    scores: &LexicalScores<'_>,
    dense_through: Option<u64>,
    (candidates, artifact_types): (Vec<Candidate>, Vec<String>),
) -> Answer {
    let commit = place.snapshot.state.commits.at(place.view.number as usize);
    Answer {
        commit: commit.hash,
        number: place.view.number.into(),
        time: moment(commit.time),
        passages: place.view.passages,
        total_length: place.view.total_length,
        terms: scores.terms().to_vec(),
        dense_through,
        dense_problem: None,
        recorded: false,
        artifact_types,
        candidates,
    }
}

/// Stored times come from the journal and lie within bounds.
pub(crate) fn moment(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
