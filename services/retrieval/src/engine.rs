//! From a request to its pack: plan, candidates, rank, fill, write; and back, to check a pack.

use std::sync::Arc;

use commonplace_rpc::convert::Filter;
use commonplace_rpc::{Code, View, context};
use commonplace_storage::Database;
use commonplace_types::{
    Clock, CommitHash, Invalid, ProjectName, Reference, Right, TenantName, Timestamp,
};

use tracing::Instrument;
use tracing::field::Empty;

use crate::candidate::{Dense, Eligibility, Found, Passage, PassageKey, Statistics};
use crate::client::{Choice, Upstream};
use crate::config::Options;
use crate::error::RetrievalError;
use crate::metrics::Numbers;
use crate::pack::{self, Draft, Pack};
use crate::packing;
use crate::plan::{DenseWish, LISTED_INELIGIBLE, MOST_CANDIDATES, Plan, Wish};
use crate::ranking::{self, Ranked, Scores};
use crate::recipe::{self, Recipe};
use crate::reuse::{RequestKey, Reuse};
use crate::rules::{FusionMethod, Policy};
use crate::store::{Kept, Store};
use crate::texts::{Texts, Wanted};

mod check;

/// Results of a search that names no number.
const SEARCH_LIMIT: u32 = 10;

/// Which policy a caller names; empty for the one of the task.
#[derive(Debug, Clone, Default)]
pub struct PolicyWish {
    /// Its id, or empty.
    pub id: String,
    /// 0 is the active one.
    pub version: u64,
}

/// A request for a pack, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose memory.
    pub project: ProjectName,
    /// As of when.
    pub as_of: Reference,
    /// The kind of work; picks the policy when none is named.
    pub task: String,
    /// The question.
    pub query: String,
    /// 0 for the policy's.
    pub budget_tokens: u32,
    /// Which policy.
    pub policy: PolicyWish,
    /// In place of the policy's.
    pub fusion: Option<FusionMethod>,
    /// Narrows the policy's.
    pub filter: Filter,
    /// Ages are counted from here; absent: now, to the minute.
    pub clock: Option<Timestamp>,
    /// First wait for the newest vectors.
    pub wait_for_dense: bool,
}

/// A request for a ranking, as it came.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// Whose memory.
    pub project: ProjectName,
    /// As of when.
    pub as_of: Reference,
    /// The question.
    pub query: String,
    /// Which policy; `general` when none is named.
    pub policy: PolicyWish,
    /// In place of the policy's.
    pub fusion: Option<FusionMethod>,
    /// Narrows the policy's.
    pub filter: Filter,
    /// 1 to 1,000; 0 for 10.
    pub limit: u32,
    /// As for a pack.
    pub clock: Option<Timestamp>,
    /// As for a pack.
    pub wait_for_dense: bool,
    /// Leave texts and citations out.
    pub keys_only: bool,
}

/// Passages in their order.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// The commit searched.
    pub commit: CommitHash,
    /// Its number.
    pub commit_number: u64,
    /// Hash of the policy's rules.
    pub policy_hash: String,
    /// What counts tokens.
    pub tokenizer: String,
    /// What lexical scores were computed from.
    pub statistics: Statistics,
    /// Whether meanings were compared.
    pub dense: Dense,
    /// Ages were counted from here.
    pub clock: Timestamp,
    /// What of the project was searched.
    pub view: View,
    /// Best first.
    pub items: Vec<(Arc<Passage>, Scores)>,
}

/// A pack and whether it was there already.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The pack.
    pub kept: Arc<Kept>,
    /// It answered the same request at the same commit before.
    pub reused: bool,
    /// Why its policy was taken, for people.
    pub policy_reason: String,
}

/// Makes, keeps and checks packs.
pub struct Engine {
    clock: Arc<dyn Clock>,
    client: Upstream,
    store: Store,
    reuse: Reuse,
    texts: Texts,
    numbers: Numbers,
}

