//! The services that retrieval asks, through their generated clients.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_proto::index;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::policy::GetPolicyRequest;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_rpc::remote::placed;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_rpc::{Ahead, Channel, Code, Failure, ahead, context};
use commonplace_types::{Invalid, ProjectName};
use tracing::Instrument;

use crate::candidate::{Found, Passage, PassageKey};
use crate::convert;
use crate::error::RetrievalError;
use crate::plan::Plan;
use crate::rules::Policy;

/// Policies remembered to begin with.
const MOST_GUESSES: usize = 64;

/// The index and the policy service.
pub struct Upstream {
    index: Replicas,
    policy: PolicyServiceClient<Channel>,
    guesses: Guesses,
    tokenizer: Mutex<Option<Arc<str>>>,
}

/// Which policy is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// This version of this policy; 0 is the active one.
    Named(&'a str, u64),
    /// The one for a task.
    ForTask(&'a str),
}

/// How far the index has come with a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What counts tokens.
    pub tokenizer: Arc<str>,
    /// The newest commit that the journal has told of.
    pub newest_commit: u64,
}

impl Upstream {
    /// Asks over these channels.
    pub fn new(index: Channel, policy: Channel) -> Self {
        Self {
            index: Replicas(index),
            policy: PolicyServiceClient::new(policy),
            guesses: Guesses::default(),
            tokenizer: Mutex::default(),
        }
    }

    /// A policy. Error: there is none.
    pub async fn policy(&self, choice: Choice<'_>) -> Result<Policy, RetrievalError> {
        let request = match choice {
            Choice::Named(id, version) => GetPolicyRequest {
                id: id.into(),
                version,
                task: String::new(),
            },
            Choice::ForTask(task) => GetPolicyRequest {
                task: task.into(),
                ..Default::default()
            },
        };
        let answer = self
            .policy
            .clone()
            .get_policy(request)
            .await
            .map_err(|status| {
                let mut failure = Failure::from_status(&status);
                // The policy service's `id` is retrieval's `policy`.
                failure
                    .fields
                    .iter_mut()
                    .filter(|f| f.field == "id")
                    .for_each(|f| f.field = "policy".into());
                RetrievalError::Upstream(Box::new(failure))
            })?;
        convert::policy(answer.into_inner()).map_err(amiss("the policy service"))
    }

    /// Does what needs a policy. Once a policy was asked for, the work is begun by the one that was answered last,
    /// while the policy service is asked: mostly it is still the same, and then nothing was waited for. If it is
    /// another, that work is dropped and done again by the right one; if there is none, nobody waits for its end. So
    /// `work` must leave nothing behind but what any other work may find there, such as texts.
    pub async fn by_policy<T, F>(
        &self,
        choice: Choice<'_>,
        work: impl Fn(Arc<Policy>) -> F,
    ) -> Result<T, RetrievalError>
    where
        F: Future<Output = Result<T, RetrievalError>>,
    {
        let key = Guesses::key(choice);
        let policy = match self.guesses.last(&key) {
            None => self.policy(choice).await?,
            Some(guess) => {
                let asking = self.policy(choice);
                match ahead(asking, work(guess.clone()), |policy| *policy == *guess).await? {
                    Ahead::Expected(done) => return done,
                    Ahead::Other(policy) => policy,
                }
            }
        };
        work(self.guesses.remember(key, policy)).await
    }

    /// What a search finds.
    pub async fn search(&self, plan: &Plan) -> Result<Found, RetrievalError> {
        let request = convert::index_search(plan);
        let ask = |mut index: IndexClient, refuse_building| {
            let request = index::SearchRequest {
                refuse_building,
                ..request.clone()
            };
            async move { index.search(request).await }
        };
        let answer = self.index.ask(&plan.project, ask).await.map_err(client)?;
        convert::found(answer, plan).map_err(amiss("the index"))
    }

