//! The journal as it is called: convert, call, convert. The contract is
//! `proto/commonplace/journal/v1/journal.proto`.

use std::pin::Pin;

use commonplace_limits::{Limiter, Room};
use commonplace_proto::journal as proto;
use commonplace_proto::journal::journal_service_server::{JournalService, JournalServiceServer};
use commonplace_rpc::convert::{
    event_to_proto, filter_from_proto, project_from_proto, visible_to_proto,
};
use commonplace_rpc::{Failure, context};
use commonplace_types::{Invalid, Right, limits};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::convert::{
    append_from_proto, appended_to_proto, branch_request_from_proto, commit_to_proto,
    page_size_from_proto, point_from_proto, project_to_proto, ref_to_proto, tag_request_from_proto,
    tailed_to_proto,
};
use crate::query::Selection;
use crate::{Append, Journal, JournalError};

/// What a message may take beyond its events' bytes: names, numbers, framing.
const OVERHEAD: usize = 8 << 20;

/// Projects of a page where no number is asked for.
const PROJECTS: usize = 100;

/// Serves a journal.
#[derive(Clone)]
pub struct Service {
    journal: Journal,
    limiter: Option<Limiter>,
}

impl Journal {
    /// The generated server, with room for the largest append.
    pub fn service(&self) -> JournalServiceServer<Service> {
        self.served(None)
    }

    /// The same, held to rates of events and to quotas.
    pub fn limited_service(&self, limiter: Limiter) -> JournalServiceServer<Service> {
        self.served(Some(limiter))
    }

    fn served(&self, limiter: Option<Limiter>) -> JournalServiceServer<Service> {
        let service = Service {
            journal: self.clone(),
            limiter,
        };
        JournalServiceServer::new(service)
            .max_decoding_message_size(limits::COMMIT_BYTES + OVERHEAD)
    }
}

impl Service {
    /// Counts the events, and gives what may be stored. Error: too many events at present.
    async fn room_for(&self, append: &Append) -> Result<Room, Status> {
        let Some(limiter) = &self.limiter else {
            return Ok(Room::default());
        };
        let caller = context::principal().filter(|caller| !caller.is_service());
        if let Some(caller) = caller.filter(|_| !append.validate_only) {
            let events = append.events.len() as u64;
            let taken = limiter.take_events(&caller, &append.project, events).await;
            taken.map_err(Failure::into_status)?;
        }
        Ok(limiter.room(&append.tenant, &append.project).await)
    }
}

fn failed<E: Into<JournalError>>(error: E) -> Status {
    commonplace_rpc::status(error.into())
}

#[tonic::async_trait]
impl JournalService for Service {
    async fn append(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let (tenant, trace) = (context::tenant(), context::traceparent());
        let append = append_from_proto(tenant, trace, request.into_inner()).map_err(failed)?;
        let project = append.project.clone();
        let room = self.room_for(&append).await?;
        let appended = self.journal.append_within(append, room).await;
        let appended = appended.map_err(failed)?;
        Ok(Response::new(appended_to_proto(&project, &appended)))
    }

    async fn list_projects(
        &self,
        request: Request<proto::ListProjectsRequest>,
    ) -> Result<Response<proto::ListProjectsResponse>, Status> {
        let request = request.into_inner();
        let size = match page_size_from_proto(request.page_size).map_err(failed)? {
            0 => PROJECTS,
            size => size,
        };
        let (tenant, mut token) = (context::tenant(), request.page_token);
        let mut projects = Vec::new();
        loop {
            // At least one is asked for, so that the end is seen.
            let left = size.saturating_sub(projects.len()).max(1);
            let page = self.journal.projects(&tenant, left, &token);
            let page = page.map_err(failed)?;
            let mut last_is_readable = false;
            for entry in &page.items {
                // Whoever may not read a project does not learn that it is there, nor by a token that names it.
                let readable = context::may(Right::Read, &entry.name).await;
                last_is_readable = readable.map_err(Failure::into_status)?;
                if last_is_readable {
                    projects.push(project_to_proto(entry));
                }
            }
            token = page.next;
            if token.is_empty() || last_is_readable && projects.len() >= size {
                return Ok(Response::new(proto::ListProjectsResponse {
                    projects,
                    next_page_token: token,
                }));
            }
        }
    }

