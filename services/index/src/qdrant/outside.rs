//! One search's use of the store: what it is asked, and how its proposals become a ranking of ours.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::convert::Question;
use super::point::{Owner, PointId, key_of, rows_stored, touched};
use super::store::{Hit, Standing, Store, StoreError};
use crate::best::Scored;
use crate::engine::Snapshot;
use crate::ranking::{Place, Ranked, Ranking};
use crate::vectors::QueryVector;

/// How far the store's score of unit vectors may lie from the cosine: 384 products of 24-bit floats, added in any
/// order, are off by less than 384 · 2⁻²⁴ of the lengths' product, which is 1, and rounding the inputs adds 2⁻²³.
/// Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
const SCORE_ERROR: f64 = 3e-5;
/// How much more is asked for when it was not enough.
const WIDER: u32 = 4;

/// Why there is no ranking by meaning.
#[derive(Debug)]
pub(crate) enum Unranked {
    /// The store is down; what the caller is told.
    Store(String),
    /// A vector cannot be read.
    Disk(io::Error),
}

impl From<io::Error> for Unranked {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// The store, as far as one project is concerned.
pub(crate) struct Outside {
    pub(crate) store: Arc<Store>,
    pub(crate) owner: Owner,
    /// Why the last write did not succeed, if it did not.
    problem: Mutex<Option<String>>,
}

impl Outside {
    pub(crate) fn new(store: Arc<Store>, owner: Owner) -> Self {
        Self {
            store,
            owner,
            problem: Mutex::default(),
        }
    }

    /// Notes why a write did not succeed, or that it did.
    pub(crate) fn note(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// `serving`, or why it is not.
    pub(crate) fn state(&self) -> String {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.store.standing(), problem.as_ref()) {
            (Standing::Down { reason }, _) => reason,
            (Standing::Up { .. }, Some(problem)) => problem.clone(),
            (Standing::Up { .. }, None) => "serving".to_owned(),
        }
    }

    /// Rows below this number, a multiple of 64, are the store's part of a search over `rows`; the others are
    /// scanned here.
    pub(crate) fn part(snapshot: &Snapshot, rows: usize) -> usize {
        rows_stored(snapshot, snapshot.progress.stored).min(rows) & !63
    }

    /// Asks for the best of the first `part` rows. `limits`: how many that may be used, how many others. Error: the
    /// store is not to be asked now.
    pub(crate) fn ask(
        self: &Arc<Self>,
        place: &Place,
        vector: &QueryVector,
        filter: &commonplace_rpc::convert::Filter,
        limits: (usize, usize),
        part: usize,
    ) -> Result<OutsideScan, Unranked> {
        match self.store.epoch() {
            None => return Err(Unranked::Store("the vector store cannot be reached".into())),
            Some(epoch) if epoch != place.snapshot.progress.checked => {
                let reason = "the vector store came up a moment ago and is being compared";
                return Err(Unranked::Store(reason.into()));
            }
            Some(_) => {}
        }
        let options = &self.store.options;
        let question = |eligible, limit: usize| Question {
            owner: self.owner.clone(),
            vector: vector.unit(),
            visible: place.view.intervals.clone(),
            rows_below: part,
            filter: filter.clone(),
            eligible,
            limit: (limit as u32 + options.margin).min(options.most_candidates.max(1)),
            exact: options.exact,
        };
        let wanted = [(true, limits.0), (false, limits.1)];
        let wanted = wanted.into_iter().filter(|(_, limit)| *limit > 0);
        let questions: Vec<Question> = wanted
            .map(|(eligible, limit)| question(eligible, limit))
            .collect();
        Ok(OutsideScan {
            answer: self.send(&questions),
            outside: Arc::clone(self),
            questions,
            limits,
            part,
        })
    }