    /// The texts of passages, in the order asked for; at most 1,000.
    pub async fn passages(
        &self,
        project: &ProjectName,
        keys: &[PassageKey],
    ) -> Result<Vec<Arc<Passage>>, RetrievalError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let request = convert::passage_request(project, keys);
        let ask = |mut index: IndexClient, refuse_building| {
            let request = index::GetPassagesRequest {
                refuse_building,
                ..request.clone()
            };
            async move { index.get_passages(request).await }
        };
        let answer = self.index.ask(project, ask).await.map_err(client)?;
        convert::passages(answer, keys).map_err(amiss("the index"))
    }

    /// What counts tokens; asked once, then remembered until [`Upstream::progress`] asks again.
    pub async fn tokenizer(&self, project: &ProjectName) -> Result<Arc<str>, RetrievalError> {
        let known = self
            .tokenizer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known {
            Some(tokenizer) => Ok(tokenizer),
            None => Ok(self.progress(project).await?.tokenizer),
        }
    }

    /// How far the index has come.
    pub async fn progress(&self, project: &ProjectName) -> Result<Progress, RetrievalError> {
        let request = index::GetStatusRequest {
            project: project.to_string(),
        };
        let ask = |mut index: IndexClient, _| {
            let request = request.clone();
            async move { index.get_status(request).await }
        };
        let answer = self.index.ask(project, ask).await.map_err(client)?;
        let tokenizer: Arc<str> = answer.tokenizer.into();
        *self
            .tokenizer
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tokenizer.clone());
        let newest = answer
            .projects
            .iter()
            .map(|project| project.journal_commit)
            .max();
        Ok(Progress {
            tokenizer,
            newest_commit: newest.unwrap_or(0),
        })
    }
}

/// The policies that were answered last, by tenant and choice.
#[derive(Debug, Default)]
struct Guesses(Mutex<VecDeque<(String, Arc<Policy>)>>);

impl Guesses {
    fn key(choice: Choice<'_>) -> String {
        format!("{} {choice:?}", context::tenant())
    }

    fn last(&self, key: &str) -> Option<Arc<Policy>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(of, _)| of == key);
        found.map(|(_, policy)| policy.clone())
    }

    fn remember(&self, key: String, policy: Policy) -> Arc<Policy> {
        let policy = Arc::new(policy);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| *of != key);
        if known.len() >= MOST_GUESSES {
            known.pop_front();
        }
        known.push_back((key, policy.clone()));
        policy
    }
}

type IndexClient = IndexServiceClient<Channel>;

/// The replicas of the index. Each project belongs to one of them, by rendezvous hashing over those that live;
/// one that has just come into its own builds it while the one before goes on to answer.
struct Replicas(Channel);

impl Replicas {
    /// Asks the replica that a project belongs to, and the next in order while it is still building it or cannot
    /// be reached: every call made here reads only. `call`: with whether to refuse a project still being built.
    async fn ask<T, F>(
        &self,
        project: &ProjectName,
        call: impl Fn(IndexClient, bool) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let endpoints = self.0.endpoints();
        if endpoints.len() < 2 {
            return done(call(reading(&self.0), false).await);
        }
        let tenant = context::tenant();
        let mut building = None;
        for endpoint in placed(&endpoints, &[tenant.as_str(), project.as_str()]) {
            let replica = reading(&self.0.to(&endpoint));
            let span = tracing::info_span!(
                target: "commonplace::rpc", "index replica", server.address = %endpoint
            );
            match done(call(replica, true).instrument(span).await) {
                Err(failure) if failure.reason == "INDEX_BUILDING" => {
                    building.get_or_insert(endpoint);
                }
                Err(failure) if failure.code == Code::Unavailable => {
                    tracing::debug!(%endpoint, failure.reason, "asking the next replica");
                }
                answered => return answered,
            }
        }
        // Nobody has it: whom it belongs to is waited for.
        let owner = building.map_or_else(|| self.0.clone(), |endpoint| self.0.to(&endpoint));
        done(call(reading(&owner), false).await)
    }
}

fn reading(channel: &Channel) -> IndexClient {
    IndexServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
}

fn done<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::from_status(&status))
}

fn client(failure: Failure) -> RetrievalError {
    RetrievalError::Upstream(Box::new(failure))
}

fn amiss(service: &'static str) -> impl FnOnce(Invalid) -> RetrievalError {
    move |invalid| RetrievalError::Amiss { service, invalid }
}
