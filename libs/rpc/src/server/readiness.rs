//! What `grpc.health.v1` says about each service of a process.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::{Code, Failure};

/// Which services of this process are ready. Cheap to clone; clones share it.
///
/// A service that was never named is unknown. The empty name stands for the whole process: it serves when
/// every named service does. Once draining, nothing serves any more.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    services: BTreeMap<String, bool>,
    draining: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }
}

impl Readiness {
    /// Nothing is named, so nothing serves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether a service serves; its full name, for example `commonplace.journal.v1.JournalService`.
    pub fn set(&self, service: &str, serving: bool) {
        self.state.send_modify(|state| {
            state.services.insert(service.to_owned(), serving);
        });
    }

    /// From now on nothing serves, and whoever watches is told.
    pub fn drain(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Whether a service serves; nothing if it was never named.
    pub fn serves(&self, service: &str) -> Option<bool> {
        self.state.borrow().serves(service)
    }

    /// Each named service and whether it serves, by name.
    pub fn all(&self) -> BTreeMap<String, bool> {
        let state = self.state.borrow();
        state
            .services
            .iter()
            .map(|(name, serves)| (name.clone(), *serves && !state.draining))
            .collect()
    }

    pub(crate) fn service(&self) -> HealthServer<Answers> {
        HealthServer::new(Answers(self.clone()))
    }
}

impl State {
    fn serves(&self, service: &str) -> Option<bool> {
        if service.is_empty() {
            let all = !self.services.is_empty() && self.services.values().all(|serves| *serves);
            return Some(all && !self.draining);
        }
        self.services
            .get(service)
            .map(|serves| *serves && !self.draining)
    }

    fn answer(&self, service: &str) -> HealthCheckResponse {
        let status = match self.serves(service) {
            Some(true) => ServingStatus::Serving,
            Some(false) => ServingStatus::NotServing,
            None => ServingStatus::ServiceUnknown,
        };
        HealthCheckResponse {
            status: status as i32,
        }
    }
}

/// The health service over a [`Readiness`].
#[derive(Debug, Clone)]
pub(crate) struct Answers(Readiness);

#[tonic::async_trait]
impl Health for Answers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let state = self.0.state.borrow();
        if state.serves(service).is_none() {
            let text = format!("no service `{service}` here");
            return Err(Failure::new(Code::NotFound, "SERVICE_NOT_FOUND")
                .message(text)
                .into_status());
        }
        Ok(Response::new(state.answer(service)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Ends once draining was told, so that watchers do not keep the server from ending.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let changes = self.0.state.subscribe();
        let start = (changes, None::<HealthCheckResponse>, false);
        let answers = futures::stream::unfold(start, move |(mut changes, mut last, ended)| {
            let service = service.clone();
            async move {
                if ended {
                    return None;
                }
                loop {
                    let (answer, draining) = {
                        let state = changes.borrow_and_update();
                        (state.answer(&service), state.draining)
                    };
                    if last.as_ref() != Some(&answer) {
                        last = Some(answer);
                        return Some((Ok(answer), (changes, last, draining)));
                    }
                    if draining || changes.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_watcher_is_told_each_change_and_the_end() {
        let readiness = Readiness::new();
        readiness.set("a", false);
        let request = Request::new(HealthCheckRequest {
            service: "a".into(),
        });
        let mut answers = Answers(readiness.clone())
            .watch(request)
            .await
            .unwrap()
            .into_inner();
        let mut next = async || answers.next().await.map(|answer| answer.unwrap().status);
        assert_eq!(next().await, Some(ServingStatus::NotServing as i32));
        readiness.set("a", true);
        assert_eq!(next().await, Some(ServingStatus::Serving as i32));
        readiness.set("b", true);
        readiness.drain();
        assert_eq!(next().await, Some(ServingStatus::NotServing as i32));
        assert_eq!(next().await, None);
    }

    #[test]
    fn the_process_serves_when_all_its_services_do() {
        let readiness = Readiness::new();
        assert_eq!(
            (readiness.serves(""), readiness.serves("a")),
            (Some(false), None)
        );
        readiness.set("a", true);
        readiness.set("b", false);
        assert_eq!(
            (readiness.serves(""), readiness.serves("a")),
            (Some(false), Some(true))
        );
        readiness.set("b", true);
        assert_eq!(readiness.serves(""), Some(true));
        readiness.drain();
        assert_eq!(
            (readiness.serves(""), readiness.serves("a")),
            (Some(false), Some(false))
        );
    }
}
