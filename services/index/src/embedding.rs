//! Vectors of passages, made in the background, and of queries, made at once and kept.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Engine;
use crate::vectors::{Codes, DIMENSION, Embedder};

/// Passages of one project embedded before the next project has its turn, for each thread.
const SHARE: usize = 16;

/// The embedder, or why there is none, with the vectors of recent queries.
pub(crate) struct Embedding {
    embedder: Result<Arc<dyn Embedder>, String>,
    queries: Mutex<Queries>,
    work: Mutex<Work>,
    changed: Condvar,
}

/// The vectors of the queries asked for last.
struct Queries {
    /// Each with when it was asked for last, in turns.
    kept: HashMap<String, (u64, Codes)>,
    turn: u64,
    most: usize,
}

impl Queries {
    fn get(&mut self, text: &str) -> Option<Codes> {
        self.turn += 1;
        let (asked, codes) = self.kept.get_mut(text)?;
        *asked = self.turn;
        Some(*codes)
    }

    fn put(&mut self, text: &str, codes: Codes) {
        if self.kept.len() >= self.most {
            let mut turns: Vec<u64> = self.kept.values().map(|(asked, _)| *asked).collect();
            let middle = turns.len() / 2;
            let (_, &mut middle, _) = turns.select_nth_unstable(middle);
            self.kept.retain(|_, (asked, _)| *asked > middle);
        }
        self.kept.insert(text.to_owned(), (self.turn, codes));
    }
}

#[derive(Default)]
struct Work {
    stopped: bool,
    /// Counts calls of `wake`, so that one during a round is not missed.
    woken: u64,
}

impl Embedding {
    /// `embedder`: or why there is none. Keeps the vectors of that many queries.
    pub(crate) fn new(embedder: Result<Arc<dyn Embedder>, String>, cached_queries: usize) -> Self {
        Self {
            embedder,
            queries: Mutex::new(Queries {
                kept: HashMap::new(),
                turn: 0,
                most: cached_queries.max(1),
            }),
            work: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The embedder, if there is one.
    pub(crate) fn embedder(&self) -> Option<Arc<dyn Embedder>> {
        self.embedder.clone().ok()
    }

    /// What embeds, or why nothing does.
    pub(crate) fn fingerprint(&self) -> Result<&str, &str> {
        match &self.embedder {
            Ok(embedder) => Ok(embedder.fingerprint()),
            Err(reason) => Err(reason),
        }
    }

    /// The vector of a query. Takes about a millisecond unless it was asked for before.
    pub(crate) fn query(&self, text: &str) -> Option<Codes> {
        let embedder = self.embedder.as_ref().ok()?;
        let queries = || self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = queries().get(text);
        Some(kept.unwrap_or_else(|| {
            let codes = embedder.embed(text);
            queries().put(text, codes);
            codes
        }))
    }

    /// Says that there may be passages without a vector.
    pub(crate) fn wake(&self) {
        self.change(|work| work.woken += 1);
    }

    /// Ends [`Embedding::run`] within a few passages.
    pub(crate) fn stop(&self) {
        self.change(|work| work.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.stopped
    }

    /// Embeds what has no vector, project by project, until `stop`. Blocks: give it a thread of its own.
    pub(crate) fn run(&self, threads: usize, engines: impl Fn() -> Vec<Arc<Engine>>) {
        let Ok(embedder) = &self.embedder else {
            return;
        };
        let mut seen = 0;
        while !self.is_stopped() {
            let mut found = false;
            for engine in engines() {
                found |= !self.is_stopped() && embed_some(embedder.as_ref(), &engine, threads);
            }
            if !found {
                seen = self.wait(seen);
            }
        }
    }

    /// Waits to be woken, or a second.
    fn wait(&self, seen: u64) -> u64 {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |work: &mut Work| work.woken == seen && !work.stopped;
        let pause = Duration::from_secs(1);
        let woken = self.changed.wait_timeout_while(work, pause, idle);
        woken.unwrap_or_else(PoisonError::into_inner).0.woken
    }
}

/// Gives the next passages of a project their vectors. False: there are none without.
fn embed_some(embedder: &dyn Embedder, engine: &Engine, threads: usize) -> bool {
    if engine.adopt_vectors() {
        return true;
    }
    let threads = threads.max(1);
    let (first, contents, texts) = engine.without_vector(SHARE * threads);
    if texts.is_empty() {
        return false;
    }
    let mut codes = vec![[0; DIMENSION]; texts.len()];
    let share = texts.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (texts, codes) in texts.chunks(share).zip(codes.chunks_mut(share)) {
            if threads == 1 {
                embed_all(embedder, texts, codes);
            } else {
                scope.spawn(|| embed_all(embedder, texts, codes));
            }
        }
    });
    let made: Vec<_> = contents.into_iter().zip(codes).collect();
    engine.add_vectors(first, &made);
    true
}

fn embed_all(embedder: &dyn Embedder, texts: &[String], codes: &mut [Codes]) {
    for (text, codes) in texts.iter().zip(codes) {
        *codes = embedder.embed(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Embedder for Counting {
        fn fingerprint(&self) -> &str {
            "counting"
        }
        fn embed(&self, text: &str) -> Codes {
            self.0.fetch_add(1, Ordering::SeqCst);
            [text.len() as i8; DIMENSION]
        }
    }

    #[test]
    fn recent_queries_are_embedded_once() {
        let counting = Arc::new(Counting::default());
        let embedding = Embedding::new(Ok(counting.clone()), 4);
        for text in ["a", "bb", "ccc", "a", "dddd", "a"] {
            assert_eq!(embedding.query(text), Some([text.len() as i8; DIMENSION]));
        }
        assert_eq!(counting.0.load(Ordering::SeqCst), 4);
        // A fifth text makes the older half go; `a` was asked for last and stays.
        embedding.query("eeeee");
        embedding.query("a");
        assert_eq!(counting.0.load(Ordering::SeqCst), 5);
        embedding.query("bb");
        assert_eq!(counting.0.load(Ordering::SeqCst), 6);
    }

    #[test]
    fn without_a_model_there_is_a_reason() {
        let embedding = Embedding::new(Err("no model".into()), 4);
        assert_eq!(embedding.query("a"), None);
        assert_eq!(embedding.fingerprint(), Err("no model"));
    }
}