impl Engine {
    /// Asks `client`, keeps in `store`.
    pub fn new(options: &Options, clock: Arc<dyn Clock>, client: Upstream, store: Store) -> Self {
        let reuse = Reuse::new(options.cached_packs);
        Self {
            clock,
            client,
            store,
            reuse,
            texts: Texts::new(options.cached_text_bytes),
            numbers: Numbers::new(),
        }
    }

    /// What is counted here.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// What packs are kept in.
    pub(crate) fn database(&self) -> &Database {
        self.store.database()
    }

    /// Makes a pack and keeps it; `durable` answers only when it is on disk.
    pub async fn retrieve(
        &self,
        request: Request,
        durable: bool,
    ) -> Result<Answer, RetrievalError> {
        check(&request)?;
        let choice = choice(&request.policy, &request.task);
        let work = |policy| self.answered(&request, policy);
        let (key, answer) = self.client.by_policy(choice, work).await?;
        let tenant = context::tenant();
        let keep = tracing::info_span!(
            "keep",
            commonplace.pack = answer.kept.id,
            commonplace.reused = answer.reused
        );
        let known = self
            .keep(tenant, &answer.kept, durable)
            .instrument(keep)
            .await?;
        self.reuse.remember(key, &answer.kept);
        self.numbers
            .answered(&answer.kept.pack, answer.reused || known);
        Ok(Answer {
            reused: answer.reused || known,
            ..answer
        })
    }

    /// Makes a pack and keeps nothing.
    pub async fn preview(&self, request: Request) -> Result<Answer, RetrievalError> {
        check(&request)?;
        let choice = choice(&request.policy, &request.task);
        let work = |policy| self.made(&request, policy);
        self.client.by_policy(choice, work).await
    }

    /// The pack that answered this request before, or a new one.
    async fn answered(
        &self,
        request: &Request,
        policy: Arc<Policy>,
    ) -> Result<(RequestKey, Answer), RetrievalError> {
        let recipe = self.recipe(request, &policy)?;
        let key = RequestKey::new(&context::tenant(), &recipe, &policy);
        let answer = match self.repeated(&key, request, &policy).await? {
            Some(kept) => Answer {
                kept,
                reused: true,
                policy_reason: reason(request, &policy),
            },
            None => self.made(request, policy).await?,
        };
        Ok((key, answer))
    }

    async fn made(&self, request: &Request, policy: Arc<Policy>) -> Result<Answer, RetrievalError> {
        let recipe = self.recipe(request, &policy)?;
        let dense = DenseWish::Newest {
            wait: request.wait_for_dense,
        };
        let kept = self.make(recipe, &policy, &request.as_of, dense).await?;
        Ok(Answer {
            kept: Arc::new(kept),
            reused: false,
            policy_reason: reason(request, &policy),
        })
    }