    async fn list_tenants(
        &self,
        request: Request<proto::ListTenantsRequest>,
    ) -> Result<Response<proto::ListTenantsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size_from_proto(request.page_size).map_err(failed)?;
        let page = self.journal.tenants(size, &request.page_token);
        let page = page.map_err(failed)?;
        Ok(Response::new(proto::ListTenantsResponse {
            tenants: page.items.iter().map(ToString::to_string).collect(),
            next_page_token: page.next,
        }))
    }

    async fn create_branch(
        &self,
        request: Request<proto::CreateBranchRequest>,
    ) -> Result<Response<proto::CreateBranchResponse>, Status> {
        let create =
            branch_request_from_proto(context::tenant(), request.into_inner()).map_err(failed)?;
        let project = create.project.clone();
        let entry = self.journal.create_ref(create).await.map_err(failed)?;
        let made = Some(ref_to_proto(&project, &entry));
        Ok(Response::new(proto::CreateBranchResponse { r#ref: made }))
    }

    async fn create_tag(
        &self,
        request: Request<proto::CreateTagRequest>,
    ) -> Result<Response<proto::CreateTagResponse>, Status> {
        let create =
            tag_request_from_proto(context::tenant(), request.into_inner()).map_err(failed)?;
        let project = create.project.clone();
        let entry = self.journal.create_ref(create).await.map_err(failed)?;
        let made = Some(ref_to_proto(&project, &entry));
        Ok(Response::new(proto::CreateTagResponse { r#ref: made }))
    }

    async fn list_refs(
        &self,
        request: Request<proto::ListRefsRequest>,
    ) -> Result<Response<proto::ListRefsResponse>, Status> {
        let project = project_from_proto(&request.into_inner().project).map_err(failed)?;
        let refs = self
            .journal
            .refs(&context::tenant(), &project)
            .map_err(failed)?;
        let refs = refs
            .iter()
            .map(|entry| ref_to_proto(&project, entry))
            .collect();
        Ok(Response::new(proto::ListRefsResponse { refs }))
    }

    async fn resolve(
        &self,
        request: Request<proto::ResolveRequest>,
    ) -> Result<Response<proto::ResolveResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(failed)?;
        let reference = point_from_proto(request.reference, "reference").map_err(failed)?;
        let point = self
            .journal
            .resolve(&context::tenant(), &project, &reference)
            .await;
        let point = point.map_err(failed)?;
        Ok(Response::new(proto::ResolveResponse {
            commit: Some(commit_to_proto(&project, &point.commit)),
            visible: visible_to_proto(&point.visible),
        }))
    }

    async fn get_events(
        &self,
        request: Request<proto::GetEventsRequest>,
    ) -> Result<Response<proto::GetEventsResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(failed)?;
        let as_of = point_from_proto(request.as_of, "as_of").map_err(failed)?;
        let parse = |(place, id): (usize, &String)| {
            let named = |error: Invalid| Invalid::new(format!("ids[{place}]"), error.problem);
            id.parse().map_err(named)
        };
        let ids: Vec<_> = request
            .ids
            .iter()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let events = self
            .journal
            .events_shown(&context::tenant(), &project, &as_of, &ids, &context::view())
            .await;
        let events = events.map_err(failed)?;
        let events = events
            .iter()
            .map(|event| event_to_proto(&project, event))
            .collect();
        Ok(Response::new(proto::GetEventsResponse { events }))
    }

    async fn query_events(
        &self,
        request: Request<proto::QueryEventsRequest>,
    ) -> Result<Response<proto::QueryEventsResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(failed)?;
        let as_of = point_from_proto(request.as_of, "as_of").map_err(failed)?;
        let selection = Selection {
            view: context::view(),
            filter: filter_from_proto(request.filter).map_err(failed)?,
            include_superseded: request.include_superseded,
        };
        let size = page_size_from_proto(request.page_size).map_err(failed)?;
        let (tenant, token) = (context::tenant(), &request.page_token);
        let found = self
            .journal
            .query(&tenant, &project, &as_of, &selection, size, token)
            .await;
        let (page, commit) = found.map_err(failed)?;
        Ok(Response::new(proto::QueryEventsResponse {
            events: page
                .items
                .iter()
                .map(|event| event_to_proto(&project, event))
                .collect(),
            next_page_token: page.next,
            commit: commit.hash.to_string(),
        }))
    }

    async fn list_commits(
        &self,
        request: Request<proto::ListCommitsRequest>,
    ) -> Result<Response<proto::ListCommitsResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(failed)?;
        let from = point_from_proto(request.from, "from").map_err(failed)?;
        let size = page_size_from_proto(request.page_size).map_err(failed)?;
        let (tenant, token) = (context::tenant(), &request.page_token);
        let page = self
            .journal
            .commits(&tenant, &project, &from, size, token)
            .await;
        let page = page.map_err(failed)?;
        Ok(Response::new(proto::ListCommitsResponse {
            commits: page
                .items
                .iter()
                .map(|commit| commit_to_proto(&project, commit))
                .collect(),
            next_page_token: page.next,
        }))
    }

    async fn verify_chain(
        &self,
        request: Request<proto::VerifyChainRequest>,
    ) -> Result<Response<proto::VerifyChainResponse>, Status> {
        let project = project_from_proto(&request.into_inner().project).map_err(failed)?;
        let report = self
            .journal
            .verify(&context::tenant(), &project)
            .await
            .map_err(failed)?;
        Ok(Response::new(proto::VerifyChainResponse {
            intact: report.first_break.is_none(),
            commits_checked: report.commits_checked,
            events_checked: report.events_checked,
            first_break: report.first_break.unwrap_or_default(),
            head: report.head.to_string(),
        }))
    }

    type TailStream = Pin<Box<dyn Stream<Item = Result<proto::TailResponse, Status>> + Send>>;

    async fn tail(
        &self,
        request: Request<proto::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(failed)?;
        let tail = self
            .journal
            .tail(&context::tenant(), &project, &request.cursor)
            .await;
        let tail = tail.map_err(failed)?;
        let messages = tail.map(move |tailed| match tailed {
            Ok(tailed) => Ok(tailed_to_proto(&project, tailed)),
            Err(error) => Err(failed(error)),
        });
        Ok(Response::new(Box::pin(messages)))
    }
}
