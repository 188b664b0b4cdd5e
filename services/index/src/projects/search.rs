//! Searching a project at a commit: which commit that is, waiting for it, and doing again what fails.

use std::sync::Arc;

use commonplace_rpc::{Ahead, ahead, context};
use commonplace_types::Reference;
use tracing::Instrument;

use super::{Projects, Request, TRIES};
use crate::blocking::in_place;
use crate::client::Resolved;
use crate::engine::Engine;
use crate::error::IndexError;
use crate::lexical::LexicalError;
use crate::project::Project;
use crate::search::{self, Answer, Query};
use crate::vectors::QueryVector;

/// A project and a commit of it.
type Located = (Arc<Project>, Resolved);

impl Projects {
    /// Searches once the index has caught up with the commit asked for.
    ///
    /// Which commit a branch or tag names, the journal says. While it is asked, the commit that it named last is
    /// searched, if that was right the last time: then nothing was waited for. If it is another now, or none, that
    /// search is dropped.
    pub(crate) async fn search(&self, request: Request) -> Result<Answer, IndexError> {
        let waiting = self.options.queued_searches;
        let admitted = Arc::clone(&self.admitted).try_acquire_owned();
        let _admitted = admitted.map_err(|_| IndexError::Busy { waiting })?;
        let Some(guess) = self.guess(&request) else {
            return self
                .search_named(&request, self.locate(&request).await?)
                .await;
        };
        let searching = self.search_named(&request, guess.clone());
        let same = |named: &Located| named.1.hash == guess.1.hash;
        match ahead(self.locate(&request), searching, same).await? {
            Ahead::Expected(done) => done,
            Ahead::Other(named) => self.search_named(&request, named).await,
        }
    }

    /// The commit that a reference is expected to name, with its project.
    fn guess(&self, request: &Request) -> Option<Located> {
        if matches!(request.as_of, Reference::Commit(_)) {
            return None;
        }
        let tenant = context::tenant();
        let project = self.followed(&tenant, &request.project)?;
        let commit = self
            .guesses
            .expect(&tenant, &request.project, &request.as_of)?;
        let engine = project.engine()?;
        engine.holds(&commit.hash).then_some((project, commit))
    }

    async fn search_named(
        &self,
        request: &Request,
        (mut project, mut commit): Located,
    ) -> Result<Answer, IndexError> {
        let mut wanted = commit.number;
        for attempt in 0..TRIES {
            if attempt > 0 {
                (project, commit) = self.locate(request).await?;
                wanted = commit.number;
            }
            let _use = project.usage.enter();
            self.refuse_building(&project, request.refuse_building)?;
            let dense = self.dense_wanted(request, wanted);
            let waiting = tracing::info_span!("wait for the index");
            let engine = self
                .wait(&project, wanted, dense)
                .instrument(waiting)
                .await?;
            if request.wait_for_dense {
                self.until_compared(&project).await;
            }
            let problem = if engine.holds(&commit.hash) {
                let done = self
                    .run(engine, wanted as u32, request.query.clone())
                    .await?;
                match done {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error.to_string(),
                }
            } else {
                format!("it does not hold commit {}", commit.hash)
            };
            tracing::warn!(problem, project = %project.name, "building the index again");
            project.request_rebuild();
            self.until_gone(&project).await;
        }
        Err(self.behind(&request.project, wanted))
    }

    /// Runs a search where it holds up no other task, when it is its turn.
    async fn run(
        &self,
        engine: Arc<Engine>,
        number: u32,
        query: Query,
    ) -> Result<Result<Answer, LexicalError>, IndexError> {
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.map_err(|_| IndexError::Stopping)?;
        let (tools, embedding) = (Arc::clone(&self.tools), Arc::clone(&self.embedding));
        let work = move || {
            let _turn = turn;
            let by_meaning = query.dense_limit > 0 && !query.without_dense;
            let worded = by_meaning && !query.text.trim().is_empty();
            let embed = || tracing::info_span!("embed").in_scope(|| embedding.query(&query.text));
            let codes = worded.then(embed).flatten();
            let vector = codes.map(QueryVector::new);
            let snapshot = engine.snapshot();
            search::search(&engine, &snapshot, number, &query, vector, &tools)
        };
        in_place(work).await
    }

    /// The project and the commit asked for. A commit that is known here is not asked for at
    /// the journal.
    async fn locate(&self, request: &Request) -> Result<Located, IndexError> {
        let tenant = context::tenant();
        if let (Reference::Commit(hash), Some(project)) =
            (&request.as_of, self.followed(&tenant, &request.project))
        {
            let snapshot = project.engine().map(|engine| engine.snapshot());
            let number = snapshot.and_then(|snapshot| snapshot.state.commit_number(hash));
            if let Some(number) = number.map(u64::from) {
                return Ok((
                    project,
                    Resolved {
                        number,
                        hash: *hash,
                    },
                ));
            }
        }
        let resolved = self.resolve(&request.project, &request.as_of).await?;
        self.guesses
            .learn(&tenant, &request.project, &request.as_of, resolved);
        let project = self.follow(tenant, request.project.clone());
        project.saw_journal_at(resolved.number);
        Ok((project, resolved))
    }

    /// Commits whose vectors a request has to wait for.
    fn dense_wanted(&self, request: &Request, number: u64) -> u64 {
        let query = &request.query;
        if query.without_dense || query.dense_limit == 0 || self.embedding.fingerprint().is_err() {
            return 0;
        }
        let again = query.dense_through.map(|through| through.min(number) + 1);
        let all = request.wait_for_dense.then_some(number + 1);
        all.or(again).unwrap_or(0)
    }

    /// Waits until the vector store, if it is up, is known to hold what it should.
    async fn until_compared(&self, project: &Project) {
        let epoch = self.store.as_ref().and_then(|store| store.epoch());
        if let Some(epoch) = epoch {
            let compared = project.once(|progress| progress.checked >= epoch);
            // If not in time, the answer says that the dense signal is off.
            let _ = self.in_time(compared).await;
        }
    }
}
