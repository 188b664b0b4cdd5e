//! The services that retrieval asks, through their generated clients.

use std::sync::{Arc, Mutex, PoisonError};

use commonplace_proto::index;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::policy::GetPolicyRequest;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_rpc::{Channel, Failure};
use commonplace_types::{Invalid, ProjectName};

use crate::candidate::{Found, Passage, PassageKey};
use crate::convert;
use crate::error::RetrievalError;
use crate::plan::Plan;
use crate::rules::Policy;

/// The index and the policy service.
pub struct Upstream {
    index: IndexServiceClient<Channel>,
    policy: PolicyServiceClient<Channel>,
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
        let index = IndexServiceClient::new(index).max_decoding_message_size(MESSAGE_BYTES);
        Self {
            index,
            policy: PolicyServiceClient::new(policy),
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

    /// What a search finds.
    pub async fn search(&self, plan: &Plan) -> Result<Found, RetrievalError> {
        let request = convert::index_search(plan);
        let answer = self.index.clone().search(request).await;
        let answer = answer.map_err(|status| client(Failure::from_status(&status)))?;
        convert::found(answer.into_inner(), plan).map_err(amiss("the index"))
    }

    /// The texts of passages, in the order asked for; at most 1,000.
    pub async fn passages(
        &self,
        project: &ProjectName,
        keys: &[PassageKey],
    ) -> Result<Vec<Passage>, RetrievalError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let request = convert::passage_request(project, keys);
        let answer = self.index.clone().get_passages(request).await;
        let answer = answer.map_err(|status| client(Failure::from_status(&status)))?;
        convert::passages(answer.into_inner(), keys).map_err(amiss("the index"))
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
        let answer = self.index.clone().get_status(request).await;
        let answer = answer
            .map_err(|status| client(Failure::from_status(&status)))?
            .into_inner();
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

fn client(failure: Failure) -> RetrievalError {
    RetrievalError::Upstream(Box::new(failure))
}

fn amiss(service: &'static str) -> impl FnOnce(Invalid) -> RetrievalError {
    move |invalid| RetrievalError::Amiss { service, invalid }
}