    /// Asks on the runtime, so that this thread can go on. The answer comes within the time of a read for each address.
    fn send(self: &Arc<Self>, questions: &[Question]) -> Answer {
        let (done, answer) = oneshot::channel();
        let (outside, questions) = (Arc::clone(self), questions.to_vec());
        self.store.runtime().spawn(async move {
            // The one who asked may have gone.
            let _ = done.send(outside.store.nearest(&questions).await);
        });
        answer
    }
}

type Answer = oneshot::Receiver<Result<Vec<Vec<Hit>>, StoreError>>;

/// A question to the store under way.
pub(crate) struct OutsideScan {
    outside: Arc<Outside>,
    questions: Vec<Question>,
    limits: (usize, usize),
    part: usize,
    answer: Answer,
}

impl OutsideScan {
    /// The best rows, those of `tail` included: what the store proposed, and what changed since the store was told,
    /// each scored here. Blocks.
    pub(crate) fn finish(
        mut self,
        place: &Place,
        vector: &QueryVector,
        tail: &Ranked,
    ) -> Result<Ranked, Unranked> {
        let score = |row: u32| -> io::Result<Option<Scored>> {
            let score = place.snapshot.vectors.score(row, vector)?;
            Ok(score.map(|score| Scored { row, score }))
        };
        let mut seen: BTreeSet<u32> = self.changed(&place.snapshot).into_iter().collect();
        let mut scored = Vec::new();
        for &row in &seen {
            scored.extend(score(row)?);
        }
        loop {
            let lists = self.receive()?;
            for hit in lists.iter().flatten() {
                if self.is_real(place, hit) && seen.insert(hit.row) {
                    scored.extend(score(hit.row)?);
                }
            }
            let ranked = self.rank(place, tail, &scored);
            if !self.widen(&lists, &ranked) {
                return Ok(ranked);
            }
            self.answer = self.outside.send(&self.questions);
        }
    }

    fn receive(&mut self) -> Result<Vec<Vec<Hit>>, Unranked> {
        let down = |problem: String| {
            tracing::warn!(problem, "the vector store did not answer a search");
            Unranked::Store("the vector store cannot be reached".into())
        };
        let answer = futures::executor::block_on(&mut self.answer);
        let answer = answer.map_err(|_| down("the call was dropped".into()))?;
        let lists = answer.map_err(|error| down(error.to_string()))?;
        if lists.len() != self.questions.len() {
            return Err(down(format!(
                "{} answers to {} questions",
                lists.len(),
                self.questions.len()
            )));
        }
        Ok(lists)
    }

    /// Rows of the store's part whose visibility may have changed since it was told.
    fn changed(&self, snapshot: &Snapshot) -> Vec<u32> {
        let state = &snapshot.state;
        let events = touched(
            snapshot,
            snapshot.progress.stored,
            state.commits.len() as u64,
        );
        let rows = events.into_iter().flat_map(|event| {
            let facts = state.facts.at(event as usize);
            facts.first_row..facts.first_row + u32::from(facts.rows)
        });
        rows.filter(|row| (*row as usize) < self.part).collect()
    }

    /// Whether a hit is a point that belongs there.
    fn is_real(&self, place: &Place, hit: &Hit) -> bool {
        (hit.row as usize) < self.part
            && PointId::of(&self.outside.owner, key_of(&place.snapshot, hit.row)) == hit.id
    }

    fn rank(&self, place: &Place, tail: &Ranked, scored: &[Scored]) -> Ranked {
        let mut ranking = Ranking::new(place, self.limits.0, self.limits.1, f64::NEG_INFINITY);
        let others = tail.eligible.iter().chain(&tail.ineligible);
        others
            .chain(scored)
            .for_each(|scored| ranking.offer(scored.row, scored.score));
        ranking.finish()
    }

    /// Asks for more where a row that was not proposed might belong in a ranking. False: there is nowhere to, or no
    /// more can be asked for.
    fn widen(&mut self, lists: &[Vec<Hit>], ranked: &Ranked) -> bool {
        let options = &self.outside.store.options;
        let (most, exact) = (options.most_candidates.max(1), options.exact);
        let mut wider = false;
        for (question, hits) in self.questions.iter_mut().zip(lists) {
            let (list, limit) = match question.eligible {
                true => (&ranked.eligible, self.limits.0),
                false => (&ranked.ineligible, self.limits.1),
            };
            let exhausted = hits.len() < question.limit as usize;
            let floor = hits
                .last()
                .map_or(f64::NEG_INFINITY, |hit| f64::from(hit.score));
            let settled = list.len() >= limit
                && list
                    .last()
                    .is_none_or(|worst| worst.score > floor + SCORE_ERROR);
            if exact && !exhausted && !settled && question.limit < most {
                question.limit = question.limit.saturating_mul(WIDER).min(most);
                wider = true;
            }
        }
        wider
    }
}