    /// A kept pack. One that was made from more than the caller may see is not there.
    pub async fn get_shown(&self, id: &str) -> Result<Arc<Kept>, RetrievalError> {
        let kept = self.get(id).await?;
        match shown(&kept.pack).await {
            Ok(true) => Ok(kept),
            Ok(false) => Err(RetrievalError::UnknownPack(id.to_owned())),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, id: &str) -> Result<Arc<Kept>, RetrievalError> {
        if !pack::is_id(id) {
            let problem = format!(
                "expected `blake3:` and 64 hex digits, found `{}`",
                id.escape_debug()
            );
            return Err(Invalid::new("id", problem).into());
        }
        self.store.get(&context::tenant(), id).await
    }

    /// Ranks passages: at most `limit`, and of an event at most as many as the policy packs.
    pub async fn search(&self, request: SearchRequest) -> Result<Ranking, RetrievalError> {
        recipe::check_query(&request.query)?;
        let limit = search_limit(request.limit)?;
        let work = |policy| self.ranked(&request, limit, policy);
        self.client
            .by_policy(choice(&request.policy, ""), work)
            .await
    }

    async fn ranked(
        &self,
        request: &SearchRequest,
        limit: u32,
        policy: Arc<Policy>,
    ) -> Result<Ranking, RetrievalError> {
        let clock = self.moment(request.clock);
        let wish = Wish {
            project: &request.project,
            view: &context::view(),
            as_of: &request.as_of,
            query: &request.query,
            filter: &request.filter,
            clock,
            // Twice as many, since several may be of one event.
            at_least: limit.saturating_mul(2).min(MOST_CANDIDATES),
            ineligible_limit: 0,
            // Otherwise the record comes with the text.
            named: request.keys_only,
        };
        let dense = DenseWish::Newest {
            wait: request.wait_for_dense,
        };
        let plan = Plan::new(&wish, &policy.rules, dense)?;
        let mut found = self.client.search(&plan).await?;
        let candidates = std::mem::take(&mut found.candidates);
        let ranked = ranking::rank(
            candidates,
            &policy.rules,
            request.fusion,
            &found.dense,
            clock,
        );
        let best = best(
            ranked,
            limit,
            policy.rules.max_per_event,
            &plan.post_filter_tags,
        );
        let tokenizer = self.client.tokenizer(&request.project).await?;
        Ok(Ranking {
            commit: found.commit,
            commit_number: found.commit_number,
            policy_hash: policy.hash.clone(),
            tokenizer: tokenizer.to_string(),
            statistics: found.statistics,
            dense: found.dense,
            clock,
            view: plan.view,
            items: self.texts(request, best).await?,
        })
    }

    /// Fills in budget and clock.
    fn recipe(&self, request: &Request, policy: &Policy) -> Result<Recipe, RetrievalError> {
        Ok(Recipe {
            project: request.project.clone(),
            task: request.task.clone(),
            query: request.query.clone(),
            budget_tokens: recipe::budget(request.budget_tokens, policy.rules.budget_tokens)?,
            fusion: request.fusion,
            filter: request.filter.clone(),
            clock: self.moment(request.clock),
            view: context::view(),
        })
    }

    fn moment(&self, asked: Option<Timestamp>) -> Timestamp {
        asked.unwrap_or_else(|| self.clock.now().floor_to_minute())
    }

    /// The pack that answered this request before, if making it again would give the same one.
    async fn repeated(
        &self,
        key: &RequestKey,
        request: &Request,
        policy: &Policy,
    ) -> Result<Option<Arc<Kept>>, RetrievalError> {
        let Some(kept) = self.reuse.last(key) else {
            return Ok(None);
        };
        let pack = &kept.pack;
        let weightless = policy.rules.weights.dense == 0;
        let complete =
            matches!(&pack.dense, Dense::On { through, .. } if *through >= pack.commit_number);
        if request.as_of == Reference::Commit(pack.commit) && (complete || weightless) {
            return Ok(Some(kept));
        }
        let probe = Plan::probe(&request.project, &request.as_of, request.wait_for_dense);
        let now = self.client.search(&probe).await?;
        let same = now.commit == pack.commit && (weightless || now.dense == pack.dense);
        Ok(same.then_some(kept))
    }

    async fn keep(
        &self,
        tenant: TenantName,
        kept: &Arc<Kept>,
        durable: bool,
    ) -> Result<bool, RetrievalError> {
        self.store
            .put(tenant, kept.clone(), self.clock.now(), durable)
            .await
    }

    async fn make(
        &self,
        recipe: Recipe,
        policy: &Policy,
        as_of: &Reference,
        dense: DenseWish,
    ) -> Result<Kept, RetrievalError> {
        let draft = self.draft(recipe, policy, as_of, dense).await?;
        self.finish(draft, false).await
    }

    /// Plan, candidates, rank, fill: all but the texts.
    async fn draft(
        &self,
        recipe: Recipe,
        policy: &Policy,
        as_of: &Reference,
        dense: DenseWish,
    ) -> Result<Draft, RetrievalError> {
        let wish = Wish {
            project: &recipe.project,
            view: &recipe.view,
            as_of,
            query: &recipe.query,
            filter: &recipe.filter,
            clock: recipe.clock,
            at_least: 0,
            ineligible_limit: LISTED_INELIGIBLE,
            named: false,
        };
        let plan = tracing::info_span!("plan");
        let plan = plan.in_scope(|| Plan::new(&wish, &policy.rules, dense))?;
        let search = tracing::info_span!("search", commonplace.candidates = Empty);
        let found = self.client.search(&plan).instrument(search.clone()).await?;
        search.record("commonplace.candidates", found.candidates.len());
        drop(search);
        let tokenizer = self.client.tokenizer(&recipe.project).await?;
        fill(recipe, policy, found, &plan.post_filter_tags, &tokenizer)
    }

    /// Gets the texts; `anew`: all of them from the index. The candidates are written meanwhile, once the question is
    /// on its way.
    async fn finish(&self, draft: Draft, anew: bool) -> Result<Kept, RetrievalError> {
        let texts = tracing::info_span!("fetch texts", commonplace.passages = draft.wanted.len());
        let project = &draft.pack.recipe.project;
        let fetching = self.passages(project, &draft.wanted, anew);
        let fetching = fetching.instrument(texts);
        let writing = async {
            tokio::task::yield_now().await;
            pack::candidates_bytes(&draft.pack.candidates)
        };
        let (passages, candidates) = tokio::join!(fetching, writing);
        let pack = draft.finish(passages?);
        Ok(Kept::with_candidates(pack, &candidates))
    }

    /// The texts of passages, in the order asked for: those that are known from memory, the others from the index.
    /// `anew`: all of them from the index.
    async fn passages(
        &self,
        project: &ProjectName,
        wanted: &[Wanted],
        anew: bool,
    ) -> Result<Vec<Arc<Passage>>, RetrievalError> {
        let texts = self.texts.of(&context::tenant(), project);
        let mut passages = if anew {
            vec![None; wanted.len()]
        } else {
            texts.known(wanted)
        };
        let both = || wanted.iter().zip(&passages);
        let missing = both().filter(|(_, known)| known.is_none());
        let keys: Vec<PassageKey> = missing.map(|(wanted, _)| wanted.key).collect();
        let mut fetched = self.client.passages(project, &keys).await?.into_iter();
        self.numbers.texts(wanted.len() - keys.len(), keys.len());
        for (wanted, passage) in wanted.iter().zip(&mut passages) {
            if passage.is_none() {
                *passage = fetched.next();
                passage
                    .iter()
                    .for_each(|passage| texts.learn(wanted, passage));
            }
        }
        Ok(passages.into_iter().flatten().collect())
    }

    async fn texts(
        &self,
        request: &SearchRequest,
        best: Vec<Ranked>,
    ) -> Result<Vec<(Arc<Passage>, Scores)>, RetrievalError> {
        if request.keys_only {
            return Ok(best.into_iter().map(without_text).collect());
        }
        let wanted: Vec<Wanted> = best.iter().map(|r| Wanted::of(&r.candidate)).collect();
        let passages = self.passages(&request.project, &wanted, false).await?;
        Ok(passages
            .into_iter()
            .zip(best.into_iter().map(|ranked| ranked.scores))
            .collect())
    }

    /// Writes what waits and closes the store.
    pub async fn shutdown(&self) -> Result<(), RetrievalError> {
        Ok(self.store.shutdown().await?)
    }
}

/// Ranks what was found and fills the budget: the part of making a pack that asks nobody.
pub fn fill(
    recipe: Recipe,
    policy: &Policy,
    mut found: Found,
    post_filter_tags: &[String],
    tokenizer: &str,
) -> Result<Draft, RetrievalError> {
    let candidates = std::mem::take(&mut found.candidates);
    let rules = &policy.rules;
    let fuse = tracing::info_span!("fuse", commonplace.candidates = candidates.len());
    let ranked = fuse
        .in_scope(|| ranking::rank(candidates, rules, recipe.fusion, &found.dense, recipe.clock));
    drop(fuse);
    let budget = recipe.budget_tokens;
    let pack = tracing::info_span!(
        "pack",
        commonplace.items = Empty,
        commonplace.tokens = Empty
    );
    let packed = pack.in_scope(|| packing::pack(&ranked, rules, post_filter_tags, budget));
    pack.record("commonplace.items", packed.included());
    pack.record("commonplace.tokens", packed.used);
    drop(pack);
    if let (0, Some(smallest)) = (packed.included(), packed.smallest_left_out) {
        return Err(RetrievalError::BudgetTooSmall { budget, smallest });
    }
    Ok(Draft::new(recipe, policy, found, ranked, packed, tokenizer))
}

fn check(request: &Request) -> Result<(), Invalid> {
    recipe::check_query(&request.query)?;
    recipe::check_task(&request.task)?;
    recipe::budget(request.budget_tokens, 0).map(drop)
}

fn reason(request: &Request, policy: &Policy) -> String {
    policy.reason(!request.policy.id.is_empty(), &request.task)
}

/// Whether the caller may see all that a pack was made from. Error: that cannot be decided.
async fn shown(pack: &Pack) -> Result<bool, RetrievalError> {
    match context::require(Right::Read, &pack.recipe.project, true).await {
        Ok(view) => Ok(view.covers(&pack.recipe.view)),
        Err(failure) if failure.code == Code::PermissionDenied => Ok(false),
        Err(failure) => Err(RetrievalError::Upstream(Box::new(failure))),
    }
}

fn choice<'a>(wish: &'a PolicyWish, task: &'a str) -> Choice<'a> {
    if wish.id.is_empty() && wish.version == 0 {
        return Choice::ForTask(task);
    }
    Choice::Named(&wish.id, wish.version)
}

fn search_limit(asked: u32) -> Result<u32, Invalid> {
    match asked {
        0 => Ok(SEARCH_LIMIT),
        1..=MOST_CANDIDATES => Ok(asked),
        _ => {
            let problem =
                format!("expected 1 to {MOST_CANDIDATES}, or 0 for {SEARCH_LIMIT}, found {asked}");
            Err(Invalid::new("limit", problem))
        }
    }
}

/// The first `limit` that may be shown, of an event at most `per_event`.
fn best(ranked: Vec<Ranked>, limit: u32, per_event: u32, tags: &[String]) -> Vec<Ranked> {
    let mut seen = std::collections::BTreeMap::new();
    let may = |ranked: &Ranked| {
        let candidate = &ranked.candidate;
        let tagged = tags.is_empty() || candidate.tags.iter().any(|tag| tags.contains(tag));
        candidate.eligibility == Eligibility::Eligible && (tagged || candidate.always)
    };
    ranked
        .into_iter()
        .filter(may)
        .filter(|ranked| {
            let count: &mut u32 = seen.entry(ranked.candidate.key.event).or_default();
            *count += 1;
            *count <= per_event
        })
        .take(limit as usize)
        .collect()
}

fn without_text(ranked: Ranked) -> (Arc<Passage>, Scores) {
    let candidate = ranked.candidate;
    let passage = Passage {
        key: candidate.key,
        record: candidate.record,
        artifact_type: candidate.artifact_type.to_string(),
        title: String::new(),
        text: String::new(),
        start: 0,
        end: 0,
        event_time: candidate.event_time,
        source: String::new(),
        author: String::new(),
        checksum: String::new(),
        tokens: candidate.tokens,
    };
    (Arc::new(passage), ranked.scores)
}
